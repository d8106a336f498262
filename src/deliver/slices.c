/*-------------------------------------------------------------------------
 *
 * slices.c
 *	  Events that more webhooks could want than are dealt with in one turn.
 *
 * IDENTIFICATION
 *	  src/deliver/slices.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/lanes.h"
#include "deliver/slices.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

static MemoryContext slices_context;
static dlist_head slicings;

void
slices_open(MemoryContext context)
{
	slices_context = context;
	dlist_init(&slicings);
}

bool
slices_exist(void)
{
	return !dlist_is_empty(&slicings);
}

bool
slices_hold_lanes(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &slicings)
	{
		if (dlist_container(Slicing, node, iter.cur)->holds_lanes)
			return true;
	}
	return false;
}

static char *
copy_text(MemoryContext context, const char *text)
{
	return text ? MemoryContextStrdup(context, text) : NULL;
}

/* The same of a text that need not have a zero byte at its end. */
static const char *
copy_bytes(MemoryContext context, const char *text, size_t length)
{
	return text ? memcpy(MemoryContextAlloc(context, length + 1), text, length) : NULL;
}

static Event *
copy_event(const Event *event, MemoryContext context)
{
	Event	   *copy = MemoryContextAlloc(context, sizeof(Event));

	*copy = *event;
	copy->user_id = copy_text(context, event->user_id);
	copy->actor_id = copy_text(context, event->actor_id);
	copy->actor_task_id = copy_text(context, event->actor_task_id);
	copy->actor_run_id = copy_text(context, event->actor_run_id);
	copy->actor_build_id = copy_text(context, event->actor_build_id);
	copy->webhook_id = copy_text(context, event->webhook_id);
	copy->resource = copy_bytes(context, event->resource, event->resource_length);
	return copy;
}

/* The others of the event's batch don't stay as long. */
Slicing *
slices_begin(const Event *event, bool holds_lanes)
{
	Slicing    *slicing = MemoryContextAllocZero(slices_context, sizeof(Slicing));
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "webhook_events slicing",
												  ALLOCSET_SMALL_SIZES);

	slicing->event = copy_event(event, context);
	slicing->batch = batch_of(context);
	slicing->holds_lanes = holds_lanes;
	batch_hold(slicing->batch);
	batch_release(slicing->batch);
	dlist_push_tail(&slicings, &slicing->node);
	return slicing;
}

void
slices_end(Slicing *slicing)
{
	dlist_delete(&slicing->node);
	if (slicing->early)
		hash_destroy(slicing->early);
	batch_let_go(slicing->batch);
	pfree(slicing);
}

Slicing *
slices_next(void)
{
	return dlist_head_element(Slicing, node, &slicings);
}

/* A user's go to the end together, so that more of them get no larger share. */
void
slices_advance(Slicing *slicing, const char *position)
{
	dlist_mutable_iter iter;
	dlist_head	same;

	strlcpy(slicing->position, position, sizeof(Id));
	dlist_init(&same);
	dlist_foreach_modify(iter, &slicings)
	{
		Slicing    *other = dlist_container(Slicing, node, iter.cur);

		if (!same_text(other->event->user_id, slicing->event->user_id))
			continue;
		dlist_delete(&other->node);
		dlist_push_tail(&same, &other->node);
	}
	while (!dlist_is_empty(&same))
		dlist_push_tail(&slicings, dlist_pop_head_node(&same));
}

bool
slicing_is_done(const Slicing *slicing, const char *webhook_id)
{
	return strcmp(webhook_id, slicing->position) <= 0 ||
		(slicing->early != NULL &&
		 hash_search(slicing->early, webhook_id, HASH_FIND, NULL) != NULL);
}

void
slicing_note_early(Slicing *slicing, const char *webhook_id)
{
	HASHCTL		control = {
		.keysize = sizeof(Id),
		.entrysize = sizeof(Id),
		.hcxt = slices_context
	};

	if (slicing->early == NULL)
		slicing->early = hash_create("webhook_events early matches", 64, &control,
									 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	hash_search(slicing->early, webhook_id, HASH_ENTER, NULL);
}

/* Lanes in memory in which an event has a place. */
typedef struct Standing
{
	const Event *event;
	List	   *subscribers;
	List	   *keys;			/* const char *, one for each */
} Standing;

static bool
stands_in(const Event *event, const Subscriber *subscriber, const char *order_key)
{
	const char *key = subscriber->webhook ?
	webhook_order_key(subscriber->webhook, event) : NULL;

	return key != NULL && strcmp(key, order_key) == 0 &&
		webhook_match(subscriber->webhook, event) == MATCH_YES;
}

static void
add_lane(Subscriber *subscriber, const char *order_key, void *argument)
{
	Standing   *standing = argument;

	if (!stands_in(standing->event, subscriber, order_key))
		return;
	standing->subscribers = lappend(standing->subscribers, subscriber);
	standing->keys = lappend(standing->keys, unconstify(char *, order_key));
}

/* They may have changed since they were looked up. */
void
slicing_join_lanes(Slicing *slicing,
				   void (*callback) (Slicing *slicing, Subscriber *subscriber,
									 void *argument),
				   void *argument)
{
	Standing	standing = {slicing->event, NIL, NIL};
	ArrayParameter ids = {TEXTOID, NULL};
	ListCell   *cell;
	ListCell   *key;

	lanes_each(add_lane, &standing);
	if (standing.subscribers == NIL)
		return;
	foreach(cell, standing.subscribers)
		array_add_text(&ids, ((Subscriber *) lfirst(cell))->id);
	subscribers_refresh(array_result(&ids));
	forboth(cell, standing.subscribers, key, standing.keys)
	{
		if (stands_in(slicing->event, lfirst(cell), lfirst(key)))
			callback(slicing, lfirst(cell), argument);
	}
}

void
slices_overtaken(Subscriber *subscriber, const Event *event,
				 void (*callback) (Slicing *slicing, Subscriber *subscriber,
								   void *argument),
				 void *argument)
{
	const char *key = webhook_order_key(subscriber->webhook, event);
	dlist_iter	iter;

	if (key == NULL)
		return;
	dlist_foreach(iter, &slicings)
	{
		Slicing    *slicing = dlist_container(Slicing, node, iter.cur);
		const char *other = webhook_order_key(subscriber->webhook, slicing->event);

		if (strcmp(slicing->event->id, event->id) == 0 ||
			other == NULL || strcmp(other, key) != 0 ||
			slicing_is_done(slicing, subscriber->id) ||
			webhook_match(subscriber->webhook, slicing->event) != MATCH_YES)
			continue;
		callback(slicing, subscriber, argument);
	}
}

void
slices_drop(void)
{
	if (!slices_exist())
		return;
	batches_drop_held_marks();
	while (slices_exist())
		slices_end(slices_next());
}
