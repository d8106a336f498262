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

#include "compat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "server/clock.h"
#include "server/shared.h"
#include "server/shared_state.h"
#include "server/slots.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

/* A failed worker comes back after 1 s, then twice as long, up to this. */
#define MAX_RESTART_DELAY (INT64CONST(300) * USECS_PER_SEC)

/* A worker that ran for so long starts again as if it had never failed. */
#define GOOD_RUN (INT64CONST(60) * USECS_PER_SEC)

/* One that could not even be started is tried again after this. */
#define START_DELAY USECS_PER_SEC

/* In a worker: its slot, and the state that it leaves behind. */
static Slot *my_slot = NULL;
static SlotState my_next_state = SLOT_WAITING;
static bool my_end_is_failure = true;
static bool my_end_makes_room = false;
static TimestampTz my_wants_at = 0;

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
		slot->is_lent = false;
		slot->wants_at = 0;
		slot->wants_since = 0;
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
		/* When its processes are gone there will be another look. */
		pg_atomic_write_u32(&shared->must_list, 1);
		slot->next_start_at = clock_now() + START_DELAY;
		if (slot->pid != 0)
			pg_atomic_fetch_or_u32(&slot->wake, WAKE_STOP);
		wake_process(&slot->process);
	}
	LWLockRelease(lock);
}

bool
shared_slot_starting(int index, uint32 *start)
{
	Slot	   *slot = &shared->slots[index];
	bool		wanted;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	wanted = (slot->state == SLOT_WAITING &&
			  !is_held(slot->database));
	if (wanted)
	{
		slot->state = SLOT_STARTING;
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
	if (slot->state == SLOT_WAITING)
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
shared_set_wanted(int nwanted)
{
	nwanted -= (int) pg_atomic_read_u32(&shared->nlending);
	pg_atomic_write_u32(&shared->nwanted, Max(nwanted, 0));
	for (int i = 0; i < shared->nslots && nwanted > 0; i++)
		wake_process(&shared->slots[i].process);
}

void
shared_want_all(void)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
		shared->slots[i].wants_at = 0;
	LWLockRelease(lock);
}

/* Puts off the next start; the lock is held. */
static void
back_off(Slot *slot)
{
	int64		delay = USECS_PER_SEC;

	for (int i = 0; i < slot->failures && delay < MAX_RESTART_DELAY; i++)
		delay *= 2;
	slot->failures++;
	slot->next_start_at = clock_now() + Min(delay, MAX_RESTART_DELAY);
}

/* Copies a message as far as there is room for whole characters. */
static void
copy_message(char *to, const char *message, int size)
{
	int			length = pg_mbcliplen(message, (int) strlen(message), size - 1);

	memcpy(to, message, length);
	to[length] = '\0';
}

/* Notes an error; the lock is held. */
static void
note_error(Slot *slot, const char *message)
{
	slot->last_error_at = GetCurrentTimestamp();
	copy_message(slot->last_error, message, SLOT_ERROR_SIZE);
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
		note_error(slot, error);
	}
	LWLockRelease(lock);
}

/*
 * Maintenance
 */

static Slot *maintained_slot = NULL;

int
shared_next_maintenance(TimestampTz *next_at)
{
	int			found = -1;

	*next_at = DT_NOEND;
	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < shared->nslots; i++)
	{
		Slot	   *slot = &shared->slots[i];

		if (slot->state == SLOT_FREE || !slot->has_extension ||
			slot->maintenance_pid != 0 || slot->maintenance_at >= *next_at)
			continue;
		*next_at = slot->maintenance_at;
		found = i;
	}
	LWLockRelease(lock);
	return found;
}

void
shared_put_off_maintenance(int index, TimestampTz next_at)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	shared->slots[index].maintenance_at = next_at;
	LWLockRelease(lock);
}

void
shared_want_maintenance(void)
{
	Slot	   *slot;

	if (shared == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_slot(MyDatabaseId);
	if (slot != NULL)
		slot->maintenance_at = 0;
	LWLockRelease(lock);
	shared_wake_launcher();
}

static void
detach_maintenance(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	maintained_slot->maintenance_pid = 0;
	maintained_slot->days_progress.what[0] = '\0';
	LWLockRelease(lock);
	ConditionVariableBroadcast(&shared->worker_gone);
	shared_wake_launcher();
}

bool
shared_attach_maintenance(int index, Oid *database)
{
	Slot	   *slot = &shared->slots[index];
	bool		wanted;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	wanted = (slot->state != SLOT_FREE && slot->has_extension &&
			  slot->maintenance_pid == 0 && !is_held(slot->database));
	if (wanted)
	{
		slot->maintenance_pid = MyProcPid;
		*database = slot->database;
		maintained_slot = slot;
	}
	LWLockRelease(lock);
	if (wanted)
		before_shmem_exit(detach_maintenance, 0);
	return wanted;
}

bool
shared_maintenance_fails(void)
{
	return maintained_slot->days_error_at != 0;
}

bool
shared_believe_clock(int64 interval)
{
	TimestampTz now = clock_now();
	bool		believes;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	believes = (clock_steady_for() >= interval &&
				now - maintained_slot->believed_at >= interval);
	if (believes)
		maintained_slot->believed_at = now;
	LWLockRelease(lock);
	return believes;
}

void
shared_report_maintenance(const char *error, int64 delay)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	maintained_slot->days_at = GetCurrentTimestamp();
	maintained_slot->days_error_at = error ? maintained_slot->days_at : 0;
	strlcpy(maintained_slot->days_error, error ? error : "", SLOT_ERROR_SIZE);
	if (maintained_slot->maintenance_at != 0)
		maintained_slot->maintenance_at = clock_now() + delay;
	LWLockRelease(lock);
}

void
shared_maintenance_does(const char *what, int done, int total)
{
	DaysProgress *progress = &maintained_slot->days_progress;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (progress->what[0] == '\0')
		progress->started_at = GetCurrentTimestamp();
	strlcpy(progress->what, what, DAYS_TEXT_SIZE);
	progress->done = done;
	progress->total = total;
	LWLockRelease(lock);
}

void
shared_maintenance_did(const char *what)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	strlcpy(maintained_slot->days_did, what, DAYS_TEXT_SIZE);
	LWLockRelease(lock);
}

/*
 * The worker's side
 */

static void
detach_worker(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	my_slot->state = my_next_state;
	if (my_next_state == SLOT_ABSENT)
		my_slot->has_extension = false;
	my_slot->pid = 0;
	my_slot->next_start_at = 0;
	memset(my_slot->troubles, 0, sizeof(my_slot->troubles));
	my_slot->is_lent = my_end_makes_room && !my_end_is_failure;
	my_slot->wants_at = my_wants_at;
	my_slot->wants_since = 0;
	if (my_end_makes_room)
		pg_atomic_fetch_sub_u32(&shared->nlending, 1);
	if (!my_slot->is_lent)
		my_slot->hold = HOLD_NONE;
	if (my_end_is_failure)
	{
		if (clock_now() - my_slot->runs_since > GOOD_RUN)
			my_slot->failures = 0;
		back_off(my_slot);
	}
	pg_atomic_write_u32(&my_slot->process, NO_PROCESS);
	pg_atomic_write_u32(&my_slot->in_flight, 0);
	my_slot = NULL;
	LWLockRelease(lock);

	ConditionVariableBroadcast(&shared->worker_gone);
	shared_wake_launcher();
}

bool
shared_attach_worker(int index, Oid *database)
{
	Slot	   *slot = &shared->slots[index];
	bool		wanted;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (slot->state != SLOT_STARTING || slot->pid != 0)
	{
		LWLockRelease(lock);
		return false;
	}
	wanted = !is_held(slot->database);
	if (wanted)
	{
		slot->pid = MyProcPid;
		slot->started_at = GetCurrentTimestamp();
		slot->runs_since = clock_now();
		slot->wants_since = 0;
		*database = slot->database;
		pg_atomic_write_u32(&slot->announced, 0);
		pg_atomic_write_u32(&slot->wake, WAKE_EVENTS | WAKE_COMMANDS);
		pg_atomic_write_u32(&slot->ignored, 0);
		pg_atomic_write_u32(&slot->process, PROC_NUMBER(MyProc));
		my_slot = slot;
	}
	else
		slot->state = SLOT_WAITING;
	LWLockRelease(lock);

	if (wanted)
		before_shmem_exit(detach_worker, 0);
	else
		shared_wake_launcher();
	return wanted;
}

int
shared_my_slot(void)
{
	return (int) (my_slot - shared->slots);
}

void
shared_worker_runs(void)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	my_slot->state = SLOT_RUNNING;
	my_slot->is_lent = false;
	my_slot->has_extension = true;
	LWLockRelease(lock);
	shared_wake_launcher();
}

void
shared_worker_ends(SlotState next_state)
{
	my_next_state = next_state;
	my_end_is_failure = false;
}

bool
shared_make_room(void)
{
	uint32		nwanted = pg_atomic_read_u32(&shared->nwanted);

	while (nwanted > 0)
	{
		if (!pg_atomic_compare_exchange_u32(&shared->nwanted, &nwanted, nwanted - 1))
			continue;
		pg_atomic_fetch_add_u32(&shared->nlending, 1);
		my_end_makes_room = true;
		return true;
	}
	return false;
}

bool
shared_worker_was_lent(WorkerHold *hold)
{
	bool		lent;

	LWLockAcquire(lock, LW_SHARED);
	lent = my_slot->is_lent;
	if (lent)
		*hold = my_slot->hold;
	LWLockRelease(lock);
	return lent;
}

void
shared_worker_wants_at(TimestampTz time)
{
	my_wants_at = time;
}

bool
shared_work_offset(int64 *offset)
{
	bool		known = false;
	Slot	   *slot;

	if (shared == NULL)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(MyDatabaseId);
	if (slot != NULL && slot->has_work_offset)
	{
		known = true;
		*offset = slot->work_offset;
	}
	LWLockRelease(lock);
	return known;
}

void
shared_set_work_offset(int64 offset)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	my_slot->work_offset = offset;
	my_slot->has_work_offset = true;
	LWLockRelease(lock);
}

uint32
shared_take_wake(void)
{
	return pg_atomic_exchange_u32(&my_slot->wake, 0);
}

void
shared_worker_holds(WorkerHold hold)
{
	bool		has_claimed;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	has_claimed = ((my_slot->hold == HOLD_NOT_ATTACHED ||
					my_slot->hold == HOLD_RESTORED_COPY ||
					my_slot->hold == HOLD_OTHER_VERSION) && hold != my_slot->hold);
	my_slot->hold = hold;
	if (has_claimed)
		my_slot->maintenance_at = 0;
	LWLockRelease(lock);
	if (has_claimed)
		shared_wake_launcher();

	/* Other holds can end by what nobody announces, such as a restore. */
	pg_atomic_write_u32(&my_slot->ignored, hold == HOLD_PAUSED ? WAKE_EVENTS : 0);
}

void
shared_count_results(uint64 delivered, uint64 failed)
{
	pg_atomic_fetch_add_u64(&my_slot->delivered, delivered);
	pg_atomic_fetch_add_u64(&my_slot->failed, failed);
}

void
shared_set_in_flight(uint32 in_flight)
{
	pg_atomic_write_u32(&my_slot->in_flight, in_flight);
}

void
shared_record_error(const char *message)
{
	if (my_slot == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	note_error(my_slot, message);
	LWLockRelease(lock);
}

const char *
trouble_name(TroubleKind kind)
{
	static const char *const names[] = {
		[TROUBLE_RECORDING] = "recording what was sent",
		[TROUBLE_MARKING] = "marking how far events were routed",
		[TROUBLE_ROUTING] = "routing events",
		[TROUBLE_FETCHING] = "fetching waiting dispatches",
		[TROUBLE_ORDERING] = "keeping dispatches in order",
		[TROUBLE_LOGGING_STATISTICS] = "logging statistics of webhooks",
		[TROUBLE_STATISTICS] = "adding up statistics of webhooks",
		[TROUBLE_HEALTH] = "looking after failing webhooks",
		[TROUBLE_RETIRING] = "retiring ad-hoc webhooks",
		[TROUBLE_DISABLING] = "disabling webhooks that are gone"
	};

	return names[kind];
}

/* Returns whether it is another one than the last. */
bool
shared_answer(uint64 number)
{
	return pg_atomic_exchange_u64(&my_slot->answer, number) != number;
}

bool
shared_set_trouble(TroubleKind kind, const char *message)
{
	Trouble    *trouble = &my_slot->troubles[kind];
	bool		was_there = (trouble->since != 0);

	if (message == NULL && !was_there)
		return false;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (message == NULL)
		trouble->since = 0;
	else
	{
		if (!was_there)
			trouble->since = GetCurrentTimestamp();
		copy_message(trouble->message, message, TROUBLE_SIZE);
		note_error(my_slot, message);
	}
	LWLockRelease(lock);
	return (message != NULL) != was_there;
}
