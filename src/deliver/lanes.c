/*-------------------------------------------------------------------------
 *
 * lanes.c
 *	  Dispatches that go out one after the other.
 *
 * IDENTIFICATION
 *	  src/deliver/lanes.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "deliver/lanes.h"
#include "deliver/waiting.h"
#include "server/clock.h"
#include "server/settings.h"
#include "store/dispatch_order.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So many wait in memory behind the head of a lane, and in all of them. */
#define MAX_WAITING 16
#define MAX_WAITING_IN_ALL 512

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

struct Lane
{
	char	   *name;			/* hash key: webhook's id, then the order key */
	Subscriber *subscriber;		/* one of its references is ours */
	int			ndispatches;	/* that know this lane */
	Dispatch   *head;			/* NULL: there is none in memory */
	dlist_head	waiting;		/* Dispatch.lane_node: behind the head */
	int			nwaiting;
	int			nleaving;		/* on their way to the table */
	bool		has_rows;		/* there may be some that are not in memory */
	bool		rests;			/* its first row will be due by itself */
	Id			first_event_id; /* of that row */
	bool		is_listed;		/* in lanes_to_read */
	bool		is_admitted;	/* and its head may be called at once */
	dlist_node	list_node;

	/* Rows up to here are in memory, or done. */
	Id			event_id;
	Id			id;

	/* While it is being read. */
	int			nread;
	bool		is_found;		/* a row that can be called or ended */
	bool		is_cut;			/* no more of it can be taken now */
};

static MemoryContext lanes_context;
static HTAB *lanes;
static dlist_head lanes_to_read;
static int	nwaiting_in_all;
static List *unknown_lanes;		/* announced, and not looked at */

static TimestampTz next_overdue_at;

/* A look at the first row of each lane in the table. */
static bool is_sweeping;
static bool must_sweep_again;
static bool router_caught_up;
static Id	swept_webhook_id;
static char *swept_order_key;

typedef struct LaneEntry
{
	const char *name;
	Lane	   *lane;
} LaneEntry;

static uint32
name_hash(const void *key, Size size pg_attribute_unused())
{
	const char *name = *(const char *const *) key;

	return hash_bytes((const unsigned char *) name, (int) strlen(name));
}

static int
name_compare(const void *a, const void *b, Size size pg_attribute_unused())
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void
start_sweep(void)
{
	swept_webhook_id[0] = '\0';
	swept_order_key[0] = '\0';
}

void
lanes_open(MemoryContext context)
{
	HASHCTL		control = {
		.keysize = sizeof(char *),
		.entrysize = sizeof(LaneEntry),
		.hash = name_hash,
		.match = name_compare,
		.hcxt = context
	};

	lanes_context = context;
	lanes = hash_create("webhook_events lanes", 64, &control,
						HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	dlist_init(&lanes_to_read);
	nwaiting_in_all = 0;
	unknown_lanes = NIL;
	next_overdue_at = 0;
	swept_order_key = MemoryContextStrdup(context, "");
	start_sweep();
	is_sweeping = true;
	must_sweep_again = false;
	router_caught_up = false;
}

/* Finds a lane; NULL if it is not in memory. */
static Lane *
find(const char *webhook_id, const char *order_key)
{
	char	   *name = psprintf("%s%s", webhook_id, order_key);
	LaneEntry  *entry = hash_search(lanes, &name, HASH_FIND, NULL);

	pfree(name);
	return entry ? entry->lane : NULL;
}

static Lane *
create(Subscriber *subscriber, const char *order_key)
{
	Lane	   *lane = MemoryContextAllocZero(lanes_context, sizeof(Lane));
	LaneEntry  *entry;

	lane->name = MemoryContextAlloc(lanes_context, ID_LENGTH + strlen(order_key) + 1);
	strcpy(lane->name, subscriber->id);
	strcat(lane->name, order_key);
	lane->subscriber = subscriber;
	subscriber->references++;
	dlist_init(&lane->waiting);
	entry = hash_search(lanes, &lane->name, HASH_ENTER, NULL);
	entry->name = lane->name;
	entry->lane = lane;
	return lane;
}

/* Forgets a lane that nothing in memory needs. */
static void
release(Lane *lane)
{
	if (lane->ndispatches > 0 || lane->is_listed)
		return;
	lane->subscriber->references--;
	hash_search(lanes, &lane->name, HASH_REMOVE, NULL);
	pfree(lane->name);
	pfree(lane);
}

static void
list_lane(Lane *lane)
{
	if (lane->is_listed)
		return;
	lane->is_listed = true;
	dlist_push_tail(&lanes_to_read, &lane->list_node);
}

/* Those up to this one need not be read. */
static void
read_to(Lane *lane, const char *event_id, const char *id)
{
	int			order = strcmp(event_id, lane->event_id);

	if (order < 0 || (order == 0 && strcmp(id, lane->id) < 0))
		return;
	strlcpy(lane->event_id, event_id, sizeof(Id));
	strlcpy(lane->id, id, sizeof(Id));
}

/* There is a row in the table, and it must not be passed over. */
static void
note_row(Lane *lane, const char *event_id)
{
	lane->has_rows = true;
	lane->subscriber->has_lane_rows = true;
	if (strcmp(event_id, lane->event_id) > 0)
		return;
	strlcpy(lane->event_id, event_id, sizeof(Id));
	lane->id[0] = '\0';
}

/* Sends one that has no row to the table, to wait for its turn. */
static void
leave(Dispatch *dispatch)
{
	dispatch->lane_place = LANE_LEAVING;
	dispatch->lane->nleaving++;
	dispatch_end(dispatch, DISPATCH_ACTIVE, NULL);
}

static void
stop_waiting(Dispatch *dispatch)
{
	dlist_delete(&dispatch->lane_node);
	dispatch->lane->nwaiting--;
	nwaiting_in_all--;
	dispatch->lane_place = LANE_NONE;
}

/* Sends all that wait behind this one, NULL for the head, to the table. */
static void
evict_behind(Lane *lane, const Dispatch *last)
{
	while (lane->nwaiting > 0)
	{
		Dispatch   *dispatch = dlist_tail_element(Dispatch, lane_node, &lane->waiting);

		if (dispatch == last)
			break;
		if (dispatch->has_row)
			dispatch_forget(dispatch);
		else
		{
			stop_waiting(dispatch);
			leave(dispatch);
		}
	}
}

static void
wait_in(Lane *lane, Dispatch *dispatch)
{
	dispatch->lane_place = LANE_WAITING;
	dlist_push_tail(&lane->waiting, &dispatch->lane_node);
	lane->nwaiting++;
	nwaiting_in_all++;
}

static void
become_head(Lane *lane, Dispatch *dispatch)
{
	dispatch->lane_place = LANE_HEAD;
	lane->head = dispatch;
	lane->rests = false;
	read_to(lane, dispatch->event_id, dispatch->id);
}

/* The head is gone: whose turn is it? */
static void
advance(Lane *lane)
{
	Dispatch   *next;

	if (lane->nwaiting == 0)
	{
		if (lane->has_rows)
			list_lane(lane);
		return;
	}
	next = dlist_head_element(Dispatch, lane_node, &lane->waiting);
	stop_waiting(next);
	become_head(lane, next);
	if (lane->is_admitted)
		dispatch_enqueue(next);
	else
		dispatch_submit(next);
}

void
lane_expect(Subscriber *subscriber, const char *order_key)
{
	Lane	   *lane = find(subscriber->id, order_key);
	MemoryContext old_context;

	if (lane != NULL)
		return;
	lane = create(subscriber, order_key);
	if (!subscriber->has_lane_rows)
		return;
	old_context = MemoryContextSwitchTo(lanes_context);
	unknown_lanes = lappend(unknown_lanes, lane);
	MemoryContextSwitchTo(old_context);
}

/*
 * Does anything wait in order at all?  If not, the webhooks of the unknown lanes
 * have no rows, and are not asked about before they get some.
 */
static bool
any_waits(void)
{
	ListCell   *cell;

	if (lanes_exist())
		return true;
	foreach(cell, unknown_lanes)
		((Lane *) lfirst(cell))->subscriber->has_lane_rows = false;
	list_free(unknown_lanes);
	unknown_lanes = NIL;
	return false;
}

void
lanes_look(void)
{
	LaneList	unknown;
	ListCell   *cell;
	DueRow	   *rows;
	int			nrows;

	if (unknown_lanes == NIL || !any_waits())
		return;
	lane_list_init(&unknown);
	foreach(cell, unknown_lanes)
	{
		Lane	   *lane = lfirst(cell);

		lane_list_add(&unknown, lane->subscriber->id, lane->name + ID_LENGTH, "", "");
	}
	list_free(unknown_lanes);
	unknown_lanes = NIL;
	nrows = lanes_find_first(&unknown, 1, &rows);
	for (int i = 0; i < nrows; i++)
	{
		Lane	   *lane = find(rows[i].webhook_id, rows[i].order_key);

		lane->has_rows = true;
		lane->rests = true;
		strlcpy(lane->first_event_id, rows[i].event_id, sizeof(Id));
	}
}

/* Can one with this event become the head, with nothing before it? */
static bool
is_first(const Lane *lane, const char *event_id)
{
	if (lane->head != NULL || lane->is_listed || lane->nleaving > 0)
		return false;
	return !lane->has_rows ||
		(lane->rests && strcmp(event_id, lane->first_event_id) < 0);
}

bool
lane_join(Dispatch *dispatch, const char *order_key)
{
	Lane	   *lane = find(dispatch->subscriber->id, order_key);

	dispatch->lane = lane;
	lane->ndispatches++;
	if (is_first(lane, dispatch->event_id))
	{
		become_head(lane, dispatch);
		return true;
	}
	if (lane->head != NULL && lane->head->state != DISPATCH_ENDED &&
		!lane->has_rows && lane->nleaving == 0 &&
		lane->nwaiting < MAX_WAITING && nwaiting_in_all < MAX_WAITING_IN_ALL)
		wait_in(lane, dispatch);
	else
		leave(dispatch);
	return false;
}

/*
 * Has a head that is to be called again held the others back for long enough?  If
 * not, it is noted until when it does.
 */
static bool
has_held_enough(Dispatch *dispatch)
{
	if (!dispatch->was_called)
		return false;
	if (dispatch->holds_until == 0)
		dispatch->holds_until = dispatch->ended_at +
			setting_ordering_patience * INT64CONST(1000);
	if (dispatch->holds_until <= dispatch->ended_at)
		return true;
	next_overdue_at = Min(next_overdue_at, dispatch->holds_until);
	return false;
}

void
lane_ended(Dispatch *dispatch)
{
	Lane	   *lane = dispatch->lane;

	if (dispatch->lane_place == LANE_WAITING)
		stop_waiting(dispatch);
	if (dispatch->lane_place != LANE_HEAD)
		return;
	if (dispatch->status == DISPATCH_ACTIVE && !has_held_enough(dispatch))
	{
		evict_behind(lane, NULL);
		return;
	}
	dispatch->is_passed = (dispatch->status == DISPATCH_ACTIVE);
	dispatch->lane_place = LANE_NONE;
	lane->head = NULL;
	advance(lane);
}

void
lane_forget(Dispatch *dispatch)
{
	Lane	   *lane = dispatch->lane;

	switch (dispatch->lane_place)
	{
		case LANE_NONE:
			break;
		case LANE_HEAD:
			lane->head = NULL;
			lane->rests = true;
			strlcpy(lane->first_event_id, dispatch->event_id, sizeof(Id));
			note_row(lane, dispatch->event_id);
			evict_behind(lane, NULL);
			break;
		case LANE_WAITING:
			evict_behind(lane, dispatch);
			stop_waiting(dispatch);
			note_row(lane, dispatch->event_id);
			break;
		case LANE_LEAVING:
			lane->nleaving--;
			note_row(lane, dispatch->event_id);
			if (lane->head == NULL && lane->nwaiting == 0 &&
				(!lane->rests ||
				 strcmp(dispatch->event_id, lane->first_event_id) < 0))
				list_lane(lane);
			break;
	}
	dispatch->lane = NULL;
	lane->ndispatches--;
	release(lane);
}

bool
lane_waits(const Dispatch *dispatch)
{
	return dispatch->lane_place == LANE_WAITING || dispatch->lane_place == LANE_LEAVING;
}

const char *
lane_key(const Dispatch *dispatch)
{
	return dispatch->lane ? dispatch->lane->name + ID_LENGTH : NULL;
}

bool
lane_is_busy(const DueRow *row)
{
	Lane	   *lane = find(row->webhook_id, row->order_key);

	if (lane == NULL || (lane->head == NULL && !lane->is_listed))
		return false;
	if (lane->nwaiting > 0 &&
		strcmp(row->event_id,
			   dlist_tail_element(Dispatch, lane_node, &lane->waiting)->event_id) < 0)
		evict_behind(lane, NULL);
	note_row(lane, row->event_id);
	return true;
}

void
lane_call_up(const DueRow *row, Subscriber *subscriber, bool admitted)
{
	Lane	   *lane = find(row->webhook_id, row->order_key);

	if (lane == NULL)
		lane = create(subscriber, row->order_key);
	lane->event_id[0] = '\0';
	lane->id[0] = '\0';
	lane->has_rows = true;
	lane->rests = false;
	subscriber->has_lane_rows = true;
	lane->is_admitted = admitted;
	if (admitted)
	{
		subscriber_take_token(subscriber);
		subscriber->host->nreserved++;
	}
	list_lane(lane);
}

/* Takes lanes from the list, and what is in the table of them next. */
static List *
read_some(DueRow **rows, int *nrows, int *limit)
{
	LaneList	wanted;
	List	   *result = NIL;

	*limit = (nwaiting_in_all < MAX_WAITING_IN_ALL) ? MAX_WAITING : 1;
	lane_list_init(&wanted);
	while (wanted.count < MAX_READ && !dlist_is_empty(&lanes_to_read))
	{
		Lane	   *lane = dlist_container(Lane, list_node,
										   dlist_pop_head_node(&lanes_to_read));

		lane->nread = 0;
		lane->is_found = false;
		lane->is_cut = false;
		lane_list_add(&wanted, lane->subscriber->id, lane->name + ID_LENGTH,
					  lane->event_id, lane->id);
		result = lappend(result, lane);
	}
	*nrows = lanes_find_first(&wanted, *limit, rows);
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
	Batch	   *batch = batch_create();
	const char **ids = palloc(sizeof(char *) * nrows);
	Event	  **events = palloc(sizeof(Event *) * nrows);
	int			nloaded;

	for (int i = 0; i < nrows; i++)
		ids[i] = rows[i]->event_id;
	nloaded = outbox_find(batch->context, ids, nrows, MAX_EVENT_BYTES, events);
	for (int i = 0; i < nrows; i++)
	{
		Lane	   *lane = find(rows[i]->webhook_id, rows[i]->order_key);

		if (i < nloaded && !lane->is_cut)
			take_row(lane, rows[i], batch, events[i]);
		else
			lane->is_cut = true;
		lane->has_rows |= lane->is_cut;
	}
	batch_release(batch);
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

/* Reads some of the lanes that are listed; returns how many. */
static int
read_and_take(void)
{
	TimestampTz now = clock_work_time();
	DueRow	   *rows;
	int			nrows;
	int			limit;
	List	   *some = read_some(&rows, &nrows, &limit);
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
	return list_length(some);
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
 * in memory.  From then on they wait for room like all others.
 */
static void
make_first_due(LaneList *list)
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

		if (rows[i].next_attempt_at != DT_NOEND || rows[i].is_replay ||
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
	make_first_due(&held);
}

void
lanes_look_again(void)
{
	must_sweep_again = is_sweeping;
	is_sweeping = true;
}

void
lanes_router_caught_up(void)
{
	router_caught_up = true;
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
		pfree(swept_order_key);
		swept_order_key = MemoryContextStrdup(lanes_context, order_key);
	}
	make_first_due(&some);
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
	return is_sweeping && router_caught_up && nended_dispatches == 0;
}

/* Not while much is in memory that is still to be written, or called. */
static bool
may_read(void)
{
	return !dlist_is_empty(&lanes_to_read) && nended_dispatches < MAX_ENDED &&
		dispatch_event_bytes() < MAX_EVENT_BYTES_IN_ALL;
}

TimestampTz
lanes_deadline(void)
{
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

bool
lanes_run(void)
{
	TimestampTz now = clock_work_time();

	if (!work_begin("keeping dispatches in order"))
		return false;
	if (next_overdue_at <= now)
		let_pass(now);
	if (may_sweep())
		sweep();
	if (may_read())
	{
		refresh_subscribers();
		lanes_read();
	}
	work_commit();
	return true;
}
