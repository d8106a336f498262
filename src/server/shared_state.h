/*-------------------------------------------------------------------------
 *
 * shared_state.h
 *	  What lies in shared memory: for shared.c and slots.c alone.
 *
 * Slots and holds are protected by one LWLock, which is held for a few
 * instructions.  Times are those of clock_now(), but for what is only shown.
 *
 * IDENTIFICATION
 *	  src/server/shared_state.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SHARED_STATE_H
#define WEBHOOK_SHARED_STATE_H

#include "port/atomics.h"
#include "rules/ids.h"
#include "server/applied.h"
#include "server/clock.h"
#include "server/shared.h"
#include "server/slots.h"
#include "server/standstill.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#define NO_PROCESS PG_UINT32_MAX

/* How many databases can be dropped or copied at once. */
#define MAX_HOLDS 64

typedef struct Slot
{
	/* protected by the lock */
	Oid			database;
	SlotState	state;
	WorkerHold	hold;
	pid_t		pid;
	int			failures;		/* in a row */
	uint32		nstarts;
	TimestampTz started_at;		/* shown */
	TimestampTz runs_since;
	TimestampTz next_start_at;
	bool		is_unwanted;	/* to be freed when its processes are gone */
	uint32		reloads;		/* when its worker was registered, see below */
	bool		is_lent;		/* its worker made room for another database's */
	TimestampTz wants_at;		/* when it has work again that is known of */
	TimestampTz wants_since;	/* when it was seen to; 0: it does not */
	TimestampTz cuts_told_at;	/* when calls were given up and logged; or 0 */
	bool		has_extension;	/* as the last worker saw it */
	bool		has_work_offset;	/* of clock_work_time() */
	int64		work_offset;
	pid_t		maintenance_pid;
	TimestampTz maintenance_at; /* the next time; 0: as soon as can be */
	TimestampTz believed_at;	/* when retention last believed a clock */
	TimestampTz days_at;		/* shown: when it has ended last, ... */
	TimestampTz days_error_at;	/* ... and failed last; 0: not the last time */
	char		days_error[SLOT_ERROR_SIZE];
	char		days_did[DAYS_TEXT_SIZE];	/* what it has done last */
	DaysProgress days_progress; /* what it does */
	TimestampTz last_error_at;
	char		last_error[SLOT_ERROR_SIZE];
	Trouble		troubles[N_TROUBLES];

	/* read by committing backends without the lock */
	pg_atomic_uint32 database_hint;
	pg_atomic_uint32 process;
	pg_atomic_uint32 wake;
	pg_atomic_uint32 ignored;	/* bits of wake that can wait for the others */
	pg_atomic_uint32 announced; /* the extension was created meanwhile */

	pg_atomic_uint64 delivered;
	pg_atomic_uint64 failed;
	pg_atomic_uint32 in_flight;
	pg_atomic_uint64 answer;	/* the worker's last one, see standstill.h */
	pg_atomic_uint64 back_by;	/* when it will have come to its next turn */
} Slot;

typedef struct Hold
{
	Oid			database;
	pid_t		owner;			/* the session's process; 0: free */
} Hold;

typedef struct SharedState
{
	IdsShared	ids;
	ClockShared clock;
	pg_atomic_uint32 launcher;	/* its PGPROC's number */
	pg_atomic_uint32 must_list; /* databases came or went */
	pg_atomic_uint32 silenced;	/* SILENCED_*, by the configuration */
	pg_atomic_uint32 reloads;	/* of the configuration, by launchers */
	pg_atomic_uint32 nwanted;	/* workers that other databases wait for */
	pg_atomic_uint32 nlending;	/* workers that make room */
	pg_atomic_uint32 nurgent;	/* databases that have waited too long for one */
	pg_atomic_uint32 async_commits; /* under way */
	pg_atomic_uint64 ended_async_commits;
	ConditionVariable worker_gone;
	StandstillShared standstill;
	AppliedShared applied;

	slock_t		announced_lock;
	bool		announced_overflow;
	int			nannounced;
	Oid			announced[MAX_ANNOUNCED];

	Hold		holds[MAX_HOLDS];
	int			nslots;
	pg_atomic_uint32 nslots_used;	/* no later slot was ever allocated */
	Slot		slots[FLEXIBLE_ARRAY_MEMBER];
} SharedState;

/* Hidden, so that two files see them and it costs no more than if one did. */
#pragma GCC visibility push(hidden)

/* NULL if the library was not loaded at server start. */
extern SharedState *shared;
extern LWLock *lock;

/* Sets the latch of the process with this number, if there is one. */
extern void wake_process(pg_atomic_uint32 *process);

/* A database's slot, NULL if it has none; what it says is only sure under the lock. */
extern Slot *find_slot(Oid database);

/* Puts off the next start of a slot's worker; the lock is held. */
extern void slot_back_off(Slot *slot, bool is_soon_over);

/* Copies a message into "size" bytes, as far as there is room for whole characters. */
extern void slot_copy_message(char *to, const char *message, int size);

/* Notes an error of a slot's worker; the lock is held. */
extern void slot_note_error(Slot *slot, const char *message);

/* Is the database held?  The lock is held. */
extern bool is_held(Oid database);

#pragma GCC visibility pop

#endif							/* WEBHOOK_SHARED_STATE_H */
