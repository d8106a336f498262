/*-------------------------------------------------------------------------
 *
 * triggers.c
 *	  The trigger functions of attached tables: from a write to its events.
 *
 * When a row moves to another partition, PostgreSQL fires no UPDATE trigger but
 * DELETE on the old partition and then INSERT on the new one.  The old row is
 * marked as moved; so the DELETE trigger remembers its status for the INSERT
 * trigger that follows, for which it is a change of status then.
 *
 * IDENTIFICATION
 *	  src/capture/triggers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "capture/load.h"
#include "capture/outbox.h"
#include "capture/source.h"
#include "capture/triggers.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "rules/transition.h"
#include "rules/webhook.h"
#include "server/settings.h"
#include "utils/memutils.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(webhook_events_run_changed);
PG_FUNCTION_INFO_V1(webhook_events_build_changed);

/*
 * A row that left its partition and did not arrive in another one yet.  The two
 * triggers follow each other at once, so that there is one at most.
 */
typedef struct Move
{
	Oid			attached;
	TransactionId transaction;
	CommandId	command;
	char	   *id;
	char	   *old_status;
} Move;

/* A longer text is left out of an event, so that all of it fits into a row. */
#define MAX_TEXT_BYTES 1000000

static ExecutorFinish_hook_type prev_executor_finish = NULL;

static Move *pending = NULL;	/* of the innermost statement */
static bool only_updates = false;	/* can that one do nothing else? */

static void
forget_move(void)
{
	if (pending == NULL)
		return;
	if (pending->id != NULL)
		pfree(pending->id);
	if (pending->old_status != NULL)
		pfree(pending->old_status);
	pfree(pending);
	pending = NULL;
}

/*
 * The command that wrote a row, or took it away; InvalidCommandId where rows don't
 * say it, as those of foreign tables.
 */
static CommandId
command_of(TupleTableSlot *slot, bool was_deleted)
{
	HeapTupleHeader row;

	if (!TTS_IS_BUFFERTUPLE(slot))
		return InvalidCommandId;
	row = ((BufferHeapTupleTableSlot *) slot)->base.tuple->t_data;
	if (was_deleted)
		return HeapTupleHeaderGetCmax(row);

	/* COPY FREEZE: PostgreSQL would ask for a transaction's own row. */
	return HeapTupleHeaderXminFrozen(row) ? HeapTupleHeaderGetRawCommandId(row) :
		HeapTupleHeaderGetCmin(row);
}

static void
remember_move(Source *source, TupleTableSlot *slot)
{
	MemoryContext old_context = MemoryContextSwitchTo(TopMemoryContext);
	Move	   *move = palloc(sizeof(Move));

	move->attached = source_attached(source);
	move->transaction = GetTopTransactionIdIfAny();
	move->command = command_of(slot, true);
	move->id = source_text(source, slot, ROLE_ID);
	move->old_status = source_text(source, slot, ROLE_STATUS);
	pending = move;
	MemoryContextSwitchTo(old_context);
}

/*
 * Does the move that was begun last end with this row?  A BEFORE INSERT trigger can
 * have swallowed the moved row.  Where the same statement inserts others the id tells
 * them apart; only where nobody can swallow rows a move may change the id there.
 */
static bool
ends_move(Source *source, TupleTableSlot *slot, const char *id)
{
	CommandId	command;

	if (pending == NULL || pending->attached != source_attached(source) ||
		pending->transaction != GetTopTransactionIdIfAny())
		return false;
	command = command_of(slot, false);
	return (pending->command == command || command == InvalidCommandId) &&
		(only_updates || same_text(id, pending->id) ||
		 !source_may_swallow(source));
}

static bool
has_moved(TupleTableSlot *slot)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
	bool		moved = HeapTupleHeaderIndicatesMovedPartitions(tuple->t_data);

	if (should_free)
		heap_freetuple(tuple);
	return moved;
}

static StatusClass
classify(const char *status)
{
	return status_classify(status, status ? (int) strlen(status) : 0);
}

/* A text that an event can hold; NULL instead of one that is too long, and why. */
static const char *
fitting(const char *text, const char *what, const char **problem)
{
	if (text == NULL || strlen(text) <= MAX_TEXT_BYTES)
		return text;
	*problem = source_join_problems(*problem,
									psprintf("%s is longer than %d bytes", what,
											 MAX_TEXT_BYTES));
	return NULL;
}

/* Writes the events of a row that now looks as in "slot". */
static void
emit(Source *source, SourceKind kind, TupleTableSlot *slot, const char *id,
	 const char *old_status, const char *new_status,
	 const Transition *transition)
{
	OutboxEvent event = {0};
	const char *user_id = source_text(source, slot, ROLE_USER_ID);
	const char *actor_id = source_text(source, slot, ROLE_ACTOR_ID);
	const char *actor_task_id = source_text(source, slot, ROLE_ACTOR_TASK_ID);
	const char *problem;
	Id			event_id;

	/*
	 * Last: a resource function that changes tables can be the end of the
	 * source.
	 */
	event.resource = source_resource(source, slot, &event.resource_length, &problem);
	id = fitting(id, "id", &problem);
	event.user_id = fitting(user_id, "user_id", &problem);
	event.actor_id = fitting(actor_id, "actor_id", &problem);
	event.actor_task_id = fitting(actor_task_id, "actor_task_id", &problem);
	event.actor_run_id = kind == SOURCE_RUN ? id : NULL;
	event.actor_build_id = kind == SOURCE_BUILD ? id : NULL;
	event.old_status = fitting(old_status, "old status", &problem);
	event.new_status = fitting(new_status, "new status", &problem);
	event.problem = problem;
	for (int i = 0; i < transition->nevents; i++)
	{
		event.type = transition->events[i];
		outbox_insert(&event, event_id);
	}
}

static void
row_changed(Source *source, SourceKind kind, TupleTableSlot *slot,
			const char *id, const char *old_status)
{
	char	   *new_status = source_text(source, slot, ROLE_STATUS);
	Transition	transition;

	transition = transition_of_update(kind, classify(old_status),
									  classify(new_status));
	if (transition.nevents > 0)
		emit(source, kind, slot, id, old_status, new_status, &transition);
}

static void
row_inserted(Source *source, SourceKind kind, TupleTableSlot *slot)
{
	char	   *id = source_text(source, slot, ROLE_ID);
	char	   *status;
	Transition	transition;

	if (ends_move(source, slot, id))
	{
		char	   *old_status = pending->old_status;

		pending->old_status = NULL;
		forget_move();
		row_changed(source, kind, slot, id, old_status);
		if (old_status != NULL)
			pfree(old_status);
		return;
	}
	forget_move();
	status = source_text(source, slot, ROLE_STATUS);
	transition = transition_of_insert(kind, classify(status));
	emit(source, kind, slot, id, NULL, status, &transition);
}

/* Is a row inserted that was there before, in another table or database? */
static bool
is_old(Source *source, Relation relation)
{
	return load_is_copy(relation) ||
		(source_is_elsewhere(source) &&
		 ((!outbox_is_in_statement() && load_is_distribution(relation)) ||
		  load_is_migration(relation, source_attached(source))));
}

static Datum
handle_write(FunctionCallInfo fcinfo, SourceKind kind)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Source	   *source;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function %s can only be called by an AFTER ROW trigger",
						kind == SOURCE_RUN ? "run_changed()" : "build_changed()"),
				 errhint("Use attach() to put it on a table.")));
	/* PostgreSQL has no check between the triggers of a statement's rows. */
	CHECK_FOR_INTERRUPTS();
	if (!setting_emit)
		return PointerGetDatum(NULL);

	source = source_get(data->tg_relation, data->tg_trigger);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
	{
		if (!is_old(source, data->tg_relation))
			row_inserted(source, kind, data->tg_trigslot);
		return PointerGetDatum(NULL);
	}
	forget_move();
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		row_changed(source, kind, data->tg_newslot,
					source_text(source, data->tg_newslot, ROLE_ID),
					source_text(source, data->tg_trigslot, ROLE_STATUS));
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event) &&
			 has_moved(data->tg_trigslot))
		remember_move(source, data->tg_trigslot);
	return PointerGetDatum(NULL);
}

/* run_changed() RETURNS trigger */
Datum
webhook_events_run_changed(PG_FUNCTION_ARGS)
{
	return handle_write(fcinfo, SOURCE_RUN);
}

/* build_changed() RETURNS trigger */
Datum
webhook_events_build_changed(PG_FUNCTION_ARGS)
{
	return handle_write(fcinfo, SOURCE_BUILD);
}

/*
 * The AFTER triggers of a statement are called at the end of it, in here.  So this
 * goes around every statement of the server, also where nothing is attached.
 */
static void
finish_executor(QueryDesc *query)
{
	OutboxStatement statement;
	Move	   *outer_pending = pending;
	bool		outer_only_updates = only_updates;

	outbox_begin_statement(&statement);
	pending = NULL;
	only_updates = query->operation == CMD_UPDATE &&
		!query->plannedstmt->hasModifyingCTE;
	PG_TRY();
	{
		if (prev_executor_finish)
			prev_executor_finish(query);
		else
			standard_ExecutorFinish(query);
		outbox_flush_statement();
	}
	PG_FINALLY();
	{
		outbox_end_statement();
		forget_move();
		pending = outer_pending;
		only_updates = outer_only_updates;
	}
	PG_END_TRY();
}

void
triggers_install_hook(void)
{
	prev_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish_executor;
}
