/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  Dispatches that wait in the table: fetched when they are due and their
 *	  host has room.
 *
 * IDENTIFICATION
 *	  src/deliver/waiting.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/lanes.h"
#include "deliver/recorder.h"
#include "deliver/trouble.h"
#include "deliver/waiting.h"
#include "server/clock.h"
#include "server/live.h"
#include "server/settings.h"
#include "utils/timestamp.h"

/* So many webhooks are looked at in a step of a sweep. */
#define MAX_SWEPT 50

/* So many rows are read at once, ... */
#define MAX_ROWS 500

/* ... and for so many hosts' backlogs in one transaction, each of so many webhooks. */
#define MAX_BACKLOGS 8
#define MAX_BACKLOGGED 64

/*
 * So many replays are fetched at once for a host, and all hosts have no more
 * than so many queued.  Small steps, lest new events wait for them.
 */
#define MAX_REPLAYS 64
#define MAX_FETCHED_REPLAYS (MAX_FETCHED / 2)

/*
 * So many dispatches, and bytes of their events, are fetched ahead; routing is
 * left as many bytes again.
 */
#define MAX_FETCHED 2000
#define MAX_FETCHED_BYTES (8 * 1024 * 1024)
#define MAX_EVENT_BYTES (512 * 1024)

/*
 * A host that has done with what was fetched for it within this time gets
 * twice as much the next time; in microseconds.
 */
#define QUICK_FETCH 200000

/* So long after an error it is tried again. */
#define RETRY_TIME USECS_PER_SEC

/* Behind all ids. */
#define LAST_ID "~"

static DuePosition due_position;
static TimestampTz next_due_at;
static bool is_sweeping;		/* webhooks behind swept_to were not looked at */
static bool must_sweep_again;	/* and those before it may have changed */
static Id	swept_to;
static TimestampTz retry_at;	/* after an error; 0: there was none */
static TimestampTz limited_until;	/* some that wait may be called then */

void
waiting_open(void)
{
	due_position = (DuePosition)
	{
		.time = clock_work_time()
	};
	is_sweeping = false;
	must_sweep_again = false;
	swept_to[0] = '\0';
	retry_at = 0;
	waiting_look_again();
}

void
waiting_look_again(void)
{
	next_due_at = 0;
	must_sweep_again = is_sweeping;
	is_sweeping = true;
}

/* A step for each flush, so that a long sweep keeps nobody waiting. */
static bool
may_sweep(void)
{
	return is_sweeping && nended_dispatches == 0;
}

TimestampTz
waiting_write_time(void)
{
	return Max(clock_work_time(), due_position.time + 1);
}

void
waiting_note_due(TimestampTz time)
{
	next_due_at = Min(next_due_at, time);
}

void
waiting_wrote(TimestampTz time)
{
	if (next_due_at <= time)
		return;
	due_position.time = time;
	strcpy(due_position.id, LAST_ID);
}

/* May more be fetched for this host? */
static bool
may_fetch(const Host *host)
{
	int			limit = host->is_slow ? MAX_FETCHED / 2 : MAX_FETCHED;

	return host_room(host) > 0 && nfetched_dispatches < limit &&
		dispatch_event_bytes() < MAX_FETCHED_BYTES;
}

/*
 * One of a host's webhooks whose backlog can be read now; those that have used
 * up their rate go to the end.  If all have, the host is left alone until one
 * may be called again.
 */
static Subscriber *
next_backlogged_subscriber(Host *host, TimestampTz now)
{
	Subscriber *first = NULL;
	TimestampTz next_at = DT_NOEND;

	if (host->limited_until > now)
		return NULL;
	for (;;)
	{
		Subscriber *subscriber = dlist_head_element(Subscriber, backlog_node,
													&host->backlog);

		if (subscriber_allowed_calls(subscriber, 1, now, &next_at) > 0)
			return subscriber;
		if (subscriber == first)
			break;
		if (first == NULL)
			first = subscriber;
		dlist_move_tail(&host->backlog, &subscriber->backlog_node);
	}
	host->limited_until = next_at;
	return NULL;
}

/*
 * A host whose backlog can be read now; those without room, or that have used up
 * their rates, go to the end.  limited_until is when the first of these can be.
 */
static Host *
next_backlogged_host(TimestampTz now)
{
	Host	   *first = NULL;

	limited_until = DT_NOEND;
	while (!dlist_is_empty(&backlogged_hosts))
	{
		Host	   *host = dlist_head_element(Host, backlog_node,
											  &backlogged_hosts);

		if (may_fetch(host) && next_backlogged_subscriber(host, now) != NULL)
			return host;
		if (may_fetch(host))
			limited_until = Min(limited_until, host->limited_until);
		if (host == first)
			break;
		if (first == NULL)
			first = host;
		dlist_move_tail(&backlogged_hosts, &host->backlog_node);
	}
	return NULL;
}

/* The same for replays. */
static Subscriber *
next_replaying_subscriber(TimestampTz now)
{
	Subscriber *first = NULL;

	while (nfetched_dispatches < MAX_FETCHED_REPLAYS &&
		   dispatch_event_bytes() < MAX_FETCHED_BYTES &&
		   !dlist_is_empty(&replaying_subscribers))
	{
		Subscriber *subscriber = dlist_head_element(Subscriber, replay_node,
													&replaying_subscribers);

		if (subscriber->host == NULL ||
			(host_wants_replays(subscriber->host) &&
			 subscriber_allowed_calls(subscriber, 1, now, &limited_until) > 0))
			return subscriber;
		if (subscriber == first)
			break;
		if (first == NULL)
			first = subscriber;
		dlist_move_tail(&replaying_subscribers, &subscriber->replay_node);
	}
	return NULL;
}

TimestampTz
waiting_deadline(void)
{
	TimestampTz now = clock_work_time();

	if (retry_at != 0)
		return retry_at;
	if (may_sweep())
		return 0;
	if (next_backlogged_host(now) != NULL || next_replaying_subscriber(now) != NULL)
		return 0;
	return Min(next_due_at, limited_until);
}

bool
waiting_has_rows(void)
{
	return next_due_at != DT_NOEND || is_sweeping ||
		!dlist_is_empty(&backlogged_hosts) ||
		!dlist_is_empty(&replaying_subscribers);
}

/* Looks up the webhooks of rows. */
static void
refresh_subscribers(const DueRow *rows, int nrows)
{
	ArrayParameter ids = {TEXTOID, NULL};

	for (int i = 0; i < nrows; i++)
	{
		if (i == 0 || strcmp(rows[i].webhook_id, rows[i - 1].webhook_id) != 0)
			array_add_text(&ids, rows[i].webhook_id);
	}
	subscribers_refresh(array_result(&ids));
}

static Dispatch *
create_dispatch(const DueRow *row, Subscriber *subscriber, Batch *batch,
				Event *event)
{
	Dispatch   *dispatch = dispatch_create(row->id, row->event_id,
										   row->event_type, subscriber,
										   batch, event, true, row->is_replay);

	dispatch->attempts = row->attempts;
	dispatch->place = row->place;
	dispatch->epoch = row->epoch;
	dispatch->is_counted = !row->is_new;
	return dispatch;
}

/* Events to be loaded, and what was. */
typedef struct Loading
{
	Batch	   *batch;
	const char **ids;
	int			nids;
	Event	  **events;
	int			nloaded;
} Loading;

static void
load_events(void *argument)
{
	Loading    *loading = argument;

	loading->batch = batch_load(loading->ids, loading->nids, MAX_EVENT_BYTES,
								loading->events, &loading->nloaded);
}

/*
 * Loads the events of accepted rows and queues their dispatches.  An event that
 * can't be read fails its own dispatch.
 */
static void
queue_rows(DueRow **accepted, int naccepted)
{
	const char **ids = palloc(sizeof(char *) * naccepted);
	Event	  **events = palloc(sizeof(Event *) * naccepted);
	Loading		loading = {NULL, ids, naccepted, events, 0};
	int			nloaded;
	char	   *error;

	for (int i = 0; i < naccepted; i++)
		ids[i] = accepted[i]->event_id;
	error = work_try_row(load_events, &loading);
	if (error != NULL && naccepted > 1)
	{
		for (int i = 0; i < naccepted; i++)
			queue_rows(&accepted[i], 1);
		return;
	}
	if (error != NULL)
	{
		Subscriber *subscriber = subscriber_find(accepted[0]->webhook_id);

		if (!accepted[0]->is_replay)
			subscriber->host->nreserved--;
		dispatch_end(create_dispatch(accepted[0], subscriber, NULL, NULL),
					 DISPATCH_FAILED, psprintf("Event can't be read: %s", error));
		return;
	}
	nloaded = loading.nloaded;
	for (int i = 0; i < naccepted; i++)
	{
		DueRow	   *row = accepted[i];
		Subscriber *subscriber = subscriber_find(row->webhook_id);

		if (!row->is_replay)
			subscriber->host->nreserved--;
		if (i >= nloaded && !row->is_replay)
			subscriber_add_backlog(subscriber, row->next_attempt_at);
		else if (i == nloaded)
			subscriber_add_replays(subscriber, row->id);
		else if (i > nloaded)
			continue;
		else if (events[i] == NULL)
			dispatch_end(create_dispatch(row, subscriber, NULL, NULL),
						 DISPATCH_FAILED, "Event was removed.");
		else
			dispatch_enqueue(create_dispatch(row, subscriber, loading.batch, events[i]));
	}
	batch_release(loading.batch);
}

/*
 * Takes rows that are due.  Those that can't be called end at once; those
 * whose host has no room, unless "all" are wanted, join its backlog.
 */
static void
take_rows(DueRow *rows, int nrows, bool all)
{
	DueRow	  **accepted = palloc(sizeof(DueRow *) * (nrows + 1));
	int			naccepted = 0;
	TimestampTz now = clock_work_time();
	TimestampTz next_at = DT_NOEND;

	refresh_subscribers(rows, nrows);
	for (int i = 0; i < nrows; i++)
	{
		DueRow	   *row = &rows[i];
		Subscriber *subscriber = subscriber_find(row->webhook_id);
		const char *reason = subscriber_refusal(subscriber, row->event_type, row->epoch);

		if (dispatch_find(row->id) != NULL || recorder_has_set_aside(row->id) ||
			(row->order_key != NULL && lane_is_busy(row)))
			continue;
		if (reason != NULL && row->order_key != NULL)
			lane_call_up(row, subscriber, false);
		else if (reason != NULL)
			dispatch_end(create_dispatch(row, subscriber, NULL, NULL),
						 DISPATCH_FAILED, reason);
		else if (all || (!subscriber->has_backlog && may_fetch(subscriber->host) &&
						 subscriber_allowed_calls(subscriber, 1, now, &next_at) > 0))
		{
			if (row->order_key != NULL)
			{
				lane_call_up(row, subscriber, true);
				continue;
			}
			subscriber_take_token(subscriber);
			if (!row->is_replay)
				subscriber->host->nreserved++;
			accepted[naccepted++] = row;
		}
		else
			subscriber_add_backlog(subscriber, row->next_attempt_at);
	}
	if (naccepted > 0)
		queue_rows(accepted, naccepted);
	lanes_read();
}

/* Reads on in the order of the whole table. */
static void
fetch_due(TimestampTz until)
{
	DueRow	   *rows;
	int			nrows = dispatches_find_due(&due_position, until, MAX_ROWS, &rows);

	if (nrows > 0)
	{
		due_position.time = rows[nrows - 1].next_attempt_at;
		strlcpy(due_position.id, rows[nrows - 1].id, sizeof(Id));
		take_rows(rows, nrows, false);
	}
	if (nrows == MAX_ROWS)
		next_due_at = 0;
	else if (!dispatches_next_due(&due_position, &next_due_at))
		next_due_at = DT_NOEND;
}

/*
 * Reads on in the backlog of one of a host's webhooks.  Returns how many rows it found,
 * up to "limit"; *is_left is set if there may be more.
 */
static int
read_backlog(Subscriber *subscriber, TimestampTz now, int limit, DueRow **rows,
			 bool *is_left)
{
	DuePosition *position = &subscriber->backlog_position;
	TimestampTz next_at = DT_NOEND;
	int			allowed = subscriber_allowed_calls(subscriber, limit, now, &next_at);
	int			nrows = dispatches_find_due_of(subscriber->id, position, now - 1, allowed,
											   rows);

	*is_left = (nrows == allowed);
	if (!*is_left)
		subscriber_end_backlog(subscriber);
	if (nrows > 0)
	{
		position->time = (*rows)[nrows - 1].next_attempt_at;
		strlcpy(position->id, (*rows)[nrows - 1].id, sizeof(Id));
	}
	return nrows;
}

/*
 * Reads on in the backlogs of a host's webhooks, those of several at once if each has
 * few, as those for single runs have: looking up a webhook and an event takes longer
 * alone.
 */
static void
fetch_backlog(Host *host, TimestampTz now)
{
	const Subscriber *first_left = NULL;
	Subscriber *subscriber;
	DueRow	   *all;
	int			limit = host_room(host);
	int			count = 0;

	if (now - host->fetched_at < QUICK_FETCH && !host->is_slow)
		host->fetch_size = Min(host->fetch_size * 2, MAX_ROWS);
	else
		host->fetch_size = limit;
	limit = Max(limit, host->fetch_size);
	host->fetched_at = now;

	all = palloc(sizeof(DueRow) * limit);
	for (int i = 0; i < MAX_BACKLOGGED && count < limit && !dlist_is_empty(&host->backlog); i++)
	{
		DueRow	   *rows;
		bool		is_left;
		int			nrows;

		subscriber = next_backlogged_subscriber(host, now);
		if (subscriber == NULL || subscriber == first_left)
			break;
		dlist_move_tail(&host->backlog, &subscriber->backlog_node);
		nrows = read_backlog(subscriber, now, limit - count, &rows, &is_left);
		memcpy(&all[count], rows, sizeof(DueRow) * nrows);
		count += nrows;
		if (is_left && first_left == NULL)
			first_left = subscriber;
	}
	if (count > 0)
		take_rows(all, count, true);
}

/* Reads on in the replays of one webhook. */
static void
fetch_replays(Subscriber *subscriber, TimestampTz now)
{
	TimestampTz next_at = DT_NOEND;
	int			limit = subscriber_allowed_calls(subscriber, MAX_REPLAYS, now,
												 &next_at);
	DueRow	   *rows;
	int			nrows = dispatches_find_replays_of(subscriber->id,
												   subscriber->replay_position,
												   limit, &rows);

	subscriber_end_replays(subscriber);
	if (nrows == limit)
	{
		ReplayPosition next;

		snprintf(next, sizeof(next), "%s0", rows[nrows - 1].id);
		subscriber_add_replays(subscriber, next);
	}
	if (nrows > 0)
		take_rows(rows, nrows, true);
}

/*
 * Ends what waits for a webhook that is gone or disabled, or is due for one that
 * is not valid any more, unless it is being called.  Returns false if there may be
 * more to end.
 */
static bool
end_refused(Subscriber *subscriber, TimestampTz first_due_at)
{
	const DuePosition start = {0};
	DueRow	   *rows;
	int			nrows = 0;
	int			nended = 0;

	if (!subscriber->exists)
		nrows = dispatches_find_waiting_of(subscriber->id, PG_INT32_MAX, true, MAX_ROWS,
										   &rows);
	else if (subscriber->webhook == NULL && first_due_at <= due_position.time)
		nrows = dispatches_find_due_of(subscriber->id, &start, due_position.time,
									   MAX_ROWS, &rows);
	else if (subscriber->webhook != NULL &&
			 subscriber_refusal(subscriber, EVENT_RUN_CREATED, PG_INT32_MAX) != NULL)
		nrows = dispatches_find_waiting_of(subscriber->id, PG_INT32_MAX, false, MAX_ROWS,
										   &rows);
	else if (subscriber->webhook != NULL &&
			 subscriber->ended_epoch < subscriber->webhook->epoch)
	{
		nrows = dispatches_find_waiting_of(subscriber->id, subscriber->webhook->epoch,
										   false, MAX_ROWS, &rows);
		if (nrows < MAX_ROWS)
			subscriber->ended_epoch = subscriber->webhook->epoch;
	}
	for (int i = 0; i < nrows; i++)
	{
		const char *reason = subscriber_refusal(subscriber, rows[i].event_type,
												rows[i].epoch);
		Dispatch   *dispatch = dispatch_find(rows[i].id);

		if (reason == NULL || recorder_has_set_aside(rows[i].id) ||
			(dispatch != NULL && dispatch->stage != STAGE_QUEUED))
			continue;
		if (dispatch == NULL)
			dispatch = create_dispatch(&rows[i], subscriber, NULL, NULL);
		dispatch_end(dispatch, DISPATCH_FAILED, reason);
		if (rows[i].order_key != NULL)
			lanes_look_again();
		nended++;
	}
	return nrows < MAX_ROWS || nended == 0;
}

/*
 * Lets others know that nothing waits in the tables of days that are over, if
 * that is so; then whoever counts what waits need not look there.
 */
static void
publish_oldest(void)
{
	Id			bound = {0};
	TimestampTz day = GetCurrentTimestamp() - USECS_PER_DAY;

	/* Where a table of a day begins: one that is looked at holds none beyond. */
	id_lower_bound(bound, day - day % USECS_PER_DAY);
	live_set_oldest_active(bound);
	if (dispatches_any_waits_below(bound))
		live_set_oldest_active("");
}

/*
 * Looks at some of the webhooks for which dispatches wait: what is due before the
 * place up to which the table was read is theirs to read.
 */
static void
sweep(void)
{
	WaitingWebhook *webhooks;
	int			count = dispatches_find_webhooks(swept_to, MAX_SWEPT, &webhooks);
	ArrayParameter ids = {TEXTOID, NULL};

	for (int i = 0; i < count; i++)
		array_add_text(&ids, webhooks[i].id);
	subscribers_refresh(array_result(&ids));
	for (int i = 0; i < count; i++)
	{
		Subscriber *subscriber = subscriber_find(webhooks[i].id);

		if (!end_refused(subscriber, webhooks[i].first_due_at))
			return;
		if (subscriber->host != NULL && webhooks[i].first_due_at <= due_position.time)
			subscriber_add_backlog(subscriber, webhooks[i].first_due_at);
		if (webhooks[i].has_replays)
			subscriber_add_replays(subscriber, "");
		strlcpy(swept_to, webhooks[i].id, sizeof(Id));
	}
	if (count == MAX_SWEPT)
		return;
	publish_oldest();
	is_sweeping = must_sweep_again;
	must_sweep_again = false;
	swept_to[0] = '\0';
}

/* The transaction. */
static void
fetch(void *argument)
{
	TimestampTz now = *(TimestampTz *) argument;
	Host	   *host;

	if (may_sweep())
		sweep();
	if (next_due_at <= now)
		fetch_due(now - 1);
	for (int i = 0; i < MAX_BACKLOGS && (host = next_backlogged_host(now)) != NULL; i++)
		fetch_backlog(host, now);
	for (int i = 0; i < MAX_BACKLOGS; i++)
	{
		Subscriber *subscriber = next_replaying_subscriber(now);

		if (subscriber == NULL)
			break;
		fetch_replays(subscriber, now);
	}
}

bool
waiting_fetch(void)
{
	TimestampTz now = clock_work_time();
	DuePosition position = due_position;
	WorkError	error;
	WorkResult	result = work_run("fetching waiting dispatches", true, fetch, &now,
								  &error);

	if (result == WORK_FAILED)
	{
		/* What was read and not taken is found by a sweep. */
		due_position = position;
		hosts_end_reservations();
		lanes_recover();
		waiting_look_again();
		retry_at = now + RETRY_TIME;
		trouble_note(TROUBLE_FETCHING, &error);
	}
	else
	{
		retry_at = 0;
		trouble_end(TROUBLE_FETCHING);
	}
	return result != WORK_GONE;
}
