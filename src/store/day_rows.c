/*-------------------------------------------------------------------------
 *
 * day_rows.c
 *	  Adding many rows to a table that is partitioned by day.
 *
 * IDENTIFICATION
 *	  src/store/day_rows.c
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
#include "store/day_rows.h"
#include "store/summaries.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* So many rows, and bytes of them, are gathered at most. */
#define MAX_ROWS 100
#define MAX_BYTES (512 * 1024)

struct DayRows
{
	MemoryContext context;		/* of this struct and the slots */
	const DayKind *kind;
	Relation	relation;		/* NULL if there are no rows */
	int64		day;			/* whose table it is, since 2000-01-01 */
	DayTable   *table;			/* between begin_row and end_row */
	int			count;			/* complete ones */
	size_t		bytes;
	int			nslots;
	TupleTableSlot *slots[MAX_ROWS];	/* the first nslots were made */
	RowPlace   *places[MAX_ROWS];	/* to be set, or NULL */
};

DayRows *
day_rows_create(const DayKind *kind)
{
	MemoryContext context = AllocSetContextCreate(CurTransactionContext,
												  "webhook_events rows",
												  ALLOCSET_DEFAULT_SIZES);
	DayRows    *rows = MemoryContextAllocZero(context, sizeof(DayRows));

	rows->context = context;
	rows->kind = kind;
	return rows;
}

/*
 * Does the index want to be told of one of the rows?  A BRIN index does only of those in
 * ranges of pages that have a summary, which nearly all new rows are behind.  All rows must
 * be in their table already.
 */
static bool
is_wanted(const DayRows *rows, const DayTable *table, int index)
{
	AttrNumber	column = table->wanted[index];
	Summaries  *summaries = table->summaries[index];
	BlockNumber looked_at = InvalidBlockNumber;

	if (column == InvalidAttrNumber && summaries == NULL)
		return true;
	for (int i = 0; i < rows->count; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumber(&rows->slots[i]->tts_tid);

		if (column != InvalidAttrNumber && rows->slots[i]->tts_isnull[column - 1])
			continue;
		if (summaries == NULL)
			return true;
		if (block != looked_at && summaries_have(summaries, block))
			return true;
		looked_at = block;
	}
	return false;
}

/*
 * Adds rows to an index.  Our own indexes have plain columns; those that an
 * operator added can have expressions, whose state, like that of a predicate,
 * must not outlive "estate".
 */
static void
insert_into_index(const DayRows *rows, Oid index_oid, const IndexInfo *cached)
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
flush(DayRows *rows)
{
	DayTable   *table;

	if (rows->count == 0)
		return;
	table_multi_insert(rows->relation, rows->slots, rows->count,
					   GetCurrentCommandId(true), 0, NULL);
	summaries_look();
	table = day_table_get(rows->kind, rows->relation);
	for (int i = 0; i < table->nindexes; i++)
	{
		if (is_wanted(rows, table, i))
			insert_into_index(rows, table->index_oids[i], table->indexes[i]);
	}
	for (int i = 0; i < rows->count; i++)
	{
		if (rows->places[i] != NULL)
		{
			rows->places[i]->table = RelationGetRelid(rows->relation);
			rows->places[i]->tid = rows->slots[i]->tts_tid;
		}
		ExecClearTuple(rows->slots[i]);
	}
	rows->count = 0;
	rows->bytes = 0;
}

/* Inserts the rows and lets go of the table. */
static void
flush_and_close(DayRows *rows)
{
	flush(rows);
	while (rows->nslots > 0)
		ExecDropSingleTupleTableSlot(rows->slots[--rows->nslots]);
	if (rows->relation != NULL)
		table_close(rows->relation, NoLock);
	rows->relation = NULL;
}

DayTable *
day_rows_begin_row(DayRows *rows, TimestampTz time)
{
	int64		day = time / USECS_PER_DAY;
	MemoryContext old_context = MemoryContextSwitchTo(rows->context);
	TupleTableSlot *slot;

	if (rows->relation != NULL && day != rows->day)
		flush_and_close(rows);
	if (rows->relation == NULL)
		rows->relation = day_table_open(rows->kind, time);
	rows->day = day;
	if (rows->count == rows->nslots)
		rows->slots[rows->nslots++] = table_slot_create(rows->relation, NULL);
	MemoryContextSwitchTo(old_context);

	slot = rows->slots[rows->count];
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   sizeof(bool) * slot->tts_tupleDescriptor->natts);
	rows->table = day_table_get(rows->kind, rows->relation);
	return rows->table;
}

void
day_rows_set(DayRows *rows, int column, Datum value)
{
	TupleTableSlot *slot = rows->slots[rows->count];
	int			i = rows->table->columns[column] - 1;

	if (i < 0)
		return;
	slot->tts_values[i] = value;
	slot->tts_isnull[i] = false;
}

void
day_rows_set_text(DayRows *rows, int column, const char *text)
{
	if (text != NULL)
		day_rows_set(rows, column, CStringGetTextDatum(text));
}

void
day_rows_end_row(DayRows *rows, size_t bytes, RowPlace *place)
{
	TupleTableSlot *slot = rows->slots[rows->count];

	rows->places[rows->count++] = place;

	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
	rows->bytes += bytes;
	if (rows->count == MAX_ROWS || rows->bytes >= MAX_BYTES)
		flush(rows);
}

void
day_rows_finish(DayRows *rows)
{
	flush_and_close(rows);
	MemoryContextDelete(rows->context);
}
