/*-------------------------------------------------------------------------
 *
 * caller.c
 *	  Making the calls: from queued dispatches to requests, and from answers
 *	  to ended dispatches.
 *
 * IDENTIFICATION
 *	  src/deliver/caller.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "deliver/caller.h"
#include "deliver/dispatch.h"
#include "deliver/health.h"
#include "deliver/http.h"
#include "deliver/long_resources.h"
#include "deliver/making.h"
#include "server/clock.h"
#include "server/settings.h"
#include "store/request.h"
#include "store/counters.h"
#include "store/statement.h"
#include "store/webhooks.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

/* Bodies of requests under way may take so much memory together. */
#define MAX_BODY_BYTES (16 * 1024 * 1024)

/*
 * Building a request from so long a resource takes its time, and after so many
 * bytes of bodies those that do wait for the next turn: small ones don't.  It is also
 * what a turn reads or makes of a long one.
 */
#define BIG_RESOURCE (64 * 1024)
#define MAX_TURN_BYTES (256 * 1024)

/* So much is kept to build requests in: most need no more. */
#define SCRATCH_SIZE (64 * 1024)

/* So many hosts that must wait are passed over in search of one that needn't. */
#define MAX_WAITING_HOSTS 32

/* Likewise dispatches in a host's line. */
#define MAX_PASSED_OVER 64

/* Microseconds after which an answer makes its host a slow one. */
#define SLOW_ANSWER 1000000

/* What can't be built because of the server is tried again after so long. */
#define POSTPONE_TIME USECS_PER_SEC

static MemoryContext bodies_context;
static MemoryContext scratch_context;
static size_t body_bytes;
static size_t turn_bytes;		/* of events that were read in this turn, and
								 * of bodies that were built */
static bool leaves_big;			/* in this turn big ones have only waited so
								 * far; */
static bool big_comes_first;	/* they did in one before, and none has had
								 * its chance since */
static TimestampTz deferred_until;	/* something big waits for a turn then;
									 * DT_NOEND: nothing does */

void
caller_open(MemoryContext context)
{
	bodies_context = AllocSetContextCreate(context, "webhook_events bodies",
										   ALLOCSET_DEFAULT_SIZES);
	scratch_context = AllocSetContextCreate(context, "webhook_events request",
											0, SCRATCH_SIZE, ALLOCSET_DEFAULT_MAXSIZE);
	making_open(context, bodies_context);
	body_bytes = 0;
	deferred_until = DT_NOEND;
	leaves_big = false;
	big_comes_first = false;
	caller_begin_turn(0);
}

static bool
is_big(const Dispatch *dispatch)
{
	return dispatch->event != NULL && dispatch->event->resource_length > BIG_RESOURCE;
}

/*
 * A body that lasts as long as its request: what is big was built where it stays.  NULL if
 * there is no memory for it.
 */
static char *
keep_body(const Dispatch *dispatch, StringInfo body)
{
	char	   *copy;

	if (is_big(dispatch))
		return body->maxlen - body->len > BIG_RESOURCE ? repalloc(body->data, body->len + 1) : body->data;
	copy = MemoryContextAllocExtended(bodies_context, body->len + 1,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	return copy ? memcpy(copy, body->data, body->len) : NULL;
}

/*
 * Builds the request in the scratch context, and its body where that is to stay; false
 * with a reason if that can't be done, and *passes says whether it may be possible later.
 * An event that makes our own code raise an error fails its dispatch and not the worker.
 */
static bool
build_request(Dispatch *dispatch, Request *request, char **error, bool *passes)
{
	const Webhook *webhook = dispatch->subscriber->webhook;
	ResourceOwner owner = CurrentResourceOwner;
	StringInfo	body;

	*error = webhook_forbidden(webhook);
	if (*error != NULL)
		return false;

	if (long_resource_is_needed(dispatch))
	{
		if (making_take(dispatch, request, &dispatch->body))
			return true;
		/* The webhook has got another template, most likely. */
		*error = "The request was not made yet.";
		*passes = true;
		return false;
	}
	body = palloc(sizeof(StringInfoData));
	if (is_big(dispatch))
		MemoryContextSwitchTo(bodies_context);
	initStringInfo(body);
	MemoryContextSwitchTo(scratch_context);
	PG_TRY();
	{
		if (request_build(webhook, dispatch->event, dispatch->id, setting_header_prefix,
						  setting_payload_limit, GetCurrentTimestamp(), body, request, error))
			dispatch->body = keep_body(dispatch, body);
	}
	PG_CATCH();
	{
		ErrorData  *data;

		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(scratch_context);
		data = CopyErrorData();
		FlushErrorState();
		*error = data->message;
		*passes = !work_is_of_row(data->sqlerrcode);
	}
	PG_END_TRY();
	if (dispatch->body != NULL)
		return true;
	if (is_big(dispatch))
		pfree(body->data);
	if (*error == NULL)
	{
		*error = "out of memory";
		*passes = true;
	}
	return false;
}

/* How often and when a dispatch is called again. */
static RetryPolicy
policy_of(const Dispatch *dispatch)
{
	RetryPolicy policy = settings_retry_policy();
	const Webhook *webhook = dispatch->subscriber->webhook;

	if (webhook && webhook->do_not_retry)
		policy.max_retries = 0;
	if (dispatch->event_type == EVENT_TEST)
		policy.max_retries = Min(policy.max_retries, TEST_MAX_RETRIES);
	return policy;
}

/* Ends a dispatch that can't be called, or not now. */
static void
give_back(Dispatch *dispatch, const char *reason, bool passes)
{
	dispatch->next_attempt_at = passes ? clock_work_time() + POSTPONE_TIME : 0;
	dispatch_end(dispatch, passes ? DISPATCH_ACTIVE : DISPATCH_FAILED, reason);
}

/*
 * Starts the call of a dispatch, or ends it if there can be none.  A first retry
 * may follow the end of a kept connection, so it has one of its own.
 */
static void
start_call(Dispatch *dispatch)
{
	Request		request = {0};
	HttpRequest wire;
	const char *reason = subscriber_refusal(dispatch->subscriber,
											dispatch->event_type,
											dispatch->epoch);
	char	   *error = NULL;
	bool		passes = false;

	if (reason == NULL && !(subscriber_complete(dispatch->subscriber, &error, &passes) &&
							build_request(dispatch, &request, &error, &passes)))
		reason = error != NULL ? error : "The request could not be built.";
	if (reason != NULL)
	{
		give_back(dispatch, reason, passes);
		return;
	}
	body_bytes += request.body_length;
	turn_bytes += request.body_length;
	dispatch->body_length = request.body_length;
	dispatch->call.url = MemoryContextStrdup(bodies_context, request.url);
	counters_add(COUNTER_BYTES_SENT, request.body_length);
	if (dispatch->attempts == 0 && !dispatch->is_replay)
		counters_delay(GetCurrentTimestamp() - dispatch->event->created_at);
	dispatch->called_version = dispatch->subscriber->modified_at;
	dispatch_start(dispatch);
	wire.url = dispatch->call.url;
	wire.headers = request.headers;
	wire.body = dispatch->body;
	wire.body_length = request.body_length;
	wire.verify_tls = !dispatch->subscriber->webhook->ignore_ssl_errors;
	wire.is_repeated = (dispatch->attempts == 1);
	wire.is_last = (dispatch->attempts >= policy_of(dispatch).max_retries);
	wire.generation = host_generation(dispatch->host, clock_work_time());
	wire.owner = dispatch;
	http_start(&wire);
	dispatch_release_event(dispatch);
}

/*
 * When bodies take too much memory, a host that has requests under way waits.
 * The others may have one each, lest those that hang keep them out.
 */
static bool
must_wait(const Host *host)
{
	return body_bytes >= MAX_BODY_BYTES && host->in_flight > 0;
}

/*
 * The first of a host's line whose user may have one more request; NULL, and the
 * host waits for a user, if there is none among the first of them.
 */
static Dispatch *
next_of(Host *host)
{
	Dispatch   *first = NULL;
	int			passed = 0;
	dlist_iter	iter;

	dlist_foreach(iter, host_line(host))
	{
		Dispatch   *dispatch = dlist_container(Dispatch, queue_node, iter.cur);

		if (first == NULL)
			first = dispatch;
		if (dispatch->user == NULL ||
			user_has_room(dispatch->user, http_limit(), dispatches_queued()))
			return dispatch;
		if (++passed == MAX_PASSED_OVER)
			break;
	}
	if (first != NULL)
		host_wait_for_user(host, first->user);
	return NULL;
}

void
caller_begin_turn(size_t nread)
{
	turn_bytes = deferred_until != DT_NOEND ? 0 : nread;
	big_comes_first |= leaves_big;
	leaves_big = false;
	making_begin_turn();
}

TimestampTz
caller_deadline(void)
{
	return Min(deferred_until, making_deadline());
}

/* What is big is left for another turn, at this time or later. */
static void
defer(TimestampTz until)
{
	deferred_until = Min(deferred_until, until);
}

/* The one whose request is being made, if it is of this host and may be called. */
static Dispatch *
made_of(const Host *host)
{
	Dispatch   *dispatch = making_dispatch();

	if (dispatch == NULL || dispatch->host != host)
		return NULL;
	return dispatch->user == NULL ||
		user_has_room(dispatch->user, http_limit(), dispatches_queued()) ? dispatch : NULL;
}

/*
 * Goes on with the request of a dispatch; which to call, if it was the last of it.  One
 * that can't be made is ended.
 */
static Dispatch *
make_long(Dispatch *dispatch)
{
	char	   *error = NULL;
	MakingResult result = making_go_on(dispatch, MAX_TURN_BYTES, &error);

	switch (result)
	{
		case MAKING_DONE:
			/* Another one may be made now. */
			defer(0);
			return dispatch;
		case MAKING_GOES_ON:
			turn_bytes += MAX_TURN_BYTES;
			defer(0);
			return NULL;
		case MAKING_LATER:
			defer(making_next_at());
			return NULL;
		case MAKING_FAILED:
		case MAKING_POSTPONED:
			give_back(dispatch, error != NULL ? error : "The request could not be made.",
					  result == MAKING_POSTPONED);
	}
	return NULL;
}

/*
 * Which dispatch of a host, whose next one is big, can be called in this turn?  NULL if
 * none can.
 */
static Dispatch *
next_big(Host *host, Dispatch *dispatch, bool with_big)
{
	Dispatch   *made;

	if (!with_big && !big_comes_first)
	{
		leaves_big = true;
		defer(0);
		return NULL;
	}
	leaves_big = false;
	if (turn_bytes >= MAX_TURN_BYTES)
	{
		defer(0);
		return NULL;
	}
	big_comes_first = false;
	made = made_of(host);
	if (made != NULL)
		dispatch = made;

	/* What can't be called at all is ended by start_call(). */
	if (subscriber_refusal(dispatch->subscriber, dispatch->event_type,
						   dispatch->epoch) != NULL ||
		!long_resource_is_needed(dispatch))
		return dispatch;
	return make_long(dispatch);
}

void
caller_start_requests(bool with_big)
{
	Host	   *host;
	int			nwaiting = 0;

	deferred_until = DT_NOEND;
	hosts_end_rests(clock_work_time());
	while (nwaiting < MAX_WAITING_HOSTS && (host = hosts_next_ready()) != NULL)
	{
		MemoryContext old_context;
		Dispatch   *dispatch;

		if (must_wait(host))
		{
			nwaiting++;
			continue;
		}
		dispatch = next_of(host);
		if (dispatch == NULL)
			continue;
		old_context = MemoryContextSwitchTo(scratch_context);
		if (is_big(dispatch))
			dispatch = next_big(host, dispatch, with_big);
		if (dispatch != NULL)
			start_call(dispatch);
		else
			nwaiting++;
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(scratch_context);
	}
}

/* When a failed dispatch is called again; 0 if it isn't. */
static TimestampTz
next_attempt(const Dispatch *dispatch, const HttpResult *result)
{
	RetryPolicy policy = policy_of(dispatch);
	int64		delay;

	if (result->call.status == HTTP_GONE)
		return 0;

	/* That connection had ended before, most likely, without our knowing. */
	if (result->was_lost && dispatch->attempts == 1 && policy.max_retries > 0)
		return result->call.finished_at;
	delay = retry_delay(&policy, dispatch->attempts,
						pg_prng_double(&pg_global_prng_state),
						result->retry_after);
	return delay < 0 ? 0 : result->call.finished_at + delay;
}

/* Counts a call that ended. */
static void
count_call(const Dispatch *dispatch, const HttpResult *result)
{
	static const Counter counters[] = {
		[HTTP_NO_NAME] = COUNTER_NO_NAME,
		[HTTP_NO_CONNECTION] = COUNTER_NO_CONNECTION,
		[HTTP_NO_TLS] = COUNTER_NO_TLS,
		[HTTP_TIMEOUT] = COUNTER_TIMEOUT,
		[HTTP_NOT_ALLOWED] = COUNTER_NOT_ALLOWED,
		[HTTP_BROKEN] = COUNTER_BROKEN
	};

	counters_add(COUNTER_CALLS, 1);
	if (dispatch->attempts > 1)
		counters_add(COUNTER_RETRIES, 1);
	if (result->failure != HTTP_WENT_WELL)
		counters_add(counters[result->failure], 1);
	else
		counters_add(COUNTER_STATUS_1XX + Min(Max(result->call.status / 100, 1), 5) - 1, 1);
	counters_add(COUNTER_BYTES_RECEIVED, result->call.body_length);
	counters_duration(result->call.duration);
}

/* Where a dispatch goes to is counted, unless a proxy takes it there. */
static void
note_address(const Dispatch *dispatch, const char *address)
{
	if (*setting_proxy == '\0' && *address != '\0')
		host_set_address(dispatch->host, address);
}

/*
 * Nothing was sent.  Now that its address is known its host waits with the others, and
 * has this one, among those that it finds in the table.
 */
static void
put_off(Dispatch *dispatch, const char *address)
{
	note_address(dispatch, address);
	body_bytes -= dispatch->body_length;
	dispatch->next_attempt_at = 0;
	dispatch_end(dispatch, DISPATCH_ACTIVE, NULL);
}

static void
take_answer(const HttpResult *result)
{
	Dispatch   *dispatch = result->owner;
	CallResult *call = &dispatch->call;
	bool		answered = (result->call.status != 0);

	if (result->was_crowded)
	{
		put_off(dispatch, result->call.address);
		return;
	}
	dispatch->attempts++;
	dispatch->was_called = true;
	*call = result->call;
	call_result_keep(call, bodies_context);
	note_address(dispatch, call->address);
	dispatch->host->shares_connections |= result->was_shared;
	host_set_slow(dispatch->host, !answered ||
				  call->finished_at - call->started_at > SLOW_ANSWER);
	body_bytes -= dispatch->body_length;
	host_note_answer(dispatch->host, answered, call->error == NULL, call->duration,
					 call->finished_at);
	count_call(dispatch, result);
	health_note(dispatch->subscriber, call->error == NULL, call->finished_at);
	dispatch->next_attempt_at = call->error ? next_attempt(dispatch, result) : 0;
	if (call->error == NULL)
		dispatch_end(dispatch, DISPATCH_SUCCEEDED, NULL);
	else
		dispatch_end(dispatch,
					 dispatch->next_attempt_at ? DISPATCH_ACTIVE : DISPATCH_FAILED,
					 call->error);
	dispatch->ended_at = call->finished_at;
}

bool
caller_take_answers(void)
{
	HttpResult	result;
	bool		any = false;
	void	   *owner;
	const char *address;

	http_process();
	/* Before any more are started: many names can be of one address. */
	while (http_next_address(&owner, &address))
		note_address(owner, address);
	while (http_next_result(&result))
	{
		take_answer(&result);
		any = true;
	}
	return any;
}
