/*-------------------------------------------------------------------------
 *
 * newest_first.c
 *	  Lets the planner sort the few rows of a day that somebody looks for.
 *
 * Who wants the newest fifty rows gets those of one day after those of the next
 * one.  PostgreSQL has each day's in order then by an index that is in order, if there is
 * one: of the day that is being written, which has BRIN indexes beside its primary
 * key, it reads all backwards, or it collects what all days have and sorts that.  It doesn't
 * think of sorting what a bitmap finds in one of them.
 *
 * IDENTIFICATION
 *	  src/sql/newest_first.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pathnodes.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "sql/newest_first.h"
#include "store/day_table.h"
#include "utils/lsyscache.h"

static set_rel_pathlist_hook_type prev_set_rel_pathlist = NULL;

static bool
is_day(PlannerInfo *root, RelOptInfo *table)
{
	AppendRelInfo *append;

	if (table->reloptkind != RELOPT_OTHER_MEMBER_REL || root->append_rel_array == NULL)
		return false;
	append = root->append_rel_array[table->relid];
	return append != NULL && OidIsValid(append->parent_reloid) &&
		get_rel_namespace(append->parent_reloid) == day_table_namespace();
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

static void
add_paths(PlannerInfo *root, RelOptInfo *table, Index index, RangeTblEntry *entry)
{
	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, table, index, entry);
	if (root->tuple_fraction > 0 && root->query_pathkeys != NIL && is_day(root, table))
		offer_sorted(root, table);
}

void
newest_first_install_hook(void)
{
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = add_paths;
}
