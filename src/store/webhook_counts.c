/*-------------------------------------------------------------------------
 *
 * webhook_counts.c
 *	  How many webhooks there are: what their table's triggers do for that.
 *
 * IDENTIFICATION
 *	  src/store/webhook_counts.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "store/day_table.h"
#include "store/reading.h"
#include "store/webhook_columns.h"
#include "store/webhook_counts.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(webhook_events_webhook_counted);

/*
 * What this transaction knows, in TopTransactionContext, and whether it does.  What it
 * has read once holds as long as it has the table of webhooks locked: who announces a
 * position waits for it.  A subtransaction that fails can have been the one that locked.
 */
static WebhookCountsPosition known;
static bool is_known = false;
static bool forgets = false;	/* the callbacks are there */

/* The columns of the table of positions. */
enum
{
	POSITION_NUMBER = 1,
	POSITION_COUNTED,
	POSITION_ANNOUNCED
};

static Datum
position_value(HeapTuple tuple, int column, TupleDesc desc)
{
	bool		isnull;

	return heap_getattr(tuple, column, desc, &isnull);
}

static void
forget_at_end(XactEvent event pg_attribute_unused(), void *argument pg_attribute_unused())
{
	is_known = false;
}

static void
forget_at_abort(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
				SubTransactionId parent pg_attribute_unused(),
				void *argument pg_attribute_unused())
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		is_known = false;
}

/* Without a statement, since it is for each transaction that adds a webhook. */
WebhookCountsPosition
webhook_counts_position(void)
{
	WebhookCountsPosition position = {0, "", ""};
	Relation	table = table_open(get_relname_relid("webhook_counts_positions",
													 day_table_namespace()), AccessShareLock);
	HeapTuple	row;

	PushActiveSnapshot(GetLatestSnapshot());
	row = reading_newest(table);
	PopActiveSnapshot();
	if (row != NULL)
	{
		TupleDesc	desc = RelationGetDescr(table);

		position.number = DatumGetInt64(position_value(row, POSITION_NUMBER, desc));
		position.counted = TextDatumGetCString(position_value(row, POSITION_COUNTED, desc));
		position.announced =
			TextDatumGetCString(position_value(row, POSITION_ANNOUNCED, desc));
	}
	table_close(table, AccessShareLock);
	return position;
}

/*
 * The newest position that was committed when the transaction locked the table of
 * webhooks, or later, whatever snapshot it has: the worker waits for those who had locked
 * it before a position was announced, and relies on all others to know that.
 */
static const WebhookCountsPosition *
newest_position(void)
{
	if (!is_known)
	{
		MemoryContext old_context = MemoryContextSwitchTo(TopTransactionContext);

		if (!forgets)
		{
			RegisterXactCallback(forget_at_end, NULL);
			RegisterSubXactCallback(forget_at_abort, NULL);
			forgets = true;
		}
		known = webhook_counts_position();
		is_known = true;
		MemoryContextSwitchTo(old_context);
	}
	return &known;
}

/* Logs one more or less of the webhooks that were counted, or will be next. */
static void
log_change(HeapTuple row, TupleDesc desc, const WebhookCountsPosition *position, int change)
{
	static const WebhookColumn columns[] = {
		WEBHOOK_USER_ID, WEBHOOK_ACTOR_ID, WEBHOOK_ACTOR_TASK_ID
	};
	Oid			types[] = {TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types) + 1] = "     ";
	char	   *id = SPI_getvalue(row, desc, webhook_column(desc, WEBHOOK_ID));

	if (strcmp(id, position->announced) > 0)
		return;
	values[0] = CStringGetTextDatum(strcmp(id, position->counted) <= 0 ?
									position->counted : position->announced);
	values[1] = Int32GetDatum(change);
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		bool		isnull;

		values[i + 2] = heap_getattr(row, webhook_column(desc, columns[i]), desc, &isnull);
		nulls[i + 2] = isnull ? 'n' : ' ';
	}
	SPI_connect();
	if (SPI_execute_with_args("INSERT INTO webhook_events_internal.webhook_counts_log"
							  " (up_to, change, user_id, actor_id, actor_task_id)"
							  " VALUES ($1, $2, $3, $4, $5)",
							  lengthof(types), types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not log a webhook's count");
	SPI_finish();
}

void
webhook_counts_forget(void)
{
	static const char *const tables[] = {
		"webhook_counts", "webhook_counts_log", "webhook_counts_positions"
	};

	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		char	   *sql = psprintf("DELETE FROM webhook_events_internal.%s", tables[i]);
		SPIPlanPtr	plan = SPI_prepare(sql, 0, NULL);

		/* What was written since the transaction's snapshot goes as well. */
		if (plan == NULL ||
			SPI_execute_snapshot(plan, NULL, NULL, GetLatestSnapshot(), InvalidSnapshot,
								 false, false, 0) != SPI_OK_DELETE)
			elog(ERROR, "could not run \"%s\"", sql);
	}
	is_known = false;
}

void
webhook_counts_deleted(void)
{
	const WebhookCountsPosition *position = newest_position();
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[lengthof(types)];

	if (position->number == 0)
		return;
	values[0] = CStringGetTextDatum(position->counted);
	values[1] = CStringGetTextDatum(position->announced);
	if (SPI_execute_with_args("INSERT INTO webhook_events_internal.webhook_counts_log"
							  " (up_to, user_id, actor_id, actor_task_id, change)"
							  " SELECT CASE WHEN e.id <= $1 THEN $1 ELSE $2 END, e.user_id, e.actor_id,"
							  " e.actor_task_id, -count(*) FROM ended AS e WHERE e.id <= $2"
							  " GROUP BY 1, 2, 3, 4",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not log counts of webhooks");
}

/* webhook_counted() RETURNS trigger; AFTER INSERT, UPDATE, DELETE or TRUNCATE */
Datum
webhook_events_webhook_counted(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	const WebhookCountsPosition *position;
	TupleDesc	desc;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be called by a trigger after rows of table \"webhooks\" are written")));
	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
	{
		SPI_connect();
		webhook_counts_forget();
		SPI_finish();
		return PointerGetDatum(NULL);
	}
	position = newest_position();
	desc = RelationGetDescr(data->tg_relation);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		log_change(data->tg_trigtuple, desc, position, 1);
	else
		log_change(data->tg_trigtuple, desc, position, -1);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		log_change(data->tg_newtuple, desc, position, 1);
	return PointerGetDatum(NULL);
}
