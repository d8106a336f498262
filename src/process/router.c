/*-------------------------------------------------------------------------
 *
 * router.c
 *	  From the outbox to dispatches: which webhooks get the new events.
 *
 * IDENTIFICATION
 *	  src/process/router.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_type.h"
#include "process/dispatch.h"
#include "process/router.h"
#include "storage/settings.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

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
	int			count;
	int			capacity;
	Match	   *items;
} Matches;

static bool has_new_events;
static int	fan_out;			/* dispatches for each event of the last batch */

void
router_open(void)
{
	has_new_events = true;
	fan_out = 1;
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
	return Max(1024, 2 * setting_max_in_flight);
}

bool
router_has_work(void)
{
	return has_new_events && nrowless_dispatches < rowless_limit() &&
		dispatch_event_bytes() < MAX_EVENT_BYTES;
}

/*
 * Makes sure that all that the last snapshot saw is on disk: a transaction
 * that committed asynchronously can be seen before it is durable.  Right
 * behind a page's header nothing was inserted yet, so nothing can be flushed.
 */
static void
flush_wal(void)
{
	XLogRecPtr	upto = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(upto, wal_segment_size) == SizeOfXLogLongPHD)
		upto -= SizeOfXLogLongPHD;
	else if (upto % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		upto -= SizeOfXLogShortPHD;
	XLogFlush(upto);
}

static void
add_match(Event *event, Subscriber *subscriber, void *argument)
{
	Matches    *matches = argument;
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
	HTAB	   *known = hash_create("webhook_events known dispatches", 256,
									&control,
									HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	ArrayParameter ids = {TEXTOID, NULL};
	uint64		nrows;
	int			kept = 0;

	for (int i = 0; i < matches->count; i++)
		array_add_text(&ids, matches->items[i].id);
	nrows = dispatches_find_existing(array_result(&ids));
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

/*
 * Queues a dispatch, or sends it to the table at once if its host is behind
 * already.
 */
static void
create_dispatch(const Match *match, Batch *batch)
{
	Dispatch   *dispatch = dispatch_create(match->id, match->event->id,
										   match->event->type,
										   match->subscriber, batch,
										   match->event, false);
	Host	   *host = match->subscriber->host;

	if (host->is_congested && host_room(host) <= 0)
		dispatch_end(dispatch, DISPATCH_ACTIVE, NULL);
	else
		dispatch_enqueue(dispatch);
}

bool
router_route(void)
{
	int			limit = (rowless_limit() - nrowless_dispatches) / fan_out;
	Batch	   *batch;
	Event	  **events;
	CursorMark *mark;
	Matches		matches;
	bool		seen_before;
	int			nevents;

	limit = Min(Max(limit, 1), MAX_EVENTS);
	if (!work_begin("routing events"))
		return false;
	batch = batch_create();
	events = palloc(sizeof(Event *) * limit);
	nevents = cursor_read(batch->context, limit, MAX_BATCH_BYTES, events,
						  &mark, &seen_before);
	if (nevents == 0)
	{
		has_new_events = false;
		batch_release(batch);
		work_commit();
		return true;
	}
	batch_set_mark(batch, mark);

	matches.count = 0;
	matches.capacity = nevents;
	matches.items = palloc(sizeof(Match) * matches.capacity);
	subscribers_match(events, nevents, add_match, &matches);
	fan_out = Max(matches.count / nevents, 1);
	if (seen_before && matches.count > 0)
		remove_known(&matches);
	for (int i = 0; i < matches.count; i++)
		create_dispatch(&matches.items[i], batch);
	batch_release(batch);
	work_commit();
	flush_wal();
	return true;
}
