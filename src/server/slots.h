/*-------------------------------------------------------------------------
 *
 * slots.h
 *	  Slots of workers, in shared memory: who works for which database.
 *
 * A slot is known by its number, from 0.
 *
 * IDENTIFICATION
 *	  src/server/slots.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SLOTS_H
#define WEBHOOK_SLOTS_H

#include "datatype/timestamp.h"

/*
 * The life of a slot:
 *
 *	 FREE -> WAITING -> STARTING -> RUNNING -> WAITING ...
 *						STARTING -> ABSENT -> FREE
 *
 * The launcher makes every step but those of a worker that has attached: it
 * runs once it knows what to do, and leaves WAITING or ABSENT behind.
 */
typedef enum SlotState
{
	SLOT_FREE,
	SLOT_WAITING,				/* to be started at next_start_at */
	SLOT_STARTING,				/* registered, and then looking around */
	SLOT_RUNNING,				/* the worker has found the extension */
	SLOT_ABSENT					/* the database lacks the extension */
} SlotState;

/* Why a running worker delivers nothing. */
typedef enum WorkerHold
{
	HOLD_NONE,
	HOLD_DELIVERY_OFF,			/* webhook_events.delivery */
	HOLD_NOT_ATTACHED,			/* no table ever was, so there are no events */
	HOLD_RESTORED_COPY,			/* the outbox was written elsewhere */
	HOLD_RESTORED_TABLES,		/* the outbox is new, but tables were attached
								 * elsewhere */
	HOLD_PAUSED,				/* pause() */
	HOLD_STANDSTILL,			/* a session that has not committed wants it */
	HOLD_OTHER_VERSION			/* the extension's SQL is older than the
								 * library */
} WorkerHold;

#define SLOT_ERROR_SIZE 1024

/* What can be wrong with a worker that runs, and for how long. */
typedef enum TroubleKind
{
	TROUBLE_RECORDING,			/* nothing is sent meanwhile */
	TROUBLE_MARKING,			/* after a crash more is routed again */
	TROUBLE_ROUTING,
	TROUBLE_FETCHING,
	TROUBLE_ORDERING,
	TROUBLE_LOGGING_STATISTICS,
	TROUBLE_STATISTICS,
	TROUBLE_HEALTH,
	TROUBLE_COUNTING,
	TROUBLE_RETIRING,
	TROUBLE_DISABLING,
	N_TROUBLES
} TroubleKind;

/* As in "... fails". */
extern const char *trouble_name(TroubleKind kind);

#define TROUBLE_SIZE 256

typedef struct Trouble
{
	TimestampTz since;			/* 0: there is none */
	char		message[TROUBLE_SIZE];
} Trouble;

/* What the maintenance process has done or does, in words. */
#define DAYS_TEXT_SIZE 128

typedef struct DaysProgress
{
	char		what[DAYS_TEXT_SIZE];	/* "": nothing */
	TimestampTz started_at;		/* all of it */
	int			done;			/* so many things, of which that is the next,
								 * ... */
	int			total;			/* ... of so many */
} DaysProgress;

/* What status() shows of a worker; a copy. */
typedef struct WorkerReport
{
	SlotState	state;
	WorkerHold	hold;
	int			pid;
	TimestampTz started_at;
	TimestampTz next_start_at;
	uint64		delivered;
	uint64		failed;
	uint32		in_flight;
	TimestampTz last_error_at;	/* 0 if there was none */
	char		last_error[SLOT_ERROR_SIZE];
	bool		is_lent;		/* its worker made room for another one */
	int64		late_by;		/* for how long its turn has come,
								 * microseconds */
	int64		wants_for;		/* how long it has waited for a worker, in
								 * microseconds; 0: it does not */
	TimestampTz days_at;		/* when days were looked after; 0: not yet */
	TimestampTz days_error_at;	/* 0 if all went well then */
	char		days_error[SLOT_ERROR_SIZE];
	char		days_did[DAYS_TEXT_SIZE];
	DaysProgress days_progress;
	Trouble		troubles[N_TROUBLES];
} WorkerReport;

/* Copies what is known about a database's worker; false if nothing is. */
extern bool shared_report(Oid database, WorkerReport *report);

/* What a database's worker has answered last; false if there is no worker. */
extern bool shared_worker_answer(Oid database, uint64 *number);

/*
 * For the launcher.
 */

/* The number of slots, and one slot's database and state; times of clock_now(). */
extern int	shared_slot_count(void);
extern SlotState shared_slot_state(int slot, Oid *database,
								   TimestampTz *next_start_at);

/* Was the extension created since the slot's last worker looked for it? */
extern bool shared_slot_announced(int slot);

/* Takes a free slot for a database; -1 if none is left. */
extern int	shared_slot_allocate(Oid database);

/*
 * Frees a slot that has no worker; asks a worker to stop, and keeps others from being
 * started until the slot is free or shared_slot_keep() says that it is wanted after all.
 */
extern void shared_slot_retire(int slot);
extern void shared_slot_keep(int slot);

/*
 * WAITING to STARTING; false if the database is held.  "start" is set to the number
 * of this start, by which shared_slot_is_starting() knows it: a worker can come and
 * go, and the next one be on its way, before anybody looks.
 */
extern bool shared_slot_starting(int slot, uint32 *start);
extern bool shared_slot_is_starting(int slot, uint32 start);

/*
 * Lending.  Is a WAITING slot to be started, "always" or because there is work?
 * *since is when that was found first.  If not, *next_at is when it is to be looked at
 * again, without a wake-up.  shared_set_wanted() tells running workers how many
 * databases wait for one of them, and how many of these have done so for too long.
 */
extern bool shared_slot_wants(int slot, bool always, TimestampTz *since,
							  TimestampTz *next_at);
extern void shared_set_wanted(int nwanted, int nurgent);

/* The settings were read again: has every database looked at, and every worker read them. */
extern void shared_tell_reload(void);

/* STARTING to WAITING, after a worker that never came up. */
extern void shared_slot_failed(int slot, const char *error);

/*
 * Maintenance: the slot whose database wants it next, -1 if there is none, and when;
 * another time for that, with what kept it from being started, or NULL; and, for a session,
 * as soon as can be.
 */
extern int	shared_next_maintenance(TimestampTz *next_at);
extern void shared_put_off_maintenance(int slot, TimestampTz next_at, const char *error);
extern void shared_want_maintenance(void);

/*
 * For the process that does it: takes a slot, false if it is not wanted any more; has
 * the last one failed?  Has the wall clock not been set for this time, nor been asked
 * about with that answer?  Tells how it went, NULL if well, and when it wants to be started
 * again, in microseconds.
 *
 * shared_maintenance_does() tells what it does next, "" for nothing more, and
 * shared_maintenance_did() what it has done; that stays until it did something else.
 */
extern bool shared_attach_maintenance(int slot, Oid *database);
extern bool shared_maintenance_fails(void);
extern bool shared_believe_clock(int64 interval);
extern void shared_report_maintenance(const char *error, int64 delay);
extern void shared_maintenance_does(const char *what, int done, int total);
extern void shared_maintenance_did(const char *what);

/*
 * For the worker.
 */

/* Takes a STARTING slot; false if the worker is not wanted any more. */
extern bool shared_attach_worker(int slot, Oid *database);

/* STARTING to RUNNING: the extension is there. */
extern void shared_worker_runs(void);

/*
 * Does another database wait for a worker?  Then this one promises to end, which the
 * caller does as soon as it can.  It tells when it will have work again.
 */
extern bool shared_make_room(void);

/*
 * Of a worker that has promised to make room and can't yet: has some database waited
 * for too long, so that this one is to end whatever keeps it?  It is the only one that
 * is told so for that database.  Or it takes its promise back, and goes on.
 */
extern bool shared_room_is_urgent(void);
extern void shared_keep_room(void);

/* May the log have it that calls were given up for that?  Once a minute. */
extern bool shared_may_tell_of_cuts(void);

/* Had the last worker of this one's database made room?  Then *hold is what it found. */
extern bool shared_worker_was_lent(WorkerHold *hold);
extern void shared_worker_wants_at(TimestampTz time);

/* How the worker will have ended; the default is a failure. */
extern void shared_worker_ends(SlotState next_state);

/* Takes what the worker was woken for. */
extern uint32 shared_take_wake(void);

/*
 * What the database's last worker has called clock_set_work_offset() with, in
 * the life of this server; false if there was none.  Any session can ask.
 */
extern bool shared_work_offset(int64 *offset);
extern void shared_set_work_offset(int64 offset);

/* Notes which hold the worker heeds now, for those who wait until it does. */
extern void shared_worker_holds(WorkerHold hold);

/* It comes back to its next turn by then, on clock_now(); who looks sees if it does not. */
extern void shared_worker_back_by(TimestampTz time);

/* Adds results of dispatches to those of its life, and says how many requests are under way. */
extern void shared_count_results(uint64 delivered, uint64 failed);
extern void shared_set_in_flight(uint32 in_flight);

/*
 * Were the settings read again since this was asked last, or since the worker was registered?
 * PostgreSQL ignores SIGHUP in a process that is starting, and what came then is lost.
 */
extern bool shared_must_reload(void);

/* Notes an error; returns whether it is another one than the last. */
extern bool shared_record_error(const char *message);

/* In a worker that fails: somebody has locked what it needs, so it comes back soon. */
extern void shared_worker_was_locked_out(void);

/* Publishes an answer, see server/standstill.h; returns whether it is news. */
extern bool shared_answer(uint64 number);

/*
 * Publishes a trouble, or with NULL that it is over.  Returns whether that is
 * news: it was not there, or it was.
 */
extern bool shared_set_trouble(TroubleKind kind, const char *message);

#endif							/* WEBHOOK_SLOTS_H */
