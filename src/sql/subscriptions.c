/*-------------------------------------------------------------------------
 *
 * subscriptions.c
 *	  What becomes of the subscriptions of a database, as status() tells it.
 *
 * Read from catalogs and shared memory alone, as the rest of status() is.
 *
 * IDENTIFICATION
 *	  src/sql/subscriptions.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/partition.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_subscription_rel.h"
#include "compat.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "replication/worker_internal.h"
#include "server/applied.h"
#include "sql/subscriptions.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "store/day_table.h"
#include "store/gather.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

static const char *const state_names[] = {
	[SUBSCRIPTION_APPLYING] = "applying",
	[SUBSCRIPTION_COPYING] = "copying",
	[SUBSCRIPTION_DOWN] = "down",
	[SUBSCRIPTION_DISABLED] = "disabled"
};

/*
 * Does its process run?  Sets *busy_since to when what it is applying now was sent, 0 if
 * it waits for more.
 */
static bool
is_applied(Oid subscription, TimestampTz *busy_since)
{
	LogicalRepWorker *worker;
	bool		runs;

	*busy_since = 0;
	LWLockAcquire(LogicalRepWorkerLock, LW_SHARED);
	worker = find_apply_worker(subscription);
	runs = (worker != NULL);
	if (runs && worker->proc != NULL && !TIMESTAMP_IS_NOBEGIN(worker->last_send_time) &&
		(TransactionIdIsValid(worker->proc->xmin) || TransactionIdIsValid(worker->proc->xid)))
		*busy_since = worker->last_send_time;
	LWLockRelease(LogicalRepWorkerLock);
	return runs;
}

/* Adds that of a table whose first copy is still to be made, or to catch up: once. */
static void
add_copying(HeapTuple row, TupleDesc desc pg_attribute_unused(), List **subscriptions)
{
	Form_pg_subscription_rel form = (Form_pg_subscription_rel) GETSTRUCT(row);

	if (form->srsubstate != SUBREL_STATE_READY && form->srsubstate != SUBREL_STATE_SYNCDONE)
		*subscriptions = list_append_unique_oid(*subscriptions, form->srsubid);
}

/* Adds a report of one of this database; whether it is copying is not looked at. */
static void
add_report(HeapTuple row, TupleDesc desc pg_attribute_unused(), List **reports)
{
	Form_pg_subscription form = (Form_pg_subscription) GETSTRUCT(row);
	SubscriptionReport *report;
	TimestampTz busy_since;
	Applied		last;
	bool		runs;

	if (form->subdbid != MyDatabaseId)
		return;
	runs = is_applied(form->oid, &busy_since);
	report = palloc0(sizeof(SubscriptionReport));
	report->oid = form->oid;
	report->name = pstrdup(NameStr(form->subname));
	if (!form->subenabled)
		report->state = form->subdisableonerr ? SUBSCRIPTION_DOWN : SUBSCRIPTION_DISABLED;
	else
		report->state = runs ? SUBSCRIPTION_APPLYING : SUBSCRIPTION_DOWN;
	if (applied_last(form->oid, &last))
	{
		report->has_committed = true;
		report->committed_at = last.committed_at;
		report->lag = last.applied_at - last.committed_at;
	}
	if (busy_since != 0)
		report->lag = Max(report->lag, GetCurrentTimestamp() - busy_since);
	report->lag = Max(report->lag, 0) / 1000;
	*reports = lappend(*reports, report);
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(((const SubscriptionReport *) lfirst(a))->name,
				  ((const SubscriptionReport *) lfirst(b))->name);
}

List *
subscriptions_report(void)
{
	List	   *reports = gather_rows(SubscriptionRelationId, NULL, add_report);
	List	   *copying = reports == NIL ? NIL :
	gather_rows(SubscriptionRelRelationId, NULL, add_copying);
	ListCell   *cell;

	foreach(cell, reports)
	{
		SubscriptionReport *report = lfirst(cell);

		if (report->state == SUBSCRIPTION_APPLYING && list_member_oid(copying, report->oid))
			report->state = SUBSCRIPTION_COPYING;
	}
	list_sort(reports, compare_names);
	return reports;
}

/* Adds that to which a day of the outbox is a table by itself: once. */
static void
add_of_day(HeapTuple row, TupleDesc desc pg_attribute_unused(), List **subscriptions)
{
	Form_pg_subscription_rel form = (Form_pg_subscription_rel) GETSTRUCT(row);

	if (get_rel_relispartition(form->srrelid) &&
		get_partition_parent(form->srrelid, true) ==
		get_relname_relid("outbox", day_table_namespace()))
		*subscriptions = list_append_unique_oid(*subscriptions, form->srsubid);
}

List *
subscriptions_of_days(void)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, gather_rows(SubscriptionRelRelationId, NULL, add_of_day))
	{
		char	   *name = get_subscription_name(lfirst_oid(cell), true);

		if (name != NULL)
			names = lappend(names, name);
	}
	return names;
}

List *
subscriptions_down(List *reports)
{
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, reports)
	{
		const SubscriptionReport *report = lfirst(cell);

		if (report->state == SUBSCRIPTION_DOWN)
			names = lappend(names, report->name);
	}
	return names;
}

static void
append_report(StringInfo text, const SubscriptionReport *report)
{
	appendStringInfoString(text, "{\"name\": ");
	escape_json(text, report->name);
	appendStringInfo(text, ", \"state\": \"%s\"", state_names[report->state]);
	if (report->has_committed)
	{
		char		time[MAXDATELEN + 1];

		JsonEncodeDateTime(time, TimestampTzGetDatum(report->committed_at), TIMESTAMPTZOID,
						   NULL);
		appendStringInfo(text, ", \"committedAt\": \"%s\"", time);
	}
	if (report->has_committed || report->lag > 0)
		appendStringInfo(text, ", \"lagSeconds\": " INT64_FORMAT ".%03d", report->lag / 1000,
						 (int) (report->lag % 1000));
	appendStringInfoChar(text, '}');
}

Datum
subscriptions_json(List *reports)
{
	StringInfoData text;
	ListCell   *cell;

	if (reports == NIL)
		return (Datum) 0;
	initStringInfo(&text);
	foreach(cell, reports)
	{
		appendStringInfoString(&text, text.len == 0 ? "[" : ", ");
		append_report(&text, lfirst(cell));
	}
	appendStringInfoChar(&text, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data));
}
