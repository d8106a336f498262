/*-------------------------------------------------------------------------
 *
 * firing.c
 *	  Updates of attached tables that leave the status alone.
 *
 * Any AFTER UPDATE trigger makes PostgreSQL fetch each old row and prepare the
 * WHEN clause for each statement, which costs more than the clause itself.  UPDATE
 * OF would avoid neither the first nor would it be right: it misses what BEFORE
 * triggers change.  So a statement that assigns nothing to the columns of our
 * WHEN clause, on a table without BEFORE triggers, goes without our trigger: its
 * rows can't differ in them.  Where the status is assigned in a few rows, the
 * clause goes and the function looks for itself.
 *
 * IDENTIFICATION
 *	  src/capture/firing.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "capture/firing.h"
#include "capture/mapping.h"
#include "catalog/pg_trigger.h"
#include "executor/executor.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "store/relation_cache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/*
 * To prepare the WHEN clause for a statement costs as much as to call the function
 * for so many rows.
 */
#define FEW_ROWS 10

/* What is known about the UPDATE trigger of a table. */
typedef struct UpdateTrigger
{
	CachedRelation cached;
	Oid			trigger;		/* InvalidOid: none that can be spared */
	Bitmapset  *columns;		/* of its WHEN clause, as ExecGetUpdatedCols()
								 * counts them */
	bool		is_plain;		/* the clause says no more than the function */
} UpdateTrigger;

static ExecutorStart_hook_type prev_executor_start = NULL;
static HTAB *update_triggers = NULL;

/* The columns that a trigger's WHEN clause compares. */
static Bitmapset *
columns_of_when(Node *when)
{
	Bitmapset  *columns = NULL;

	pull_varattnos(when, PRS2_OLD_VARNO, &columns);
	pull_varattnos(when, PRS2_NEW_VARNO, &columns);
	return columns;
}

/* A column of the old or the new row, whatever it is relabelled to. */
static const Var *
plain_column(Node *node)
{
	if (IsA(node, CollateExpr))
		node = (Node *) ((CollateExpr *) node)->arg;
	if (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return IsA(node, Var) ? (const Var *) node : NULL;
}

/* Does it find values equal just if their texts are? */
static bool
is_exact(const DistinctExpr *comparison)
{
	switch (get_opcode(comparison->opno))
	{
		case F_TEXTEQ:
		case F_BPCHAREQ:
			return OidIsValid(comparison->inputcollid) &&
				get_collation_isdeterministic(comparison->inputcollid);
		case F_ENUM_EQ:
			return true;
		default:
			return false;
	}
}

/*
 * Is it OLD.c IS DISTINCT FROM NEW.c, as attach() writes it?  The function raises
 * nothing for a status whose text stays.
 */
static bool
is_plain_when(Node *when)
{
	const DistinctExpr *comparison = (const DistinctExpr *) when;
	const Var  *old_column;
	const Var  *new_column;

	if (!IsA(when, DistinctExpr))
		return false;
	old_column = plain_column(linitial(comparison->args));
	new_column = plain_column(lsecond(comparison->args));
	return old_column != NULL && new_column != NULL && is_exact(comparison) &&
		old_column->varno == PRS2_OLD_VARNO &&
		new_column->varno == PRS2_NEW_VARNO &&
		old_column->varattno == new_column->varattno;
}

/* Is one of these columns generated, so that it changes along with others? */
static bool
any_is_generated(Relation relation, const Bitmapset *columns)
{
	TupleDesc	desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
	{
		int			attnum = i + 1;

		if (TupleDescAttr(desc, i)->attgenerated != '\0' &&
			bms_is_member(attnum - FirstLowInvalidHeapAttributeNumber, columns))
			return true;
	}
	return false;
}

/* Fills in the trigger of a table, if it is one that can be spared. */
static void
look_up(UpdateTrigger *fresh, Relation relation)
{
	const Trigger *trigger = source_find_trigger(relation, "update");
	Node	   *when;
	Bitmapset  *columns;
	MemoryContext old_context;

	if (trigger == NULL || trigger->tgqual == NULL)
		return;
	when = stringToNode(trigger->tgqual);
	columns = columns_of_when(when);
	if (any_is_generated(relation, columns))
		return;
	fresh->trigger = trigger->tgoid;
	fresh->is_plain = is_plain_when(when);
	old_context = MemoryContextSwitchTo(TopMemoryContext);
	fresh->columns = bms_copy(columns);
	MemoryContextSwitchTo(old_context);
}

static const UpdateTrigger *
update_trigger_of(Relation relation)
{
	Oid			key = RelationGetRelid(relation);
	UpdateTrigger *known;
	UpdateTrigger fresh = {{key, true}, InvalidOid, NULL, false};
	bool		found;

	if (update_triggers == NULL)
		update_triggers = relation_cache_create("webhook_events update triggers",
												sizeof(UpdateTrigger));
	known = hash_search(update_triggers, &key, HASH_FIND, NULL);
	if (known != NULL && known->cached.is_valid)
		return known;

	look_up(&fresh, relation);
	known = hash_search(update_triggers, &key, HASH_ENTER, &found);
	if (found)
		bms_free(known->columns);
	*known = fresh;
	return known;
}

/*
 * Disables a trigger in a statement's own copy of a table's triggers, and tells
 * the executor if there is no other one that wants old rows.
 */
static void
disable(TriggerDesc *triggers, Oid oid)
{
	bool		others = false;

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (trigger->tgoid == oid)
			trigger->tgenabled = TRIGGER_DISABLED;
		else if (TRIGGER_TYPE_MATCHES(trigger->tgtype, TRIGGER_TYPE_ROW,
									  TRIGGER_TYPE_AFTER, TRIGGER_TYPE_UPDATE))
			others = true;
	}
	triggers->trig_update_after_row = others;
}

/* Takes the WHEN clause from a trigger in a statement's own copy. */
static void
drop_when(TriggerDesc *triggers, Oid oid)
{
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		if (triggers->triggers[i].tgoid == oid)
			triggers->triggers[i].tgqual = NULL;
	}
}

static void
spare(ResultRelInfo *target, EState *estate, bool few_rows)
{
	TriggerDesc *triggers = target->ri_TrigDesc;
	const UpdateTrigger *ours;

	if (triggers == NULL || !triggers->trig_update_after_row)
		return;
	ours = update_trigger_of(target->ri_RelationDesc);
	if (!OidIsValid(ours->trigger))
		return;
	if (!triggers->trig_update_before_row &&
		!bms_overlap(ours->columns, ExecGetUpdatedCols(target, estate)))
		disable(triggers, ours->trigger);
	else if (few_rows && ours->is_plain)
		drop_when(triggers, ours->trigger);
}

/*
 * Other extensions put nodes of their own above a ModifyTable, so nothing is
 * asked of the plan but what its root says if it is one; which tables are written,
 * the executor tells.
 */
static void
start_executor(QueryDesc *query, int flags)
{
	EState	   *estate;
	Plan	   *plan = query->plannedstmt->planTree;
	bool		few_rows;
	ListCell   *cell;

	if (prev_executor_start)
		prev_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
	if (query->operation != CMD_UPDATE)
		return;
	estate = query->estate;
	few_rows = IsA(plan, ModifyTable) && outerPlan(plan) != NULL &&
		outerPlan(plan)->plan_rows <= FEW_ROWS;
	foreach(cell, estate->es_opened_result_relations)
		spare(lfirst(cell), estate, few_rows);
}

void
firing_install_hook(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
}
