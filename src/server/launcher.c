/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The process that keeps a worker running in each database that has the
 *	  extension, and starts the maintenance of their tables.
 *
 * When there are more databases than workers may run, these are lent: a worker without
 * work, or whose turn is over, makes room for the one of a database that waits.  One that
 * has made room comes back when a commit announces something, or when it said that it
 * would have work.  Requests that hang keep a worker only until some database has waited
 * for lending_patience.
 *
 * IDENTIFICATION
 *	  src/server/launcher.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "server/background.h"
#include "server/clock.h"
#include "server/databases.h"
#include "server/launcher.h"
#include "server/settings.h"
#include "server/shared.h"
#include "server/slots.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* How often the databases are listed although nothing was announced. */
#define SWEEP_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

/* A worker that has just ended can still take the place of the next one. */
#define SHORTAGE_TIME (INT64CONST(3) * USECS_PER_SEC)

/* Maintenance that can't be started, or ends without a word, comes again after this. */
#define MAINTENANCE_DELAY (INT64CONST(60) * USECS_PER_SEC)

/* So soon the postmaster starts a launcher that failed again, in s. */
#define RESTART_TIME 5

/* How many workers may be on their way up at once. */
#define MAX_STARTING 4

/* How often workers are asked to make room while some database waits. */
#define LEND_INTERVAL (INT64CONST(250) * 1000)

/* A worker that we registered and that has not found the extension yet. */
typedef struct Start
{
	int			slot;			/* -1: none */
	uint32		number;
	BackgroundWorkerHandle *handle;
} Start;

static Start starts[MAX_STARTING];

static BackgroundWorkerHandle *maintenance = NULL;

/* Since when no worker could be registered; 0: the last one could. */
static TimestampTz shortage_since = 0;
static bool shortage_logged = false;

void
launcher_register(void)
{
	BackgroundWorker worker = background_worker("webhook_events launcher",
												"webhook_events_launcher_main",
												(Datum) 0);

	worker.bgw_restart_time = RESTART_TIME;
	RegisterBackgroundWorker(&worker);
}

/*
 * Tells what of the configuration keeps all sessions from raising events: no setting of a
 * database or a role is in force here.
 */
static void
tell_silenced(void)
{
	shared_tell_silenced((setting_emit ? 0 : SILENCED_EMIT) |
						 (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ?
						  SILENCED_REPLICA : 0));
}

/* Sees what became of the workers that were on their way up. */
static void
check_starts(void)
{
	for (int i = 0; i < MAX_STARTING; i++)
	{
		Start	   *start = &starts[i];
		pid_t		pid;

		if (start->slot < 0)
			continue;
		if (shared_slot_is_starting(start->slot, start->number))
		{
			if (GetBackgroundWorkerPid(start->handle, &pid) != BGWH_STOPPED)
				continue;
			/* It may have come and gone since it was looked at. */
			if (shared_slot_is_starting(start->slot, start->number))
				shared_slot_failed(start->slot, "the worker could not be started");
		}
		pfree(start->handle);
		start->slot = -1;
	}
}

/* What a launcher before us registered can't be watched: it is started again. */
static void
forget_starts(void)
{
	for (int i = 0; i < MAX_STARTING; i++)
		starts[i].slot = -1;
	for (int i = 0; i < shared_slot_count(); i++)
		shared_slot_failed(i, "the launcher was restarted");
}

static Start *
free_start(void)
{
	for (int i = 0; i < MAX_STARTING; i++)
	{
		if (starts[i].slot < 0)
			return &starts[i];
	}
	return NULL;
}

/* The name of a slot's database, for the log; palloc'd. */
static const char *
name_of_slot(int slot)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			database;
	TimestampTz next_start_at;
	char	   *name;

	(void) shared_slot_state(slot, &database, &next_start_at);
	StartTransactionCommand();
	name = get_database_name(database);
	if (name != NULL)
		name = MemoryContextStrdup(context, name);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return name != NULL ? name : "?";
}

/* Logs a lack of processes that lasts, once. */
static void
note_shortage(int slot)
{
	TimestampTz now = clock_now();

	if (shortage_since == 0)
		shortage_since = now;
	if (shortage_logged || now - shortage_since < SHORTAGE_TIME)
		return;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("webhook_events has no free background worker slot for database \"%s\"",
					name_of_slot(slot)),
			 errhint("Raise max_worker_processes.")));
	shortage_logged = true;
}

/* Registers a process for a slot; its handle stays until it is freed. */
static bool
register_process(const char *name, const char *function, int slot,
				 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = background_worker(name, function,
												Int32GetDatum(slot));
	MemoryContext old_context = MemoryContextSwitchTo(TopMemoryContext);
	bool		registered = RegisterDynamicBackgroundWorker(&worker, handle);

	MemoryContextSwitchTo(old_context);
	return registered;
}

/* Registers the worker of a slot with the postmaster; returns whether it could. */
static bool
start_worker(int slot, Start *start)
{
	if (!shared_slot_starting(slot, &start->number))
		return false;
	if (register_process("webhook_events worker", "webhook_events_worker_main",
						 slot, &start->handle))
	{
		start->slot = slot;
		shortage_since = 0;
		shortage_logged = false;
		return true;
	}
	shared_slot_failed(slot, "no free background worker slot; raise max_worker_processes");
	note_shortage(slot);
	return false;
}

/*
 * How many workers may run.  By default others keep a quarter of all processes, for
 * parallel queries, and this launcher, the maintenance and logical replication's
 * launcher have one each.
 */
static int
worker_limit(void)
{
	int			others = max_worker_processes / 4 + 3;

	return setting_max_workers > 0 ? setting_max_workers :
		Max(max_worker_processes - others, 1);
}

/* A database that waits for a worker. */
typedef struct Waiting
{
	int			slot;
	TimestampTz since;
} Waiting;

static int
compare_waiting(const void *a, const void *b)
{
	TimestampTz one = ((const Waiting *) a)->since;
	TimestampTz other = ((const Waiting *) b)->since;

	return one < other ? -1 : one > other;
}

/*
 * Lists the databases that wait for a worker, who has waited longest first.  Sets
 * *nrunning to how many have one, *nwaiting to the length of the list, and *next to when
 * to look again.
 */
static Waiting *
list_waiting(int *nrunning, int *nwaiting, TimestampTz *next)
{
	Waiting    *waiting = palloc(sizeof(Waiting) * shared_slot_count());
	int			ndatabases = 0;
	bool		always;

	*nrunning = 0;
	*nwaiting = 0;
	for (int i = 0; i < shared_slot_count(); i++)
	{
		Oid			database;
		TimestampTz next_start_at;
		SlotState	state = shared_slot_state(i, &database, &next_start_at);

		ndatabases += (state != SLOT_FREE);
		*nrunning += (state == SLOT_STARTING || state == SLOT_RUNNING);
	}
	always = (ndatabases <= worker_limit());
	for (int i = 0; i < shared_slot_count() && ndatabases > 0; i++)
	{
		TimestampTz next_at;

		if (shared_slot_wants(i, always, &waiting[*nwaiting].since, &next_at))
			waiting[(*nwaiting)++].slot = i;
		else
			*next = Min(*next, next_at);
	}
	qsort(waiting, *nwaiting, sizeof(Waiting), compare_waiting);
	return waiting;
}

/*
 * Starts what can be started, and asks workers to make room for the others.  Returns
 * when the next one can be.
 */
static TimestampTz
start_workers(void)
{
	TimestampTz next = DT_NOEND;
	int			nrunning;
	int			nwaiting;
	Waiting    *waiting = list_waiting(&nrunning, &nwaiting, &next);
	int			nleft = 0;
	int			nurgent = 0;
	TimestampTz too_long_since = clock_now() -
	setting_lending_patience * INT64CONST(1000);

	for (int i = 0; i < nwaiting; i++)
	{
		Start	   *start = free_start();

		if (nrunning < worker_limit())
		{
			if (start == NULL)
				continue;
			if (start_worker(waiting[i].slot, start))
			{
				nrunning++;
				continue;
			}
			if (shortage_since == 0)
				continue;
		}
		nleft++;
		nurgent += (waiting[i].since <= too_long_since);
	}
	/* More may run than are allowed, since the limit was another one. */
	nleft = Max(nleft, nrunning - worker_limit());
	shared_set_wanted(nleft, nurgent);
	if (nleft > 0)
		next = Min(next, clock_now() + LEND_INTERVAL);
	return next;
}

/* Is the process of the last maintenance still there? */
static bool
is_maintaining(void)
{
	pid_t		pid;

	if (maintenance == NULL)
		return false;
	if (GetBackgroundWorkerPid(maintenance, &pid) != BGWH_STOPPED)
		return true;
	pfree(maintenance);
	maintenance = NULL;
	return false;
}

/*
 * Starts the maintenance of one database that is due, one after the other.  Returns when
 * the next one is; the end of one wakes us.
 */
static TimestampTz
start_maintenance(void)
{
	static bool logged = false;
	TimestampTz next_at;
	int			slot;

	if (is_maintaining())
		return DT_NOEND;
	slot = shared_next_maintenance(&next_at);
	if (slot < 0 || next_at > clock_now())
		return next_at;
	if (register_process("webhook_events maintenance",
						 "webhook_events_maintenance_main", slot, &maintenance))
	{
		shared_put_off_maintenance(slot, clock_now() + MAINTENANCE_DELAY, NULL);
		logged = false;
		return DT_NOEND;
	}
	if (!logged)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("webhook_events has no free background worker slot to look after the tables of days of database \"%s\"",
						name_of_slot(slot)),
				 errhint("Raise max_worker_processes.")));
	logged = true;
	shared_put_off_maintenance(slot, clock_now() + MAINTENANCE_DELAY,
							   "no free background worker slot; raise max_worker_processes");
	return clock_now() + MAINTENANCE_DELAY;
}

void
webhook_events_launcher_main(Datum arg pg_attribute_unused())
{
	TimestampTz next_sweep_at = 0;
	MemoryContext cycle_context;
	uint32		wait_event = wait_event_named("WebhookEventsLauncherMain");

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	/* PostgreSQL ignores SIGHUP while this starts: nobody would know of one. */
	ConfigReloadPending = true;
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	shared_attach_launcher();
	databases_forget_absent();
	forget_starts();
	cycle_context = AllocSetContextCreate(TopMemoryContext,
										  "webhook_events launcher cycle",
										  ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		TimestampTz next_at;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		/* With 1 the postmaster starts it again, unless it shuts down. */
		if (ShutdownRequestPending)
			proc_exit(1);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			tell_silenced();
			shared_tell_reload();
			next_sweep_at = 0;
		}

		MemoryContextSwitchTo(cycle_context);
		MemoryContextReset(cycle_context);
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, "looking after workers");
		check_starts();
		if (databases_retire_absent())
			next_sweep_at = 0;
		if (shared_take_must_list() || clock_now() >= next_sweep_at)
		{
			databases_assign_slots();
			next_sweep_at = clock_now() + SWEEP_INTERVAL;
		}
		next_at = start_workers();
		next_at = Min(next_at, start_maintenance());
		clock_watch();
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);

		next_at = Min(next_at, next_sweep_at);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(clock_now(), next_at),
						 wait_event);
	}
}
