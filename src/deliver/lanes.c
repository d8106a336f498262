/*-------------------------------------------------------------------------
 *
 * lanes.c
 *	  Dispatches that go out one after the other: lanes in memory.
 *
 * IDENTIFICATION
 *	  src/deliver/lanes.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "deliver/lane_state.h"
#include "deliver/lanes.h"
#include "server/settings.h"
#include "store/dispatch_order.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* So many lanes are held at once; when there are more, all are. */
#define MAX_HELD 10000

MemoryContext lanes_context;
static HTAB *lanes;
dlist_head	lanes_to_read;
int			nwaiting_in_all;
static List *unknown_lanes;		/* announced, and not looked at */

TimestampTz next_overdue_at;

bool		all_are_held;
static bool is_rewound;			/* where the router is tells nothing */
static dlist_head held_lanes;
static int	nheld;
static uint64 next_release;		/* the least held_until */

typedef struct LaneEntry
{
	const char *name;
	Lane	   *lane;
} LaneEntry;

void
lanes_open(MemoryContext context)
{
	lanes_context = context;
	lanes = name_table_create("webhook_events lanes", sizeof(LaneEntry), context);
	dlist_init(&lanes_to_read);
	nwaiting_in_all = 0;
	unknown_lanes = NIL;
	next_overdue_at = 0;
	all_are_held = false;
	is_rewound = false;
	dlist_init(&held_lanes);
	nheld = 0;
	next_release = PG_UINT64_MAX;
	lane_rows_open();
}

Lane *
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
	dlist_init(&lane->waiting);
	entry = hash_search(lanes, &lane->name, HASH_ENTER, NULL);
	entry->name = lane->name;
	entry->lane = lane;
	subscriber->references++;
	return lane;
}

void
release(Lane *lane)
{
	if (lane->ndispatches > 0 || lane->is_listed || lane->is_held)
		return;
	lane->subscriber->references--;
	hash_search(lanes, &lane->name, HASH_REMOVE, NULL);
	pfree(lane->name);
	pfree(lane);
}

/*
 * Nor is one listed in which an earlier worker may have left rows of which not all
 * that stand before them were routed again; the sweep will find it.
 */
void
list_lane(Lane *lane)
{
	if (lane->is_listed || lane->is_held || all_are_held ||
		(lane->is_suspect && !router_caught_up))
		return;
	lane->is_listed = true;
	dlist_push_tail(&lanes_to_read, &lane->list_node);
}

void
read_to(Lane *lane, const char *event_id, const char *id)
{
	int			order = strcmp(event_id, lane->event_id);

	if (order < 0 || (order == 0 && strcmp(id, lane->id) < 0))
		return;
	strlcpy(lane->event_id, event_id, sizeof(Id));
	strlcpy(lane->id, id, sizeof(Id));
}

void
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

/* It was being read: what is in memory of it goes back, and all of it is read again. */
static void
read_anew(Lane *lane)
{
	lane->is_admitted = false;
	lane->is_cut = false;
	lane->has_rows = true;
	dlist_push_tail(&lanes_to_read, &lane->list_node);
	if (lane->head == NULL)
		evict_behind(lane, NULL);
}

void
lanes_recover(void)
{
	HASH_SEQ_STATUS scan;
	LaneEntry  *entry;

	dlist_init(&lanes_to_read);
	list_free(unknown_lanes);
	unknown_lanes = NIL;
	hash_seq_init(&scan, lanes);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->lane->is_listed)
			read_anew(entry->lane);
		else
			release(entry->lane);
	}
}

void
wait_in(Lane *lane, Dispatch *dispatch)
{
	dlist_node *before = &lane->waiting.head;

	while (dlist_has_prev(&lane->waiting, before) &&
		   strcmp(dlist_container(Dispatch, lane_node,
								  dlist_prev_node(&lane->waiting, before))->event_id,
				  dispatch->event_id) > 0)
		before = dlist_prev_node(&lane->waiting, before);
	dlist_insert_before(before, &dispatch->lane_node);
	dispatch->lane_place = LANE_WAITING;
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

void
advance(Lane *lane)
{
	Dispatch   *next;

	if (lane->is_held)
		return;
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
	nrows = lanes_find_first(&unknown, 1, &rows);
	list_free(unknown_lanes);
	unknown_lanes = NIL;
	for (int i = 0; i < nrows; i++)
	{
		Lane	   *lane = find(rows[i].webhook_id, rows[i].order_key);

		lane->has_rows = true;
		lane->is_suspect = !router_caught_up;
		lane->rests = true;
		strlcpy(lane->first_event_id, rows[i].event_id, sizeof(Id));
	}
}

/* Nothing of the lane starts until the cursor has come so far. */
static void
hold(Lane *lane, uint64 until)
{
	if (!lane->is_held && nheld == MAX_HELD)
		all_are_held = true;
	if (!lane->is_held && all_are_held)
		return;
	if (!lane->is_held)
	{
		dlist_push_tail(&held_lanes, &lane->held_node);
		nheld++;
		lane->held_until = 0;
	}
	lane->is_held = true;
	lane->held_until = Max(lane->held_until, until);
	next_release = Min(next_release, lane->held_until);
}

static void
let_go(Lane *lane)
{
	dlist_delete(&lane->held_node);
	nheld--;
	lane->is_held = false;
	if (lane->head == NULL)
		advance(lane);
	release(lane);
}

void
lanes_release(uint64 xid)
{
	dlist_mutable_iter iter;

	if (next_release > xid || is_rewound)
		return;
	next_release = PG_UINT64_MAX;
	dlist_foreach_modify(iter, &held_lanes)
	{
		Lane	   *lane = dlist_container(Lane, held_node, iter.cur);

		if (lane->held_until <= xid)
			let_go(lane);
		else
			next_release = Min(next_release, lane->held_until);
	}
}

void
lanes_window_done(void)
{
	if (is_rewound)
		return;
	lanes_release(PG_UINT64_MAX - 1);
	if (!all_are_held)
		return;
	all_are_held = false;
	lanes_look_again();
	look_at_passed_rows();
}

void
lanes_router_rewound(void)
{
	is_rewound = true;
	all_are_held = true;
	router_caught_up = false;
}

void
lanes_router_caught_up(void)
{
	is_rewound = false;
	router_caught_up = true;
	look_at_passed_rows();
}

void
lanes_each(void (*callback) (Subscriber *subscriber, const char *order_key, void *argument),
		   void *argument)
{
	HASH_SEQ_STATUS scan;
	LaneEntry  *entry;

	hash_seq_init(&scan, lanes);
	while ((entry = hash_seq_search(&scan)) != NULL)
		callback(entry->lane->subscriber, entry->lane->name + ID_LENGTH, argument);
}

bool
lanes_are_all_held(void)
{
	return all_are_held;
}

/* Can one with this event become the head, with nothing before it? */
static bool
is_first(const Lane *lane, const char *event_id)
{
	if (lane->head != NULL || lane->is_listed || lane->nleaving > 0 ||
		lane->nwaiting > 0 || lane->is_held || all_are_held ||
		(lane->is_suspect && !router_caught_up))
		return false;
	return !lane->has_rows ||
		(lane->rests && strcmp(event_id, lane->first_event_id) < 0);
}

/* Can it wait in memory, before all rows of the lane? */
static bool
has_room(const Lane *lane)
{
	return !lane->has_rows && lane->nleaving == 0 && !all_are_held &&
		(lane->head != NULL ? lane->head->stage != STAGE_ENDED : lane->is_held) &&
		lane->nwaiting < MAX_WAITING && nwaiting_in_all < MAX_WAITING_IN_ALL;
}

/* Whatever of a lane is in memory stands before this one, which is not. */
static void
evict_younger(Lane *lane, const char *event_id)
{
	if (lane->nwaiting > 0 &&
		strcmp(event_id, dlist_tail_element(Dispatch, lane_node,
											&lane->waiting)->event_id) < 0)
		evict_behind(lane, NULL);
}

Lane *
lane_find(const Subscriber *subscriber, const char *order_key)
{
	return find(subscriber->id, order_key);
}

bool
lane_join(Dispatch *dispatch, Lane *lane, uint64 held_until)
{
	dispatch->lane = lane;
	lane->ndispatches++;
	if (held_until != 0)
		hold(lane, held_until);
	if (is_first(lane, dispatch->event_id))
	{
		become_head(lane, dispatch);
		return true;
	}
	if (has_room(lane))
		wait_in(lane, dispatch);
	else
	{
		evict_younger(lane, dispatch->event_id);
		leave(dispatch);
	}
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
lane_has_others(const DueRow *row)
{
	Lane	   *lane = find(row->webhook_id, row->order_key);

	if (lane == NULL || (lane->head == NULL && !lane->is_listed && !lane->is_held))
		return false;
	evict_younger(lane, row->event_id);
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
