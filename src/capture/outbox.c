/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Adding events to the outbox, in the transaction that raises them.
 *
 * Where somebody tells when a statement ends, its rows are gathered and inserted
 * together.
 *
 * IDENTIFICATION
 *	  src/capture/outbox.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "capture/outbox.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "server/shared.h"
#include "server/wake.h"
#include "store/day_rows.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(webhook_events_event_landed);

/* The columns that are written. */
enum
{
	COLUMN_ID,
	COLUMN_CREATED_AT,
	COLUMN_XID,
	COLUMN_EVENT_TYPE,
	COLUMN_USER_ID,
	COLUMN_ACTOR_ID,
	COLUMN_ACTOR_TASK_ID,
	COLUMN_ACTOR_RUN_ID,
	COLUMN_ACTOR_BUILD_ID,
	COLUMN_OLD_STATUS,
	COLUMN_NEW_STATUS,
	COLUMN_WEBHOOK_ID,
	COLUMN_RESOURCE,
	COLUMN_PROBLEM,
	COLUMN_NEXT_XID,
	N_COLUMNS
};

static const DayKind outbox_kind = {
	"outbox", N_COLUMNS,
	{
		"id", "created_at", "xid", "event_type", "user_id", "actor_id",
		"actor_task_id", "actor_run_id", "actor_build_id", "old_status",
		"new_status", "webhook_id", "resource", "?problem",
		"?next_xid"
	},
	false
};

/* Longer ids are not remembered. */
#define MAX_RUN_ID 255

/* The run that was made last, and in which transaction or part of one. */
static char made_run[MAX_RUN_ID + 1];
static TransactionId made_in = InvalidTransactionId;

/* The innermost statement whose end will be told; NULL if there is none. */
static OutboxStatement *current = NULL;

static void
add_row(DayRows *rows, const OutboxEvent *event, const char *id,
		TimestampTz created_at)
{
	DayTable   *table = day_rows_begin_row(rows, created_at);

	day_rows_set_text(rows, COLUMN_ID, id);
	day_rows_set(rows, COLUMN_CREATED_AT, TimestampTzGetDatum(created_at));
	day_rows_set(rows, COLUMN_XID,
				 FullTransactionIdGetDatum(GetTopFullTransactionId()));
	day_rows_set(rows, COLUMN_EVENT_TYPE,
				 ObjectIdGetDatum(table->event_types[event->type]));
	day_rows_set_text(rows, COLUMN_USER_ID, event->user_id);
	day_rows_set_text(rows, COLUMN_ACTOR_ID, event->actor_id);
	day_rows_set_text(rows, COLUMN_ACTOR_TASK_ID, event->actor_task_id);
	day_rows_set_text(rows, COLUMN_ACTOR_RUN_ID, event->actor_run_id);
	day_rows_set_text(rows, COLUMN_ACTOR_BUILD_ID, event->actor_build_id);
	day_rows_set_text(rows, COLUMN_OLD_STATUS, event->old_status);
	day_rows_set_text(rows, COLUMN_NEW_STATUS, event->new_status);
	day_rows_set_text(rows, COLUMN_WEBHOOK_ID, event->webhook_id);
	day_rows_set_text(rows, COLUMN_PROBLEM, event->problem);

	/* Whoever changed the same row before has committed, and so a lower id. */
	day_rows_set(rows, COLUMN_NEXT_XID,
				 FullTransactionIdGetDatum(ReadNextFullTransactionId()));
	if (event->resource)
		day_rows_set(rows, COLUMN_RESOURCE,
					 PointerGetDatum(cstring_to_text_with_len(event->resource,
															  (int) event->resource_length)));
	day_rows_end_row(rows, event->resource_length, NULL);
}

static void
note_made_run(const char *run_id)
{
	size_t		length = strlen(run_id);

	made_in = InvalidTransactionId;
	if (length > MAX_RUN_ID)
		return;
	memcpy(made_run, run_id, length + 1);
	made_in = GetCurrentTransactionId();
}

bool
outbox_has_made_run(const char *run_id)
{
	return TransactionIdIsValid(made_in) &&
		TransactionIdIsCurrentTransactionId(made_in) &&
		strcmp(made_run, run_id) == 0;
}

void
outbox_insert(const OutboxEvent *event, Id id)
{
	bool		gather = (current != NULL &&
						  current->subtransaction == GetCurrentSubTransactionId() &&
						  current->owner == CurrentResourceOwner);
	TimestampTz created_at;
	DayRows    *rows;

	/* The reader counts on it that an id is never older than its xid. */
	(void) GetTopFullTransactionId();
	id_make(id, &created_at);

	rows = gather && current->rows ? current->rows : day_rows_create(&outbox_kind);
	if (gather)
		current->rows = rows;
	add_row(rows, event, id, created_at);
	if (!gather)
		day_rows_finish(rows);
	if (event->type == EVENT_RUN_CREATED && event->actor_run_id != NULL)
		note_made_run(event->actor_run_id);
	wake_at_commit(WAKE_EVENTS);
}

void
outbox_begin_statement(OutboxStatement *statement)
{
	statement->outer = current;
	statement->subtransaction = GetCurrentSubTransactionId();
	statement->owner = CurrentResourceOwner;
	statement->rows = NULL;
	current = statement;
}

void
outbox_flush_statement(void)
{
	if (current->rows == NULL)
		return;
	day_rows_finish(current->rows);
	current->rows = NULL;
}

void
outbox_end_statement(void)
{
	current = current->outer;
}

bool
outbox_is_in_statement(void)
{
	return current != NULL;
}

/*
 * event_landed() RETURNS trigger; BEFORE INSERT, for rows that replication brings
 *
 * The xid with which it comes is another server's.  Its id can be older than any that
 * is made here.
 */
Datum
webhook_events_event_landed(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	Datum		xids[2];
	char	   *id;
	int			attnums[2];
	bool		isnull[2] = {false, false};

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be called by a trigger before rows are inserted")));
	desc = RelationGetDescr(data->tg_relation);
	xids[0] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	xids[1] = FullTransactionIdGetDatum(ReadNextFullTransactionId());
	id = SPI_getvalue(data->tg_trigtuple, desc, SPI_fnumber(desc, "id"));
	if (id != NULL)
		ids_note_foreign(id, (int) strlen(id));
	attnums[0] = SPI_fnumber(desc, "xid");
	attnums[1] = SPI_fnumber(desc, "next_xid");
	wake_at_commit(WAKE_EVENTS);
	return PointerGetDatum(heap_modify_tuple_by_cols(data->tg_trigtuple, desc,
													 attnums[1] > 0 ? 2 : 1,
													 attnums, xids, isnull));
}
