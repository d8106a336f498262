/*-------------------------------------------------------------------------
 *
 * newest_first.c
 *	  Lets the planner sort the few rows of a day that somebody looks for.
 *
 * Who wants the newest fifty rows gets those of one day after those of the next
 * one.  PostgreSQL has each day's in order then by an index that is in order, if there is
 * one: of the day that is being written, which has BRIN indexes beside its primary
 * key, it reads all backwards, or it collects what all days have and sorts that.  It doesn't
 * think of sorting what a bitmap finds in one of them, and knows no way to read no more of
 * BRIN indexes than fifty rows take (newest_scan.c).
 *
 * IDENTIFICATION
 *	  src/sql/newest_first.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/brin.h"
#include "access/brin_internal.h"
#include "access/genam.h"
#include "access/stratnum.h"
#include "access/sysattr.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "sql/newest_first.h"
#include "sql/newest_scan.h"
#include "store/day_table.h"
#include "store/summaries.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static set_rel_pathlist_hook_type prev_set_rel_pathlist = NULL;

static bool
is_day(PlannerInfo *root, RelOptInfo *table)
{
	AppendRelInfo *append;

	if (table->reloptkind != RELOPT_OTHER_MEMBER_REL || root->append_rel_array == NULL)
		return false;
	append = root->append_rel_array[table->relid];
	return append != NULL && day_table_is_there(append->parent_reloid);
}

/* So many times as long a scan in order must take as a bitmap, lest it end early. */
#define MUCH_LONGER 4

/* Offers a sorted bitmap beside what is in order and takes much longer in all. */
static void
offer_sorted(PlannerInfo *root, RelOptInfo *table)
{
	Path	   *ordered;
	Path	   *bitmap = NULL;
	BitmapHeapPath *copy;
	ListCell   *cell;

	foreach(cell, table->pathlist)
	{
		Path	   *path = lfirst(cell);

		if (IsA(path, BitmapHeapPath) && path->param_info == NULL &&
			(bitmap == NULL || path->total_cost < bitmap->total_cost))
			bitmap = path;
	}
	if (bitmap == NULL)
		return;
	ordered = get_cheapest_path_for_pathkeys(table->pathlist, root->query_pathkeys, NULL,
											 TOTAL_COST, false);
	if (ordered == NULL || ordered->total_cost <= MUCH_LONGER * bitmap->total_cost)
		return;

	/*
	 * add_path() frees what is worse than a path, which can be what that is
	 * made of.
	 */
	copy = makeNode(BitmapHeapPath);
	memcpy(copy, bitmap, sizeof(BitmapHeapPath));
	add_path(table, (Path *) create_sort_path(root, table, (Path *) copy, root->query_pathkeys,
											  -1.0));
}

/* No more pages than these wait for their summaries where maintenance keeps up. */
#define FEW_PAGES 1024

/* The column of a BRIN index whose summaries are of this kind, from 1; 0 if there is none. */
static int
summarized_column(const IndexOptInfo *index, AttrNumber column, Oid consistent, Oid collation)
{
	if (index->relam != BRIN_AM_OID || index->hypothetical)
		return 0;
	for (int i = 0; i < index->nkeycolumns; i++)
	{
		if (index->indexkeys[i] == column && index->indexcollations[i] == collation &&
			get_opfamily_proc(index->opfamily[i], index->opcintype[i], index->opcintype[i],
							  BRIN_PROCNUM_CONSISTENT) == consistent)
			return i + 1;
	}
	return 0;
}

/*
 * A comparison of a column of text with what is the same for all rows; the operator is as it is
 * with the column on its left.
 */
typedef struct Comparison
{
	AttrNumber	column;
	Oid			operator;
	Oid			collation;
	Expr	   *value;
	bool		is_turned;		/* the column is on the right of it */
} Comparison;

static bool
is_comparison(RelOptInfo *table, RestrictInfo *condition, Comparison *found)
{
	OpExpr	   *comparison = (OpExpr *) condition->clause;
	Node	   *left;
	Node	   *right;

	if (!IsA(comparison, OpExpr) || list_length(comparison->args) != 2 ||
		!restriction_is_securely_promotable(condition, table))
		return false;
	found->operator = comparison->opno;
	found->collation = comparison->inputcollid;
	left = linitial(comparison->args);
	right = lsecond(comparison->args);
	found->is_turned = !IsA(left, Var);
	if (found->is_turned)
	{
		found->operator = get_commutator(found->operator);
		right = left;
		left = lsecond(comparison->args);
	}
	if (!IsA(left, Var) || ((Var *) left)->varno != (int) table->relid ||
		exprType(left) != TEXTOID || exprType(right) != TEXTOID ||
		!is_pseudo_constant_clause(right))
		return false;
	found->column = ((Var *) left)->varattno;
	found->value = (Expr *) right;
	return found->column > 0;
}

static bool
is_equality(RelOptInfo *table, RestrictInfo *condition, Comparison *found)
{
	return is_comparison(table, condition, found) && found->operator == TextEqualOperator;
}

/* Finds an index that knows which ids ranges of pages have; NULL if there is none. */
static IndexOptInfo *
find_ids(RelOptInfo *table, NewestScan *scan)
{
	ListCell   *cell;

	foreach(cell, table->indexlist)
	{
		IndexOptInfo *index = lfirst(cell);

		scan->ids = index->indexoid;
		scan->ids_column = summarized_column(index, scan->id, F_BRIN_MINMAX_CONSISTENT,
											 C_COLLATION_OID);
		if (scan->ids_column > 0 && index->indpred == NIL)
			return index;
	}
	return NULL;
}

/* Are the greatest ids wanted first, and nothing else? */
static bool
wants_newest(PlannerInfo *root, RelOptInfo *table, AttrNumber id)
{
	PathKey    *pathkey;
	Var		   *column = makeVar((int) table->relid, id, TEXTOID, -1, C_COLLATION_OID, 0);

	if (list_length(root->query_pathkeys) != 1)
		return false;
	pathkey = linitial_node(PathKey, root->query_pathkeys);
	return is_descending(pathkey) && pathkey->pk_opfamily == TEXT_BTREE_FAM_OID &&
		pathkey->pk_eclass->ec_collation == C_COLLATION_OID &&
		find_ec_member_matching_expr(pathkey->pk_eclass, (Expr *) column, table->relids) != NULL;
}

/* Is it asked for ids themselves, and not only for some between bounds? */
static bool
names_ids(const IndexPath *path, const List *bounds)
{
	ListCell   *cell;

	foreach(cell, path->indexclauses)
	{
		if (!list_member_ptr(bounds, lfirst_node(IndexClause, cell)->rinfo))
			return true;
	}
	return false;
}

/*
 * Forgets scans of the primary key that cost more in all.  Nobody knows where they end: if what
 * is looked for is seldom, or was long ago, they read all between these bounds.
 */
static void
forget_scans_by_id(RelOptInfo *table, AttrNumber id, const List *bounds, Cost more_than)
{
	ListCell   *cell;

	foreach(cell, table->pathlist)
	{
		IndexPath  *path = lfirst(cell);

		if (IsA(path, IndexPath) && path->path.param_info == NULL &&
			path->path.total_cost > more_than && path->indexinfo->indexkeys[0] == id &&
			path->indexinfo->indpred == NIL && !names_ids(path, bounds))
			table->pathlist = foreach_delete_current(table->pathlist, cell);
	}
}

/* An index by a column and then by id; NULL if there is none. */
static IndexOptInfo *
find_in_order(RelOptInfo *table, AttrNumber column, Oid collation, AttrNumber id)
{
	ListCell   *cell;

	foreach(cell, table->indexlist)
	{
		IndexOptInfo *index = lfirst(cell);

		if (index->relam == BTREE_AM_OID && index->nkeycolumns == 2 &&
			index->indexkeys[0] == column && index->indexcollations[0] == collation &&
			index->indexkeys[1] == id && !index->reverse_sort[1] &&
			(index->indpred == NIL || index->predOK))
			return index;
	}
	return NULL;
}

/*
 * Offers to read what has one value by an index in order, which PostgreSQL forgets where a scan of
 * the primary key seems to end soon.  Returns whether there is one.
 */
static bool
offer_in_order(PlannerInfo *root, RelOptInfo *table, AttrNumber id, List *bounds)
{
	RestrictInfo *best = NULL;
	IndexOptInfo *best_index = NULL;
	Selectivity best_part = 0;
	ListCell   *cell;

	foreach(cell, table->baserestrictinfo)
	{
		RestrictInfo *condition = lfirst_node(RestrictInfo, cell);
		Comparison	comparison;
		Selectivity part;
		IndexOptInfo *index;

		/* An index wants the column on the left. */
		if (!is_equality(table, condition, &comparison) || comparison.is_turned)
			continue;
		index = find_in_order(table, comparison.column, comparison.collation, id);
		part = clause_selectivity(root, (Node *) condition, 0, JOIN_INNER, NULL);
		if (index == NULL || (best != NULL && part >= best_part))
			continue;
		best = condition;
		best_index = index;
		best_part = part;
	}
	if (best == NULL)
		return false;
	if (enable_indexscan && bounds == NIL && wants_newest(root, table, id))
	{
		IndexClause *clause = makeNode(IndexClause);

		clause->rinfo = best;
		clause->indexquals = list_make1(best);
		forget_scans_by_id(table, id, NIL, 0);
		add_path(table, (Path *) create_index_path(root, best_index, list_make1(clause), NIL, NIL,
												   root->query_pathkeys, BackwardScanDirection,
												   false, NULL, 1.0, false));
	}
	return true;
}

/*
 * Finds the condition whose Bloom filters leave the fewest rows; "selectivity" becomes what part
 * that is.  Returns the index, or NULL.
 */
static IndexOptInfo *
find_key(PlannerInfo *root, RelOptInfo *table, NewestScan *scan, Selectivity *selectivity)
{
	IndexOptInfo *found = NULL;
	ListCell   *cell;

	foreach(cell, table->baserestrictinfo)
	{
		RestrictInfo *condition = lfirst_node(RestrictInfo, cell);
		Comparison	comparison;
		Selectivity part;
		ListCell   *index_cell;

		if (!is_equality(table, condition, &comparison))
			continue;
		part = clause_selectivity(root, (Node *) condition, 0, JOIN_INNER, NULL);
		foreach(index_cell, table->indexlist)
		{
			IndexOptInfo *index = lfirst(index_cell);
			int			number = summarized_column(index, comparison.column, F_BRIN_BLOOM_CONSISTENT,
												   comparison.collation);

			if (number == 0 || !(index->indpred == NIL || index->predOK) ||
				(found != NULL && part >= *selectivity))
				continue;
			found = index;
			*selectivity = part;
			scan->keys = index->indexoid;
			scan->keys_column = number;
			scan->key = comparison.value;
		}
	}
	return found;
}

/* Finds bounds of ids; returns the conditions that they are in. */
static List *
find_bounds(RelOptInfo *table, NewestScan *scan)
{
	List	   *conditions = NIL;
	ListCell   *cell;

	foreach(cell, table->baserestrictinfo)
	{
		RestrictInfo *condition = lfirst_node(RestrictInfo, cell);
		Comparison	comparison;

		if (!is_comparison(table, condition, &comparison) ||
			comparison.column != scan->id || comparison.collation != C_COLLATION_OID)
			continue;
		switch (get_op_opfamily_strategy(comparison.operator, TEXT_BTREE_FAM_OID))
		{
			case BTLessStrategyNumber:
			case BTLessEqualStrategyNumber:
				scan->upper = lappend(scan->upper, comparison.value);
				break;
			case BTGreaterEqualStrategyNumber:
			case BTGreaterStrategyNumber:
				scan->lower = lappend(scan->lower, comparison.value);
				break;
			default:
				continue;
		}
		conditions = lappend(conditions, condition);
	}
	return conditions;
}

/* Does somebody want to know where rows lie, or what else no column tells? */
static bool
wants_places(RelOptInfo *table)
{
	Bitmapset  *columns = NULL;

	pull_varattnos((Node *) table->reltarget->exprs, table->relid, &columns);
	pull_varattnos((Node *) extract_actual_clauses(table->baserestrictinfo, false), table->relid,
				   &columns);
	for (AttrNumber column = FirstLowInvalidHeapAttributeNumber + 1; column < 0; column++)
	{
		if (bms_is_member(column - FirstLowInvalidHeapAttributeNumber, columns))
			return true;
	}
	return false;
}

static BlockNumber
pages_per_range(const IndexOptInfo *info)
{
	Relation	index = index_open(info->indexoid, NoLock);
	BlockNumber pages = BrinGetPagesPerRange(index);

	index_close(index, NoLock);
	return pages;
}

/* What it costs to read such a part of a table, of which such a part is looked for. */
static void
set_costs(CustomPath *path, RelOptInfo *table, const IndexOptInfo *ids, const IndexOptInfo *keys,
		  Selectivity part, Selectivity selectivity)
{
	double		pages = clamp_row_est(table->pages * part);
	double		rows = table->tuples * part * selectivity;
	BlockNumber range = pages_per_range(keys);
	double		read = Min(pages, rows * range + pages / 100);
	Cost		page_cost = random_page_cost -
	(random_page_cost - seq_page_cost) * sqrt(read / pages);

	path->path.startup_cost = ids->pages * seq_page_cost +
		(double) table->pages / pages_per_range(ids) * cpu_tuple_cost;
	path->path.total_cost = keys->pages * part * seq_page_cost + pages / range * cpu_tuple_cost +
		read * page_cost + read / Max(table->pages, 1) * table->tuples *
		(cpu_tuple_cost + table->baserestrictcost.per_tuple) + rows * cpu_tuple_cost;
}

/* Do all but some pages have a summary of ids? */
static bool
is_summarized(const RelOptInfo *table, const IndexOptInfo *ids)
{
	Summaries  *summaries;

	if (table->pages <= FEW_PAGES)
		return true;
	summaries = summaries_of(ids->indexoid);
	summaries_look();
	return summaries == NULL || summaries_have(summaries, table->pages - FEW_PAGES);
}

/*
 * Offers to read ranges of pages from the newest on; returns whether nothing else is needed.
 * Ranges without a summary are read first, all of them: where these are many there are better ways.
 */
static bool
offer_newest(PlannerInfo *root, RelOptInfo *table, RangeTblEntry *entry)
{
	NewestScan	scan = {.id = get_attnum(entry->relid, "id")};
	IndexOptInfo *ids;
	IndexOptInfo *keys;
	Selectivity selectivity = 1;
	Selectivity part;
	List	   *bounds;
	bool		is_ordered;
	CustomPath *path;

	if (!enable_bitmapscan || scan.id == InvalidAttrNumber || table->baserestrictinfo == NIL)
		return false;
	bounds = find_bounds(table, &scan);
	if (offer_in_order(root, table, scan.id, bounds))
		return false;
	if (root->parse->commandType != CMD_SELECT || wants_places(table))
		return false;
	ids = find_ids(table, &scan);
	if (ids == NULL || (ids->pages <= 2 && table->pages > FEW_PAGES))
		return false;
	is_ordered = wants_newest(root, table, scan.id);
	if (!is_ordered && bounds == NIL)
		return false;
	keys = find_key(root, table, &scan, &selectivity);
	if (keys == NULL || !is_summarized(table, ids))
		return false;

	/*
	 * Where filters leave out next to nothing all is kept in an order that
	 * nobody wants.
	 */
	if (!is_ordered && table->tuples * selectivity * pages_per_range(keys) > table->pages)
		return false;
	part = clauselist_selectivity(root, bounds, 0, JOIN_INNER, NULL);
	path = newest_scan_path(table, &scan);
	set_costs(path, table, ids, keys, part, selectivity);
	if (is_ordered)
	{
		path->path.pathkeys = root->query_pathkeys;
		forget_scans_by_id(table, scan.id, bounds, bounds == NIL ? 0 : path->path.total_cost);
	}
	path->path.total_cost += path->path.startup_cost;
	add_path(table, (Path *) path);
	return is_ordered;
}

static void
add_paths(PlannerInfo *root, RelOptInfo *table, Index index, RangeTblEntry *entry)
{
	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, table, index, entry);

	/*
	 * What else the table is joined with says what of it is read, or a sample
	 * is.
	 */
	if (entry->tablesample != NULL || !bms_is_empty(table->lateral_relids))
		return;
	if (is_day(root, table) && !offer_newest(root, table, entry) &&
		root->tuple_fraction > 0 && root->query_pathkeys != NIL)
		offer_sorted(root, table);
}

void
newest_first_install_hook(void)
{
	newest_scan_register();
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = add_paths;
}
