/*-------------------------------------------------------------------------
 *
 * batches.c
 *	  Events that were read together, and how far the outbox is done with them.
 *
 * IDENTIFICATION
 *	  src/deliver/batches.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/batches.h"
#include "store/outbox_rows.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static MemoryContext batches_context;
static MemoryContext events_context;

/* Those whose mark is not written, oldest first. */
static dlist_head routed_batches;

/* What was loaded, until its maker releases it. */
static Batch *loaded_batch;

void
batches_open(MemoryContext context)
{
	batches_context = context;
	events_context = AllocSetContextCreate(context, "webhook_events events",
										   ALLOCSET_DEFAULT_SIZES);
	dlist_init(&routed_batches);
	loaded_batch = NULL;
}

Size
batches_event_bytes(void)
{
	return MemoryContextMemAllocated(events_context, true);
}

Batch *
batch_of(MemoryContext context)
{
	Batch	   *batch = MemoryContextAllocZero(batches_context, sizeof(Batch));

	MemoryContextSetParent(context, events_context);
	batch->context = context;
	batch->nusers = 1;
	return batch;
}

Batch *
batch_create(void)
{
	return batch_of(AllocSetContextCreate(events_context, "webhook_events batch",
										  ALLOCSET_DEFAULT_SIZES));
}

/* Until all are loaded they are the transaction's. */
Batch *
batch_load(const char **ids, int nids, Size max_bytes, Event **events, int *nloaded)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "webhook_events batch",
												  ALLOCSET_DEFAULT_SIZES);

	*nloaded = outbox_find(context, ids, nids, max_bytes, events);
	loaded_batch = batch_of(context);
	return loaded_batch;
}

void
batch_set_mark(Batch *batch, CursorMark *mark)
{
	batch->mark = mark;
	dlist_push_tail(&routed_batches, &batch->node);
}

/* Frees a batch, or at least its events, when nothing needs it any more. */
static void
free_unused(Batch *batch)
{
	if (batch->nusers > 0)
		return;
	if (batch->context)
		MemoryContextDelete(batch->context);
	batch->context = NULL;
	if (batch->nwithout_row == 0 && batch->mark == NULL)
	{
		list_free_deep(batch->ended_runs);
		pfree(batch);
	}
}

void
batch_release(Batch *batch)
{
	batch->nusers--;
	free_unused(batch);
}

void
batches_release_loaded(void)
{
	Batch	   *batch = loaded_batch;

	loaded_batch = NULL;
	if (batch != NULL)
		batch_release(batch);
}

void
batch_lacks_row(Batch *batch)
{
	batch->nwithout_row++;
}

void
batch_got_row(Batch *batch)
{
	batch->nwithout_row--;
	free_unused(batch);
}

Batch *
batch_next(const Batch *batch)
{
	const dlist_node *node = batch ? &batch->node : &routed_batches.head;

	if (dlist_is_empty(&routed_batches) || node->next == &routed_batches.head)
		return NULL;
	return dlist_container(Batch, node, node->next);
}

void
batch_hold(Batch *batch)
{
	batch->is_held = true;
	batch->nusers++;
	batch->nwithout_row++;
}

void
batch_let_go(Batch *batch)
{
	batch->is_held = false;
	batch->nusers--;
	batch->nwithout_row--;
	free_unused(batch);
}

void
batches_drop_held_marks(void)
{
	dlist_mutable_iter iter;
	bool		drops = false;

	dlist_foreach_modify(iter, &routed_batches)
	{
		Batch	   *batch = dlist_container(Batch, node, iter.cur);

		drops |= batch->is_held;
		if (drops)
			cursor_mark_free(batch_take_mark(batch));
	}
}

/* Is it the event's run that has ended?  Another user's of the same id is another run. */
static bool
is_of_run(const EndedRun *run, const Event *event)
{
	return strcmp(run->id, event->actor_run_id) == 0 &&
		same_text(run->user, webhook_run_user(event->user_id));
}

void
batch_add_ended_run(Batch *batch, const Event *event, const char *webhook)
{
	EndedRun   *last = batch->ended_runs ? llast(batch->ended_runs) : NULL;
	size_t		id_size = strlen(event->actor_run_id) + 1;
	const char *user = webhook_run_user(event->user_id);
	size_t		user_size = user == NULL ? 0 : strlen(user) + 1;
	MemoryContext old_context;
	EndedRun   *run;

	if (last != NULL && last->time == event->created_at && is_of_run(last, event) &&
		strcmp(last->webhook, webhook) == 0)
		return;
	old_context = MemoryContextSwitchTo(batches_context);
	run = palloc(sizeof(EndedRun) + id_size + user_size);
	run->time = event->created_at;
	run->id = (char *) (run + 1);
	memcpy(run->id, event->actor_run_id, id_size);
	run->user = user_size == 0 ? NULL : run->id + id_size;
	if (user_size > 0)
		memcpy(run->user, user, user_size);
	strlcpy(run->webhook, webhook, sizeof(Id));
	batch->ended_runs = lappend(batch->ended_runs, run);
	MemoryContextSwitchTo(old_context);
}

List *
ended_runs_forget(List *runs, const Event *event)
{
	ListCell   *cell;

	foreach(cell, runs)
	{
		EndedRun   *run = lfirst(cell);

		if (run->time >= event->created_at || !is_of_run(run, event))
			continue;
		runs = foreach_delete_current(runs, cell);
		pfree(run);
	}
	return runs;
}

void
batches_forget_ended_run(const Event *event)
{
	for (Batch *batch = batch_next(NULL); batch != NULL; batch = batch_next(batch))
		batch->ended_runs = ended_runs_forget(batch->ended_runs, event);
}

CursorMark *
batch_take_mark(Batch *batch)
{
	CursorMark *mark = batch->mark;

	list_free_deep(batch->ended_runs);
	batch->ended_runs = NIL;
	dlist_delete(&batch->node);
	batch->mark = NULL;
	free_unused(batch);
	return mark;
}
