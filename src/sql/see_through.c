/*-------------------------------------------------------------------------
 *
 * see_through.c
 *	  Lets the planner look into our views where that tells nobody anything.
 *
 * The views are security barriers: a condition that calls a function which could
 * tell what it is called with is not evaluated before the view's own.  PostgreSQL
 * plans such a view by itself, without knowing of the query's ORDER BY and LIMIT: whoever
 * wants the newest fifty events of a user got all of them read and sorted.  Where no
 * condition of the query can tell anything, in whatever order they are evaluated,
 * the barrier has nothing to hold back and is taken away before planning.
 *
 * IDENTIFICATION
 *	  src/sql/see_through.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "compat.h"
#include "nodes/primnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/planner.h"
#include "sql/see_through.h"
#include "utils/lsyscache.h"

static planner_hook_type prev_planner = NULL;

/*
 * Views whose own condition is about rows of one table, all of which can be seen or
 * those of one user.
 */
static bool
is_our_view(Oid view)
{
	static const char *const names[] = {"events", "dispatches", "calls"};
	Oid			namespace = get_namespace_oid("webhook_events", true);

	for (int i = 0; i < (int) lengthof(names) && OidIsValid(namespace); i++)
	{
		if (get_relname_relid(names[i], namespace) == view)
			return OidIsValid(view);
	}
	return false;
}

/* Can a condition of a FROM clause tell what it is called with? */
static bool
tells_something(Node *node)
{
	ListCell   *cell;

	if (node == NULL || IsA(node, RangeTblRef))
		return false;
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		return contain_leaked_vars(join->quals) || tells_something(join->larg) ||
			tells_something(join->rarg);
	}
	foreach(cell, castNode(FromExpr, node)->fromlist)
	{
		if (tells_something(lfirst(cell)))
			return true;
	}
	return contain_leaked_vars(((FromExpr *) node)->quals);
}

/*
 * Only what the query itself says is looked at.  What is LATERAL can have conditions of
 * its own about the view's columns.
 */
static void
see_through(Query *query)
{
	bool		has_views = false;
	ListCell   *cell;

	foreach(cell, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->lateral)
			return;
		has_views |= (entry->rtekind == RTE_SUBQUERY && entry->security_barrier);
	}
	if (!has_views || query->rowMarks != NIL || contain_leaked_vars(query->havingQual) ||
		tells_something((Node *) query->jointree))
		return;
	foreach(cell, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_SUBQUERY && entry->security_barrier &&
			is_our_view(view_of_subquery(entry)))
			entry->security_barrier = false;
	}
}

static PlannedStmt *
plan(PLANNER_ARGUMENTS)
{
	if (query->commandType == CMD_SELECT)
		see_through(query);
	return prev_planner ? prev_planner(PLANNER_PASSED) : standard_planner(PLANNER_PASSED);
}

void
see_through_install_hook(void)
{
	prev_planner = planner_hook;
	planner_hook = plan;
}
