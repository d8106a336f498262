/*-------------------------------------------------------------------------
 *
 * webhook.c
 *	  Whether a webhook gets an event.
 *
 * IDENTIFICATION
 *	  src/rules/webhook.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "rules/webhook.h"

/* Is a part of a condition met?  One that isn't set always is. */
static bool
is_met(const char *wanted, const char *actual)
{
	return wanted == NULL || (actual != NULL && strcmp(wanted, actual) == 0);
}

MatchResult
webhook_match(const Webhook *webhook, const Event *event)
{
	if (event->webhook_id != NULL)
		return strcmp(event->webhook_id, webhook->id) == 0 ?
			MATCH_YES : MATCH_OTHER_WEBHOOK;
	if (!webhook->is_enabled)
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
	if (webhook->created_at > event->created_at &&
		webhook->created_xid != event->xid)
		return MATCH_TOO_OLD;
	return MATCH_YES;
}
