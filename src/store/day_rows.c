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

#include "access/brin.h"
#include "access/brin_revmap.h"
#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "compat.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "store/day_rows.h"
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

/* Has one of the rows a value there? */
static bool
any_has(const DayRows *rows, AttrNumber column)
{
	for (int i = 0; i < rows->count; i++)
	{
		if (!rows->slots[i]->tts_isnull[column - 1])
			return true;
	}
	return false;
}

/*
 * Which rows a BRIN index wants to know of: those in ranges of pages that somebody has
 * summarized, or begun to, which nearly all new rows are behind.  It would find that out
 * itself, for each row anew.
 */
typedef struct Ranges
{
	BrinRevmap *map;			/* NULL: the index wants all */
	BlockNumber pages;			/* of a range */
	BlockNumber range;			/* that was looked at last */
	bool		is_summarized;
} Ranges;

static Ranges
ranges_open(Relation index)
{
	Ranges		ranges = {.range = InvalidBlockNumber};

	if (index->rd_rel->relam == BRIN_AM_OID && !BrinGetAutoSummarize(index))
		ranges.map = brin_map_open(index, &ranges.pages);
	return ranges;
}

/* The row must be in its table already: then who summarizes its range from now on sees it. */
static bool
ranges_want(Ranges *ranges, ItemPointer row)
{
	BlockNumber block = ItemPointerGetBlockNumber(row);
	BlockNumber range;
	Buffer		buffer = InvalidBuffer;
	OffsetNumber offset;
	Size		size;

	if (ranges->map == NULL)
		return true;
	range = block / ranges->pages;
	if (range == ranges->range)
		return ranges->is_summarized;
	ranges->range = range;
	ranges->is_summarized = brin_map_find(ranges->map, range * ranges->pages, &buffer,
										  &offset, &size) != NULL;
	if (ranges->is_summarized)
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (BufferIsValid(buffer))
		ReleaseBuffer(buffer);
	return ranges->is_summarized;
}

static void
ranges_close(Ranges *ranges)
{
	if (ranges->map != NULL)
		brinRevmapTerminate(ranges->map);
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
	Ranges		ranges = ranges_open(index);
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

		if (!ranges_want(&ranges, &slot->tts_tid))
			continue;
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
	ranges_close(&ranges);
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
	table = day_table_get(rows->kind, rows->relation);
	for (int i = 0; i < table->nindexes; i++)
	{
		if (table->wanted[i] == InvalidAttrNumber || any_has(rows, table->wanted[i]))
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
