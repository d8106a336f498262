/*-------------------------------------------------------------------------
 *
 * long_resources.c
 *	  Resources that were left in their table, read when a request needs them.
 *
 * IDENTIFICATION
 *	  src/deliver/long_resources.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/long_resources.h"
#include "server/clock.h"
#include "store/outbox_rows.h"
#include "store/request.h"
#include "utils/memutils.h"

/*
 * So long after a failure none is read: each try may wait for a lock.  It is less than
 * the one that failed waits, so that the others come before it.
 */
#define RETRY_TIME (USECS_PER_SEC / 2)

/* So long it is kept for others who may want it. */
#define KEEP_TIME USECS_PER_SEC

static MemoryContext resource_context;
static Id	event_id;			/* whose resource is there, or a part of it;
								 * empty: none is */
static LongText resource;
static bool is_all;
static uint64 nforgotten = 0;
static TimestampTz used_at;		/* last */
static TimestampTz retry_at;	/* after a failure; 0: there was none */

void
long_resources_forget(void)
{
	event_id[0] = '\0';
	is_all = false;
	nforgotten++;
	long_text_start(&resource, resource_context);
}

void
long_resources_open(MemoryContext context)
{
	resource_context = AllocSetContextCreate(context, "webhook_events long resource",
											 ALLOCSET_SMALL_SIZES);
	long_resources_forget();
	retry_at = 0;
}

void
long_resources_begin_turn(void)
{
	if (event_id[0] != '\0' && clock_work_time() >= used_at + KEEP_TIME)
		long_resources_forget();
}

TimestampTz
long_resources_retry_at(void)
{
	return retry_at;
}

TimestampTz
long_resources_deadline(void)
{
	return event_id[0] != '\0' ? used_at + KEEP_TIME : DT_NOEND;
}

uint64
long_resources_forgotten(void)
{
	return nforgotten;
}

bool
long_resource_is_needed(const Dispatch *dispatch)
{
	const Webhook *webhook = dispatch->subscriber->webhook;

	return outbox_left_resource(dispatch->event) &&
		(webhook->templates_left_out || request_uses_resource(webhook));
}

/* A transaction, and what came of it. */
typedef struct Reading
{
	size_t		budget;
	bool		found;
} Reading;

/* What an error leaves is read anew. */
static void
read_more(void *argument)
{
	Reading    *reading = argument;

	is_all = false;
	reading->found = outbox_read_more(event_id, &resource, reading->budget, &is_all);
}

LongResource
long_resource_get(const Event *event, size_t budget, char **error)
{
	Reading		reading = {budget, false};
	WorkError	failure;
	WorkResult	result;

	used_at = clock_work_time();
	if (is_all && strcmp(event_id, event->id) == 0)
		return LONG_RESOURCE_THERE;
	if (retry_at > used_at)
		return LONG_RESOURCE_LATER;
	if (strcmp(event_id, event->id) != 0)
	{
		long_resources_forget();
		strcpy(event_id, event->id);
	}
	retry_at = 0;
	result = work_run("reading a long resource", true, read_more, &reading, &failure);
	if (result == WORK_DONE && reading.found)
		return LONG_RESOURCE_READ;
	long_resources_forget();
	if (result != WORK_FAILED)
	{
		*error = pstrdup(result == WORK_GONE ? "The extension was dropped." :
						 "Event was removed.");
		return LONG_RESOURCE_GONE;
	}
	*error = psprintf("Event can't be read: %s", failure.message);
	if (failure.is_of_row)
		return LONG_RESOURCE_GONE;
	retry_at = clock_work_time() + RETRY_TIME;
	return LONG_RESOURCE_FAILED;
}

bool
long_resource_put(Event *event)
{
	if (!is_all || strcmp(event_id, event->id) != 0)
		return false;
	event->resource = resource.data;
	event->resource_length = resource.length;
	return true;
}
