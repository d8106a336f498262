/*-------------------------------------------------------------------------
 *
 * newest_scan.c
 *	  Reads the rows of a day that somebody looks for, those with the greatest ids first.
 *
 * The day that is being written has BRIN indexes.  PostgreSQL reads all of such an index, and then all
 * that it finds, however few of these are wanted.  Rows come nearly in the order of their
 * ids, and for ranges of pages an index knows the greatest id: so ranges are visited from the one with the
 * greatest on, and a row that was found is the next one when no range that is left has
 * a greater id.  Of a range only those pages are read whose Bloom filters may have
 * what is looked for.
 *
 * IDENTIFICATION
 *	  src/sql/newest_scan.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/tableam.h"
#include "compat.h"
#include "executor/executor.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "optimizer/restrictinfo.h"
#include "sql/newest_scan.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "store/page_ranges.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Some pages, and the greatest id there. */
typedef struct Range
{
	BlockNumber first;
	text	   *greatest;		/* NULL: it can be any */
} Range;

/* A row that was found and is not the next one yet. */
typedef struct FoundRow
{
	pairingheap_node node;
	text	   *id;
	ItemPointerData tid;
	MinimalTuple tuple;			/* NULL: to be read again */
} FoundRow;

typedef struct NewestScanState
{
	CustomScanState css;
	NewestScan	scan;
	ExprState  *key;
	List	   *lower;			/* ExprState */
	List	   *upper;
	TupleTableSlot *read_slot;	/* as the table has it */
	TupleTableSlot *kept_slot;

	/* Since the scan began: */
	bool		has_begun;
	MemoryContext context;
	Datum		key_value;
	PageRanges *ids;
	PageRanges *keys;
	TableScanDesc table_scan;
	BlockNumber npages;
	Range	   *ranges;			/* in the order in which they are visited */
	uint32		nranges;
	uint32		visited;
	pairingheap *found;
	Size		kept_bytes;
} NewestScanState;

/* Ids have the order of their bytes. */
static int
compare_ids(const text * a, const text * b)
{
	Size		a_length = VARSIZE_ANY_EXHDR(a);
	Size		b_length = VARSIZE_ANY_EXHDR(b);
	int			result = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(a_length, b_length));

	return result != 0 ? result : (a_length > b_length) - (a_length < b_length);
}

/* The greatest ids first, and what can have any before all. */
static int
compare_ranges(const void *a, const void *b)
{
	const Range *left = a;
	const Range *right = b;

	if (left->greatest == NULL || right->greatest == NULL)
		return (left->greatest != NULL) - (right->greatest != NULL);
	return compare_ids(right->greatest, left->greatest);
}

static int
compare_found(const pairingheap_node *a, const pairingheap_node *b, void *argument)
{
	(void) argument;
	return compare_ids(pairingheap_const_container(FoundRow, node, a)->id,
					   pairingheap_const_container(FoundRow, node, b)->id);
}

/* Evaluates a text; NULL if it is NULL. */
static text *
evaluate(NewestScanState *state, ExprState *expression)
{
	ExprContext *context = state->css.ss.ps.ps_ExprContext;
	bool		isnull;
	Datum		value = ExecEvalExprSwitchContext(expression, context, &isnull);

	return isnull ? NULL : DatumGetTextPCopy(value);
}

/*
 * The narrowest of some bounds, NULL if there are none; false if one is NULL, which nothing
 * obeys.
 */
static bool
narrowest(NewestScanState *state, List *expressions, int sign, text * *bound)
{
	ListCell   *cell;

	*bound = NULL;
	foreach(cell, expressions)
	{
		text	   *value = evaluate(state, lfirst(cell));

		if (value == NULL)
			return false;
		if (*bound == NULL || sign * compare_ids(value, *bound) > 0)
			*bound = value;
	}
	return true;
}

/* Finds out which ranges there are that can have ids between bounds. */
static void
find_ranges(NewestScanState *state, const text * lower, const text * upper)
{
	BlockNumber size = page_ranges_size(state->ids);
	uint32		count = state->npages / size + (state->npages % size > 0 ? 1 : 0);

	state->ranges = MemoryContextAllocHuge(state->context, sizeof(Range) * count + 1);
	for (uint32 i = 0; i < count; i++)
	{
		Range		range = {.first = i * size, .greatest = NULL};
		Datum		least;
		Datum		greatest;

		CHECK_FOR_INTERRUPTS();
		switch (page_ranges_bounds(state->ids, state->scan.ids_column, range.first, &least,
								   &greatest))
		{
			case RANGE_EMPTY:
				continue;
			case RANGE_BOUNDED:
				if ((lower != NULL && compare_ids(DatumGetTextPP(greatest), lower) < 0) ||
					(upper != NULL && compare_ids(DatumGetTextPP(least), upper) > 0))
					continue;
				range.greatest = DatumGetTextPP(greatest);
				break;
			case RANGE_UNKNOWN:
				break;
		}
		state->ranges[state->nranges++] = range;
	}
	qsort(state->ranges, state->nranges, sizeof(Range), compare_ranges);
}

/* Begins to read, if what is looked for can be there at all. */
static void
begin(NewestScanState *state)
{
	Relation	table = state->css.ss.ss_currentRelation;
	Snapshot	snapshot = state->css.ss.ps.state->es_snapshot;
	MemoryContext old_context = MemoryContextSwitchTo(state->context);
	text	   *lower = NULL;
	text	   *upper = NULL;
	text	   *key = evaluate(state, state->key);

	state->has_begun = true;
	state->npages = 0;
	state->found = pairingheap_allocate(compare_found, NULL);
	if (key != NULL && narrowest(state, state->lower, 1, &lower) &&
		narrowest(state, state->upper, -1, &upper))
	{
		state->key_value = PointerGetDatum(key);
		PredicateLockRelation(table, snapshot);
		state->npages = RelationGetNumberOfBlocks(table);
	}
	if (state->npages > 0)
	{
		state->ids = page_ranges_open(state->scan.ids, snapshot);
		state->keys = page_ranges_open(state->scan.keys, snapshot);
		find_ranges(state, lower, upper);
	}
	MemoryContextSwitchTo(old_context);
}

/* Forgets all that was read. */
static void
finish(NewestScanState *state)
{
	ExecClearTuple(state->read_slot);
	ExecClearTuple(state->kept_slot);
	ExecClearTuple(state->css.ss.ss_ScanTupleSlot);
	if (state->table_scan != NULL)
		table_endscan(state->table_scan);
	if (state->keys != NULL)
		page_ranges_close(state->keys);
	if (state->ids != NULL)
		page_ranges_close(state->ids);
	state->table_scan = NULL;
	state->keys = NULL;
	state->ids = NULL;
	state->has_begun = false;
	state->nranges = 0;
	state->visited = 0;
	state->kept_bytes = 0;
	MemoryContextReset(state->context);
}

/* A row as conditions and targets see it: the scan's slot has no row of its own. */
static TupleTableSlot *
show(NewestScanState *state, TupleTableSlot *row)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;

	slot_getallattrs(row);
	ExecClearTuple(slot);
	memcpy(slot->tts_values, row->tts_values, sizeof(Datum) * row->tts_tupleDescriptor->natts);
	memcpy(slot->tts_isnull, row->tts_isnull, sizeof(bool) * row->tts_tupleDescriptor->natts);
	ExecStoreVirtualTuple(slot);
	/* For WHERE CURRENT OF. */
	slot->tts_tid = row->tts_tid;
	slot->tts_tableOid = RelationGetRelid(state->css.ss.ss_currentRelation);
	state->css.ss.ps.ps_ExprContext->ecxt_scantuple = slot;
	return slot;
}

/* Keeps the row in the slot; itself as long as there is memory for it. */
static void
keep(NewestScanState *state)
{
	TupleTableSlot *slot = state->read_slot;
	MemoryContext old_context = MemoryContextSwitchTo(state->context);
	FoundRow   *row = palloc(sizeof(FoundRow));

	row->id = DatumGetTextPCopy(slot->tts_values[state->scan.id - 1]);
	row->tid = slot->tts_tid;
	row->tuple = NULL;
	if (state->kept_bytes < (Size) work_mem * 1024)
	{
		row->tuple = ExecCopySlotMinimalTuple(slot);
		state->kept_bytes += row->tuple->t_len;
	}
	pairingheap_add(state->found, &row->node);
	MemoryContextSwitchTo(old_context);
}

/* Reads pages and keeps what is looked for. */
static void
read_pages(NewestScanState *state, BlockNumber first, BlockNumber last)
{
	Relation	table = state->css.ss.ss_currentRelation;
	ExprContext *context = state->css.ss.ps.ps_ExprContext;
	ItemPointerData from;
	ItemPointerData to;

	ItemPointerSet(&from, first, FirstOffsetNumber);
	ItemPointerSet(&to, last, MaxOffsetNumber);
	if (state->table_scan == NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(state->context);

		state->table_scan = begin_page_scan(table, state->css.ss.ps.state->es_snapshot, &from,
											&to);
		MemoryContextSwitchTo(old_context);
	}
	else
		table_rescan_tidrange(state->table_scan, &from, &to);
	while (table_scan_getnextslot_tidrange(state->table_scan, ForwardScanDirection,
										   state->read_slot))
	{
		CHECK_FOR_INTERRUPTS();
		ResetExprContext(context);
		show(state, state->read_slot);
		if (ExecQual(state->css.ss.ps.qual, context))
			keep(state);
		else
			InstrCountFiltered1(&state->css.ss.ps, 1);
	}
	ExecClearTuple(state->css.ss.ss_ScanTupleSlot);
}

/*
 * Reads what a range of pages may have of what is looked for; backwards, as ranges are mostly
 * visited, so that an index's page is read once.
 */
static void
visit(NewestScanState *state, const Range *range)
{
	BlockNumber step = page_ranges_size(state->keys);
	BlockNumber end = range->first + Min(page_ranges_size(state->ids),
										 state->npages - range->first);

	while (end > range->first)
	{
		BlockNumber first = Max(range->first, (end - 1) - (end - 1) % step);

		CHECK_FOR_INTERRUPTS();
		if (page_ranges_may_have(state->keys, state->scan.keys_column, first, state->key_value))
			read_pages(state, first, end - 1);
		end = first;
	}
}

/* Shows the row that was kept, which then is no more. */
static TupleTableSlot *
take(NewestScanState *state, FoundRow *row)
{
	TupleTableSlot *slot;

	if (row->tuple != NULL)
	{
		state->kept_bytes -= row->tuple->t_len;
		slot = ExecStoreMinimalTuple(row->tuple, state->kept_slot, true);
		slot->tts_tid = row->tid;
	}
	else
	{
		slot = state->read_slot;
		if (!table_tuple_fetch_row_version(state->css.ss.ss_currentRelation, &row->tid,
										   state->css.ss.ps.state->es_snapshot, slot))
			elog(ERROR, "a row of \"%s\" is gone while it is read",
				 RelationGetRelationName(state->css.ss.ss_currentRelation));
	}
	pfree(row->id);
	pfree(row);
	return show(state, slot);
}

/* The next row that was found; NULL if there is none. */
static TupleTableSlot *
next_row(NewestScanState *state)
{
	if (!state->has_begun)
		begin(state);
	while (true)
	{
		const Range *range = state->visited < state->nranges ?
		&state->ranges[state->visited] : NULL;

		if (!pairingheap_is_empty(state->found))
		{
			FoundRow   *row = pairingheap_container(FoundRow, node,
													pairingheap_first(state->found));

			if (range == NULL ||
				(range->greatest != NULL && compare_ids(row->id, range->greatest) > 0))
			{
				(void) pairingheap_remove_first(state->found);
				return take(state, row);
			}
		}
		if (range == NULL)
			return NULL;
		visit(state, range);
		state->visited++;
	}
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	TupleTableSlot *slot;

	ResetExprContext(node->ss.ps.ps_ExprContext);
	slot = next_row((NewestScanState *) node);
	if (slot == NULL)
		return NULL;
	return node->ss.ps.ps_ProjInfo == NULL ? slot : ExecProject(node->ss.ps.ps_ProjInfo);
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	NewestScanState *state = (NewestScanState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	List	   *numbers = plan->custom_private;
	Relation	table = node->ss.ss_currentRelation;

	(void) eflags;
	state->scan.id = (AttrNumber) linitial_int(numbers);
	state->scan.ids_column = lsecond_int(numbers);
	state->scan.keys_column = lthird_int(numbers);
	state->scan.ids = (Oid) lfourth_int(numbers);
	state->scan.keys = (Oid) list_nth_int(numbers, 4);
	state->key = ExecInitExpr(linitial(plan->custom_exprs), &node->ss.ps);
	state->lower = ExecInitExprList(lsecond(plan->custom_exprs), &node->ss.ps);
	state->upper = ExecInitExprList(lthird(plan->custom_exprs), &node->ss.ps);
	state->read_slot = table_slot_create(table, &estate->es_tupleTable);
	state->kept_slot = ExecInitExtraTupleSlot(estate, RelationGetDescr(table),
											  &TTSOpsMinimalTuple);
	state->context = AllocSetContextCreate(estate->es_query_cxt, "webhook_events newest first",
										   ALLOCSET_DEFAULT_SIZES);
}

static void
end_scan(CustomScanState *node)
{
	finish((NewestScanState *) node);
}

static void
rescan(CustomScanState *node)
{
	finish((NewestScanState *) node);
}

static void
explain_scan(CustomScanState *node, List *ancestors, ExplainState *explain)
{
	NewestScanState *state = (NewestScanState *) node;

	(void) ancestors;
	ExplainPropertyText("Summaries", get_rel_name(state->scan.keys), explain);
	if (explain->analyze)
		ExplainPropertyInteger("Ranges Visited", NULL, state->visited, explain);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "webhook_events newest first",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
	.ExplainCustomScan = explain_scan
};

static Node *
create_state(CustomScan *plan)
{
	NewestScanState *state = palloc0(sizeof(NewestScanState));

	(void) plan;
	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

static const CustomScanMethods scan_methods = {
	.CustomName = "webhook_events newest first",
	.CreateCustomScanState = create_state
};

static Plan *
plan_scan(PlannerInfo *root, RelOptInfo *table, CustomPath *path, List *targets, List *clauses,
		  List *plans)
{
	CustomScan *plan = makeNode(CustomScan);

	(void) root;
	(void) plans;
	plan->scan.scanrelid = table->relid;
	plan->scan.plan.targetlist = targets;
	plan->scan.plan.qual = extract_actual_clauses(clauses, false);
	plan->flags = path->flags;
	plan->custom_private = linitial(path->custom_private);
	plan->custom_exprs = lsecond(path->custom_private);
	plan->methods = &scan_methods;
	return (Plan *) plan;
}

static const CustomPathMethods path_methods = {
	.CustomName = "webhook_events newest first",
	.PlanCustomPath = plan_scan
};

CustomPath *
newest_scan_path(RelOptInfo *table, const NewestScan *scan)
{
	CustomPath *path = makeNode(CustomPath);
	List	   *numbers = list_make3_int(scan->id, scan->ids_column, scan->keys_column);

	numbers = lappend_int(lappend_int(numbers, (int) scan->ids), (int) scan->keys);
	path->path.pathtype = T_CustomScan;
	path->path.parent = table;
	path->path.pathtarget = table->reltarget;
	path->path.rows = table->rows;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_private = list_make2(numbers, list_make3(scan->key, scan->lower, scan->upper));
	path->methods = &path_methods;
	return path;
}

void
newest_scan_register(void)
{
	if (GetCustomScanMethods(scan_methods.CustomName, true) == NULL)
		RegisterCustomScanMethods(&scan_methods);
}
