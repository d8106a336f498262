/*-------------------------------------------------------------------------
 *
 * webhook.c
 *	  Whether a webhook gets an event, and why not.
 *
 * IDENTIFICATION
 *	  src/rules/webhook.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "rules/webhook.h"

/* An entry of an index has room for so many bytes of a key, and for the ids beside it. */
#define MAX_ORDER_KEY 500

/* A webhook's user has 255 characters at most. */
#define MAX_USER_BYTES (255 * 4)

bool
same_text(const char *one, const char *other)
{
	if (one == NULL || other == NULL)
		return one == other;
	return strcmp(one, other) == 0;
}

/* Is a part of a condition met?  One that isn't set always is. */
static bool
is_met(const char *wanted, const char *actual)
{
	return wanted == NULL || (actual != NULL && strcmp(wanted, actual) == 0);
}

/*
 * Was the event there before the webhook?  Their transactions tell, whatever the clock
 * has done in between, unless they overlapped; but a webhook gets the events of its
 * own one.
 */
static bool
is_too_old(const Webhook *webhook, const Event *event)
{
	if (event->xid == webhook->created_xid)
		return false;
	if (webhook->created_xmax != 0 && event->xid < webhook->created_xmin)
		return true;
	if (webhook->created_xmax != 0 && event->xid >= webhook->created_xmax)
		return false;
	return webhook->since > event->created_at;
}

MatchResult
webhook_match(const Webhook *webhook, const Event *event)
{
	if (event->webhook_id != NULL)
	{
		if (strcmp(event->webhook_id, webhook->id) != 0)
			return MATCH_OTHER_WEBHOOK;

		/*
		 * Whose webhook it was must not send in the name of whose it is by
		 * now.
		 */
		return event->user_id == NULL || is_met(webhook->user_id, event->user_id) ?
			MATCH_YES : MATCH_USER;
	}
	/* What comes of a run after its end says that it was resurrected. */
	if (!webhook->is_enabled && !webhook->is_retired)
		return MATCH_DISABLED;
	if ((webhook->event_types & (1 << event->type)) == 0)
		return MATCH_EVENT_TYPE;
	if (!is_met(webhook->actor_run_id, event->actor_run_id))
		return MATCH_RUN;
	if (!is_met(webhook->actor_task_id, event->actor_task_id))
		return MATCH_TASK;
	if (!is_met(webhook->actor_id, event->actor_id))
		return MATCH_ACTOR;
	if (!is_met(webhook->user_id, event->user_id))
		return MATCH_USER;
	if (is_too_old(webhook, event))
		return MATCH_TOO_OLD;
	return MATCH_YES;
}

bool
webhook_is_of_run(const Webhook *webhook, const Event *event)
{
	return webhook->is_ad_hoc && webhook->actor_run_id != NULL &&
		is_met(webhook->actor_run_id, event->actor_run_id) &&
		is_met(webhook->user_id, event->user_id);
}

const char *
webhook_run_user(const char *user_id)
{
	return user_id == NULL || strlen(user_id) > MAX_USER_BYTES ? NULL : user_id;
}

const char *
order_key_of(const char *id)
{
	size_t		length = strlen(id);
	uint64		hash;

	if (length <= MAX_ORDER_KEY)
		return id;
	hash = hash_bytes_extended((const unsigned char *) id, (int) length, 0);
	return psprintf("hash %08x%08x", (uint32) (hash >> 32), (uint32) hash);
}

const char *
webhook_order_key(const Webhook *webhook, const Event *event)
{
	if (webhook->ordering == ORDERING_NONE || event->type == EVENT_TEST)
		return NULL;
	if (webhook->ordering == ORDERING_WEBHOOK)
		return "";
	if (event->actor_run_id != NULL)
		return order_key_of(event->actor_run_id);
	return event->actor_build_id ? order_key_of(event->actor_build_id) : NULL;
}

bool
ordering_from_name(const char *name, Ordering *ordering)
{
	static const char *const names[] = {"none", "resource", "webhook"};

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		if (strcmp(names[i], name) != 0)
			continue;
		*ordering = (Ordering) i;
		return true;
	}
	return false;
}

/* "Actor is x, event's is y" */
static char *
describe_difference(const char *what, const char *wanted, const char *actual)
{
	if (actual == NULL)
		return psprintf("%s is %s, event has none", what, wanted);
	return psprintf("%s is %s, event's is %s", what, wanted, actual);
}

/* "event type not in {a,b}" */
static char *
describe_event_types(uint32 event_types)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, "event type not in {");
	for (int type = 0; type < N_EVENT_TYPES; type++)
	{
		if ((event_types & (1 << type)) == 0)
			continue;
		if (text.data[text.len - 1] != '{')
			appendStringInfoChar(&text, ',');
		appendStringInfoString(&text, event_type_label((EventType) type));
	}
	appendStringInfoChar(&text, '}');
	return text.data;
}

char *
webhook_match_reason(const Webhook *webhook, const Event *event,
					 MatchResult result)
{
	switch (result)
	{
		case MATCH_YES:
			return NULL;
		case MATCH_OTHER_WEBHOOK:
			return psprintf("the event is a test of webhook %s", event->webhook_id);
		case MATCH_DISABLED:
			if (webhook->disabled_reason == NULL)
				return pstrdup("disabled");
			return psprintf("disabled: %s", webhook->disabled_reason);
		case MATCH_EVENT_TYPE:
			return describe_event_types(webhook->event_types);
		case MATCH_RUN:
			return describe_difference("condition: run", webhook->actor_run_id,
									   event->actor_run_id);
		case MATCH_TASK:
			return describe_difference("condition: task", webhook->actor_task_id,
									   event->actor_task_id);
		case MATCH_ACTOR:
			return describe_difference("condition: Actor", webhook->actor_id,
									   event->actor_id);
		case MATCH_USER:
			return describe_difference("user", webhook->user_id, event->user_id);
		case MATCH_TOO_OLD:
			return pstrdup("created after the event");
	}
	pg_unreachable();
}
