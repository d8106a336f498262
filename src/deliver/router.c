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
#include "deliver/matching.h"
#include "deliver/reviving.h"
#include "deliver/router.h"
#include "deliver/slices.h"
#include "deliver/trouble.h"
#include "server/clock.h"
#include "store/counters.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So many events, and bytes of them, are routed at once. */
#define MAX_EVENTS 500
#define MAX_BATCH_BYTES (512 * 1024)

/* So long after an error that is not of an event it is tried again. */
#define RETRY_TIME USECS_PER_SEC

/* So often a slice of an event may fail because of what is in it. */
#define MAX_SLICE_FAILURES 3

/* Routing waits while so many bytes of events are in memory. */
#define MAX_EVENT_BYTES (16 * 1024 * 1024)

/* An event and one who gets it. */
typedef struct Match
{
	Id			id;				/* of the dispatch; hash key of known ones */
	Event	   *event;
	Batch	   *batch;			/* of the event */
	Subscriber *subscriber;
	Slicing    *slicing;		/* it comes before its slice; else NULL */
} Match;

typedef struct Matches
{
	Batch	   *batch;			/* of the events that are being matched */
	Slicing    *slicing;		/* it is a slice of this one; else NULL */
	int			count;
	int			capacity;
	Match	   *items;
	uint64		next_xid;		/* of what follows; 0: it was not asked for */
} Matches;

static bool has_new_events;

/* After an error events are routed one by one, to find the one that makes it. */
static int	max_events;
static bool must_skip;			/* the next one does */
static char skip_reason[512];
static TimestampTz retry_at;	/* 0: the last try has succeeded */

static int	fan_out;			/* dispatches for each event of the last batch */

/*
 * No dispatch that was written before the worker started, or before an error, is
 * younger; nor is one that this worker has made.
 */
static Id	last_known;
static bool last_known_is_set;
static Id	last_created;

static int	nwindows;			/* as cursor_windows() was */
static uint64 last_xid;			/* up to here the window is done */
static bool has_caught_up;		/* lanes were told so */

void
router_open(void)
{
	has_new_events = true;
	fan_out = 1;
	last_known_is_set = false;
	nwindows = 0;
	last_xid = 0;
	has_caught_up = false;
	max_events = MAX_EVENTS;
	must_skip = false;
	retry_at = 0;
}

void
router_look_again(void)
{
	has_new_events = true;
}

void
router_expect_rows(void)
{
	last_known_is_set = false;
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
static bool
can_read(void)
{
	return has_new_events && dispatches_rowless() <= rowless_limit() / 2 &&
		batches_event_bytes() < MAX_EVENT_BYTES;
}

/* A slice leaves the room that the next batch needs. */
static bool
can_slice(void)
{
	return slices_exist() && dispatches_rowless() <= rowless_limit() / 4;
}

bool
router_has_work(void)
{
	return (can_read() || can_slice()) &&
		(retry_at == 0 || retry_at <= clock_work_time());
}

TimestampTz
router_deadline(void)
{
	return (has_new_events || slices_exist()) && retry_at != 0 ? retry_at : DT_NOEND;
}

static bool
ends_run(EventType type)
{
	return type == EVENT_RUN_SUCCEEDED || type == EVENT_RUN_FAILED ||
		type == EVENT_RUN_ABORTED || type == EVENT_RUN_TIMED_OUT;
}

static void
add(Matches *matches, Event *event, Batch *batch, Subscriber *subscriber,
	Slicing *slicing)
{
	Match	   *match;

	if (matches->count == matches->capacity)
	{
		matches->capacity *= 2;
		matches->items = repalloc_huge(matches->items,
									   sizeof(Match) * matches->capacity);
	}
	match = &matches->items[matches->count++];
	id_make_dispatch(match->id, event->id, subscriber->id);
	match->event = event;
	match->batch = batch;
	match->subscriber = subscriber;
	match->slicing = slicing;
}

static void
add_early(Slicing *slicing, Subscriber *subscriber, void *argument)
{
	add(argument, slicing->event, slicing->batch, subscriber, slicing);
}

static void
add_match(Event *event, Subscriber *subscriber, MatchResult result,
		  void *argument)
{
	Matches    *matches = argument;

	/* What it wanted or not, this run's ad-hoc webhook has seen its end. */
	if (ends_run(event->type) && webhook_is_of_run(subscriber->webhook, event))
		batch_add_ended_run(matches->batch, event, subscriber->id);
	if (result != MATCH_YES ||
		(matches->slicing && slicing_is_done(matches->slicing, subscriber->id)))
		return;
	if (slices_exist())
		slices_overtaken(subscriber, event, add_early, matches);
	add(matches, event, matches->batch, subscriber, NULL);
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
	{
		dispatches_last_id(last_known);
		if (strcmp(last_known, last_created) < 0)
			strcpy(last_known, last_created);
	}
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

/*
 * The cursor goes by the ids of transactions, which are given out before those wait
 * for each other's rows.  So the rest of the window can hold an event that stands
 * before this one in its run: of a transaction with a higher id that had
 * committed before this event was raised.  Returns the id up to which the cursor
 * has to come before that is settled, 0 if it is.
 */
static uint64
must_wait_for(const Event *event, Matches *matches)
{
	if (cursor_window_is_done())
		return 0;
	if (event->next_xid == 0)
		return PG_UINT64_MAX - 1;
	if (event->next_xid <= last_xid)
		return 0;
	if (event->xid != last_xid)
		return event->next_xid;

	/* Of its own transaction only what stands behind it is left. */
	if (matches->next_xid == 0)
		matches->next_xid = cursor_next_xid();
	return event->next_xid <= matches->next_xid ? 0 : event->next_xid;
}

/* What can fail comes first: no error leaves a dispatch without a host or lane. */
static void
create_dispatch(const Match *match, Matches *matches)
{
	const char *key = webhook_order_key(match->subscriber->webhook, match->event);
	Lane	   *lane = key != NULL ? lane_find(match->subscriber, key) : NULL;
	uint64		held_until = lane != NULL ? must_wait_for(match->event, matches) : 0;
	Dispatch   *dispatch = dispatch_create(match->id, match->event->id,
										   match->event->type,
										   match->subscriber, match->batch,
										   match->event, false, false);

	dispatch->epoch = match->subscriber->webhook->epoch;
	if (lane == NULL || lane_join(dispatch, lane, held_until))
		dispatch_submit(dispatch);
}

/* Takes matches that are not known already into memory. */
static void
create_dispatches(Matches *matches)
{
	for (int i = 0; i < matches->count; i++)
	{
		const Match *match = &matches->items[i];

		if (dispatch_find(match->id) == NULL)
			create_dispatch(match, matches);
		if (match->slicing != NULL)
			slicing_note_early(match->slicing, match->subscriber->id);
		if (strcmp(last_created, match->id) < 0)
			strcpy(last_created, match->id);
	}
}

/* Tells lanes how far the router is; but for what is in slices, if that holds them. */
static void
tell_lanes(void)
{
	if (slices_hold_lanes())
		return;
	if (!has_new_events || cursor_has_caught_up())
	{
		has_caught_up = true;
		lanes_router_caught_up();
	}
	if (!has_new_events || cursor_window_is_done())
		lanes_window_done();
	else
		lanes_release(last_xid);
}

/* The transaction: routes a batch of at most "max_events" events. */
static void
route(void *argument)
{
	Batch	   *batch = argument;
	int			room = rowless_limit() - dispatches_rowless();
	int			limit = Min(Max(room / fan_out, 1), max_events);
	Event	  **events = palloc(sizeof(Event *) * limit);
	int			nevents = cursor_read(batch->context, limit, MAX_BATCH_BYTES, events);
	Matches		matches = {.batch = batch, .capacity = nevents};
	CursorMark *mark;
	int			nmatched;
	int			nproblems = 0;

	if (nevents == 0)
	{
		has_new_events = false;
		tell_lanes();
		return;
	}
	if (cursor_windows() != nwindows && !slices_hold_lanes())
		lanes_window_done();
	nwindows = cursor_windows();
	reviving_enable(events, nevents);
	matches.items = palloc(sizeof(Match) * matches.capacity);
	while ((nmatched = subscribers_match(events, nevents, room, add_match, &matches)) == 0 &&
		   nevents > 1)
		max_events = nevents = (nevents + 1) / 2;
	nevents = Max(nmatched, 1);
	mark = cursor_take(events, nevents);
	last_xid = events[nevents - 1]->xid;
	if (nmatched > 0)
		fan_out = Max(matches.count / nevents, 1);
	else
	{
		Slicing    *slicing = slices_begin(events[0], !has_caught_up || lanes_are_all_held());

		batch = slicing->batch;
		slicing_join_lanes(slicing, add_early, &matches);
	}
	remove_known(&matches);
	put_in_order(&matches);
	create_dispatches(&matches);

	/*
	 * Not before: after an error there is no mark behind events that were
	 * left out.
	 */
	batch_set_mark(batch, mark);
	tell_lanes();
	for (int i = 0; i < nevents; i++)
		nproblems += events[i]->has_problem;
	counters_add(COUNTER_EVENTS, nevents);
	counters_add(COUNTER_PROBLEMS, nproblems);
	counters_add(COUNTER_DISPATCHES, matches.count);
}

/* A slice of an event, and how far it came. */
typedef struct Slice
{
	Slicing    *slicing;
	Id			position;
	bool		is_last;
} Slice;

/* The transaction for one. */
static void
route_slice(void *argument)
{
	Slice	   *slice = argument;
	Matches		matches = {
		.batch = slice->slicing->batch, .slicing = slice->slicing, .capacity = 256
	};

	strcpy(slice->position, slice->slicing->position);
	matches.items = palloc(sizeof(Match) * matches.capacity);
	slice->is_last = !subscribers_match_slice(slice->slicing->event, slice->position,
											  add_match, &matches);
	remove_known(&matches);
	put_in_order(&matches);
	create_dispatches(&matches);
	counters_add(COUNTER_DISPATCHES, matches.count);
}

/* Leaves out the next event, which can't be routed. */
static void
skip(void *argument)
{
	Batch	   *batch = argument;
	Id			id;
	CursorMark *mark = cursor_skip(id);

	if (mark == NULL)
		return;
	counters_add(COUNTER_LEFT_OUT, 1);
	ereport(LOG,
			(errmsg("event \"%s\" of database \"%s\" can't be routed and is left out: %s",
					id, work_database(), skip_reason)));
	batch_set_mark(batch, mark);
}

/*
 * After an error nothing that was read since the last written mark is known to be
 * done.  It is read again; what is in memory or has a row is left out then.
 */
static void
rewind_after(const WorkError *error)
{
	slices_drop();
	cursor_reset();
	lanes_router_rewound();
	lanes_recover();
	nwindows = 0;
	has_caught_up = false;
	last_known_is_set = false;
	has_new_events = true;
	must_skip = false;
	if (error->is_of_row && max_events > 1)
	{
		max_events = 1;
		return;
	}
	must_skip = error->is_of_row;
	strlcpy(skip_reason, error->message, sizeof(skip_reason));
	if (must_skip)
		return;
	trouble_note(TROUBLE_ROUTING, error);
	retry_at = clock_work_time() + RETRY_TIME;
}

/* Returns false if the extension is gone. */
static bool
route_batch(void)
{
	Batch	   *batch = batch_create();
	WorkError	error;
	WorkResult	result = work_run("routing events", true, must_skip ? skip : route,
								  batch, &error);

	batch_release(batch);
	if (result == WORK_FAILED)
		rewind_after(&error);
	else
	{
		must_skip = false;
		retry_at = 0;
		max_events = Min(2 * max_events, MAX_EVENTS);
		trouble_end(TROUBLE_ROUTING);
	}
	return result != WORK_GONE;
}

/*
 * What may pass is tried again.  An event that fails again and again is left out for
 * those who have not had their turn.
 */
static void
slice_failed(Slicing *slicing, const WorkError *error)
{
	last_known_is_set = false;
	lanes_recover();
	if (error->is_of_row && ++slicing->failures >= MAX_SLICE_FAILURES)
	{
		counters_add(COUNTER_LEFT_OUT, 1);
		ereport(LOG,
				(errmsg("event \"%s\" of database \"%s\" can't be routed to webhooks behind \"%s\" and is left out for them: %s",
						slicing->event->id, work_database(), slicing->position,
						error->message)));
		slices_end(slicing);
		tell_lanes();
		return;
	}
	trouble_note(TROUBLE_ROUTING, error);
	retry_at = clock_work_time() + RETRY_TIME;
}

/* Returns false if the extension is gone. */
static bool
route_next_slice(void)
{
	Slice		slice = {.slicing = slices_next()};
	WorkError	error;
	WorkResult	result = work_run("routing a slice", true, route_slice, &slice, &error);

	if (result == WORK_FAILED)
		slice_failed(slice.slicing, &error);
	if (result != WORK_DONE)
		return result != WORK_GONE;
	retry_at = 0;
	trouble_end(TROUBLE_ROUTING);
	if (slice.is_last)
		slices_end(slice.slicing);
	else
		slices_advance(slice.slicing, slice.position);
	tell_lanes();
	return true;
}

bool
router_route(void)
{
	if (can_read() && !route_batch())
		return false;
	if (retry_at > clock_work_time() || !can_slice())
		return true;
	return route_next_slice();
}

bool
router_put_down(void)
{
	if (!can_slice())
		return true;
	if (!route_next_slice())
		return false;
	if (retry_at != 0)
		slices_drop();
	return true;
}
