/*-------------------------------------------------------------------------
 *
 * router.c
 *	  From the outbox to dispatches: which webhooks get the new events.
 *
 * IDENTIFICATION
 *	  src/deliver/router.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/dispatch.h"
#include "deliver/http.h"
#include "deliver/lanes.h"
#include "deliver/router.h"
#include "server/clock.h"
#include "store/counters.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So many events, and bytes of them, are routed at once. */
#define MAX_EVENTS 500
#define MAX_BATCH_BYTES (4 * 1024 * 1024)

/* Routing waits while so many bytes of events are in memory. */
#define MAX_EVENT_BYTES (16 * 1024 * 1024)

/* An event and one who gets it. */
typedef struct Match
{
	Id			id;				/* of the dispatch; hash key of known ones */
	Event	   *event;
	Subscriber *subscriber;
} Match;

typedef struct Matches
{
	Batch	   *batch;
	int			count;
	int			capacity;
	Match	   *items;
} Matches;

static Statement revive_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET run_ended = false, run_changed_at = r.time,"
	" is_enabled = w.is_enabled OR w.is_retired, is_retired = false,"
	" disabled_reason = CASE WHEN NOT w.is_retired THEN w.disabled_reason END"
	" FROM (SELECT w.id, e.time FROM (SELECT run_id, max(time) FROM unnest($1, $2) AS u (run_id, time)"
	" GROUP BY run_id) AS e (run_id, time)"
	" JOIN webhook_events_internal.webhooks AS w"
	" ON w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL"
	" AND w.is_ad_hoc"
	" AND (w.run_changed_at < e.time OR w.run_changed_at IS NULL)"
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id",
	2, {TEXTARRAYOID, TIMESTAMPTZARRAYOID}, NULL
};

static bool has_new_events;
static int	fan_out;			/* dispatches for each event of the last batch */

/* No dispatch that was written before the worker started is younger. */
static Id	last_known;
static bool last_known_is_set;

void
router_open(void)
{
	has_new_events = true;
	fan_out = 1;
	last_known_is_set = false;
}

void
router_look_again(void)
{
	has_new_events = true;
}

/* How many dispatches may be in memory before they have a row. */
static int
rowless_limit(void)
{
	return Max(2048, 2 * http_limit());
}

/*
 * Half of the room must be free: a batch of few events costs nearly what one of
 * many does, and what is left keeps the hosts busy meanwhile.
 */
bool
router_has_work(void)
{
	return has_new_events && nrowless_dispatches <= rowless_limit() / 2 &&
		dispatch_event_bytes() < MAX_EVENT_BYTES;
}

static bool
ends_run(EventType type)
{
	return type == EVENT_RUN_SUCCEEDED || type == EVENT_RUN_FAILED ||
		type == EVENT_RUN_ABORTED || type == EVENT_RUN_TIMED_OUT;
}

static void
add_match(Event *event, Subscriber *subscriber, MatchResult result,
		  void *argument)
{
	Matches    *matches = argument;
	Match	   *match;

	/* What it wanted or not, this run's ad-hoc webhook has seen its end. */
	if (ends_run(event->type) && subscriber->webhook->is_ad_hoc &&
		subscriber->webhook->actor_run_id != NULL &&
		event->actor_run_id != NULL &&
		strcmp(subscriber->webhook->actor_run_id, event->actor_run_id) == 0)
		batch_add_ended_run(matches->batch, event->actor_run_id,
							event->created_at);
	if (result != MATCH_YES)
		return;
	if (matches->count == matches->capacity)
	{
		matches->capacity *= 2;
		matches->items = repalloc_huge(matches->items,
									   sizeof(Match) * matches->capacity);
	}
	match = &matches->items[matches->count++];
	id_make_dispatch(match->id, event->id, subscriber->id);
	match->event = event;
	match->subscriber = subscriber;
}

/* Leaves out those that have a row since before the worker started. */
static void
remove_known(Matches *matches)
{
	HASHCTL		control = {
		.keysize = sizeof(Id),
		.entrysize = sizeof(Id),
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *known;
	ArrayParameter ids = {TEXTOID, NULL};
	uint64		nrows;
	int			kept = 0;

	if (!last_known_is_set)
		dispatches_last_id(last_known);
	last_known_is_set = true;
	for (int i = 0; i < matches->count; i++)
	{
		if (strncmp(matches->items[i].id, last_known, ID_TIME_LENGTH) <= 0)
			array_add_text(&ids, matches->items[i].id);
	}
	if (ids.state == NULL)
		return;
	nrows = dispatches_find_existing(array_result(&ids));
	known = hash_create("webhook_events known dispatches", 256, &control,
						HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (uint64 row = 0; row < nrows; row++)
		hash_search(known, statement_text(row, 1), HASH_ENTER, NULL);
	for (int i = 0; i < matches->count; i++)
	{
		if (hash_search(known, matches->items[i].id, HASH_FIND, NULL) == NULL)
			matches->items[kept++] = matches->items[i];
	}
	matches->count = kept;
	hash_destroy(known);
}

static int
compare_events(const void *a, const void *b)
{
	return strcmp(((const Match *) a)->event->id, ((const Match *) b)->event->id);
}

/*
 * Announces what goes out in order.  The cursor's order is that of transactions;
 * a run's own is that of its events' ids, for they are made while its row is locked.
 */
static void
put_in_order(Matches *matches)
{
	bool		any = false;

	for (int i = 0; i < matches->count; i++)
	{
		Match	   *match = &matches->items[i];
		const char *key = webhook_order_key(match->subscriber->webhook, match->event);

		if (key == NULL)
			continue;
		lane_expect(match->subscriber, key);
		any = true;
	}
	if (!any)
		return;
	qsort(matches->items, matches->count, sizeof(Match), compare_events);
	lanes_look();
}

static void
create_dispatch(const Match *match, Batch *batch)
{
	Dispatch   *dispatch = dispatch_create(match->id, match->event->id,
										   match->event->type,
										   match->subscriber, batch,
										   match->event, false, false);
	const char *key = webhook_order_key(match->subscriber->webhook, match->event);

	if (key == NULL || lane_join(dispatch, key))
		dispatch_submit(dispatch);
}

/*
 * Enables the ad-hoc webhooks that had retired at the end of runs that were
 * resurrected, so that they get that event and those that follow.
 */
static void
revive_webhooks(Event **events, int nevents)
{
	ArrayParameter runs = {TEXTOID, NULL};
	ArrayParameter times = {TIMESTAMPTZOID, NULL};
	Datum		values[2];

	for (int i = 0; i < nevents; i++)
	{
		if (events[i]->type != EVENT_RUN_RESURRECTED ||
			events[i]->actor_run_id == NULL)
			continue;
		array_add_text(&runs, events[i]->actor_run_id);
		array_add_time(&times, events[i]->created_at);
		batches_forget_ended_run(events[i]->actor_run_id, events[i]->created_at);
	}
	if (runs.state == NULL)
		return;
	values[0] = array_result(&runs);
	values[1] = array_result(&times);
	statement_write(&revive_statement, values, NULL);
	work_see_writes();
}

bool
router_route(void)
{
	Batch	   *batch;
	Event	  **events;
	Matches		matches;
	int			room = rowless_limit() - nrowless_dispatches;
	int			limit = Min(Max(room / fan_out, 1), MAX_EVENTS);
	int			nevents;

	if (!work_begin("routing events"))
		return false;
	batch = batch_create();
	events = palloc(sizeof(Event *) * limit);
	nevents = cursor_read(batch->context, limit, MAX_BATCH_BYTES, events);
	if (nevents == 0)
	{
		has_new_events = false;
		lanes_router_caught_up();
		batch_release(batch);
		work_commit();
		return true;
	}
	revive_webhooks(events, nevents);
	matches.batch = batch;
	matches.count = 0;
	matches.capacity = nevents;
	matches.items = palloc(sizeof(Match) * matches.capacity);
	nevents = subscribers_match(events, nevents, room, add_match, &matches);
	batch_set_mark(batch, cursor_take(events, nevents));
	fan_out = Max(matches.count / nevents, 1);
	remove_known(&matches);
	counters_add(COUNTER_EVENTS, nevents);
	counters_add(COUNTER_DISPATCHES, matches.count);
	put_in_order(&matches);
	for (int i = 0; i < matches.count; i++)
		create_dispatch(&matches.items[i], batch);
	batch_release(batch);
	work_commit();
	return true;
}
