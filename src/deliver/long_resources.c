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
static Id	known;				/* the event whose resource is there; empty:
								 * none */
static const char *resource;
static size_t resource_length;
static TimestampTz used_at;		/* last; or read */
static int	reserved;			/* for who wanted it, in so many turns */
static TimestampTz retry_at;	/* after a failure; 0: there was none */

void
long_resources_forget(void)
{
	known[0] = '\0';
	reserved = 0;
	MemoryContextReset(resource_context);
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
	if (known[0] != '\0' && clock_work_time() >= used_at + KEEP_TIME)
		long_resources_forget();
	reserved = Max(reserved - 1, 0);
}

TimestampTz
long_resources_retry_at(void)
{
	return retry_at;
}

TimestampTz
long_resources_deadline(void)
{
	return known[0] != '\0' ? used_at + KEEP_TIME : DT_NOEND;
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
	Event		event;
	bool		found;
} Reading;

static void
read_resource(void *argument)
{
	Reading    *reading = argument;

	reading->found = outbox_read_resource(resource_context, &reading->event);
}

LongResource
long_resource_get(const Event *event, char **error)
{
	Reading		reading = {*event, false};
	WorkError	failure;
	WorkResult	result;

	if (strcmp(known, event->id) == 0)
		return LONG_RESOURCE_THERE;
	if (reserved > 0 || retry_at > clock_work_time())
		return LONG_RESOURCE_LATER;
	long_resources_forget();
	retry_at = 0;
	result = work_run("reading a long resource", true, read_resource, &reading, &failure);
	if (result == WORK_DONE && reading.found)
	{
		strcpy(known, event->id);
		resource = reading.event.resource;
		resource_length = reading.event.resource_length;
		used_at = clock_work_time();
		reserved = 2;
		return LONG_RESOURCE_READ;
	}
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
	if (strcmp(known, event->id) != 0)
		return false;
	event->resource = resource;
	event->resource_length = resource_length;
	used_at = clock_work_time();
	reserved = 0;
	return true;
}
