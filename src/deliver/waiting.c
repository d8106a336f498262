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
#include "deliver/sweep.h"
#include "deliver/trouble.h"
#include "deliver/waiting.h"
#include "server/clock.h"
#include "server/settings.h"
#include "utils/timestamp.h"

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
static TimestampTz retry_at;	/* after an error; 0: there was none */
static TimestampTz limited_until;	/* some that wait may be called then */

void
waiting_open(void)
{
	due_position = (DuePosition)
	{
		.time = clock_work_time()
	};
	sweep_open();
	retry_at = 0;
	waiting_look_again();
}

void
waiting_look_again(void)
{
	next_due_at = 0;
	sweep_start();
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

	return host_room(host) > 0 && dispatches_fetched() < limit &&
		batches_event_bytes() < MAX_FETCHED_BYTES;
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
	Host	   *host;

	limited_until = DT_NOEND;
	while ((host = hosts_first_backlogged()) != NULL)
	{
		if (may_fetch(host) && next_backlogged_subscriber(host, now) != NULL)
			return host;
		if (may_fetch(host))
			limited_until = Min(limited_until, host->limited_until);
		if (host == first)
			break;
		if (first == NULL)
			first = host;
		host_to_end_of_backlogged(host);
	}
	return NULL;
}

/* The same for replays. */
static Subscriber *
next_replaying_subscriber(TimestampTz now)
{
	Subscriber *first = NULL;
	Subscriber *subscriber;

	while (dispatches_fetched() < MAX_FETCHED_REPLAYS &&
		   batches_event_bytes() < MAX_FETCHED_BYTES &&
		   (subscriber = subscribers_first_replaying()) != NULL)
	{
		if (subscriber->host == NULL ||
			(host_wants_replays(subscriber->host) &&
			 subscriber_allowed_calls(subscriber, 1, now, &limited_until) > 0))
			return subscriber;
		if (subscriber == first)
			break;
		if (first == NULL)
			first = subscriber;
		subscriber_to_end_of_replaying(subscriber);
	}
	return NULL;
}

TimestampTz
waiting_deadline(void)
{
	TimestampTz now = clock_work_time();

	if (retry_at != 0)
		return retry_at;
	if (sweep_has_work())
		return 0;
	if (next_backlogged_host(now) != NULL || next_replaying_subscriber(now) != NULL)
		return 0;
	return Min(next_due_at, limited_until);
}

bool
waiting_has_rows(void)
{
	return next_due_at != DT_NOEND || sweep_is_under_way() ||
		hosts_first_backlogged() != NULL || subscribers_first_replaying() != NULL;
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

Dispatch *
waiting_create_dispatch(const DueRow *row, Subscriber *subscriber, Batch *batch,
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
		dispatch_end(waiting_create_dispatch(accepted[0], subscriber, NULL, NULL),
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
			dispatch_end(waiting_create_dispatch(row, subscriber, NULL, NULL),
						 DISPATCH_FAILED, "Event was removed.");
		else
			dispatch_enqueue(waiting_create_dispatch(row, subscriber, loading.batch, events[i]));
	}
	batches_release_loaded();
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
			dispatch_end(waiting_create_dispatch(row, subscriber, NULL, NULL),
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

/* The transaction. */
static void
fetch(void *argument)
{
	TimestampTz now = *(TimestampTz *) argument;
	Host	   *host;

	if (sweep_has_work())
		sweep_step(due_position.time);
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
		batches_release_loaded();
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
