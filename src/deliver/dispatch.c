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

/* Those that ended, in order; written with the next flush. */
static dlist_head ended_dispatches;
static int	nended_dispatches;

/* Those that ended and whose rows somebody has locked. */
static dlist_head put_off_dispatches;

/* Those without a row, oldest first. */
static dlist_head rowless_dispatches;
static int	nrowless_dispatches;

static int	nqueued_dispatches;
static int	nfetched_dispatches;	/* of these, with a row */

static MemoryContext dispatches_context;
static HTAB *dispatches;

void
dispatches_open(MemoryContext context)
{
	HASHCTL		control = {
		.keysize = sizeof(Id),
		.entrysize = sizeof(Dispatch),
		.hcxt = context
	};

	batches_open(context);
	dispatches_context = context;
	dispatches = hash_create("webhook_events dispatches", 1024, &control,
							 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	dlist_init(&ended_dispatches);
	dlist_init(&put_off_dispatches);
	dlist_init(&rowless_dispatches);
	nended_dispatches = 0;
	nrowless_dispatches = 0;
	nfetched_dispatches = 0;
	nqueued_dispatches = 0;
}

int
dispatches_queued(void)
{
	return nqueued_dispatches;
}

int
dispatches_fetched(void)
{
	return nfetched_dispatches;
}

int
dispatches_ended(void)
{
	return nended_dispatches;
}

int
dispatches_rowless(void)
{
	return nrowless_dispatches;
}

/* What follows a node in a list; NULL at its end. */
static dlist_node *
next_of(dlist_head *list, const dlist_node *node)
{
	return node->next == &list->head ? NULL : node->next;
}

Dispatch *
dispatch_next_ended(const Dispatch *dispatch)
{
	dlist_node *node = next_of(&ended_dispatches,
							   dispatch ? &dispatch->queue_node : &ended_dispatches.head);

	return node ? dlist_container(Dispatch, queue_node, node) : NULL;
}

Dispatch *
dispatch_next_rowless(const Dispatch *dispatch)
{
	dlist_node *node = next_of(&rowless_dispatches,
							   dispatch ? &dispatch->rowless_node : &rowless_dispatches.head);

	return node ? dlist_container(Dispatch, rowless_node, node) : NULL;
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
	const Webhook *webhook = subscriber->webhook;
	Share	   *user = (webhook && webhook->user_id) ? share_of_user(webhook->user_id) : NULL;
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
	dispatch->user = user;
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
		batch_lacks_row(batch);
		dlist_push_tail(&rowless_dispatches, &dispatch->rowless_node);
		nrowless_dispatches++;
	}
	return dispatch;
}

void
dispatch_enqueue(Dispatch *dispatch)
{
	Host	   *host = dispatch->subscriber->host;

	host_keep(host);
	dispatch->stage = STAGE_QUEUED;
	dispatch->host = host;
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
	host_release(dispatch->host);
	dispatch->host = NULL;
}

/* NULL if there is no memory for it: what has become of a dispatch counts for more. */
static const char *
copy_error(const char *error)
{
	size_t		size = error ? strlen(error) + 1 : 0;
	char	   *copy = error ? MemoryContextAllocExtended(dispatches_context, size,
														  MCXT_ALLOC_NO_OOM) : NULL;

	return copy ? memcpy(copy, error, size) : NULL;
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
	dispatch->error = copy_error(error);
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
	dispatch->error = copy_error(error);
}

void
dispatch_put_off(Dispatch *dispatch)
{
	dlist_delete(&dispatch->queue_node);
	nended_dispatches--;
	dlist_push_tail(&put_off_dispatches, &dispatch->queue_node);
}

void
dispatches_take_put_off(void)
{
	while (!dlist_is_empty(&put_off_dispatches))
	{
		dlist_push_tail(&ended_dispatches, dlist_pop_head_node(&put_off_dispatches));
		nended_dispatches++;
	}
}

bool
dispatches_any_put_off(void)
{
	return !dlist_is_empty(&put_off_dispatches);
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
	if (dispatch->event == NULL)
		dispatch->batch = NULL;
	batch_got_row(batch);
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
	if (dispatch->user)
		share_release(dispatch->user);
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
