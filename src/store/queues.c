/*-------------------------------------------------------------------------
 *
 * queues.c
 *	  What waits: events to be routed, dispatches to be delivered.
 *
 * The worker tells in shared memory below which ids there is nothing; so few tables
 * of days are opened.  Planning one statement over all of them took a new session
 * longer than all that is done here.
 *
 * IDENTIFICATION
 *	  src/store/queues.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "rules/ids.h"
#include "server/live.h"
#include "storage/bufmgr.h"
#include "store/day_table.h"
#include "store/queues.h"
#include "store/reading.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#define MAX_FAILING 10000

/* Where the router is. */
typedef struct Place
{
	Datum		window_to;		/* pg_snapshot */
	bool		has_position;
	uint64		xid;
	char	   *id;
	uint64		seen_xmax;		/* all events below are routed, but for ... */
	uint64	   *late;			/* ... those of transactions that were under
								 * way */
	int			nlate;
	Id			least_id;		/* of what is not routed; "" for nobody knows */
} Place;

static AttrNumber
column_number(Relation relation, const char *name)
{
	TupleDesc	desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return (AttrNumber) (i + 1);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("table \"%s\" lacks column \"%s\"",
					RelationGetRelationName(relation), name)));
}

static Relation
open_table(const char *name)
{
	Oid			oid = get_relname_relid(name, day_table_namespace());

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" of extension \"webhook_events\" is missing", name)));
	return table_open(oid, AccessShareLock);
}

/* Can a table of a day hold ids from this one on?  Of other tables nobody knows. */
static bool
may_hold(const char *name, const char *least_id)
{
	const char *day = strrchr(name, '_');
	int			number;
	Id			upper;

	if (least_id[0] == '\0' || day == NULL || strlen(day) != 9 ||
		strspn(day + 1, "0123456789") != 8)
		return true;
	number = atoi(day + 1);
	id_lower_bound(upper,
				   (TimestampTz) (date2j(number / 10000, number / 100 % 100, number % 100) -
								  POSTGRES_EPOCH_JDATE + 1) * USECS_PER_DAY);
	return strcmp(upper, least_id) > 0;
}

/*
 * Opens the tables of a kind that are not empty and can hold ids from this one on.
 * One that is being dropped holds nothing that anybody waits for.
 */
static List *
open_days(const char *kind, const char *least_id)
{
	Oid			parent = get_relname_relid(kind, day_table_namespace());
	List	   *days = NIL;
	ListCell   *cell;

	foreach(cell, find_inheritance_children(parent, NoLock))
	{
		Oid			oid = lfirst_oid(cell);
		char	   *name = get_rel_name(oid);
		Relation	day;

		if (name == NULL || !may_hold(name, least_id) ||
			get_rel_relkind(oid) != RELKIND_RELATION)
			continue;
		day = try_table_open(oid, AccessShareLock);
		if (day == NULL)
			continue;
		if (RelationGetNumberOfBlocks(day) > 0)
			days = lappend(days, day);
		else
			table_close(day, AccessShareLock);
	}
	return days;
}

/*
 * Events
 */

static uint64
xid_value(Datum value)
{
	return U64FromFullTransactionId(DatumGetFullTransactionId(value));
}

static Datum
xid_datum(uint64 xid)
{
	return FullTransactionIdGetDatum(FullTransactionIdFromU64(xid));
}

static bool
is_visible_in(uint64 xid, Datum snapshot)
{
	return DatumGetBool(DirectFunctionCall2(pg_visible_in_snapshot, xid_datum(xid),
											snapshot));
}

/*
 * Notes which transactions a snapshot had seen under way, by its text, that have
 * ended by now: "xmin:xmax:xip,xip".
 */
static void
find_late(Place *place, Datum seen, Datum now)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(pg_snapshot_out, seen));
	char	   *next = strrchr(text, ':') + 1;

	place->late = palloc(sizeof(uint64) * (strlen(next) / 2 + 1));
	place->nlate = 0;
	while (*next != '\0')
	{
		uint64		xid = strtou64(next, &next, 10);

		if (is_visible_in(xid, now))
			place->late[place->nlate++] = xid;
		if (*next == ',')
			next++;
	}
}

/* Looks where the router is; false if all that can be seen is routed. */
static bool
find_place(Place *place)
{
	Relation	table = open_table("cursors");
	AttrNumber	number = column_number(table, "number");
	Relation	index = reading_open_index(table, number, InvalidAttrNumber, false);
	Reading		reading = reading_begin(table, index, 0, NULL);
	Datum		now = DirectFunctionCall1(pg_current_snapshot, (Datum) 0);
	Datum		seen = (Datum) 0;
	int64		last = PG_INT64_MIN;
	HeapTuple	row;

	memset(place, 0, sizeof(Place));
	while (HeapTupleIsValid(row = reading_next(&reading, BackwardScanDirection)))
	{
		TupleDesc	desc = RelationGetDescr(table);
		bool		isnull;
		bool		lacks_from;
		Datum		from = heap_getattr(row, column_number(table, "window_from"), desc, &lacks_from);
		Datum		to = heap_getattr(row, column_number(table, "window_to"), desc, &isnull);
		Datum		xid;

		if (DatumGetInt64(heap_getattr(row, number, desc, &isnull)) <= last)
			continue;
		last = DatumGetInt64(heap_getattr(row, number, desc, &isnull));
		xid = heap_getattr(row, column_number(table, "position_xid"), desc, &isnull);
		place->has_position = !isnull;
		place->window_to = PointerGetDatum(PG_DETOAST_DATUM_COPY(to));
		if (!place->has_position)
			seen = place->window_to;
		else
		{
			place->xid = xid_value(xid);
			place->id = TextDatumGetCString(heap_getattr(row, column_number(table, "position_id"),
														 desc, &isnull));
			seen = lacks_from ? (Datum) 0 : PointerGetDatum(PG_DETOAST_DATUM_COPY(from));
		}
		if (index != NULL)
			break;
	}
	reading_end(&reading);
	if (index != NULL)
		index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
	if (seen == (Datum) 0)
		return true;
	place->seen_xmax = xid_value(DirectFunctionCall1(pg_snapshot_xmax, seen));
	find_late(place, seen, now);
	live_least_new_id(MyDatabaseId,
					  xid_value(DirectFunctionCall1(pg_snapshot_xmin, seen)),
					  place->least_id);
	return place->nlate > 0 ||
		xid_value(DirectFunctionCall1(pg_snapshot_xmax, now)) > place->seen_xmax;
}

/* Is an event behind the place up to which its window was read? */
static bool
is_unrouted(const Place *place, uint64 xid, Datum id)
{
	int			difference;

	if (!place->has_position || !is_visible_in(xid, place->window_to) || xid > place->xid)
		return true;
	if (xid < place->xid)
		return false;
	difference = strcmp(TextDatumGetCString(id), place->id);
	return difference > 0;
}

/* Counts events of these transactions: of "xid" alone, or of it and all that follow. */
static void
count_events(Relation day, const Place *place, StrategyNumber strategy, RegProcedure operator,
			 uint64 xid, QueueReport *report)
{
	AttrNumber	xid_column = column_number(day, "xid");
	AttrNumber	id_column = column_number(day, "id");
	AttrNumber	time_column = column_number(day, "created_at");
	Relation	index = reading_open_index(day, xid_column, id_column, false);
	TupleDesc	desc = RelationGetDescr(day);
	ScanKeyData key;
	Reading		reading;
	HeapTuple	row;

	ScanKeyInit(&key, xid_column, strategy, operator, xid_datum(xid));
	reading = reading_begin(day, index, 1, &key);
	while (report->events < QUEUES_MOST &&
		   HeapTupleIsValid(row = reading_next(&reading, ForwardScanDirection)))
	{
		bool		isnull;
		uint64		row_xid = xid_value(heap_getattr(row, xid_column, desc, &isnull));

		if (row_xid < xid ||
			(strategy == BTEqualStrategyNumber && row_xid != xid) ||
			!is_unrouted(place, row_xid, heap_getattr(row, id_column, desc, &isnull)))
			continue;
		report->events++;
		report->oldest_event_at =
			Min(report->oldest_event_at,
				DatumGetTimestampTz(heap_getattr(row, time_column, desc, &isnull)));
	}
	reading_end(&reading);
	if (index != NULL)
		index_close(index, AccessShareLock);
}

static void
report_events(QueueReport *report)
{
	Place		place;
	ListCell   *cell;

	if (!find_place(&place))
		return;
	foreach(cell, open_days("outbox", place.least_id))
	{
		Relation	day = lfirst(cell);

		count_events(day, &place, BTGreaterEqualStrategyNumber, F_XID8GE, place.seen_xmax,
					 report);
		for (int i = 0; i < place.nlate; i++)
			count_events(day, &place, BTEqualStrategyNumber, F_XID8EQ, place.late[i], report);
		table_close(day, AccessShareLock);
	}
}

/*
 * Dispatches
 */

static void
note_held(HTAB **held, const char *webhook_id)
{
	const HASHCTL control = {
		.keysize = NAMEDATALEN, .entrysize = NAMEDATALEN, .hcxt = CurrentMemoryContext
	};

	if (*held == NULL)
		*held = hash_create("webhook_events held webhooks", 64, &control,
							HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	(void) hash_search(*held, webhook_id, HASH_ENTER, NULL);
}

/* More may wait than are counted, so the index that has them in order says which is due first. */
static void
find_oldest_due(Relation day, AttrNumber due_column, QueueReport *report)
{
	Relation	index = reading_open_index(day, due_column, column_number(day, "id"), true);
	Reading		reading;
	HeapTuple	row;
	bool		isnull;

	if (index == NULL)
		return;
	reading = reading_begin(day, index, 0, NULL);
	row = reading_next(&reading, ForwardScanDirection);
	if (HeapTupleIsValid(row))
		report->oldest_due_at =
			Min(report->oldest_due_at,
				DatumGetTimestampTz(heap_getattr(row, due_column, RelationGetDescr(day), &isnull)));
	reading_end(&reading);
	index_close(index, AccessShareLock);
}

/*
 * Counts those that wait in a table, which are all that the index by webhook holds; the
 * one by time lacks replays.
 */
static void
count_dispatches(Relation day, HTAB **held, QueueReport *report)
{
	AttrNumber	due_column = column_number(day, "next_attempt_at");
	AttrNumber	webhook_column = column_number(day, "webhook_id");
	AttrNumber	status_column = column_number(day, "status");
	AttrNumber	time_column = column_number(day, "created_at");
	Relation	index = reading_open_index(day, webhook_column, due_column, true);
	Oid			active = index != NULL ? InvalidOid : day_table_label("dispatch_status", "ACTIVE");
	TupleDesc	desc = RelationGetDescr(day);
	Reading		reading = reading_begin(day, index, 0, NULL);
	HeapTuple	row;

	while (report->dispatches < QUEUES_MOST &&
		   HeapTupleIsValid(row = reading_next(&reading, ForwardScanDirection)))
	{
		bool		isnull;
		TimestampTz due_at;

		if (index == NULL &&
			DatumGetObjectId(heap_getattr(row, status_column, desc, &isnull)) != active)
			continue;
		report->dispatches++;
		report->oldest_dispatch_at =
			Min(report->oldest_dispatch_at,
				DatumGetTimestampTz(heap_getattr(row, time_column, desc, &isnull)));
		due_at = DatumGetTimestampTz(heap_getattr(row, due_column, desc, &isnull));
		if (isnull)
			continue;
		report->oldest_due_at = Min(report->oldest_due_at, due_at);
		if (!TIMESTAMP_IS_NOEND(due_at))
			continue;
		report->held_dispatches++;
		report->held_since =
			Min(report->held_since,
				DatumGetTimestampTz(heap_getattr(row, time_column, desc, &isnull)));
		note_held(held, TextDatumGetCString(heap_getattr(row, webhook_column, desc, &isnull)));
	}
	reading_end(&reading);
	if (index != NULL)
		index_close(index, AccessShareLock);
	find_oldest_due(day, due_column, report);
}

static void
report_dispatches(QueueReport *report)
{
	HTAB	   *held = NULL;
	Id			least_id;
	ListCell   *cell;

	live_oldest_active(MyDatabaseId, least_id);
	foreach(cell, open_days("dispatches", least_id))
	{
		count_dispatches(lfirst(cell), &held, report);
		table_close(lfirst(cell), AccessShareLock);
	}
	report->held_webhooks = held == NULL ? 0 : hash_get_num_entries(held);
}

static void
report_failing(QueueReport *report)
{
	Relation	table = open_table("webhook_stats");
	AttrNumber	column = column_number(table, "failing_since");
	Relation	index = reading_open_index(table, column, InvalidAttrNumber, true);
	Reading		reading = reading_begin(table, index, 0, NULL);
	HeapTuple	row;

	while (report->failing_webhooks < MAX_FAILING &&
		   HeapTupleIsValid(row = reading_next(&reading, ForwardScanDirection)))
		report->failing_webhooks += !heap_attisnull(row, column, RelationGetDescr(table));
	reading_end(&reading);
	if (index != NULL)
		index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
}

void
queues_report(QueueReport *report)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "webhook_events queues",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);

	memset(report, 0, sizeof(QueueReport));
	report->oldest_event_at = report->oldest_due_at = report->oldest_dispatch_at =
		report->held_since = DT_NOEND;
	report_events(report);
	report_dispatches(report);
	report_failing(report);
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
}
