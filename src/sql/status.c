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

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "server/clock.h"
#include "server/settings.h"
#include "server/shared.h"
#include "server/slots.h"
#include "server/wake.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(webhook_events_worker_report);
PG_FUNCTION_INFO_V1(webhook_events_days_report);
PG_FUNCTION_INFO_V1(webhook_events_work_time);
PG_FUNCTION_INFO_V1(webhook_events_look_after_days);
PG_FUNCTION_INFO_V1(webhook_events_worker_troubles);
PG_FUNCTION_INFO_V1(webhook_events_stand_still);
PG_FUNCTION_INFO_V1(webhook_events_wake_worker);
PG_FUNCTION_INFO_V1(webhook_events_announce);

/* A database waits no longer for a worker that is lent. */
#define LENT_TIME (INT64CONST(5) * USECS_PER_SEC)

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
		return "the launcher is not running";
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
		case HOLD_PAUSED:
			return "paused";
		case HOLD_STANDSTILL:
			return "a session that pauses or resumes delivery has not committed";
		case HOLD_OTHER_VERSION:
			return "the extension is not of version " EXTENSION_VERSION " as the library is; run ALTER EXTENSION webhook_events UPDATE";
	}
	pg_unreachable();
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
	reason = running ? reason_of_hold(report.hold) :
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

/* days_report() RETURNS record */
Datum
webhook_events_days_report(PG_FUNCTION_ARGS)
{
	WorkerReport report;
	bool		known = shared_report(MyDatabaseId, &report) && report.days_at != 0;
	bool		failed = known && report.days_error_at != 0;
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

/* worker_troubles() RETURNS TABLE (what text, since timestamptz, error text) */
Datum
webhook_events_worker_troubles(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;
	WorkerReport report;

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	if (!shared_report(MyDatabaseId, &report))
		return (Datum) 0;
	for (int i = 0; i < N_TROUBLES; i++)
	{
		const Trouble *trouble = &report.troubles[i];
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		if (trouble->since == 0)
			continue;
		values[0] = CStringGetTextDatum(trouble_name(i));
		values[1] = TimestampTzGetDatum(trouble->since);
		values[2] = CStringGetTextDatum(trouble->message);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
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
