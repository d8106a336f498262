/*-------------------------------------------------------------------------
 *
 * day_update.c
 *	  Changing rows of a table that is partitioned by day, where they lie.
 *
 * IDENTIFICATION
 *	  src/store/day_update.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "compat.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "store/day_update.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

struct DayUpdate
{
	const DayKind *kind;
	Relation	relation;		/* the last row's table, NULL at first; the
								 * rest belongs to it */
	EState	   *estate;
	ResultRelInfo *target;
	const AttrNumber *columns;
	BlockNumber nblocks;		/* it had when it was opened */
	TupleTableSlot *old_row;
	TupleTableSlot *new_row;
};

DayUpdate *
day_update_create(const DayKind *kind)
{
	DayUpdate  *update = palloc0(sizeof(DayUpdate));

	update->kind = kind;
	return update;
}

static void
close_table(DayUpdate *update)
{
	if (update->relation == NULL)
		return;
	ExecDropSingleTupleTableSlot(update->old_row);
	ExecDropSingleTupleTableSlot(update->new_row);
	ExecCloseIndices(update->target);
	FreeExecutorState(update->estate);
	table_close(update->relation, NoLock);
	update->relation = NULL;
}

/* Opens a table, unless it is open; false if there is none. */
static bool
open_table(DayUpdate *update, Oid table)
{
	MemoryContext old_context;

	if (update->relation != NULL && RelationGetRelid(update->relation) == table)
		return true;
	close_table(update);
	update->relation = try_table_open(table, RowExclusiveLock);
	if (update->relation == NULL)
		return false;
	update->columns = day_table_get(update->kind, update->relation)->columns;
	update->nblocks = RelationGetNumberOfBlocks(update->relation);
	update->estate = CreateExecutorState();
	old_context = MemoryContextSwitchTo(update->estate->es_query_cxt);
	update->target = makeNode(ResultRelInfo);
	InitResultRelInfo(update->target, update->relation, 0, NULL, 0);
	ExecOpenIndices(update->target, false);
	update->old_row = table_slot_create(update->relation, NULL);
	update->new_row = table_slot_create(update->relation, NULL);
	MemoryContextSwitchTo(old_context);
	return true;
}

bool
day_update_begin_row(DayUpdate *update, const RowPlace *place, const char *key)
{
	ItemPointerData tid = place->tid;
	TupleTableSlot *new_row;
	Datum		value;
	bool		isnull;

	/* A table that somebody has rewritten can end before this place. */
	if (!ItemPointerIsValid(&tid) || !open_table(update, place->table) ||
		ItemPointerGetBlockNumber(&tid) >= update->nblocks ||
		!table_tuple_fetch_row_version(update->relation, &tid, GetActiveSnapshot(),
									   update->old_row))
		return false;
	slot_getallattrs(update->old_row);
	value = slot_getattr(update->old_row, update->columns[0], &isnull);
	if (isnull || strcmp(TextDatumGetCString(value), key) != 0)
		return false;

	new_row = update->new_row;
	ExecClearTuple(new_row);
	memcpy(new_row->tts_values, update->old_row->tts_values,
		   sizeof(Datum) * new_row->tts_tupleDescriptor->natts);
	memcpy(new_row->tts_isnull, update->old_row->tts_isnull,
		   sizeof(bool) * new_row->tts_tupleDescriptor->natts);
	return true;
}

/*
 * The lock, or the other change, of a transaction that is under way stands in the
 * row itself.  It can come after we have looked; then we wait for lock_timeout.
 */
bool
day_update_is_locked(const DayUpdate *update)
{
	HeapTupleHeader row;
	TransactionId locker;

	if (!TTS_IS_BUFFERTUPLE(update->old_row))
		return false;
	row = ((BufferHeapTupleTableSlot *) update->old_row)->base.tuple->t_data;
	if (row->t_infomask & HEAP_XMAX_INVALID)
		return false;
	locker = HeapTupleHeaderGetRawXmax(row);
	if (row->t_infomask & HEAP_XMAX_IS_MULTI)
		return MultiXactIdIsRunning(locker, HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask));
	return !TransactionIdIsCurrentTransactionId(locker) &&
		TransactionIdIsInProgress(locker);
}

bool
day_update_is_null(const DayUpdate *update, int column)
{
	return update->old_row->tts_isnull[update->columns[column] - 1];
}

Datum
day_update_value(const DayUpdate *update, int column)
{
	return update->old_row->tts_values[update->columns[column] - 1];
}

void
day_update_set(DayUpdate *update, int column, Datum value, bool isnull)
{
	int			i = update->columns[column] - 1;

	update->new_row->tts_values[i] = value;
	update->new_row->tts_isnull[i] = isnull;
}

bool
day_update_end_row(DayUpdate *update, RowPlace *place)
{
	TM_FailureData failure;
	LockTupleMode lock_mode;
	TU_UpdateIndexes stale_indexes = TU_None;

	ExecStoreVirtualTuple(update->new_row);
	if (update_tuple(update->relation, &update->old_row->tts_tid, update->new_row,
					 GetCurrentCommandId(true), GetActiveSnapshot(), &failure,
					 &lock_mode, &stale_indexes) != TM_Ok)
		return false;
	if (stale_indexes != TU_None)
	{
		ResetPerTupleExprContext(update->estate);
		(void) insert_index_entries(update->target, update->new_row, update->estate,
									stale_indexes);
	}
	if (place != NULL)
	{
		place->table = RelationGetRelid(update->relation);
		place->tid = update->new_row->tts_tid;
	}
	return true;
}

void
day_update_finish(DayUpdate *update)
{
	close_table(update);
	pfree(update);
}
