/*-------------------------------------------------------------------------
 *
 * maintenance.c
 *	  The worker's side of maintenance: starting the process that does it, and
 *	  ending it along with the worker.
 *
 * IDENTIFICATION
 *	  src/deliver/maintenance.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/maintenance.h"
#include "miscadmin.h"
#include "server/background.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* How often the process is started, and how soon again if it can't be. */
#define INTERVAL (INT64CONST(3600) * USECS_PER_SEC)
#define RETRY_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

static BackgroundWorkerHandle *process = NULL;
static TimestampTz next_start_at = 0;

TimestampTz
maintenance_deadline(void)
{
	return next_start_at;
}

/* A worker that fails takes it along: it would keep the database in use. */
static void
terminate(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	if (process != NULL)
		TerminateBackgroundWorker(process);
}

static bool
is_running(void)
{
	pid_t		pid;

	if (process == NULL)
		return false;
	if (GetBackgroundWorkerPid(process, &pid) != BGWH_STOPPED)
		return true;
	pfree(process);
	process = NULL;
	return false;
}

/* Returns false if there is no slot for it. */
static bool
start_process(void)
{
	static bool has_started = false;
	MemoryContext old_context = MemoryContextSwitchTo(TopMemoryContext);
	BackgroundWorker worker = background_worker("webhook_events maintenance",
												"webhook_events_maintenance_main",
												ObjectIdGetDatum(MyDatabaseId));
	bool		registered;

	if (!has_started)
		before_shmem_exit(terminate, (Datum) 0);
	has_started = true;
	registered = RegisterDynamicBackgroundWorker(&worker, &process);
	MemoryContextSwitchTo(old_context);
	return registered;
}

void
maintenance_start(void)
{
	static bool shortage_logged = false;
	TimestampTz now = GetCurrentTimestamp();

	if (now < next_start_at)
		return;
	next_start_at = now + INTERVAL;
	if (is_running() || start_process())
		return;
	next_start_at = now + RETRY_INTERVAL;
	if (!shortage_logged)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("webhook_events has no free background worker slot to look after the tables of days"),
				 errhint("Raise max_worker_processes.")));
	shortage_logged = true;
}

void
maintenance_stop(void)
{
	if (!is_running())
		return;
	TerminateBackgroundWorker(process);
	(void) WaitForBackgroundWorkerShutdown(process);
}
