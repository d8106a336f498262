/*-------------------------------------------------------------------------
 *
 * shared.c
 *	  Shared memory: how it comes to be, who wakes whom, and which databases
 *	  are held.
 *
 * What a committing backend touches (wake bits, the number of the process to
 * wake, the list of announcements) is atomic or protected by a spinlock, because
 * a commit must neither fail nor wait at that point.
 *
 * Processes are known by the number of their PGPROC, never by a pointer of
 * their own.  A number can have been taken over by another process: that one
 * is woken once for nothing.
 *
 * IDENTIFICATION
 *	  src/server/shared.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "server/clock.h"
#include "server/shared.h"
#include "server/shared_state.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

/* How many databases can have the extension; workers are lent to them by turns. */
#define MAX_DATABASES 1000

/* A worker has so long to stop by itself before it is terminated. */
#define PATIENCE (INT64CONST(2) * USECS_PER_SEC)

SharedState *shared = NULL;
LWLock	   *lock = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
shared_size(void)
{
	return add_size(offsetof(SharedState, slots),
					mul_size(MAX_DATABASES, sizeof(Slot)));
}

static void
request_hook(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("webhook_events", 1);
}

static void
initialize(void)
{
	memset(shared, 0, shared_size());
	clock_initialize(&shared->clock);
	standstill_initialize(&shared->standstill);
	applied_initialize(&shared->applied);
	pg_atomic_init_u32(&shared->ids.next_maker, pg_prng_uint32(&pg_global_prng_state));
	pg_atomic_init_u64(&shared->ids.floor, 0);
	pg_atomic_init_u32(&shared->ids.below_floor, 0);
	pg_atomic_init_u32(&shared->launcher, NO_PROCESS);
	pg_atomic_init_u32(&shared->must_list, 1);
	pg_atomic_init_u32(&shared->silenced, 0);
	pg_atomic_init_u32(&shared->reloads, 0);
	pg_atomic_init_u32(&shared->nwanted, 0);
	pg_atomic_init_u32(&shared->nlending, 0);
	pg_atomic_init_u32(&shared->nurgent, 0);
	pg_atomic_init_u32(&shared->async_commits, 0);
	pg_atomic_init_u64(&shared->ended_async_commits, 0);
	ConditionVariableInit(&shared->worker_gone);
	SpinLockInit(&shared->announced_lock);
	shared->nslots = MAX_DATABASES;
	pg_atomic_init_u32(&shared->nslots_used, 0);
	for (int i = 0; i < shared->nslots; i++)
	{
		Slot	   *slot = &shared->slots[i];

		pg_atomic_init_u32(&slot->database_hint, InvalidOid);
		pg_atomic_init_u32(&slot->process, NO_PROCESS);
		pg_atomic_init_u32(&slot->wake, 0);
		pg_atomic_init_u32(&slot->ignored, 0);
		pg_atomic_init_u32(&slot->announced, 0);
		pg_atomic_init_u64(&slot->delivered, 0);
		pg_atomic_init_u64(&slot->failed, 0);
		pg_atomic_init_u32(&slot->in_flight, 0);
		pg_atomic_init_u64(&slot->answer, 0);
		pg_atomic_init_u64(&slot->back_by, 0);
	}
}

static void
startup_hook(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("webhook_events", shared_size(), &found);
	if (!found)
		initialize();
	LWLockRelease(AddinShmemInitLock);

	lock = &(GetNamedLWLockTranche("webhook_events"))->lock;
	ids_shared = &shared->ids;
	clock_attach(&shared->clock);
	standstill_attach(&shared->standstill);
	applied_attach(&shared->applied);
}

void
shared_request(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_hook;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_hook;
}

bool
shared_available(void)
{
	return shared != NULL;
}

void
wake_process(pg_atomic_uint32 *process)
{
	uint32		number = pg_atomic_read_u32(process);

	if (number != NO_PROCESS)
		SetLatch(&GetPGProcByNumber(number)->procLatch);
}

Slot *
find_slot(Oid database)
{
	static Slot *last = NULL;
	int			nused;

	if (last != NULL && pg_atomic_read_u32(&last->database_hint) == database)
		return last;
	nused = (int) pg_atomic_read_u32(&shared->nslots_used);
	pg_read_barrier();
	for (int i = 0; i < nused; i++)
	{
		if (pg_atomic_read_u32(&shared->slots[i].database_hint) == database)
			return last = &shared->slots[i];
	}
	return NULL;
}

void
shared_wake_worker(uint32 wake)
{
	Slot	   *slot;
	uint32		known;

	if (shared == NULL)
		return;
	slot = find_slot(MyDatabaseId);
	if (slot == NULL)
		return;
	known = pg_atomic_fetch_or_u32(&slot->wake, wake);

	/* Who set bits that the worker has not taken yet has woken it as well. */
	if ((wake & ~known & ~pg_atomic_read_u32(&slot->ignored)) == 0)
		return;
	if (pg_atomic_read_u32(&slot->process) != NO_PROCESS)
		wake_process(&slot->process);
	else
		wake_process(&shared->launcher);
}

void
shared_begin_async_commit(void)
{
	if (shared != NULL)
		pg_atomic_fetch_add_u32(&shared->async_commits, 1);
}

void
shared_end_async_commit(void)
{
	if (shared == NULL)
		return;
	pg_atomic_fetch_add_u64(&shared->ended_async_commits, 1);
	pg_atomic_fetch_sub_u32(&shared->async_commits, 1);
}

/* In the other order than they are written. */
bool
shared_async_commits(uint64 *nended)
{
	bool		under_way;

	pg_memory_barrier();
	under_way = pg_atomic_read_u32(&shared->async_commits) > 0;
	pg_memory_barrier();
	*nended = pg_atomic_read_u64(&shared->ended_async_commits);
	return under_way;
}

void
shared_wake_launcher(void)
{
	if (shared != NULL)
		wake_process(&shared->launcher);
}

void
shared_list_databases(void)
{
	if (shared == NULL)
		return;
	pg_atomic_write_u32(&shared->must_list, 1);
	shared_wake_launcher();
}

void
shared_announce_extension(void)
{
	Slot	   *slot;

	if (shared == NULL)
		return;
	slot = find_slot(MyDatabaseId);
	if (slot != NULL)
		pg_atomic_write_u32(&slot->announced, 1);
	shared_wake_worker(WAKE_COMMANDS);
	SpinLockAcquire(&shared->announced_lock);
	if (shared->nannounced < MAX_ANNOUNCED)
		shared->announced[shared->nannounced++] = MyDatabaseId;
	else
		shared->announced_overflow = true;
	SpinLockRelease(&shared->announced_lock);
	shared_list_databases();
}

bool
shared_take_must_list(void)
{
	return pg_atomic_exchange_u32(&shared->must_list, 0) != 0;
}

bool
shared_take_announced(Oid announced[MAX_ANNOUNCED], int *count)
{
	bool		overflow;

	SpinLockAcquire(&shared->announced_lock);
	*count = shared->nannounced;
	memcpy(announced, shared->announced, sizeof(Oid) * shared->nannounced);
	overflow = shared->announced_overflow;
	shared->nannounced = 0;
	shared->announced_overflow = false;
	SpinLockRelease(&shared->announced_lock);
	return overflow;
}

/*
 * Holds
 */

bool
is_held(Oid database)
{
	for (int i = 0; i < MAX_HOLDS; i++)
	{
		if (shared->holds[i].owner != 0 &&
			shared->holds[i].database == database)
			return true;
	}
	return false;
}

static void
add_hold(Oid database)
{
	for (int i = 0; i < MAX_HOLDS; i++)
	{
		Hold	   *hold = &shared->holds[i];

		if (hold->owner == 0)
		{
			hold->database = database;
			hold->owner = MyProcPid;
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many databases are being dropped or copied at once"),
			 errdetail("The limit is %d.", MAX_HOLDS)));
}

/*
 * Asks a database's worker to stop, or ends it "now", and its maintenance in any
 * case.  Returns whether there is one of them.
 */
static bool
stop_processes(Oid database, bool now)
{
	Slot	   *slot;
	bool		found;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(database);
	found = (slot != NULL && (slot->pid != 0 || slot->maintenance_pid != 0));
	if (found && slot->maintenance_pid != 0)
		kill(slot->maintenance_pid, SIGTERM);
	if (found && slot->pid != 0)
	{
		pg_atomic_fetch_or_u32(&slot->wake, WAKE_STOP);
		wake_process(&slot->process);
		if (now)
			kill(slot->pid, SIGTERM);
	}
	LWLockRelease(lock);
	return found;
}

/*
 * A worker that starts from now on sees the hold when it attaches.  One that
 * runs is asked to stop; if it does not come to look at its latch, it is
 * terminated as a session would be.
 */
void
shared_hold_database(Oid database)
{
	TimestampTz patient_until = clock_now() + PATIENCE;
	uint32		wait_event;

	if (shared == NULL)
		return;
	wait_event = wait_event_named("WebhookEventsWorkerExit");
	LWLockAcquire(lock, LW_EXCLUSIVE);
	add_hold(database);
	LWLockRelease(lock);

	ConditionVariablePrepareToSleep(&shared->worker_gone);
	while (stop_processes(database, clock_now() > patient_until))
		ConditionVariableTimedSleep(&shared->worker_gone, 500, wait_event);
	ConditionVariableCancelSleep();
}

void
shared_release_databases(void)
{
	if (shared == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_HOLDS; i++)
	{
		if (shared->holds[i].owner == MyProcPid)
			shared->holds[i].owner = 0;
	}
	LWLockRelease(lock);
	shared_list_databases();
}

/*
 * The launcher
 */

static void
detach_launcher(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	pg_atomic_write_u32(&shared->launcher, NO_PROCESS);
}

void
shared_attach_launcher(void)
{
	pg_atomic_write_u32(&shared->launcher, PROC_NUMBER(MyProc));
	before_shmem_exit(detach_launcher, 0);
}

void
shared_tell_silenced(uint32 silenced)
{
	pg_atomic_write_u32(&shared->silenced, silenced);
}

uint32
shared_silenced(void)
{
	return shared == NULL ? 0 : pg_atomic_read_u32(&shared->silenced);
}

bool
shared_launcher_running(void)
{
	return shared != NULL &&
		pg_atomic_read_u32(&shared->launcher) != NO_PROCESS;
}
