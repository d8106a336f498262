/*-------------------------------------------------------------------------
 *
 * making.c
 *	  The request that is being made of a long resource, a slice in each turn.
 *
 * It is known by the id of its dispatch, which may go to the table and come back
 * meanwhile; nothing of the dispatch is pointed to.
 *
 * IDENTIFICATION
 *	  src/deliver/making.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/long_resources.h"
#include "deliver/making.h"
#include "server/clock.h"
#include "server/settings.h"
#include "store/statement.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

/* So long what there is of one is kept if nobody comes for it. */
#define KEEP_TIME USECS_PER_SEC

/* So much room that a body did not need is given back. */
#define MAX_SPARE (64 * 1024)

static MemoryContext making_context;
static MemoryContext bodies_context;
static Id	dispatch_id;		/* empty: none is made */
static RequestMaking *making;	/* NULL: it has not begun yet */
static StringInfoData body;
static Request made;
static bool is_made;
static uint64 resource;			/* what it was begun with:
								 * long_resources_forgotten(), */
static uint64 version;			/* and Subscriber.change */
static TimestampTz used_at;

void
making_open(MemoryContext context, MemoryContext bodies)
{
	making_context = AllocSetContextCreate(context, "webhook_events request in slices",
										   ALLOCSET_SMALL_SIZES);
	bodies_context = bodies;
	long_resources_open(context);
	dispatch_id[0] = '\0';
	making = NULL;
	is_made = false;
	body.data = NULL;
}

/* Forgets the request, but not whom it is for. */
static void
drop(void)
{
	MemoryContextReset(making_context);
	if (body.data != NULL)
		pfree(body.data);
	body.data = NULL;
	making = NULL;
	is_made = false;
}

void
making_forget(void)
{
	drop();
	dispatch_id[0] = '\0';
	long_resources_forget();
}

void
making_begin_turn(void)
{
	if (dispatch_id[0] != '\0' && clock_work_time() >= used_at + KEEP_TIME)
		making_forget();
	long_resources_begin_turn();
}

TimestampTz
making_deadline(void)
{
	return Min(dispatch_id[0] != '\0' ? used_at + KEEP_TIME : DT_NOEND,
			   long_resources_deadline());
}

TimestampTz
making_next_at(void)
{
	return dispatch_id[0] != '\0' ? used_at + KEEP_TIME : long_resources_retry_at();
}

Dispatch *
making_dispatch(void)
{
	Dispatch   *dispatch = dispatch_id[0] != '\0' ? dispatch_find(dispatch_id) : NULL;

	return dispatch != NULL && dispatch->stage == STAGE_QUEUED && dispatch->host != NULL ?
		dispatch : NULL;
}

/* Its signatures have memory elsewhere. */
static void
drop_request(void *request)
{
	request_drop(request);
}

/* Begins with the request; false and a reason if there can be none. */
static bool
begin(const Dispatch *dispatch, char **error)
{
	Event		event = *dispatch->event;
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	(void) long_resource_put(&event);
	MemoryContextSwitchTo(bodies_context);
	initStringInfo(&body);
	MemoryContextSwitchTo(making_context);
	making = request_start(dispatch->subscriber->webhook, &event, dispatch_id,
						   setting_header_prefix, setting_payload_limit,
						   GetCurrentTimestamp(), &body, error);
	if (making == NULL)
		return false;
	callback->func = drop_request;
	callback->arg = making;
	MemoryContextRegisterResetCallback(making_context, callback);
	resource = long_resources_forgotten();
	version = dispatch->subscriber->change;
	return true;
}

/* Is what there is of the resource and the version as they are now? */
static bool
fits(const Dispatch *dispatch)
{
	return making != NULL && resource == long_resources_forgotten() &&
		version == dispatch->subscriber->change;
}

/* An event that makes our own code raise an error fails its dispatch and not the worker. */
static MakingResult
make(const Dispatch *dispatch, size_t budget, char **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile MakingResult result = MAKING_FAILED;
	char	   *volatile reason = NULL;

	if (!fits(dispatch))
		drop();
	PG_TRY();
	{
		char	   *why = NULL;

		MemoryContextSwitchTo(making_context);
		if (making != NULL || begin(dispatch, &why))
		{
			switch (request_go_on(making, budget, &made, &why))
			{
				case REQUEST_MADE:
					if (body.maxlen - body.len > MAX_SPARE)
						body.data = repalloc(body.data, body.len + 1);
					is_made = true;
					result = MAKING_DONE;
					break;
				case REQUEST_GOES_ON:
					result = MAKING_GOES_ON;
					break;
				case REQUEST_FAILED:
					break;
			}
		}
		reason = why;
	}
	PG_CATCH();
	{
		ErrorData  *data;

		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(context);
		data = CopyErrorData();
		FlushErrorState();
		reason = data->message;
		result = work_is_of_row(data->sqlerrcode) ? MAKING_FAILED : MAKING_POSTPONED;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (reason != NULL)
		*error = pstrdup(reason);
	return result;
}

/* Sees to the resource first, and to the request when it is there. */
static MakingResult
go_on(const Dispatch *dispatch, size_t budget, char **error)
{
	bool		passes;

	if (!subscriber_complete(dispatch->subscriber, error, &passes))
		return passes ? MAKING_POSTPONED : MAKING_FAILED;
	switch (long_resource_get(dispatch->event, budget, error))
	{
		case LONG_RESOURCE_THERE:
			return make(dispatch, budget, error);
		case LONG_RESOURCE_READ:
			return MAKING_GOES_ON;
		case LONG_RESOURCE_LATER:
			return MAKING_LATER;
		case LONG_RESOURCE_FAILED:
			return MAKING_POSTPONED;
		case LONG_RESOURCE_GONE:
			break;
	}
	return MAKING_FAILED;
}

MakingResult
making_go_on(Dispatch *dispatch, size_t budget, char **error)
{
	MakingResult result;

	if (strcmp(dispatch_id, dispatch->id) != 0)
	{
		if (making_dispatch() != NULL)
			return MAKING_LATER;
		drop();
		strcpy(dispatch_id, dispatch->id);
	}
	result = go_on(dispatch, budget, error);
	used_at = clock_work_time();
	if (result != MAKING_DONE && result != MAKING_GOES_ON)
	{
		drop();
		dispatch_id[0] = '\0';
	}
	return result;
}

bool
making_take(Dispatch *dispatch, Request *request, char **taken)
{
	if (!is_made || strcmp(dispatch_id, dispatch->id) != 0 || !fits(dispatch))
		return false;
	*request = made;
	*taken = body.data;
	body.data = NULL;
	is_made = false;
	making = NULL;
	dispatch_id[0] = '\0';
	return true;
}
