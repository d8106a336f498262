/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The process that keeps a worker running in each database that has the
 *	  extension, and starts the maintenance of their tables.
 *
 * Only a worker can see whether its database has the extension, so each
 * database gets one at first.  Those without are remembered, until CREATE
 * EXTENSION announces itself.
 *
 * IDENTIFICATION
 *	  src/server/launcher.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "server/background.h"
#include "server/clock.h"
#include "server/launcher.h"
#include "server/settings.h"
#include "server/shared.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
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
#define MAX_STARTING 2

/* A worker that we registered and that has not found the extension yet. */
typedef struct Start
{
	int			slot;			/* -1: none */
	uint32		number;
	BackgroundWorkerHandle *handle;
} Start;

static Start starts[MAX_STARTING];
static HTAB *absent;			/* databases that lack the extension */

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

static void
forget_absent(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(Oid),
		.hcxt = TopMemoryContext
	};

	if (absent)
		hash_destroy(absent);
	absent = hash_create("webhook_events absent", 32, &control,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Takes what CREATE EXTENSION announced. */
static void
take_announced(void)
{
	Oid			announced[MAX_ANNOUNCED];
	int			count;

	if (shared_take_announced(announced, &count))
		forget_absent();
	for (int i = 0; i < count; i++)
		hash_search(absent, &announced[i], HASH_REMOVE, NULL);
}

/* The databases that could have the extension and may be worked for. */
static List *
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old_context;

		if (form->datistemplate || !form->datallowconn ||
			form->datconnlimit == DATCONNLIMIT_INVALID_DB ||
			!settings_name_database(NameStr(form->datname)))
			continue;
		old_context = MemoryContextSwitchTo(context);
		databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(old_context);
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

/* Gives each of these databases a slot, and takes it from all others. */
static void
assign_slots(List *databases)
{
	List	   *assigned = NIL;
	ListCell   *cell;

	for (int i = 0; i < shared_slot_count(); i++)
	{
		Oid			database;
		TimestampTz next_start_at;
		SlotState	state = shared_slot_state(i, &database, &next_start_at);

		if (state == SLOT_FREE)
			continue;
		if (state == SLOT_ABSENT && !shared_slot_announced(i))
			hash_search(absent, &database, HASH_ENTER, NULL);
		if (state == SLOT_ABSENT || !list_member_oid(databases, database))
			shared_slot_retire(i);
		else
			assigned = lappend_oid(assigned, database);
	}
	foreach(cell, databases)
	{
		Oid			database = lfirst_oid(cell);

		if (!list_member_oid(assigned, database) &&
			hash_search(absent, &database, HASH_FIND, NULL) == NULL)
			(void) shared_slot_allocate(database);
	}
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

/* Logs a lack of processes that lasts, once. */
static void
note_shortage(void)
{
	TimestampTz now = clock_now();

	if (shortage_since == 0)
		shortage_since = now;
	if (shortage_logged || now - shortage_since < SHORTAGE_TIME)
		return;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("webhook_events has no free background worker slot for a database"),
			 errhint("Raise max_worker_processes.")));
	shortage_logged = true;
}

/* Registers the worker of a slot with the postmaster. */
static void
start_worker(int slot, Start *start)
{
	BackgroundWorker worker = background_worker("webhook_events worker",
												"webhook_events_worker_main",
												Int32GetDatum(slot));

	if (!shared_slot_starting(slot, &start->number))
		return;
	if (RegisterDynamicBackgroundWorker(&worker, &start->handle))
	{
		start->slot = slot;
		shortage_since = 0;
		shortage_logged = false;
		return;
	}
	shared_slot_failed(slot, "no free background worker slot; raise max_worker_processes");
	note_shortage();
}

/* Starts what can be started; returns when the next one can be. */
static TimestampTz
start_workers(void)
{
	TimestampTz now = clock_now();
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < shared_slot_count(); i++)
	{
		Oid			database;
		TimestampTz next_start_at;
		Start	   *start = free_start();

		if (shared_slot_state(i, &database, &next_start_at) != SLOT_WAITING)
			continue;
		if (next_start_at > now)
			next = Min(next, next_start_at);
		else if (start != NULL)
			start_worker(i, start);
	}
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

static bool
register_maintenance(int slot)
{
	BackgroundWorker worker = background_worker("webhook_events maintenance",
												"webhook_events_maintenance_main",
												Int32GetDatum(slot));
	MemoryContext old_context = MemoryContextSwitchTo(TopMemoryContext);
	bool		registered = RegisterDynamicBackgroundWorker(&worker, &maintenance);

	MemoryContextSwitchTo(old_context);
	return registered;
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
	if (register_maintenance(slot))
	{
		shared_put_off_maintenance(slot, clock_now() + MAINTENANCE_DELAY);
		logged = false;
		return DT_NOEND;
	}
	if (!logged)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("webhook_events has no free background worker slot to look after the tables of days"),
				 errhint("Raise max_worker_processes.")));
	logged = true;
	shared_put_off_maintenance(slot, clock_now() + MAINTENANCE_DELAY);
	return clock_now() + MAINTENANCE_DELAY;
}

void
webhook_events_launcher_main(Datum arg pg_attribute_unused())
{
	MemoryContext cycle_context;
	uint32		wait_event = wait_event_named("WebhookEventsLauncherMain");

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	shared_attach_launcher();
	forget_absent();
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
		}

		MemoryContextSwitchTo(cycle_context);
		MemoryContextReset(cycle_context);
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, "looking after workers");
		take_announced();
		check_starts();
		assign_slots(list_databases());
		next_at = start_workers();
		next_at = Min(next_at, start_maintenance());
		clock_watch();
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);

		next_at = Min(next_at, clock_now() + SWEEP_INTERVAL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(clock_now(), next_at),
						 wait_event);
	}
}
