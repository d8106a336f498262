/*-------------------------------------------------------------------------
 *
 * standstill.c
 *	  A hand-shake between sessions that want no request to start, and the worker.
 *
 * IDENTIFICATION
 *	  src/server/standstill.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "server/clock.h"
#include "server/shared.h"
#include "server/slots.h"
#include "server/standstill.h"
#include "utils/timestamp.h"

static StandstillShared *shared = NULL;
static bool has_asked = false;	/* this session */

void
standstill_initialize(StandstillShared *memory)
{
	pg_atomic_init_u64(&memory->number, 0);
	ConditionVariableInit(&memory->answered);
	SpinLockInit(&memory->mutex);
}

void
standstill_attach(StandstillShared *memory)
{
	shared = memory;
}

/* Puts the session's process where it is not yet; false if there is no room. */
static bool
add_session(void)
{
	bool		added = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < MAX_STANDSTILLS && !added; i++)
	{
		if (shared->sessions[i].owner != 0)
			continue;
		shared->sessions[i].database = MyDatabaseId;
		shared->sessions[i].owner = MyProcPid;
		added = true;
	}
	SpinLockRelease(&shared->mutex);
	return added;
}

static bool
wait_for_answer(uint64 number, int timeout)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(clock_now(), timeout);
	uint32		wait_event = wait_event_named("WebhookEventsStandstill");
	uint64		answered;
	bool		has_come = true;

	ConditionVariablePrepareToSleep(&shared->answered);
	while (has_come && shared_worker_answer(MyDatabaseId, &answered) && answered < number)
	{
		/* The worker can end without an answer, so we look now and then. */
		(void) ConditionVariableTimedSleep(&shared->answered, 100, wait_event);
		has_come = clock_now() < deadline;
	}
	ConditionVariableCancelSleep();
	return has_come;
}

bool
standstill_request(int timeout)
{
	uint64		number;

	if (shared == NULL)
		return true;
	if (!has_asked && !add_session())
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many sessions pause or resume delivery at once"),
				 errdetail("The limit is %d.", MAX_STANDSTILLS)));
	has_asked = true;
	number = pg_atomic_add_fetch_u64(&shared->number, 1);
	shared_wake_worker(WAKE_COMMANDS);
	return wait_for_answer(number, timeout);
}

void
standstill_release(void)
{
	if (!has_asked)
		return;
	has_asked = false;
	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < MAX_STANDSTILLS; i++)
	{
		if (shared->sessions[i].owner == MyProcPid)
			shared->sessions[i].owner = 0;
	}
	SpinLockRelease(&shared->mutex);
	pg_atomic_fetch_add_u64(&shared->number, 1);
	shared_wake_worker(WAKE_COMMANDS);
}

uint64
standstill_number(void)
{
	uint64		number = pg_atomic_read_u64(&shared->number);

	pg_memory_barrier();
	return number;
}

bool
standstill_is_wanted(Oid database)
{
	bool		found = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < MAX_STANDSTILLS; i++)
		found |= shared->sessions[i].owner != 0 && shared->sessions[i].database == database;
	SpinLockRelease(&shared->mutex);
	return found;
}

void
standstill_answer(uint64 number)
{
	if (shared_answer(number))
		ConditionVariableBroadcast(&shared->answered);
}
