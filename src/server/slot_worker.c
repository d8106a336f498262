/*-------------------------------------------------------------------------
 *
 * slot_worker.c
 *	  Slots of workers: the workers' side.
 *
 * IDENTIFICATION
 *	  src/server/slot_worker.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "server/clock.h"
#include "server/shared.h"
#include "server/shared_state.h"
#include "server/slots.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

/* A worker that ran for so long starts again as if it had never failed. */
#define GOOD_RUN (INT64CONST(60) * USECS_PER_SEC)

/* So often at most the log says that calls were given up. */
#define TELL_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

/* In a worker: its slot, and the state that it leaves behind. */
static Slot *my_slot = NULL;
static SlotState my_next_state = SLOT_WAITING;
static bool my_end_is_failure = true;
static bool my_end_is_soon_over = false;
static bool my_end_makes_room = false;
static TimestampTz my_wants_at = 0;

/* How often the settings were read again when this worker did or was registered. */
static uint32 my_reloads = 0;

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
		slot_back_off(my_slot, my_end_is_soon_over);
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
	wanted = (!slot->is_unwanted && !is_held(slot->database));
	if (wanted)
	{
		my_reloads = slot->reloads;
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

void
shared_worker_runs(void)
{
	shared_worker_back_by(clock_now());
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

void
shared_worker_was_locked_out(void)
{
	my_end_is_soon_over = true;
}

/* Takes one off a number that others take from as well; false if it is 0. */
static bool
take_one(pg_atomic_uint32 *number)
{
	uint32		value = pg_atomic_read_u32(number);

	while (value > 0)
	{
		if (pg_atomic_compare_exchange_u32(number, &value, value - 1))
			return true;
	}
	return false;
}

bool
shared_make_room(void)
{
	if (!take_one(&shared->nwanted))
		return false;
	pg_atomic_fetch_add_u32(&shared->nlending, 1);
	my_end_makes_room = true;
	return true;
}

bool
shared_room_is_urgent(void)
{
	return take_one(&shared->nurgent);
}

void
shared_keep_room(void)
{
	pg_atomic_fetch_sub_u32(&shared->nlending, 1);
	my_end_makes_room = false;
}

bool
shared_may_tell_of_cuts(void)
{
	TimestampTz now = clock_now();
	bool		may;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	may = my_slot->cuts_told_at == 0 || now - my_slot->cuts_told_at >= TELL_INTERVAL;
	if (may)
		my_slot->cuts_told_at = now;
	LWLockRelease(lock);
	return may;
}

void
shared_worker_back_by(TimestampTz time)
{
	pg_atomic_write_u64(&my_slot->back_by, (uint64) time);
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
					my_slot->hold == HOLD_RESTORED_TABLES ||
					my_slot->hold == HOLD_OTHER_VERSION) && hold != my_slot->hold);
	my_slot->hold = hold;
	if (has_claimed)
		my_slot->maintenance_at = 0;
	LWLockRelease(lock);
	if (has_claimed)
		shared_wake_launcher();

	/* Other holds can end by what nobody announces, such as a restore. */
	pg_atomic_write_u32(&my_slot->ignored, hold == HOLD_PAUSED ? WAKE_EVENTS | WAKE_RUNS : 0);
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

bool
shared_must_reload(void)
{
	uint32		reloads = pg_atomic_read_u32(&shared->reloads);
	bool		must = (reloads != my_reloads);

	my_reloads = reloads;
	return must;
}

bool
shared_record_error(const char *message)
{
	char		old[SLOT_ERROR_SIZE];

	if (my_slot == NULL)
		return true;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	strlcpy(old, my_slot->last_error, sizeof(old));
	slot_note_error(my_slot, message);
	LWLockRelease(lock);
	return strcmp(old, my_slot->last_error) != 0;
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
		[TROUBLE_COUNTING] = "counting webhooks",
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
		slot_copy_message(trouble->message, message, TROUBLE_SIZE);
		slot_note_error(my_slot, message);
	}
	LWLockRelease(lock);
	return (message != NULL) != was_there;
}
