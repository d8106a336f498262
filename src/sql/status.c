/*-------------------------------------------------------------------------
 *
 * status.c
 *	  SQL functions about the worker: what it does, and waking it.
 *
 * IDENTIFICATION
 *	  src/sql/status.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "server/clock.h"
#include "server/live.h"
#include "server/settings.h"
#include "server/shared.h"
#include "server/slots.h"
#include "server/wake.h"
#include "sql/faults.h"
#include "sql/subscriptions.h"
#include "store/counters.h"
#include "store/day_table.h"
#include "store/queues.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(webhook_events_status);
PG_FUNCTION_INFO_V1(webhook_events_under_way);
PG_FUNCTION_INFO_V1(webhook_events_worker_report);
PG_FUNCTION_INFO_V1(webhook_events_delivers);
PG_FUNCTION_INFO_V1(webhook_events_days_report);
PG_FUNCTION_INFO_V1(webhook_events_work_time);
PG_FUNCTION_INFO_V1(webhook_events_look_after_days);
PG_FUNCTION_INFO_V1(webhook_events_stand_still);
PG_FUNCTION_INFO_V1(webhook_events_wake_worker);
PG_FUNCTION_INFO_V1(webhook_events_announce);

/* A database waits no longer for a worker that is lent. */
#define LENT_TIME (INT64CONST(5) * USECS_PER_SEC)

/* A worker whose turn has come for so long does not move: each is over within moments. */
#define STUCK_TIME (INT64CONST(15) * USECS_PER_SEC)

/* Columns of table pauses. */
#define PAUSES_REASON 1
#define PAUSES_PAUSED_AT 2

/* The columns of worker_report(). */
enum
{
	REPORT_RUNNING,
	REPORT_REASON,
	REPORT_PID,
	REPORT_STARTED_AT,
	REPORT_IN_FLIGHT,
	REPORT_DELIVERED,
	REPORT_FAILED,
	REPORT_LAST_ERROR,
	REPORT_LAST_ERROR_AT,
	N_REPORT
};

/* Why there is no worker. */
static char *
reason_without_worker(const WorkerReport *report)
{
	if (!shared_available())
		return "webhook_events is not in shared_preload_libraries; add it and restart the server";
	if (RecoveryInProgress())
		return "the server is in recovery; delivery starts when it is promoted";
	if (!settings_name_database(get_database_name(MyDatabaseId)))
		return "the database is not in webhook_events.databases";
	if (!shared_launcher_running())
		return "the launcher is not running; if it does not come back raise max_worker_processes";
	if (report == NULL)
		return "the worker was not started yet";
	if (report->is_lent)
		return psprintf("no worker is free for " INT64_FORMAT " s; raise webhook_events.max_workers or max_worker_processes",
						report->wants_for / USECS_PER_SEC);
	if (report->state == SLOT_WAITING && report->last_error_at != 0)
		return psprintf("the worker failed and starts again at %s: %s",
						timestamptz_to_str(report->next_start_at),
						report->last_error);
	return "the worker is starting";
}

/* Why a worker that runs delivers nothing; NULL if it does. */
static char *
reason_of_hold(WorkerHold hold)
{
	switch (hold)
	{
		case HOLD_NONE:
			return NULL;
		case HOLD_DELIVERY_OFF:
			return "webhook_events.delivery is off";
		case HOLD_NOT_ATTACHED:
			return "no table is attached yet; call webhook_events.attach()";
		case HOLD_RESTORED_COPY:
			return "the events were recorded in another database; call webhook_events.resume() to deliver from here";
		case HOLD_RESTORED_TABLES:
			return "the tables were attached in another database; call webhook_events.resume() to deliver from here";
		case HOLD_PAUSED:
			return "paused";
		case HOLD_STANDSTILL:
			return "a session that pauses or resumes delivery has not committed";
		case HOLD_OTHER_VERSION:
			return "the extension is not of version " EXTENSION_VERSION " as the library is; run ALTER EXTENSION webhook_events UPDATE";
	}
	pg_unreachable();
}

/* Why a worker that runs does nothing, whatever it is for. */
static char *
reason_of_worker(const WorkerReport *report, bool is_lent)
{
	if (!is_lent && report->late_by > STUCK_TIME)
		return psprintf("the worker (PID %d) has not moved for " INT64_FORMAT " s",
						report->pid, report->late_by / USECS_PER_SEC);
	return reason_of_hold(report->hold);
}

/*
 * Is the worker of this database lent to another one, and would come back in time?  A
 * while without one is as good as one that has nothing to do.
 */
static bool
is_lent(const WorkerReport *report)
{
	return report->is_lent && report->wants_for < LENT_TIME &&
		(report->state == SLOT_WAITING || report->state == SLOT_STARTING);
}

/* One row that is being put together: values, and which of them are NULL. */
#define MAX_COLUMNS 40

typedef struct Row
{
	int			count;
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
} Row;

static void
add_value(Row *row, Datum value)
{
	Assert(row->count < MAX_COLUMNS);
	row->nulls[row->count] = false;
	row->values[row->count++] = value;
}

static void
add_null(Row *row)
{
	Assert(row->count < MAX_COLUMNS);
	row->nulls[row->count] = true;
	row->values[row->count++] = (Datum) 0;
}

static void
add_text(Row *row, const char *text)
{
	if (text == NULL)
		add_null(row);
	else
		add_value(row, CStringGetTextDatum(text));
}

static void
add_number(Row *row, bool is_known, int64 number)
{
	if (is_known)
		add_value(row, Int64GetDatum(number));
	else
		add_null(row);
}

/* 0 and the end of time stand for none. */
static void
add_time(Row *row, TimestampTz time)
{
	if (time == 0 || TIMESTAMP_IS_NOEND(time))
		add_null(row);
	else
		add_value(row, TimestampTzGetDatum(time));
}

/* How long ago, in seconds, to the millisecond; 0 for none and for what is to come. */
static void
add_lag(Row *row, TimestampTz time, TimestampTz now)
{
	int64		lag = TIMESTAMP_IS_NOEND(time) ? 0 : Max((now - time) / 1000, 0);

	add_value(row, DirectFunctionCall3(numeric_in,
									   CStringGetDatum(lag == 0 ? "0" :
													   psprintf(INT64_FORMAT ".%03d", lag / 1000,
																(int) (lag % 1000))),
									   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static void
add_list(Row *row, List *list)
{
	if (list == NIL)
		add_null(row);
	else
		add_value(row, faults_array(list));
}

static const char *
time_text(TimestampTz time)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(time)));
}

/* Since when and why delivery is paused, as pause() has written it. */
static char *
reason_of_pause(void)
{
	Relation	table = table_open(get_relname_relid("pauses", day_table_namespace()),
								   AccessShareLock);
	SysScanDesc scan = systable_beginscan(table, InvalidOid, false, GetActiveSnapshot(),
										  0, NULL);
	HeapTuple	row = systable_getnext(scan);
	char	   *words = "paused";

	if (HeapTupleIsValid(row))
	{
		bool		isnull;
		Datum		since = heap_getattr(row, PAUSES_PAUSED_AT, RelationGetDescr(table), &isnull);
		Datum		reason = heap_getattr(row, PAUSES_REASON, RelationGetDescr(table), &isnull);

		words = psprintf("paused since %s%s%s", time_text(DatumGetTimestampTz(since)),
						 isnull ? "" : ": ", isnull ? "" : TextDatumGetCString(reason));
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return words;
}

static int
count_resting_hosts(void)
{
	LiveHost   *hosts;
	int			nhosts = live_hosts(MyDatabaseId, &hosts);
	int			count = 0;

	for (int i = 0; i < nhosts; i++)
		count += hosts[i].state.rests_until != 0 || hosts[i].state.is_probed;
	return count;
}

/* Who has all that it may take, while more of it waits. */
static List *
list_full_shares(void)
{
	List	   *names = NIL;
	LiveShare  *shares;
	int			count = live_shares(MyDatabaseId, &shares);

	for (int i = 0; i < count; i++)
		names = lappend(names, psprintf("%s %s has all that it may take, %d calls under way, since %s",
										shares[i].is_user ? "user" : "address",
										shares[i].name, shares[i].in_flight,
										time_text(shares[i].since)));
	return names;
}

static List *
list_troubles(const WorkerReport *report)
{
	List	   *troubles = NIL;

	for (int i = 0; i < N_TROUBLES; i++)
	{
		if (report->troubles[i].since != 0)
			troubles = lappend(troubles, psprintf("%s fails since %s: %s", trouble_name(i),
												  time_text(report->troubles[i].since),
												  report->troubles[i].message));
	}
	return troubles;
}

/*
 * Since when a worker has been behind; where none runs, as long as the oldest of what
 * waits has.
 */
static TimestampTz
behind_since(LiveQueue queue, bool running, TimestampTz oldest_at, TimestampTz now)
{
	uint64		done;

	if (running)
		return live_behind_since(MyDatabaseId, queue, &done);
	return oldest_at < now ? oldest_at : 0;
}

/*
 * status() RETURNS record
 *
 * All of it from shared memory, catalogs and a few indexes: statements would have to be
 * planned, and took a new session ten times as long.
 */
Datum
webhook_events_status(PG_FUNCTION_ARGS)
{
	WorkerReport report;
	QueueReport queues;
	uint64		counters[COUNTER_SIZE];
	Row			row = {0};
	TupleDesc	desc;
	TimestampTz now;
	List	   *subscriptions;
	bool		known = shared_report(MyDatabaseId, &report);
	bool		lent = known && is_lent(&report);
	bool		running = lent || (known && report.state == SLOT_RUNNING);
	bool		works = running && !lent && report.hold == HOLD_NONE;
	const char *reason;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PushActiveSnapshot(GetTransactionSnapshot());
	reason = running ? reason_of_worker(&report, lent) :
		reason_without_worker(known ? &report : NULL);
	if (running && reason != NULL && strcmp(reason, reason_of_hold(HOLD_PAUSED)) == 0)
		reason = reason_of_pause();
	queues_report(&queues);
	counters_report(counters);
	subscriptions = subscriptions_report();
	now = GetCurrentTimestamp();

	add_value(&row, BoolGetDatum(running));
	add_text(&row, reason);
	if (running && !lent)
		add_value(&row, Int32GetDatum(report.pid));
	else
		add_null(&row);
	add_time(&row, running ? report.started_at : 0);
	add_number(&row, true, queues.events);
	add_time(&row, queues.oldest_event_at);
	add_lag(&row, queues.oldest_event_at, now);
	add_number(&row, true, queues.dispatches);
	if (known)
		add_value(&row, Int32GetDatum((int32) report.in_flight));
	else
		add_null(&row);
	add_number(&row, known, (int64) report.delivered);
	add_number(&row, known, (int64) report.failed);
	add_text(&row, known && report.last_error_at != 0 ? report.last_error : NULL);
	add_time(&row, known ? report.last_error_at : 0);
	add_time(&row, queues.oldest_due_at);
	add_lag(&row, queues.oldest_due_at, now);
	add_number(&row, true, (int64) (counters[COUNTER_CALLS] - counters[COUNTER_STATUS_2XX]));
	add_number(&row, true, queues.failing_webhooks);
	add_number(&row, true, count_resting_hosts());
	add_list(&row, faults_of_tables());
	add_list(&row, faults_emit_off());
	add_list(&row, settings_unreadable_files());
	add_list(&row, subscriptions_down(subscriptions));
	add_list(&row, known ? list_troubles(&report) : NIL);
	add_time(&row, known ? report.days_at : 0);
	add_text(&row, known && report.days_error_at != 0 ? report.days_error : NULL);
	add_time(&row, queues.oldest_dispatch_at);
	add_number(&row, true, queues.held_webhooks);
	add_number(&row, true, (int64) counters[COUNTER_PROBLEMS]);
	add_time(&row, behind_since(LIVE_ROUTING, works, queues.oldest_event_at, now));
	add_time(&row, behind_since(LIVE_DELIVERY, works, queues.oldest_due_at, now));
	add_text(&row, known && report.days_did[0] != '\0' ? report.days_did : NULL);
	add_list(&row, faults_lost_accesses());
	add_number(&row, true, queues.held_dispatches);
	add_time(&row, queues.held_since);
	add_list(&row, list_full_shares());
	add_number(&row, true, (int64) counters[COUNTER_CUT_SHORT]);
	add_number(&row, true, (int64) counters[COUNTER_LEFT_OUT]);
	if (subscriptions != NIL)
		add_value(&row, subscriptions_json(subscriptions));
	else
		add_null(&row);
	PopActiveSnapshot();
	if (row.count != desc->natts)
		elog(ERROR, "status() has other columns than its function");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), row.values,
													  row.nulls)));
}

/* A row of under_way(). */
static void
put_work(ReturnSetInfo *result, const char *what, TimestampTz since, int64 done, int64 total)
{
	Datum		values[] = {
		CStringGetTextDatum(what), TimestampTzGetDatum(since), Int64GetDatum(done),
		Int64GetDatum(total)
	};
	bool		nulls[lengthof(values)] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* under_way() RETURNS SETOF record: what, since, done, total */
Datum
webhook_events_under_way(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64		counters[LIVE_COUNTERS];
	WorkerReport report;
	QueueReport queues;
	TimestampTz routing;
	TimestampTz delivery;
	uint64		routed_before;
	uint64		ended_before;

	InitMaterializedSRF(fcinfo, 0);
	if (shared_report(MyDatabaseId, &report) && report.days_progress.what[0] != '\0')
		put_work(result, report.days_progress.what, report.days_progress.started_at,
				 report.days_progress.done, report.days_progress.total);
	routing = live_behind_since(MyDatabaseId, LIVE_ROUTING, &routed_before);
	delivery = live_behind_since(MyDatabaseId, LIVE_DELIVERY, &ended_before);
	if ((routing == 0 && delivery == 0) || !live_copy_counters(MyDatabaseId, counters))
		return (Datum) 0;
	queues_report(&queues);
	if (routing != 0)
	{
		int64		done = (int64) (counters[COUNTER_EVENTS] - routed_before);

		put_work(result, "routing events", routing, done, done + queues.events);
	}
	if (delivery != 0)
	{
		int64		done = (int64) (counters[COUNTER_SUCCEEDED] +
									counters[COUNTER_GIVEN_UP] - ended_before);

		put_work(result, "calling", delivery, done, done + queues.dispatches);
	}
	return (Datum) 0;
}

/* worker_report() RETURNS record */
Datum
webhook_events_worker_report(PG_FUNCTION_ARGS)
{
	Datum		values[N_REPORT] = {0};
	bool		nulls[N_REPORT];
	TupleDesc	desc;
	WorkerReport report;
	bool		known = shared_report(MyDatabaseId, &report);
	bool		lent = known && is_lent(&report);
	bool		running = lent || (known && report.state == SLOT_RUNNING);
	char	   *reason;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(nulls, true, sizeof(nulls));
	reason = running ? reason_of_worker(&report, lent) :
		reason_without_worker(known ? &report : NULL);

	values[REPORT_RUNNING] = BoolGetDatum(running);
	nulls[REPORT_RUNNING] = false;
	if (reason)
		values[REPORT_REASON] = CStringGetTextDatum(reason);
	nulls[REPORT_REASON] = (reason == NULL);
	if (known)
	{
		values[REPORT_PID] = Int32GetDatum(report.pid);
		nulls[REPORT_PID] = !running || lent;
		values[REPORT_STARTED_AT] = TimestampTzGetDatum(report.started_at);
		nulls[REPORT_STARTED_AT] = !running;
		values[REPORT_IN_FLIGHT] = Int32GetDatum((int32) report.in_flight);
		values[REPORT_DELIVERED] = Int64GetDatum((int64) report.delivered);
		values[REPORT_FAILED] = Int64GetDatum((int64) report.failed);
		nulls[REPORT_IN_FLIGHT] = nulls[REPORT_DELIVERED] = nulls[REPORT_FAILED] = false;
	}
	if (known && report.last_error_at != 0)
	{
		values[REPORT_LAST_ERROR] = CStringGetTextDatum(report.last_error);
		values[REPORT_LAST_ERROR_AT] = TimestampTzGetDatum(report.last_error_at);
		nulls[REPORT_LAST_ERROR] = nulls[REPORT_LAST_ERROR_AT] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* delivers() RETURNS boolean */
Datum
webhook_events_delivers(PG_FUNCTION_ARGS)
{
	WorkerReport report;
	bool		known = shared_report(MyDatabaseId, &report);
	bool		lent = known && is_lent(&report);

	(void) fcinfo;
	PG_RETURN_BOOL((lent || (known && report.state == SLOT_RUNNING)) &&
				   reason_of_worker(&report, lent) == NULL);
}

/* days_report() RETURNS record */
Datum
webhook_events_days_report(PG_FUNCTION_ARGS)
{
	WorkerReport report;
	bool		is_there = shared_report(MyDatabaseId, &report);
	bool		known = is_there && report.days_at != 0;
	bool		failed = is_there && report.days_error_at != 0;
	Datum		values[2] = {0};
	bool		nulls[2] = {!known, !failed};
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (known)
		values[0] = TimestampTzGetDatum(report.days_at);
	if (failed)
		values[1] = CStringGetTextDatum(report.days_error);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* work_time() RETURNS timestamptz */
Datum
webhook_events_work_time(PG_FUNCTION_ARGS)
{
	int64		offset;

	(void) fcinfo;
	PG_RETURN_TIMESTAMPTZ(shared_work_offset(&offset) ? clock_now() + offset :
						  GetCurrentTimestamp());
}

/* look_after_days() RETURNS void */
Datum
webhook_events_look_after_days(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	shared_want_maintenance();
	PG_RETURN_VOID();
}

/* stand_still(patience integer) RETURNS boolean */
Datum
webhook_events_stand_still(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(stand_still_until_end(PG_GETARG_INT32(0)));
}

/* wake_worker() RETURNS void */
Datum
webhook_events_wake_worker(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	wake_at_commit(WAKE_EVENTS | WAKE_COMMANDS);
	PG_RETURN_VOID();
}

/* announce() RETURNS void; called by the script of CREATE EXTENSION. */
Datum
webhook_events_announce(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	if (!shared_available())
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhook_events must be loaded at server start to deliver events"),
				 errdetail("Until then events are recorded and wait."),
				 errhint("Add webhook_events to shared_preload_libraries and restart the server.")));
	announce_at_commit();
	PG_RETURN_VOID();
}
