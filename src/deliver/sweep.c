/*-------------------------------------------------------------------------
 *
 * sweep.c
 *	  Looking for what nobody announced among the dispatches that wait in the table.
 *
 * IDENTIFICATION
 *	  src/deliver/sweep.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/lanes.h"
#include "deliver/recorder.h"
#include "deliver/sweep.h"
#include "deliver/waiting.h"
#include "server/live.h"
#include "utils/timestamp.h"

/* So many webhooks are looked at in a step, ... */
#define MAX_SWEPT 50

/* ... and so many rows are read at once. */
#define MAX_ROWS 500

static bool is_sweeping;		/* webhooks behind swept_to were not looked at */
static bool must_sweep_again;	/* and those before it may have changed */
static Id	swept_to;

void
sweep_open(void)
{
	is_sweeping = false;
	must_sweep_again = false;
	swept_to[0] = '\0';
}

void
sweep_start(void)
{
	must_sweep_again = is_sweeping;
	is_sweeping = true;
}

bool
sweep_is_under_way(void)
{
	return is_sweeping;
}

/* A step for each flush, so that a long sweep keeps nobody waiting. */
bool
sweep_has_work(void)
{
	return is_sweeping && dispatches_ended() == 0;
}

/*
 * Ends what waits for a webhook that is gone or disabled, or is due for one that
 * is not valid any more, unless it is being called.  Returns false if there may be
 * more to end.
 */
static bool
end_refused(Subscriber *subscriber, TimestampTz first_due_at, TimestampTz read_to)
{
	const DuePosition start = {0};
	DueRow	   *rows;
	int			nrows = 0;
	int			nended = 0;

	if (!subscriber->exists)
		nrows = dispatches_find_waiting_of(subscriber->id, PG_INT32_MAX, true, MAX_ROWS,
										   &rows);
	else if (subscriber->webhook == NULL && first_due_at <= read_to)
		nrows = dispatches_find_due_of(subscriber->id, &start, read_to,
									   MAX_ROWS, &rows);
	else if (subscriber->webhook != NULL &&
			 subscriber_refusal(subscriber, EVENT_RUN_CREATED, PG_INT32_MAX) != NULL)
		nrows = dispatches_find_waiting_of(subscriber->id, PG_INT32_MAX, false, MAX_ROWS,
										   &rows);
	else if (subscriber->webhook != NULL &&
			 subscriber->ended_epoch < subscriber->webhook->epoch)
	{
		nrows = dispatches_find_waiting_of(subscriber->id, subscriber->webhook->epoch,
										   false, MAX_ROWS, &rows);
		if (nrows < MAX_ROWS)
			subscriber->ended_epoch = subscriber->webhook->epoch;
	}
	for (int i = 0; i < nrows; i++)
	{
		const char *reason = subscriber_refusal(subscriber, rows[i].event_type,
												rows[i].epoch);
		Dispatch   *dispatch = dispatch_find(rows[i].id);

		if (reason == NULL || recorder_has_set_aside(rows[i].id) ||
			(dispatch != NULL && dispatch->stage != STAGE_QUEUED))
			continue;
		if (dispatch == NULL)
			dispatch = waiting_create_dispatch(&rows[i], subscriber, NULL, NULL);
		dispatch_end(dispatch, DISPATCH_FAILED, reason);
		if (rows[i].order_key != NULL)
			lanes_look_again();
		nended++;
	}
	return nrows < MAX_ROWS || nended == 0;
}

/*
 * Lets others know that nothing waits in the tables of days that are over, if
 * that is so; then whoever counts what waits need not look there.
 */
static void
publish_oldest(void)
{
	Id			bound = {0};
	TimestampTz day = GetCurrentTimestamp() - USECS_PER_DAY;

	/* Where a table of a day begins: one that is looked at holds none beyond. */
	id_lower_bound(bound, day - day % USECS_PER_DAY);
	live_set_oldest_active(bound);
	if (dispatches_any_waits_below(bound))
		live_set_oldest_active("");
}

void
sweep_step(TimestampTz read_to)
{
	WaitingWebhook *webhooks;
	int			count = dispatches_find_webhooks(swept_to, MAX_SWEPT, &webhooks);
	ArrayParameter ids = {TEXTOID, NULL};

	for (int i = 0; i < count; i++)
		array_add_text(&ids, webhooks[i].id);
	subscribers_refresh(array_result(&ids));
	for (int i = 0; i < count; i++)
	{
		Subscriber *subscriber = subscriber_find(webhooks[i].id);

		if (!end_refused(subscriber, webhooks[i].first_due_at, read_to))
			return;
		if (subscriber->host != NULL && webhooks[i].first_due_at <= read_to)
			subscriber_add_backlog(subscriber, webhooks[i].first_due_at);
		if (webhooks[i].has_replays)
			subscriber_add_replays(subscriber, "");
		strlcpy(swept_to, webhooks[i].id, sizeof(Id));
	}
	if (count == MAX_SWEPT)
		return;
	publish_oldest();
	is_sweeping = must_sweep_again;
	must_sweep_again = false;
	swept_to[0] = '\0';
}
