/*-------------------------------------------------------------------------
 *
 * planning.c
 *	  Plans that fit tables of any size.
 *
 * The worker plans a statement once and keeps the plan until ANALYZE or VACUUM has been at
 * one of its tables, and so do sessions with what our functions ask.  In a table of which
 * ANALYZE has seen a few rows all of it, or all of an index, is as soon read as a part, and
 * a plan that does that lasts until the table has grown by a hundred thousand rows, or
 * longer where autovacuum is busy.  Only one that nobody has looked at is taken for larger
 * than it is.  So none of ours is small for the planner.  For the worker's statements, each
 * of which has one right plan, it learns nothing of sizes and of columns' values; none of them
 * compares an expression that an index is made of.
 *
 * IDENTIFICATION
 *	  src/store/planning.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "compat.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "store/day_table.h"
#include "store/planning.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"

typedef struct PlannedSize
{
	double		rows;
	BlockNumber pages;
	BlockNumber index_pages;
	int			index_height;
} PlannedSize;

/* For the worker: so large that whatever reads all of it is too dear. */
static const PlannedSize worker_size = {1000000, 100000, 10000, 3};

/*
 * For others at least this, which is enough to have rows looked up by an index, and little
 * enough to have nobody compile the queries or share them among processes.
 */
static const PlannedSize least_size = {2000, 100, 10, 1};

static RELATION_PLANNED_HOOK_TYPE prev_relation_planned = NULL;
static get_relation_stats_hook_type prev_relation_stats = NULL;

/*
 * Is this planned as the worker plans?  Its settings tell: so a session can look at the
 * worker's plans.
 */
static bool
plans_as_worker(void)
{
	return !enable_seqscan && !enable_hashjoin && !enable_mergejoin && !enable_bitmapscan &&
		!enable_sort;
}

/* One of our tables that has rows of its own. */
static bool
is_ours(Oid table)
{
	return day_table_is_there(table) && get_rel_relkind(table) == RELKIND_RELATION;
}

/* Makes a table and its indexes this large, or at least. */
static void
set_size(RelOptInfo *rel, const PlannedSize *size, bool at_least)
{
	ListCell   *cell;

	rel->tuples = at_least ? Max(rel->tuples, size->rows) : size->rows;
	rel->pages = at_least ? Max(rel->pages, size->pages) : size->pages;
	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(cell);

		index->tuples = at_least ? Max(index->tuples, size->rows) : size->rows;
		index->pages = at_least ? Max(index->pages, size->index_pages) : size->index_pages;
		index->tree_height = at_least ? Max(index->tree_height, size->index_height) :
			size->index_height;
	}
}

static void
relation_planned(RELATION_PLANNED_ARGUMENTS)
{
	if (prev_relation_planned)
		prev_relation_planned(RELATION_PLANNED_PASSED);
	if (!is_ours(RELATION_PLANNED))
		return;
	if (plans_as_worker())
	{
		set_size(rel, &worker_size, false);
		rel->allvisfrac = 0;
	}
	else
		set_size(rel, &least_size, true);
}

/* Says that there are no statistics of a column, also to those who have not said so before. */
static bool
hide_statistics(PlannerInfo *root, RangeTblEntry *entry, AttrNumber column,
				VariableStatData *variable)
{
	if (plans_as_worker() && is_ours(entry->relid))
	{
		variable->statsTuple = NULL;
		variable->freefunc = NULL;
		return true;
	}
	return prev_relation_stats && prev_relation_stats(root, entry, column, variable);
}

void
planning_install_hooks(void)
{
	prev_relation_planned = relation_planned_hook;
	relation_planned_hook = relation_planned;
	prev_relation_stats = get_relation_stats_hook;
	get_relation_stats_hook = hide_statistics;
}
