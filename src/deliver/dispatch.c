/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *	  The dispatches that the worker has in memory, and where each one stands.
 *
 * IDENTIFICATION
 *	  src/deliver/dispatch.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/dispatch.h"
#include "deliver/lanes.h"
#include "server/clock.h"
#include "server/live.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

dlist_head	ended_dispatches;
int			nended_dispatches;
dlist_head	rowless_dispatches;
int			nrowless_dispatches;
dlist_head	routed_batches;
int			nfetched_dispatches;
int			nqueued_dispatches;

static MemoryContext dispatches_context;
static MemoryContext events_context;
static HTAB *dispatches;

void
dispatches_open(MemoryContext context)
{
	HASHCTL		control = {
		.keysize = sizeof(Id),
		.entrysize = sizeof(Dispatch),
		.hcxt = context
	};

	dispatches_context = context;
	events_context = AllocSetContextCreate(context, "webhook_events events",
										   ALLOCSET_DEFAULT_SIZES);
	dispatches = hash_create("webhook_events dispatches", 1024, &control,
							 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	dlist_init(&ended_dispatches);
	dlist_init(&rowless_dispatches);
	dlist_init(&routed_batches);
	nended_dispatches = 0;
	nrowless_dispatches = 0;
	nfetched_dispatches = 0;
	nqueued_dispatches = 0;
}

Size
dispatch_event_bytes(void)
{
	return MemoryContextMemAllocated(events_context, true);
}

static Batch *
create_batch(MemoryContext context)
{
	Batch	   *batch = MemoryContextAllocZero(dispatches_context, sizeof(Batch));

	MemoryContextSetParent(context, events_context);
	batch->context = context;
	batch->nusers = 1;
	return batch;
}

Batch *
batch_create(void)
{
	return create_batch(AllocSetContextCreate(events_context, "webhook_events batch",
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
	return create_batch(context);
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

void
batch_add_ended_run(Batch *batch, const char *id, TimestampTz time,
					const char *webhook)
{
	EndedRun   *last = batch->ended_runs ? llast(batch->ended_runs) : NULL;
	MemoryContext old_context;
	EndedRun   *run;

	if (last != NULL && last->time == time && strcmp(last->id, id) == 0 &&
		strcmp(last->webhook, webhook) == 0)
		return;
	old_context = MemoryContextSwitchTo(dispatches_context);
	run = palloc(sizeof(EndedRun) + strlen(id) + 1);
	run->time = time;
	run->id = (char *) (run + 1);
	strcpy(run->id, id);
	strlcpy(run->webhook, webhook, sizeof(Id));
	batch->ended_runs = lappend(batch->ended_runs, run);
	MemoryContextSwitchTo(old_context);
}

void
batches_forget_ended_run(const char *id, TimestampTz time)
{
	dlist_iter	iter;

	dlist_foreach(iter, &routed_batches)
	{
		Batch	   *batch = dlist_container(Batch, node, iter.cur);
		ListCell   *cell;

		foreach(cell, batch->ended_runs)
		{
			EndedRun   *run = lfirst(cell);

			if (run->time >= time || strcmp(run->id, id) != 0)
				continue;
			batch->ended_runs = foreach_delete_current(batch->ended_runs, cell);
			pfree(run);
		}
	}
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

Dispatch *
dispatch_find(const char *id)
{
	return hash_search(dispatches, id, HASH_FIND, NULL);
}

Dispatch *
dispatch_create(const char *id, const char *event_id, EventType event_type,
				Subscriber *subscriber, Batch *batch, Event *event,
				bool has_row, bool is_replay)
{
	bool		found;
	Dispatch   *dispatch = hash_search(dispatches, id, HASH_ENTER, &found);

	if (found)
		elog(ERROR, "dispatch \"%s\" is in memory already", id);
	memset((char *) dispatch + sizeof(Id), 0, sizeof(Dispatch) - sizeof(Id));
	strlcpy(dispatch->event_id, event_id, sizeof(Id));
	dispatch->event_type = event_type;
	dispatch->since = clock_work_time();
	live_note_active(id);
	dispatch->subscriber = subscriber;
	subscriber->references++;
	dispatch->batch = batch;
	dispatch->event = event;
	dispatch->has_row = has_row;
	dispatch->is_replay = is_replay;
	dispatch->has_waited = has_row;
	dispatch->is_counted = has_row;
	if (event)
		batch->nusers++;
	if (!has_row)
	{
		batch->nwithout_row++;
		dlist_push_tail(&rowless_dispatches, &dispatch->rowless_node);
		nrowless_dispatches++;
	}
	return dispatch;
}

void
dispatch_enqueue(Dispatch *dispatch)
{
	Host	   *host = host_get(dispatch->subscriber->host->name);
	const Webhook *webhook = dispatch->subscriber->webhook;

	dispatch->stage = STAGE_QUEUED;
	dispatch->host = host;
	dispatch->user = (webhook && webhook->user_id) ?
		share_of_user(webhook->user_id) : NULL;
	if (dispatch->user)
		dispatch->user->nqueued++;
	nqueued_dispatches++;
	host_enqueue(host, &dispatch->queue_node, dispatch->is_replay);
	if (dispatch->has_row)
		nfetched_dispatches++;
}

/* Can it be called at once, without passing others that wait for the rate? */
static bool
is_within_rate(Subscriber *subscriber)
{
	TimestampTz next_at = DT_NOEND;

	if (subscriber->webhook == NULL || subscriber->webhook->max_rate == 0)
		return true;
	if (subscriber->has_backlog ||
		subscriber_allowed_calls(subscriber, 1, clock_work_time(), &next_at) == 0)
		return false;
	subscriber_take_token(subscriber);
	return true;
}

void
dispatch_submit(Dispatch *dispatch)
{
	Host	   *host = dispatch->subscriber->host;

	if (host == NULL || (host->is_congested && host_room(host) <= 0) ||
		!is_within_rate(dispatch->subscriber))
		dispatch_end(dispatch, DISPATCH_ACTIVE, NULL);
	else
		dispatch_enqueue(dispatch);
}

/* Takes a queued one out of its queue. */
static void
dequeue(Dispatch *dispatch)
{
	host_dequeue(dispatch->host, &dispatch->queue_node, dispatch->is_replay);
	if (dispatch->user)
		dispatch->user->nqueued--;
	nqueued_dispatches--;
	if (dispatch->has_row)
		nfetched_dispatches--;
}

void
dispatch_start(Dispatch *dispatch)
{
	dequeue(dispatch);
	dispatch->stage = STAGE_CALLING;
	if (dispatch->user)
		dispatch->user->in_flight++;
	host_started(dispatch->host, dispatch->is_replay);
	dispatch->live_place = live_flight_started(dispatch->id, dispatch->subscriber->id,
											   dispatch->host->name,
											   dispatch->attempts + 1,
											   GetCurrentTimestamp());
}

void
dispatch_release_event(Dispatch *dispatch)
{
	Batch	   *batch = dispatch->batch;

	if (dispatch->event == NULL)
		return;
	dispatch->event = NULL;
	if (dispatch->has_row)
		dispatch->batch = NULL;
	batch_release(batch);
}

/* Takes it from its host, queued or calling. */
static void
leave_host(Dispatch *dispatch)
{
	if (dispatch->host == NULL)
		return;
	if (dispatch->stage == STAGE_QUEUED)
		dequeue(dispatch);
	else
	{
		host_ended(dispatch->host, dispatch->is_replay);
		live_flight_ended(dispatch->live_place);
		if (dispatch->user)
		{
			dispatch->user->in_flight--;
			hosts_user_ended(dispatch->user);
		}
	}
	if (dispatch->user)
		share_release(dispatch->user);
	dispatch->user = NULL;
	host_release(dispatch->host);
	dispatch->host = NULL;
}

void
dispatch_end(Dispatch *dispatch, DispatchStatus status, const char *error)
{
	leave_host(dispatch);
	dispatch_release_event(dispatch);
	if (dispatch->body)
		pfree(dispatch->body);
	dispatch->body = NULL;
	dispatch->stage = STAGE_ENDED;
	dispatch->status = status;
	dispatch->error = error ? MemoryContextStrdup(dispatches_context, error) : NULL;
	dispatch->ended_at = clock_work_time();
	dlist_push_tail(&ended_dispatches, &dispatch->queue_node);
	nended_dispatches++;
	if (dispatch->lane)
		lane_ended(dispatch);
}

void
dispatch_set_error(Dispatch *dispatch, const char *error)
{
	if (dispatch->error)
		pfree(unconstify(char *, dispatch->error));
	dispatch->error = MemoryContextStrdup(dispatches_context, error);
}

void
dispatch_got_row(Dispatch *dispatch)
{
	Batch	   *batch = dispatch->batch;

	if (dispatch->has_row)
		return;
	if (dispatch->stage == STAGE_QUEUED && dispatch->host)
		nfetched_dispatches++;
	dispatch->has_row = true;
	dispatch->has_waited = (dispatch->stage != STAGE_ENDED);
	dlist_delete(&dispatch->rowless_node);
	nrowless_dispatches--;
	batch->nwithout_row--;
	if (dispatch->event == NULL)
		dispatch->batch = NULL;
	free_unused(batch);
}

void
dispatch_forget(Dispatch *dispatch)
{
	Assert(dispatch->has_row);
	if (dispatch->stage == STAGE_ENDED)
	{
		dlist_delete(&dispatch->queue_node);
		nended_dispatches--;
	}
	leave_host(dispatch);
	dispatch_release_event(dispatch);
	if (dispatch->lane)
		lane_forget(dispatch);
	if (dispatch->error)
		pfree(unconstify(char *, dispatch->error));
	call_result_free(&dispatch->call);
	dispatch->subscriber->references--;
	hash_search(dispatches, dispatch->id, HASH_REMOVE, NULL);
}

/*
 * Forgetting the head of a lane forgets those behind it as well, which a scan of the
 * table would not survive: so ids are listed first.
 */
void
dispatches_forget_queued(void)
{
	Id		   *queued = palloc(sizeof(Id) * (hash_get_num_entries(dispatches) + 1));
	int			nqueued = 0;
	HASH_SEQ_STATUS scan;
	Dispatch   *dispatch;

	hash_seq_init(&scan, dispatches);
	while ((dispatch = hash_seq_search(&scan)) != NULL)
	{
		if (dispatch->stage == STAGE_QUEUED && dispatch->has_row)
			strcpy(queued[nqueued++], dispatch->id);
	}
	for (int i = 0; i < nqueued; i++)
	{
		dispatch = dispatch_find(queued[i]);
		if (dispatch != NULL)
			dispatch_forget(dispatch);
	}
	pfree(queued);
}
