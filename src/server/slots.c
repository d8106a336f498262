/*-------------------------------------------------------------------------
 *
 * slots.c
 *	  Slots of workers: a database has one, which the launcher allocates and
 *	  starts, and in which its worker tells how it goes.
 *
 * IDENTIFICATION
 *	  src/server/slots.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "server/clock.h"
#include "server/shared.h"
#include "server/shared_state.h"
#include "server/slots.h"
#include "utils/timestamp.h"

/* A failed worker comes back after 1 s, then twice as long, up to this. */
#define MAX_RESTART_DELAY (INT64CONST(300) * USECS_PER_SEC)

/* Or up to this, while somebody has locked what it needs. */
#define MAX_LOCK_DELAY (INT64CONST(4) * USECS_PER_SEC)

/* One that could not even be started is tried again after this. */
#define START_DELAY USECS_PER_SEC

/*
 * Reports
 */

bool
shared_report(Oid database, WorkerReport *report)
{
	Slot	   *slot;

	if (shared == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(database);
	if (slot != NULL)
	{
		report->state = slot->state;
		report->hold = slot->hold;
		report->pid = (int) slot->pid;
		report->started_at = slot->started_at;
		report->next_start_at = slot->next_start_at == 0 ? 0 :
			GetCurrentTimestamp() + slot->next_start_at - clock_now();
		report->delivered = pg_atomic_read_u64(&slot->delivered);
		report->failed = pg_atomic_read_u64(&slot->failed);
		report->in_flight = pg_atomic_read_u32(&slot->in_flight);
		report->last_error_at = slot->last_error_at;
		strlcpy(report->last_error, slot->last_error, SLOT_ERROR_SIZE);
		report->is_lent = slot->is_lent;
		report->late_by = slot->state == SLOT_RUNNING ?
			Max(clock_now() - (TimestampTz) pg_atomic_read_u64(&slot->back_by), 0) : 0;
		report->wants_for = slot->wants_since == 0 ? 0 :
			clock_now() - slot->wants_since;
		report->days_at = slot->days_at;
		report->days_error_at = slot->days_error_at;
		strlcpy(report->days_error, slot->days_error, SLOT_ERROR_SIZE);
		strlcpy(report->days_did, slot->days_did, DAYS_TEXT_SIZE);
		report->days_progress = slot->days_progress;
		memcpy(report->troubles, slot->troubles, sizeof(slot->troubles));
	}
	LWLockRelease(lock);
	return slot != NULL;
}

bool
shared_worker_answer(Oid database, uint64 *number)
{
	Slot	   *slot;
	bool		is_there = false;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(database);
	if (slot != NULL && slot->pid != 0)
	{
		is_there = true;
		*number = pg_atomic_read_u64(&slot->answer);
	}
	LWLockRelease(lock);
	return is_there;
}

/*
 * The launcher's side
 */

int
shared_slot_count(void)
{
	return shared->nslots;
}

SlotState
shared_slot_state(int index, Oid *database, TimestampTz *next_start_at)
{
	Slot	   *slot = &shared->slots[index];
	SlotState	state;

	LWLockAcquire(lock, LW_SHARED);
	state = slot->state;
	*database = slot->database;
	*next_start_at = slot->next_start_at;
	LWLockRelease(lock);
	return state;
}

bool
shared_slot_announced(int index)
{
	return pg_atomic_read_u32(&shared->slots[index].announced) != 0;
}

int
shared_slot_allocate(Oid database)
{
	int			found = -1;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots && found < 0; i++)
	{
		Slot	   *slot = &shared->slots[i];

		if (slot->state != SLOT_FREE)
			continue;
		slot->database = database;
		slot->state = SLOT_WAITING;
		slot->hold = HOLD_NONE;
		slot->pid = 0;
		slot->failures = 0;
		slot->started_at = 0;
		slot->next_start_at = 0;
		slot->is_unwanted = false;
		slot->is_lent = false;
		slot->wants_at = 0;
		slot->wants_since = 0;
		slot->cuts_told_at = 0;
		slot->has_extension = false;
		slot->has_work_offset = false;
		slot->maintenance_pid = 0;
		slot->maintenance_at = 0;
		slot->believed_at = 0;
		slot->days_at = 0;
		slot->days_error_at = 0;
		slot->days_error[0] = '\0';
		slot->days_did[0] = '\0';
		slot->days_progress.what[0] = '\0';
		slot->last_error_at = 0;
		slot->last_error[0] = '\0';
		pg_atomic_write_u32(&slot->wake, 0);
		pg_atomic_write_u64(&slot->delivered, 0);
		pg_atomic_write_u64(&slot->failed, 0);
		pg_atomic_write_u32(&slot->in_flight, 0);
		pg_atomic_write_u32(&slot->database_hint, database);
		if (i >= (int) pg_atomic_read_u32(&shared->nslots_used))
		{
			pg_write_barrier();
			pg_atomic_write_u32(&shared->nslots_used, i + 1);
		}
		found = i;
	}
	LWLockRelease(lock);
	return found;
}

void
shared_slot_retire(int index)
{
	Slot	   *slot = &shared->slots[index];

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if ((slot->state == SLOT_WAITING || slot->state == SLOT_ABSENT) &&
		slot->maintenance_pid == 0)
	{
		slot->state = SLOT_FREE;
		slot->database = InvalidOid;
		pg_atomic_write_u32(&slot->database_hint, InvalidOid);
	}
	else
	{
		/*
		 * When its processes are gone there will be another look; until then
		 * nobody starts another one, not even between the end of one and that
		 * look.
		 */
		slot->is_unwanted = true;
		pg_atomic_write_u32(&shared->must_list, 1);
		slot->next_start_at = clock_now() + START_DELAY;
		if (slot->pid != 0)
			pg_atomic_fetch_or_u32(&slot->wake, WAKE_UNWANTED);
		wake_process(&slot->process);
	}
	LWLockRelease(lock);
}

void
shared_slot_keep(int index)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	shared->slots[index].is_unwanted = false;
	LWLockRelease(lock);
}

bool
shared_slot_starting(int index, uint32 *start)
{
	Slot	   *slot = &shared->slots[index];
	bool		wanted;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	wanted = (slot->state == SLOT_WAITING && !slot->is_unwanted &&
			  !is_held(slot->database));
	if (wanted)
	{
		slot->state = SLOT_STARTING;
		slot->reloads = pg_atomic_read_u32(&shared->reloads);
		*start = ++slot->nstarts;
	}
	LWLockRelease(lock);
	return wanted;
}

bool
shared_slot_is_starting(int index, uint32 start)
{
	Slot	   *slot = &shared->slots[index];
	bool		result;

	LWLockAcquire(lock, LW_SHARED);
	result = (slot->state == SLOT_STARTING && slot->nstarts == start);
	LWLockRelease(lock);
	return result;
}

bool
shared_slot_wants(int index, bool always, TimestampTz *since, TimestampTz *next_at)
{
	Slot	   *slot = &shared->slots[index];
	TimestampTz now = clock_now();
	bool		wants = false;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	*next_at = DT_NOEND;
	if (slot->state == SLOT_WAITING && !slot->is_unwanted)
	{
		*next_at = slot->next_start_at;
		wants = (always || !slot->is_lent || slot->wants_at <= now ||
				 (pg_atomic_read_u32(&slot->wake) &
				  ~pg_atomic_read_u32(&slot->ignored)) != 0);
		if (!wants)
			*next_at = Max(slot->wants_at, slot->next_start_at);
		if (!wants)
			slot->wants_since = 0;
		else if (slot->wants_since == 0)
			slot->wants_since = now;
		*since = slot->wants_since;
	}
	LWLockRelease(lock);
	return wants && *next_at <= now;
}

void
shared_set_wanted(int nwanted, int nurgent)
{
	pg_atomic_write_u32(&shared->nurgent, nurgent);
	nwanted -= (int) pg_atomic_read_u32(&shared->nlending);
	pg_atomic_write_u32(&shared->nwanted, Max(nwanted, 0));
	for (int i = 0; i < shared->nslots && nwanted > 0; i++)
		wake_process(&shared->slots[i].process);
}

void
shared_tell_reload(void)
{
	pg_atomic_fetch_add_u32(&shared->reloads, 1);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
	{
		shared->slots[i].wants_at = 0;
		wake_process(&shared->slots[i].process);
	}
	LWLockRelease(lock);
}

void
slot_back_off(Slot *slot, bool is_soon_over)
{
	int64		longest = is_soon_over ? MAX_LOCK_DELAY : MAX_RESTART_DELAY;
	int64		delay = USECS_PER_SEC;

	for (int i = 0; i < slot->failures && delay < longest; i++)
		delay *= 2;
	slot->failures++;
	slot->next_start_at = clock_now() + Min(delay, longest);
}

void
slot_copy_message(char *to, const char *message, int size)
{
	int			length = pg_mbcliplen(message, (int) strlen(message), size - 1);

	memcpy(to, message, length);
	to[length] = '\0';
}

void
slot_note_error(Slot *slot, const char *message)
{
	slot->last_error_at = GetCurrentTimestamp();
	slot_copy_message(slot->last_error, message, SLOT_ERROR_SIZE);
}

void
shared_slot_failed(int index, const char *error)
{
	Slot	   *slot = &shared->slots[index];

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (slot->state == SLOT_STARTING && slot->pid == 0)
	{
		slot->state = SLOT_WAITING;
		slot->next_start_at = clock_now() + START_DELAY;
		slot_note_error(slot, error);
	}
	LWLockRelease(lock);
}
