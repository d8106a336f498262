/*-------------------------------------------------------------------------
 *
 * lane_rows.c
 *	  Lanes in the table: reading what stands behind those in memory, letting
 *	  pass what was held back for too long, looking for lanes without a head.
 *
 * IDENTIFICATION
 *	  src/deliver/lane_rows.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/lane_state.h"
#include "deliver/lanes.h"
#include "deliver/trouble.h"
#include "deliver/waiting.h"
#include "server/clock.h"
#include "store/dispatch_order.h"
#include "store/dispatch_writer.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So many lanes are read at once, and looked at in a step of a sweep. */
#define MAX_READ 100
#define MAX_SWEPT 200

/* So many that hold others back for too long are dealt with at once. */
#define MAX_OVERDUE 500

/* Bytes of events that are loaded at once; and with which no more are. */
#define MAX_EVENT_BYTES (4 * 1024 * 1024)
#define MAX_EVENT_BYTES_IN_ALL (8 * 1024 * 1024)

/* No lanes are read while so many that ended are not written. */
#define MAX_ENDED 1000

/* So long after an error it is tried again. */
#define RETRY_TIME USECS_PER_SEC

/* A look at the first row of each lane in the table. */
static bool is_sweeping;
static bool must_sweep_again;
bool		router_caught_up;
static bool passed_rows;		/* some were due before that */
static TimestampTz retry_at;	/* after an error; 0: there was none */
static Id	swept_webhook_id;
static char *swept_order_key;

static void
start_sweep(void)
{
	swept_webhook_id[0] = '\0';
	swept_order_key[0] = '\0';
}

void
lane_rows_open(void)
{
	swept_order_key = MemoryContextStrdup(lanes_context, "");
	start_sweep();
	is_sweeping = true;
	must_sweep_again = false;
	router_caught_up = false;
	passed_rows = false;
	retry_at = 0;
}

/*
 * Takes a lane from the list.  NULL if the table lacks some of it that are still on
 * their way there, or if it is held: it is listed again when that is over.
 */
static Lane *
pop_listed(void)
{
	Lane	   *lane = dlist_container(Lane, list_node,
									   dlist_pop_head_node(&lanes_to_read));

	if (lane->nleaving == 0 && !lane->is_held && !all_are_held)
		return lane;
	lane->is_listed = false;
	if (lane->is_admitted)
		lane->subscriber->host->nreserved--;
	lane->is_admitted = false;
	passed_rows |= all_are_held;
	release(lane);
	return NULL;
}

/*
 * Takes some lanes from the list, "*npopped", and what is in the table of them
 * next.
 */
static List *
read_some(DueRow **rows, int *nrows, int *limit, int *npopped)
{
	LaneList	wanted;
	List	   *result = NIL;

	*npopped = 0;
	*limit = (nwaiting_in_all < MAX_WAITING_IN_ALL) ? MAX_WAITING : 1;
	lane_list_init(&wanted);
	while (wanted.count < MAX_READ && !dlist_is_empty(&lanes_to_read))
	{
		Lane	   *lane = pop_listed();

		(*npopped)++;
		if (lane == NULL)
			continue;
		lane->nread = 0;
		lane->is_found = false;
		lane->is_cut = false;
		lane_list_add(&wanted, lane->subscriber->id, lane->name + ID_LENGTH,
					  lane->event_id, lane->id);
		result = lappend(result, lane);
	}
	*nrows = wanted.count > 0 ? lanes_find_first(&wanted, *limit, rows) : 0;
	return result;
}

/*
 * Is this row wanted now?  One that is called again later ends what can be read of
 * the lane; if it is the first, the lane rests until then.
 */
static bool
wants(Lane *lane, const DueRow *row, TimestampTz now)
{
	lane->nread++;
	if (lane->is_cut)
		return false;
	if (dispatch_find(row->id) != NULL)
	{
		read_to(lane, row->event_id, row->id);
		return false;
	}
	if (row->is_replay || row->next_attempt_at == DT_NOEND || row->next_attempt_at <= now)
	{
		lane->is_found = true;
		return true;
	}
	lane->is_cut = true;
	if (lane->is_found)
		return false;
	lane->rests = true;
	strlcpy(lane->first_event_id, row->event_id, sizeof(Id));
	return false;
}

/* Makes a dispatch of a row; it waits in its lane, or ends at once. */
static void
take_row(Lane *lane, const DueRow *row, Batch *batch, Event *event)
{
	const char *reason = subscriber_refusal(lane->subscriber, row->event_type,
											row->epoch);
	bool		can_be_called = (reason == NULL && event != NULL);
	Dispatch   *dispatch = dispatch_create(row->id, row->event_id, row->event_type,
										   lane->subscriber,
										   can_be_called ? batch : NULL,
										   can_be_called ? event : NULL,
										   true, row->is_replay);

	dispatch->attempts = row->attempts;
	dispatch->place = row->place;
	dispatch->is_counted = !row->is_new;
	dispatch->holds_until = row->holds_until;
	dispatch->epoch = row->epoch;
	dispatch->lane = lane;
	lane->ndispatches++;
	read_to(lane, row->event_id, row->id);
	if (can_be_called)
		wait_in(lane, dispatch);
	else
		dispatch_end(dispatch, DISPATCH_FAILED, reason ? reason : "Event was removed.");
}

/* Makes dispatches of rows, as far as their events can be loaded now. */
static void
take_rows(DueRow **rows, int nrows)
{
	const char **ids = palloc(sizeof(char *) * nrows);
	Event	  **events = palloc(sizeof(Event *) * nrows);
	Batch	   *batch;
	int			nloaded;

	for (int i = 0; i < nrows; i++)
		ids[i] = rows[i]->event_id;
	batch = batch_load(ids, nrows, MAX_EVENT_BYTES, events, &nloaded);
	for (int i = 0; i < nrows; i++)
	{
		Lane	   *lane = find(rows[i]->webhook_id, rows[i]->order_key);

		if (i < nloaded && !lane->is_cut)
			take_row(lane, rows[i], batch, events[i]);
		else
			lane->is_cut = true;
		lane->has_rows |= lane->is_cut;
	}
	batches_release_loaded();
}

/* A lane was read: its head, if one was found, is called. */
static void
finish_reading(Lane *lane)
{
	Host	   *host = lane->subscriber->host;

	lane->is_listed = false;
	if (lane->is_admitted)
		host->nreserved--;
	if (lane->head == NULL && (lane->nwaiting > 0 || !lane->rests))
		advance(lane);
	lane->is_admitted = false;
	release(lane);
}

/* Reads some of the lanes that are listed; returns how many were taken from there. */
static int
read_and_take(void)
{
	TimestampTz now = clock_work_time();
	DueRow	   *rows;
	int			nrows;
	int			limit;
	int			npopped;
	List	   *some = read_some(&rows, &nrows, &limit, &npopped);
	DueRow	  **wanted = palloc(sizeof(DueRow *) * (nrows + 1));
	int			nwanted = 0;
	ListCell   *cell;

	for (int i = 0; i < nrows; i++)
	{
		if (wants(find(rows[i].webhook_id, rows[i].order_key), &rows[i], now))
			wanted[nwanted++] = &rows[i];
	}
	foreach(cell, some)
	{
		Lane	   *lane = lfirst(cell);

		lane->has_rows = (lane->nread == limit || lane->is_cut);
		lane->is_cut = false;
	}
	if (nwanted > 0)
		take_rows(wanted, nwanted);
	foreach(cell, some)
		finish_reading(lfirst(cell));
	return npopped;
}

/* What is listed meanwhile is left for the next time. */
void
lanes_read(void)
{
	int			nlisted = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &lanes_to_read)
		nlisted++;
	while (nlisted > 0)
		nlisted -= read_and_take();
}

/*
 * Makes the first rows of lanes due, if they wait for their turn and no head is
 * in memory.  From then on they wait for room like all others.  Replays have a queue
 * of their own that comes to them, unless that was read before.
 */
static void
make_first_due(LaneList *list, bool replays)
{
	DispatchWriter *writer;
	TimestampTz time = waiting_write_time();
	DueRow	   *rows;
	int			nrows = list->count > 0 ? lanes_find_first(list, 1, &rows) : 0;
	bool		any = false;

	writer = dispatch_writer_create();
	for (int i = 0; i < nrows; i++)
	{
		Lane	   *lane = find(rows[i].webhook_id, rows[i].order_key);
		DispatchRow row = {
			.id = rows[i].id,
			.status = DISPATCH_ACTIVE,
			.attempts = rows[i].attempts,
			.next_attempt_at = time,
			.place = &rows[i].place
		};

		if ((rows[i].is_replay ? !replays : rows[i].next_attempt_at != DT_NOEND) ||
			dispatch_find(rows[i].id) != NULL || (lane != NULL && lane->head != NULL))
			continue;
		if (lane != NULL)
		{
			note_row(lane, rows[i].event_id);
			lane->rests = false;
			list_lane(lane);
			continue;
		}
		dispatch_writer_update(writer, &row);
		any = true;
	}
	if (!any)
		return;
	dispatch_writer_execute(writer);
	work_see_writes();
	waiting_note_due(time);
}

/* Takes out of their lanes those that held others back for too long. */
static void
let_pass(TimestampTz now)
{
	ArrayParameter ids = {TEXTOID, NULL};
	LaneList	held;
	DueRow	   *rows;
	int			nrows = lanes_find_overdue(now, MAX_OVERDUE, &rows);
	const char *least = NULL;
	const char *greatest = NULL;

	lane_list_init(&held);
	for (int i = 0; i < nrows; i++)
	{
		/*
		 * One that is in memory holds nobody any more when its call has
		 * failed.
		 */
		if (dispatch_find(rows[i].id) != NULL)
			continue;
		array_add_text(&ids, rows[i].id);
		lane_list_add(&held, rows[i].webhook_id, rows[i].order_key, "", "");
		if (least == NULL || strcmp(rows[i].id, least) < 0)
			least = rows[i].id;
		if (greatest == NULL || strcmp(rows[i].id, greatest) > 0)
			greatest = rows[i].id;
	}
	next_overdue_at = (held.count > 0 && nrows == MAX_OVERDUE) ? 0 : lanes_next_overdue(now);
	if (held.count == 0)
		return;
	lanes_let_pass(array_result(&ids), least, greatest);
	work_see_writes();
	make_first_due(&held, true);
}

void
lanes_look_again(void)
{
	must_sweep_again = is_sweeping;
	is_sweeping = true;
}

void
look_at_passed_rows(void)
{
	if (!router_caught_up || all_are_held)
		return;
	if (passed_rows)
		waiting_look_again();
	passed_rows = false;
}

bool
lane_is_busy(const DueRow *row)
{
	if (router_caught_up && !all_are_held)
		return lane_has_others(row);
	passed_rows = true;
	return true;
}

/*
 * Looks at some of the lanes in the table.  Whoever brings about that one has no
 * head sees to the next, but a crash can come between; and what waited for a
 * webhook that was disabled has ended in no order.  A row may stand behind one
 * that has none yet because it is still to be routed again: so not before that
 * is done.
 */
static void
sweep(void)
{
	LaneList	some;
	char	   *order_key = swept_order_key;
	int			count;

	lane_list_init(&some);
	count = lanes_find_next(swept_webhook_id, &order_key, MAX_SWEPT, &some);
	if (count > 0)
	{
		char	   *old_key = swept_order_key;

		swept_order_key = MemoryContextStrdup(lanes_context, order_key);
		pfree(old_key);
	}
	make_first_due(&some, false);
	if (count == MAX_SWEPT)
		return;
	is_sweeping = must_sweep_again;
	must_sweep_again = false;
	start_sweep();
}

/* A step for each flush, so that a long sweep keeps nobody waiting. */
static bool
may_sweep(void)
{
	return is_sweeping && router_caught_up && !all_are_held && dispatches_ended() == 0;
}

/* Not while much is in memory that is still to be written, or called. */
static bool
may_read(void)
{
	return !dlist_is_empty(&lanes_to_read) && dispatches_ended() < MAX_ENDED &&
		batches_event_bytes() < MAX_EVENT_BYTES_IN_ALL;
}

TimestampTz
lanes_deadline(void)
{
	if (retry_at != 0)
		return retry_at;
	if (may_sweep() || may_read())
		return 0;
	return next_overdue_at;
}

/* Looks up the webhooks of the lanes that are to be read. */
static void
refresh_subscribers(void)
{
	ArrayParameter ids = {TEXTOID, NULL};
	dlist_iter	iter;

	dlist_foreach(iter, &lanes_to_read)
		array_add_text(&ids, dlist_container(Lane, list_node, iter.cur)->subscriber->id);
	if (ids.state != NULL)
		subscribers_refresh(array_result(&ids));
}

/* The transaction. */
static void
keep_in_order(void *argument)
{
	TimestampTz now = *(TimestampTz *) argument;

	if (next_overdue_at <= now)
		let_pass(now);
	if (may_sweep())
		sweep();
	if (may_read())
	{
		refresh_subscribers();
		lanes_read();
	}
}

bool
lanes_run(void)
{
	TimestampTz now = clock_work_time();
	WorkError	error;

	switch (work_run("keeping dispatches in order", true, keep_in_order, &now, &error))
	{
		case WORK_DONE:
			retry_at = 0;
			trouble_end(TROUBLE_ORDERING);
			return true;
		case WORK_FAILED:
			batches_release_loaded();
			lanes_recover();
			lanes_look_again();
			next_overdue_at = 0;
			retry_at = now + RETRY_TIME;
			trouble_note(TROUBLE_ORDERING, &error);
			return true;
		case WORK_GONE:
			return false;
	}
	pg_unreachable();
}
