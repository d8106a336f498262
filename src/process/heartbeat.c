/*-------------------------------------------------------------------------
 *
 * heartbeat.c
 *	  Updates of attached tables that leave the status alone.
 *
 * Any AFTER UPDATE trigger makes PostgreSQL fetch each old row and prepare the
 * WHEN clause for each statement, which costs more than the clause itself.  UPDATE
 * OF would avoid neither the first nor would it be right: it misses what BEFORE
 * triggers change.  So a statement that assigns nothing to the columns of our
 * WHEN clause, on a table without BEFORE triggers, goes without our trigger: its
 * rows can't differ in them.
 *
 * IDENTIFICATION
 *	  src/process/heartbeat.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_trigger.h"
#include "executor/executor.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "process/heartbeat.h"
#include "process/triggers.h"
#include "storage/relation_cache.h"
#include "storage/source.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* What is known about the UPDATE trigger of a table. */
typedef struct UpdateTrigger
{
	CachedRelation cached;
	Oid			trigger;		/* InvalidOid: none that can be spared */
	Bitmapset  *columns;		/* of its WHEN clause, as ExecGetUpdatedCols()
								 * counts them */
} UpdateTrigger;

static ExecutorStart_hook_type prev_executor_start = NULL;
static HTAB *update_triggers = NULL;

/* The columns that a trigger's WHEN clause compares. */
static Bitmapset *
columns_of_when(const Trigger *trigger)
{
	Node	   *when = stringToNode(trigger->tgqual);
	Bitmapset  *columns = NULL;

	pull_varattnos(when, PRS2_OLD_VARNO, &columns);
	pull_varattnos(when, PRS2_NEW_VARNO, &columns);
	return columns;
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
	Bitmapset  *columns;
	MemoryContext old_context;

	if (trigger == NULL || trigger->tgqual == NULL ||
		!triggers_is_ours(trigger->tgfoid))
		return;
	columns = columns_of_when(trigger);
	if (any_is_generated(relation, columns))
		return;
	fresh->trigger = trigger->tgoid;
	old_context = MemoryContextSwitchTo(TopMemoryContext);
	fresh->columns = bms_copy(columns);
	MemoryContextSwitchTo(old_context);
}

static const UpdateTrigger *
update_trigger_of(Relation relation)
{
	Oid			key = RelationGetRelid(relation);
	UpdateTrigger *known;
	UpdateTrigger fresh = {{key, true}, InvalidOid, NULL};
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

static void
spare(ResultRelInfo *target, EState *estate)
{
	TriggerDesc *triggers = target->ri_TrigDesc;
	const UpdateTrigger *ours;

	if (triggers == NULL || !triggers->trig_update_after_row ||
		triggers->trig_update_before_row)
		return;
	ours = update_trigger_of(target->ri_RelationDesc);
	if (OidIsValid(ours->trigger) &&
		!bms_overlap(ours->columns, ExecGetUpdatedCols(target, estate)))
		disable(triggers, ours->trigger);
}

static void
start_executor(QueryDesc *query, int flags)
{
	EState	   *estate;
	ListCell   *cell;

	if (prev_executor_start)
		prev_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
	if (query->operation != CMD_UPDATE)
		return;
	estate = query->estate;
	foreach(cell, estate->es_opened_result_relations)
		spare(lfirst(cell), estate);
}

void
heartbeat_install_hook(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = start_executor;
}
