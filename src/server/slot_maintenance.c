/*-------------------------------------------------------------------------
 *
 * slot_maintenance.c
 *	  Slots of workers: the maintenance processes' side.
 *
 * IDENTIFICATION
 *	  src/server/slot_maintenance.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "server/clock.h"
#include "server/shared.h"
#include "server/shared_state.h"
#include "server/slots.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

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

		if (slot->state == SLOT_FREE || slot->is_unwanted || !slot->has_extension ||
			slot->maintenance_pid != 0 || slot->maintenance_at >= *next_at)
			continue;
		*next_at = slot->maintenance_at;
		found = i;
	}
	LWLockRelease(lock);
	return found;
}

void
shared_put_off_maintenance(int index, TimestampTz next_at, const char *error)
{
	Slot	   *slot = &shared->slots[index];

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot->maintenance_at = next_at;
	if (error != NULL)
	{
		slot->days_error_at = GetCurrentTimestamp();
		strlcpy(slot->days_error, error, SLOT_ERROR_SIZE);
	}
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
	wanted = (slot->state != SLOT_FREE && !slot->is_unwanted && slot->has_extension &&
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
	slot_copy_message(maintained_slot->days_error, error ? error : "", SLOT_ERROR_SIZE);
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
