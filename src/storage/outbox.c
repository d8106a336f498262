/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Adding events to the outbox, in the transaction that raises them.
 *
 * Rows go straight into the table of their day and from there into that table's
 * indexes.  Where somebody tells when a statement ends, its rows are gathered
 * and inserted together: the table and its indexes are then opened once and not
 * for each row, and a page is logged once.
 *
 * IDENTIFICATION
 *	  src/storage/outbox.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "compat.h"
#include "executor/executor.h"
#include "storage/outbox.h"
#include "storage/outbox_day.h"
#include "storage/shared.h"
#include "storage/wake.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* So many rows, and bytes of their resources, are gathered at most. */
#define MAX_ROWS 100
#define MAX_BYTES (512 * 1024)

/* Rows that are to be inserted into the table of one day. */
typedef struct Rows
{
	MemoryContext context;		/* of this struct and the slots */
	Relation	relation;		/* NULL if there are none */
	int64		day;			/* whose table it is, since 2000-01-01 */
	int			count;
	size_t		bytes;
	int			nslots;
	TupleTableSlot *slots[MAX_ROWS];	/* the first nslots were made */
} Rows;

/* The innermost statement whose end will be told; NULL if there is none. */
static OutboxStatement *current = NULL;

static void
set_column(TupleTableSlot *slot, const OutboxDay *day, int column, Datum value)
{
	int			i = day->columns[column] - 1;

	slot->tts_values[i] = value;
	slot->tts_isnull[i] = false;
}

static void
set_text(TupleTableSlot *slot, const OutboxDay *day, int column, const char *text)
{
	if (text != NULL)
		set_column(slot, day, column, CStringGetTextDatum(text));
}

static void
fill_slot(TupleTableSlot *slot, const OutboxDay *day,
		  const OutboxEvent *event, const char *id, TimestampTz created_at)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   sizeof(bool) * slot->tts_tupleDescriptor->natts);
	set_text(slot, day, COLUMN_ID, id);
	set_column(slot, day, COLUMN_CREATED_AT, TimestampTzGetDatum(created_at));
	set_column(slot, day, COLUMN_XID,
			   FullTransactionIdGetDatum(GetTopFullTransactionId()));
	set_column(slot, day, COLUMN_EVENT_TYPE,
			   ObjectIdGetDatum(day->event_types[event->type]));
	set_text(slot, day, COLUMN_USER_ID, event->user_id);
	set_text(slot, day, COLUMN_ACTOR_ID, event->actor_id);
	set_text(slot, day, COLUMN_ACTOR_TASK_ID, event->actor_task_id);
	set_text(slot, day, COLUMN_ACTOR_RUN_ID, event->actor_run_id);
	set_text(slot, day, COLUMN_ACTOR_BUILD_ID, event->actor_build_id);
	set_text(slot, day, COLUMN_OLD_STATUS, event->old_status);
	set_text(slot, day, COLUMN_NEW_STATUS, event->new_status);
	set_text(slot, day, COLUMN_WEBHOOK_ID, event->webhook_id);
	if (event->resource)
		set_column(slot, day, COLUMN_RESOURCE,
				   PointerGetDatum(cstring_to_text_with_len(event->resource,
															(int) event->resource_length)));
	ExecStoreVirtualTuple(slot);
}

/*
 * Adds rows to an index.  Our own indexes are plain; those that an operator
 * added can have expressions and predicates, whose state must not outlive
 * "estate".
 */
static void
insert_into_index(const Rows *rows, Oid index_oid, const IndexInfo *cached)
{
	Relation	index = index_open(index_oid, RowExclusiveLock);
	IndexUniqueCheck check = index->rd_index->indisunique ?
	UNIQUE_CHECK_YES : UNIQUE_CHECK_NO;
	IndexInfo	info = *cached;
	EState	   *estate = NULL;
	ExprState  *predicate = NULL;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	info.ii_Context = CurrentMemoryContext;
	if (info.ii_Expressions != NIL || info.ii_Predicate != NIL)
	{
		estate = CreateExecutorState();
		predicate = ExecPrepareQual(info.ii_Predicate, estate);
	}
	for (int i = 0; i < rows->count && info.ii_ReadyForInserts; i++)
	{
		TupleTableSlot *slot = rows->slots[i];

		if (estate)
		{
			ResetPerTupleExprContext(estate);
			GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
			if (!ExecQual(predicate, GetPerTupleExprContext(estate)))
				continue;
		}
		FormIndexDatum(&info, slot, estate, values, nulls);
		index_insert(index, values, nulls, &slot->tts_tid, rows->relation,
					 check, false, &info);
	}
	index_insert_cleanup(index, &info);
	if (estate)
		FreeExecutorState(estate);
	index_close(index, NoLock);
}

/* Inserts the rows; their slots can be used again. */
static void
flush(Rows *rows)
{
	OutboxDay  *day;

	if (rows->count == 0)
		return;
	table_multi_insert(rows->relation, rows->slots, rows->count,
					   GetCurrentCommandId(true), 0, NULL);
	day = outbox_day_get(rows->relation);
	for (int i = 0; i < day->nindexes; i++)
		insert_into_index(rows, day->index_oids[i], day->indexes[i]);
	for (int i = 0; i < rows->count; i++)
		ExecClearTuple(rows->slots[i]);
	rows->count = 0;
	rows->bytes = 0;
}

/* Inserts the rows and lets go of the table. */
static void
flush_and_close(Rows *rows)
{
	flush(rows);
	while (rows->nslots > 0)
		ExecDropSingleTupleTableSlot(rows->slots[--rows->nslots]);
	table_close(rows->relation, NoLock);
	rows->relation = NULL;
}

/* Adds a row; its slot keeps a copy of it. */
static void
add_row(Rows *rows, const OutboxEvent *event, const char *id,
		TimestampTz created_at)
{
	int64		day = created_at / USECS_PER_DAY;
	MemoryContext old_context = MemoryContextSwitchTo(rows->context);
	TupleTableSlot *slot;

	if (rows->relation != NULL && day != rows->day)
		flush_and_close(rows);
	if (rows->relation == NULL)
		rows->relation = outbox_day_open(created_at);
	rows->day = day;
	if (rows->count == rows->nslots)
		rows->slots[rows->nslots++] = table_slot_create(rows->relation, NULL);
	MemoryContextSwitchTo(old_context);

	slot = rows->slots[rows->count++];
	fill_slot(slot, outbox_day_get(rows->relation), event, id, created_at);
	ExecMaterializeSlot(slot);
	rows->bytes += event->resource_length;
	if (rows->count == MAX_ROWS || rows->bytes >= MAX_BYTES)
		flush(rows);
}

/* None yet, in a context that the subtransaction's end frees as well. */
static Rows *
make_rows(void)
{
	MemoryContext context = AllocSetContextCreate(CurTransactionContext,
												  "webhook_events rows",
												  ALLOCSET_SMALL_SIZES);
	Rows	   *rows = MemoryContextAllocZero(context, sizeof(Rows));

	rows->context = context;
	return rows;
}

void
outbox_insert(const OutboxEvent *event, Id id)
{
	bool		gather = (current != NULL &&
						  current->subtransaction == GetCurrentSubTransactionId());
	TimestampTz created_at;
	Rows	   *rows;

	/* The reader counts on it that an id is never older than its xid. */
	(void) GetTopFullTransactionId();
	id_make(id, &created_at);

	rows = gather && current->rows ? current->rows : make_rows();
	if (gather)
		current->rows = rows;
	add_row(rows, event, id, created_at);
	if (!gather)
	{
		flush_and_close(rows);
		MemoryContextDelete(rows->context);
	}
	wake_at_commit(WAKE_EVENTS);
}

void
outbox_begin_statement(OutboxStatement *statement)
{
	statement->outer = current;
	statement->subtransaction = GetCurrentSubTransactionId();
	statement->rows = NULL;
	current = statement;
}

void
outbox_flush_statement(void)
{
	if (current->rows == NULL)
		return;
	flush_and_close(current->rows);
	MemoryContextDelete(current->rows->context);
	current->rows = NULL;
}

void
outbox_end_statement(void)
{
	current = current->outer;
}
