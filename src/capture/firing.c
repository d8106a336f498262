/*-------------------------------------------------------------------------
 *
 * firing.c
 *	  When the triggers of attached tables fire, statement by statement.
 *
 * A trigger of the platform can change the row again, whose events would come before
 * those of the first change if it fired before ours, as its name may say.  So ours are the first
 * ones of a row, in the statement's own copy of a table's triggers: the story of a row is
 * told in order.  Not where a resource function may read what the others write, and
 * not where there is no such copy: for COPY, rows that find their partition, and those of a
 * subscription.
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

/* What is known about our triggers of a table. */
typedef struct Firing
{
	CachedRelation cached;
	bool		goes_first;		/* others stand before ours, and should not */
	Oid			insert;			/* InvalidOid: there is none */
	Oid			update;
	bool		can_be_spared;	/* the UPDATE trigger can, where the statement
								 * changes none of these: */
	Bitmapset  *columns;		/* of its WHEN clause, as ExecGetUpdatedCols()
								 * counts them */
	bool		is_plain;		/* the clause says no more than the function */
} Firing;

static ExecutorStart_hook_type prev_executor_start = NULL;
static HTAB *firings = NULL;

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

/* Does a trigger of somebody else stand before one of ours that fires for the same? */
static bool
others_come_first(const Firing *firing, const TriggerDesc *triggers)
{
	int16		others = 0;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (trigger->tgoid == firing->insert || trigger->tgoid == firing->update)
		{
			if (others & trigger->tgtype & TRIGGER_TYPE_EVENT_MASK)
				return true;
		}
		else if (TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_AFTER(trigger->tgtype))
			others |= trigger->tgtype;
	}
	return false;
}

/* Fills in what there is to know of the UPDATE trigger's WHEN clause. */
static void
look_up_when(Firing *fresh, Relation relation, const char *clause)
{
	Node	   *when = stringToNode(clause);
	Bitmapset  *columns = columns_of_when(when);
	MemoryContext old_context;

	if (any_is_generated(relation, columns))
		return;
	fresh->can_be_spared = true;
	fresh->is_plain = is_plain_when(when);
	old_context = MemoryContextSwitchTo(TopMemoryContext);
	fresh->columns = bms_copy(columns);
	MemoryContextSwitchTo(old_context);
}

static void
look_up(Firing *fresh, Relation relation)
{
	const Trigger *trigger = source_find_trigger(relation, "insert");
	bool		has_function = false;

	if (trigger != NULL)
	{
		fresh->insert = trigger->tgoid;
		has_function = source_mapping_has_function(trigger->tgargs[0]);
	}
	trigger = source_find_trigger(relation, "update");
	if (trigger != NULL)
	{
		fresh->update = trigger->tgoid;
		has_function |= source_mapping_has_function(trigger->tgargs[0]);
	}
	fresh->goes_first = !has_function &&
		others_come_first(fresh, relation->trigdesc);
	if (trigger != NULL && trigger->tgqual != NULL)
		look_up_when(fresh, relation, trigger->tgqual);
}

static const Firing *
firing_of(Relation relation)
{
	Oid			key = RelationGetRelid(relation);
	Firing	   *known;
	Firing		fresh = {.cached = {key, true}};
	bool		found;

	if (firings == NULL)
		firings = relation_cache_create("webhook_events firing", sizeof(Firing));
	known = hash_search(firings, &key, HASH_FIND, NULL);
	if (known != NULL && known->cached.is_valid)
		return known;

	look_up(&fresh, relation);
	known = hash_search(firings, &key, HASH_ENTER, &found);
	if (found)
		bms_free(known->columns);
	*known = fresh;
	return known;
}

/* Puts ours before all others in a statement's own copy of a table's triggers. */
static void
go_first(TriggerDesc *triggers, const Firing *ours)
{
	int			nfirst = 0;

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger		trigger = triggers->triggers[i];

		if (trigger.tgoid != ours->insert && trigger.tgoid != ours->update)
			continue;
		memmove(&triggers->triggers[nfirst + 1], &triggers->triggers[nfirst],
				(i - nfirst) * sizeof(Trigger));
		triggers->triggers[nfirst++] = trigger;
	}
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
spare(ResultRelInfo *target, EState *estate, bool few_rows, const Firing *ours)
{
	TriggerDesc *triggers = target->ri_TrigDesc;

	if (!triggers->trig_update_before_row &&
		!bms_overlap(ours->columns, ExecGetUpdatedCols(target, estate)))
		disable(triggers, ours->update);
	else if (few_rows && ours->is_plain)
		drop_when(triggers, ours->update);
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
	bool		is_update;
	bool		few_rows;
	ListCell   *cell;

	if (prev_executor_start)
		prev_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
	estate = query->estate;
	is_update = query->operation == CMD_UPDATE;
	few_rows = IsA(plan, ModifyTable) && outerPlan(plan) != NULL &&
		outerPlan(plan)->plan_rows <= FEW_ROWS;
	foreach(cell, estate->es_opened_result_relations)
	{
		ResultRelInfo *target = lfirst(cell);
		TriggerDesc *triggers = target->ri_TrigDesc;
		const Firing *ours;

		/* Temporary tables come and go, and are not attached. */
		if (triggers == NULL ||
			target->ri_RelationDesc->rd_rel->relpersistence == RELPERSISTENCE_TEMP ||
			!(triggers->trig_update_after_row || triggers->trig_insert_after_row))
			continue;
		ours = firing_of(target->ri_RelationDesc);
		if (ours->goes_first)
			go_first(triggers, ours);
		if (is_update && ours->can_be_spared && triggers->trig_update_after_row)
			spare(target, estate, few_rows, ours);
	}
}

void
firing_install_hook(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
}
