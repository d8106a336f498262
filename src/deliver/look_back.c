/*-------------------------------------------------------------------------
 *
 * look_back.c
 *	  What runs raised before their ad-hoc webhooks arrived by replication.
 *
 * Their dispatches are rows at once, in the transaction that forgets which runs are to be
 * looked at, so that a crash loses none.  They have the ids that the router would give
 * them: it is told to look for rows from then on, in case the event is still to be read.
 *
 * IDENTIFICATION
 *	  src/deliver/look_back.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "deliver/dispatch.h"
#include "deliver/look_back.h"
#include "deliver/recorder.h"
#include "deliver/router.h"
#include "deliver/waiting.h"
#include "store/counters.h"
#include "store/dispatch_writer.h"
#include "store/outbox_rows.h"
#include "store/statistics.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

/*
 * No event that is older is looked for, however late a webhook arrives: the events since
 * then are read.
 */
#define MAX_AGE USECS_PER_HOUR

/*
 * As they were made there: one that was disabled at first, or has seen its run's end,
 * has had what it should have.
 */
static Statement arrived_statement = {
	"SELECT w.id, w.modified_at FROM webhook_events_internal.webhooks AS w"
	" WHERE w.actor_run_id = ANY ($1) AND w.actor_run_id IS NOT NULL"
	" AND w.is_ad_hoc AND w.is_enabled AND w.modified_at = w.created_at"
	" AND w.begun_at IS NOT NULL AND w.created_in[1] IS DISTINCT FROM $2",
	2, {TEXTARRAYOID, INT8OID}, NULL
};

static Statement events_statement = {
	"SELECT " OUTBOX_COLUMNS " FROM webhook_events_internal.outbox AS o"
	" WHERE o.id >= $1 AND o.id < $2 AND o.actor_run_id = ANY ($3)",
	3, {TEXTOID, TEXTOID, TEXTARRAYOID}, NULL
};

/* A dispatch that is to be made. */
typedef struct Due
{
	Id			id;
	const Event *event;
	Subscriber *subscriber;
} Due;

/* The events of these runs since the first of the webhooks, but no older ones than that. */
static List *
find_events(Datum run_ids, List *subscribers)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since = now;
	List	   *events = NIL;
	Id			from;
	Id			to;
	Datum		values[3];
	uint64		count;
	ListCell   *cell;

	foreach(cell, subscribers)
	{
		const Webhook *webhook = ((Subscriber *) lfirst(cell))->webhook;

		if (webhook != NULL)
			since = Min(since, webhook->since);
	}
	id_lower_bound(from, Max(since, now - MAX_AGE));
	id_lower_bound(to, now + USECS_PER_DAY);
	values[0] = CStringGetTextDatum(from);
	values[1] = CStringGetTextDatum(to);
	values[2] = run_ids;
	count = statement_read(&events_statement, values, NULL, 0);
	for (uint64 row = 0; row < count; row++)
		events = lappend(events, outbox_row_event(CurrentMemoryContext, row));
	return events;
}

/* What of that is for which webhook, and not in memory. */
static List *
find_due(List *events, List *subscribers, ArrayParameter *ids)
{
	List	   *result = NIL;
	ListCell   *event_cell;
	ListCell   *cell;

	foreach(event_cell, events)
	{
		const Event *event = lfirst(event_cell);

		foreach(cell, subscribers)
		{
			Subscriber *subscriber = lfirst(cell);
			Due		   *due;

			if (subscriber->webhook == NULL ||
				webhook_match(subscriber->webhook, event) != MATCH_YES)
				continue;
			due = palloc(sizeof(Due));
			id_make_dispatch(due->id, event->id, subscriber->id);
			due->event = event;
			due->subscriber = subscriber;
			if (dispatch_find(due->id) != NULL || recorder_has_set_aside(due->id))
				continue;
			array_add_text(ids, due->id);
			result = lappend(result, due);
		}
	}
	return result;
}

/* Leaves out those that have a row. */
static List *
without_rows(List *list, Datum ids)
{
	HASHCTL		control = {
		.keysize = sizeof(Id), .entrysize = sizeof(Id), .hcxt = CurrentMemoryContext
	};
	HTAB	   *existing = hash_create("webhook_events rows of dispatches", 64, &control,
									   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	uint64		count = dispatches_find_existing(ids);
	List	   *result = NIL;
	ListCell   *cell;

	for (uint64 row = 0; row < count; row++)
		hash_search(existing, statement_text(row, 1), HASH_ENTER, NULL);
	foreach(cell, list)
	{
		Due		   *due = lfirst(cell);

		if (hash_search(existing, due->id, HASH_FIND, NULL) == NULL)
			result = lappend(result, due);
	}
	hash_destroy(existing);
	return result;
}

static void
insert(List *list)
{
	DispatchWriter *writer = dispatch_writer_create();
	StatsLog   *log = stats_log_create();
	TimestampTz time = waiting_write_time();
	ListCell   *cell;

	foreach(cell, list)
	{
		const Due  *due = lfirst(cell);
		const Webhook *webhook = due->subscriber->webhook;
		DispatchRow row = {
			.id = due->id,
			.event_id = due->event->id,
			.webhook_id = webhook->id,
			.user_id = webhook->user_id,
			.event_type = due->event->type,
			.status = DISPATCH_ACTIVE,
			.created_at = GetCurrentTimestamp(),
			.next_attempt_at = time,
			.order_key = webhook_order_key(webhook, due->event),
			.epoch = webhook->epoch
		};
		StatsRow	gain = {
			.webhook_id = webhook->id,
			.dispatches = 1,
			.last_dispatch_id = due->id,
			.last_status = DISPATCH_ACTIVE
		};

		dispatch_writer_insert(writer, &row);
		stats_log_add(log, &gain);
		due->subscriber->has_lane_rows |= (row.order_key != NULL);
	}
	dispatch_writer_execute(writer);
	stats_log_write(log);
	work_see_writes();
	waiting_note_due(time);
}

int
look_back(Datum run_ids)
{
	Datum		values[] = {run_ids, Int64GetDatum((int64) GetSystemIdentifier())};
	ArrayParameter ids = {TEXTOID, NULL};
	List	   *subscribers;
	List	   *list;

	(void) subscribers_load(&arrived_statement, values, NULL, 0, &subscribers);
	if (subscribers == NIL)
		return 0;
	list = find_due(find_events(run_ids, subscribers), subscribers, &ids);
	if (list == NIL)
		return 0;
	list = without_rows(list, array_result(&ids));
	if (list != NIL)
		insert(list);
	return list_length(list);
}

void
look_back_done(int nmade)
{
	if (nmade == 0)
		return;
	router_expect_rows();
	counters_add(COUNTER_DISPATCHES, nmade);
}
