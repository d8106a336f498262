/*-------------------------------------------------------------------------
 *
 * see_through.c
 *	  Lets the planner look into our views where that tells nobody anything, and
 *	  nowhere else.
 *
 * The views are security barriers: a condition that calls a function which could
 * tell what it is called with is not evaluated before the view's own.  PostgreSQL
 * plans such a view by itself, without knowing of the query's ORDER BY and LIMIT: whoever
 * wants the newest fifty events of a user got all of them read and sorted.  Where no
 * condition of the query can tell anything, in whatever order they are evaluated,
 * the barrier has nothing to hold back and is taken away before planning.
 *
 * On the other side PostgreSQL's barrier lets too much through.  It asks what a function is
 * called with, not when: "CASE WHEN error_message < 'm' THEN f() ELSE false END" counts
 * as harmless, as f() is told nothing, is evaluated before what is more
 * expensive, or in a scan of another table than the view's own condition, and tells by
 * being called.  So of those who don't see all rows such conditions are evaluated
 * behind the view's own, in one expression whose order the planner can't change.
 *
 * IDENTIFICATION
 *	  src/sql/see_through.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/sysattr.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "server/settings.h"
#include "sql/see_through.h"
#include "store/access.h"
#include "store/day_table.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

/* Where no expression of a query lies: it tells those that we made. */
#define OUR_LOCATION (-2)

static planner_hook_type prev_planner = NULL;
static RELATION_PLANNED_HOOK_TYPE prev_relation_planned = NULL;

static bool
is_view(Oid view, const char *name)
{
	Oid			namespace = get_namespace_oid("webhook_events", true);

	return OidIsValid(view) && OidIsValid(namespace) &&
		get_relname_relid(name, namespace) == view;
}

/*
 * A view whose own condition is about rows of one table, all of which can be seen or
 * those of one user.
 */
typedef struct OurView
{
	const char *name;
	bool		for_parts;		/* only those who see a part are held to ... */
	const char *columns[8];		/* ... conditions about these; none: about all */
} OurView;

/*
 * Who asks "calls" asks another table as well, for rows that have passed what is
 * cheaper, and EXPLAIN ANALYZE tells how often.  "deliveries" joins others: of a condition about
 * their columns the planner believes that it is met soon, and reads all dispatches that there are.
 */
static const OurView our_views[] = {
	{"events", false, {NULL}},
	{"dispatches", false, {NULL}},
	{"calls", true, {"dispatch_id"}},
	{"deliveries", false, {"id", "created_at", "event_type", "user_id", "webhook_id",
	"next_attempt_at", "finished_at"}}
};

/* Which of them it is; NULL if it is none. */
static const OurView *
our_view(Oid oid)
{
	for (int i = 0; i < (int) lengthof(our_views); i++)
	{
		if (is_view(oid, our_views[i].name))
			return &our_views[i];
	}
	return NULL;
}

/* Our own statements run as the owner, and have no conditions of others. */
static bool
is_owner(void)
{
	return has_privs_of_role(GetUserId(), access_owner());
}

/* Does whoever plans see rows of some users only? */
static bool
sees_a_part(void)
{
	return !is_owner() && !access_to_all(ACCESS_MANAGE);
}

static bool
is_telling_function(Oid function, void *context pg_attribute_unused())
{
	return !get_func_leakproof(function);
}

/* Does an expression call what could tell that it was called? */
static bool
calls_something(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, is_telling_function, NULL) ||
		expression_tree_walker(node, calls_something, context);
}

/* Functions of dates and times that PostgreSQL has, and ours: they tell nobody anything. */
static bool
is_discreet_function(Oid function, Oid result_type)
{
	char		category;
	bool		is_preferred;

	if (func_volatile(function) == PROVOLATILE_VOLATILE)
		return false;
	if (function >= FirstNormalObjectId)
		return get_func_namespace(function) == get_namespace_oid("webhook_events", true);
	get_type_category_preferred(result_type, &category, &is_preferred);
	return category == TYPCATEGORY_DATETIME || category == TYPCATEGORY_TIMESPAN;
}

/*
 * A moment that constants and the clock tell: if it can't be had that is an error of
 * planning already, whatever the rows are.
 */
static bool
is_moment(Node *node)
{
	List	   *arguments;
	ListCell   *cell;

	if (IsA(node, RelabelType))
		return is_moment((Node *) ((RelabelType *) node)->arg);
	if (IsA(node, CollateExpr))
		return is_moment((Node *) ((CollateExpr *) node)->arg);
	if (IsA(node, Const) || IsA(node, SQLValueFunction))
		return true;
	if (IsA(node, FuncExpr) &&
		is_discreet_function(((FuncExpr *) node)->funcid,
							 ((FuncExpr *) node)->funcresulttype))
		arguments = ((FuncExpr *) node)->args;
	else if (IsA(node, OpExpr) &&
			 is_discreet_function(get_opcode(((OpExpr *) node)->opno),
								  ((OpExpr *) node)->opresulttype))
		arguments = ((OpExpr *) node)->args;
	else
		return false;
	foreach(cell, arguments)
	{
		if (!is_moment(lfirst(cell)))
			return false;
	}
	return true;
}

/* A condition that is harmless wherever it is evaluated, if its functions are leakproof. */
static bool
is_harmless(Node *condition)
{
	OpExpr	   *comparison = (OpExpr *) condition;

	if (!calls_something(condition, NULL))
		return true;
	if (!IsA(condition, OpExpr) || list_length(comparison->args) != 2 ||
		!get_func_leakproof(get_opcode(comparison->opno)))
		return false;
	return (!calls_something(linitial(comparison->args), NULL) &&
			is_moment(lsecond(comparison->args))) ||
		(is_moment(linitial(comparison->args)) &&
		 !calls_something(lsecond(comparison->args), NULL));
}

/* Can conditions of a query tell what rows there are, as it was written? */
static bool
conditions_tell(Node *conditions)
{
	ListCell   *cell;

	if (conditions == NULL)
		return false;
	if (!is_andclause(conditions))
		return contain_leaked_vars(conditions) || !is_harmless(conditions);
	foreach(cell, ((BoolExpr *) conditions)->args)
	{
		if (conditions_tell(lfirst(cell)))
			return true;
	}
	return false;
}

/* Can a condition of a FROM clause? */
static bool
tells_something(Node *node)
{
	ListCell   *cell;

	if (node == NULL || IsA(node, RangeTblRef))
		return false;
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		return conditions_tell(join->quals) || tells_something(join->larg) ||
			tells_something(join->rarg);
	}
	foreach(cell, castNode(FromExpr, node)->fromlist)
	{
		if (tells_something(lfirst(cell)))
			return true;
	}
	return conditions_tell(((FromExpr *) node)->quals);
}

/* Are the conditions of a query about these columns of a view at most? */
static bool
is_about_columns(Query *query, int view, const char *const *names)
{
	Oid			oid = view_of_subquery(rt_fetch(view, query->rtable));
	Node	   *having = query->havingQual;
	Bitmapset  *columns = NULL;
	int			index = 0;
	ListCell   *cell;

	pull_varattnos((Node *) query->jointree, view, &columns);
	pull_varattnos(having, view, &columns);
	for (int i = 0; names[i] != NULL; i++)
		columns = bms_del_member(columns, get_attnum(oid, names[i]) -
								 FirstLowInvalidHeapAttributeNumber);

	/* A join's columns can be anybody's. */
	foreach(cell, query->rtable)
	{
		index++;
		if (lfirst_node(RangeTblEntry, cell)->rtekind == RTE_JOIN)
		{
			pull_varattnos((Node *) query->jointree, index, &columns);
			pull_varattnos(having, index, &columns);
		}
	}
	return bms_is_empty(columns);
}

/*
 * Only what the query itself says is looked at.  What is LATERAL can have conditions of
 * its own about the view's columns.
 */
static void
see_through(Query *query)
{
	bool		has_views = false;
	int			index = 0;
	ListCell   *cell;

	foreach(cell, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->lateral)
			return;
		has_views |= (entry->rtekind == RTE_SUBQUERY && entry->security_barrier);
	}
	if (!has_views || query->rowMarks != NIL || conditions_tell(query->havingQual) ||
		tells_something((Node *) query->jointree))
		return;
	foreach(cell, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);
		const OurView *view;

		index++;
		if (entry->rtekind != RTE_SUBQUERY || !entry->security_barrier)
			continue;
		view = our_view(view_of_subquery(entry));
		if (view != NULL && (view->columns[0] == NULL ||
							 (view->for_parts && !sees_a_part()) ||
							 is_about_columns(query, index, view->columns)))
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

static bool
is_ours(Node *condition)
{
	return IsA(condition, CaseExpr) &&
		((CaseExpr *) condition)->location == OUR_LOCATION;
}

/* The second conditions, evaluated only for rows that obey the first ones. */
static Node *
one_after_the_other(List *first, List *second)
{
	CaseWhen   *when = makeNode(CaseWhen);
	CaseExpr   *result = makeNode(CaseExpr);

	when->expr = make_ands_explicit(first);
	when->result = make_ands_explicit(second);
	when->location = OUR_LOCATION;
	result->casetype = BOOLOID;
	result->args = list_make1(when);
	result->defresult = (Expr *) makeBoolConst(false, false);
	result->location = OUR_LOCATION;
	return (Node *) result;
}

/* Is it about nothing but what these expressions are about as well? */
static bool
is_about(Node *condition, List *columns)
{
	List	   *own = pull_var_clause(condition, PVC_RECURSE_PLACEHOLDERS);

	return list_difference(own, columns) == NIL;
}

/*
 * Puts conditions behind those that can tell nothing.  The view's own is always among
 * the latter.  Where it asks another table that is seen in EXPLAIN ANALYZE, as it is
 * asked for rows that have passed what is cheaper: so all comes behind that, unless it is
 * about the same columns.
 */
static List *
in_order(List *conditions)
{
	List	   *first = NIL;
	List	   *second = NIL;
	List	   *asks = NIL;
	List	   *columns = NIL;
	ListCell   *cell;

	foreach(cell, conditions)
	{
		Node	   *condition = lfirst(cell);

		if (is_ours(condition))
			return conditions;
		if (contain_subplans(condition))
			asks = lappend(asks, condition);
	}
	columns = pull_var_clause((Node *) asks, PVC_RECURSE_PLACEHOLDERS);
	foreach(cell, conditions)
	{
		Node	   *condition = lfirst(cell);

		if (list_member_ptr(asks, condition))
			continue;
		if (is_harmless(condition) && (asks == NIL || is_about(condition, columns)))
			first = lappend(first, condition);
		else
			second = lappend(second, condition);
	}
	if (second == NIL || (first == NIL && asks == NIL))
		return conditions;
	return lappend(list_copy(first),
				   one_after_the_other(asks != NIL ? asks : first, second));
}

/*
 * Called when the planner has met a table, and before it deals out the conditions of the
 * query in which it is, among which those are by now that it lets into a barrier.
 * Without a right to our schema a table of it is met within a view of ours only.  The plan
 * is the role's alone.
 */
static void
relation_planned(RELATION_PLANNED_ARGUMENTS)
{
	FromExpr   *from = root->parse->jointree;	/* not if an index is planned */
	Oid			table = RELATION_PLANNED;	/* 0: it is no table */

	if (prev_relation_planned)
		prev_relation_planned(RELATION_PLANNED_PASSED);
	if (from == NULL || !day_table_is_there(table))
		return;

	/* Not while the extension is made or updated, one table after the other. */
	if (!OidIsValid(get_relname_relid("outbox", day_table_namespace())))
		return;
	root->glob->dependsOnRole = true;
	if (is_owner())
		return;
	if (access_to_all(ACCESS_MANAGE))
		settings_note_plan();
	else if (list_length((List *) from->quals) > 1)
		from->quals = (Node *) in_order((List *) from->quals);
}

void
see_through_install_hook(void)
{
	prev_planner = planner_hook;
	planner_hook = plan;
	prev_relation_planned = relation_planned_hook;
	relation_planned_hook = relation_planned;
}
