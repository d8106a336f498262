/*-------------------------------------------------------------------------
 *
 * recorder.c
 *	  Writing down what became of dispatches, many in one transaction.
 *
 * A dispatch that is answered soon gets its row and its call in one go, already
 * finished.  One that is not gets a row that says it waits; if its request
 * has not started then, memory forgets it, and it comes back from the table.
 *
 * If the transaction fails, the worker does: it starts again from what was
 * written, so memory is changed along with the rows without a thought.
 *
 * IDENTIFICATION
 *	  src/deliver/recorder.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/answer.h"
#include "deliver/dispatch.h"
#include "deliver/lanes.h"
#include "deliver/recorder.h"
#include "deliver/tally.h"
#include "deliver/waiting.h"
#include "server/clock.h"
#include "server/shared.h"
#include "store/counters.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* All times are in microseconds.  So long a dispatch can do without a row. */
#define ROWLESS_TIME 250000

/* So long results wait for more of them, and so many don't wait at all. */
#define RESULT_TIME 20000
#define MAX_RESULTS 1000

/* So long the cursor waits when it has nothing else to be written with. */
#define MARK_TIME 100000

static TimestampTz mark_since;	/* a batch is done and its mark not written */

/* Ad-hoc webhooks that may have to retire, in the transaction under way. */
typedef struct Retirement
{
	ArrayParameter runs;		/* that ended, ... */
	ArrayParameter times;		/* ... when, ... */
	ArrayParameter webhooks;	/* ... and webhooks whose dispatch did */
} Retirement;

static Statement disable_statement = {
	"UPDATE webhook_events_internal.webhooks SET is_enabled = false,"
	" disabled_reason = 'The endpoint answered 410 Gone.'"
	" WHERE id IN (SELECT id FROM webhook_events_internal.webhooks"
	" WHERE id = ANY ($1) AND is_enabled FOR UPDATE SKIP LOCKED)",
	1, {TEXTARRAYOID}, NULL
};

/*
 * Notes that runs have ended, and disables their webhooks once nothing waits
 * for them.  The table's trigger only looks at what a person could change.
 */
static Statement retire_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET run_ended = true, run_changed_at = coalesce(r.time, w.run_changed_at),"
	" is_enabled = r.waits, is_retired = NOT r.waits,"
	" disabled_reason = CASE WHEN NOT r.waits THEN 'Its run has ended.' END"
	" FROM (SELECT w.id, e.time, EXISTS ("
	" SELECT FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id = w.id) AS waits"
	" FROM (SELECT * FROM unnest($1, $2) UNION ALL"
	" SELECT o.actor_run_id, NULL FROM webhook_events_internal.webhooks AS o"
	" WHERE o.id = ANY ($3) AND o.run_ended) AS e (run_id, time)"
	" JOIN webhook_events_internal.webhooks AS w"
	" ON w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL"
	" AND w.is_ad_hoc AND w.is_enabled"
	" AND (w.run_changed_at < e.time OR w.run_changed_at IS NULL"
	" OR e.time IS NULL)"
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id AND (r.time IS NOT NULL OR NOT r.waits)",
	3, {TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID}, NULL
};

void
recorder_open(void)
{
	mark_since = 0;
}

static bool
mark_waits(void)
{
	return !dlist_is_empty(&routed_batches) &&
		dlist_head_element(Batch, node, &routed_batches)->nwithout_row == 0;
}

TimestampTz
recorder_deadline(bool idle)
{
	TimestampTz deadline = DT_NOEND;

	if (nended_dispatches > 0)
	{
		Dispatch   *oldest = dlist_head_element(Dispatch, queue_node,
												&ended_dispatches);

		if (idle || nended_dispatches >= MAX_RESULTS)
			return 0;
		deadline = oldest->ended_at + RESULT_TIME;
	}
	if (nrowless_dispatches > 0)
	{
		Dispatch   *oldest = dlist_head_element(Dispatch, rowless_node,
												&rowless_dispatches);

		deadline = Min(deadline, oldest->since + ROWLESS_TIME);
	}
	if (mark_waits())
	{
		if (mark_since == 0)
			mark_since = clock_work_time();
		deadline = Min(deadline, mark_since + MARK_TIME);
	}
	return deadline;
}

static void
write_call(DispatchWriter *writer, const Dispatch *dispatch)
{
	CallRow		row = {
		.dispatch_id = dispatch->id,
		.attempt = dispatch->attempts,
		.started_at = clock_to_wall(dispatch->call_started_at),
		.finished_at = clock_to_wall(dispatch->ended_at),
		.duration = dispatch->call_duration,
		.url = dispatch->call_url,
		.address = dispatch->call_address,
		.response_status = dispatch->response_status,
		.error_message = dispatch->call_note ? dispatch->call_note : dispatch->error
	};

	if (dispatch->response_body)
		row.response_body = answer_to_text(dispatch->response_body,
										   dispatch->response_length);
	dispatch_writer_call(writer, &row);
}

/*
 * Adds a dispatch as it stands, to be found again at "next_attempt_at".  One that
 * gets its row now is forgotten before that has a place, unless it is being called.
 */
static void
write_dispatch(DispatchWriter *writer, Dispatch *dispatch,
			   DispatchStatus status, TimestampTz next_attempt_at)
{
	const Webhook *webhook = dispatch->subscriber->webhook;
	bool		waits = (status == DISPATCH_ACTIVE);
	bool		has_place = dispatch->has_row || dispatch->state == DISPATCH_CALLING;
	DispatchRow row = {
		.id = dispatch->id,
		.event_id = dispatch->event_id,
		.webhook_id = dispatch->subscriber->id,
		.user_id = webhook ? webhook->user_id : NULL,
		.event_type = dispatch->event_type,
		.status = status,
		.created_at = clock_to_wall(dispatch->since),
		.finished_at = waits ? 0 : clock_to_wall(dispatch->ended_at),
		.attempts = dispatch->attempts,
		.next_attempt_at = waits ? next_attempt_at : 0,
		.error_message = dispatch->error,
		.order_key = dispatch->is_passed ? NULL : lane_key(dispatch),
		.holds_until = dispatch->holds_until,
		.is_passed = dispatch->is_passed,
		.place = has_place ? &dispatch->place : NULL
	};

	tally_count(dispatch, &row);
	if (dispatch->has_row)
		dispatch_writer_update(writer, &row);
	else
		dispatch_writer_insert(writer, &row);
	dispatch_got_row(dispatch);
}

/*
 * Notes that a row waits in its webhook's line, from this time on; or in that of
 * the whole table, where it will fail, if the webhook's URL is not valid any more.
 */
static void
note_waiting(Subscriber *subscriber, TimestampTz time)
{
	if (subscriber->host != NULL)
		subscriber_add_backlog(subscriber, time);
	else
		waiting_note_due(time);
}

/* Writes all that ended, and forgets it. */
static void
write_ended(DispatchWriter *writer, TimestampTz now, ArrayParameter *gone,
			Retirement *retirement)
{
	uint64		delivered = 0;
	uint64		failed = 0;

	while (!dlist_is_empty(&ended_dispatches))
	{
		Dispatch   *dispatch = dlist_head_element(Dispatch, queue_node,
												  &ended_dispatches);
		TimestampTz next = Max(dispatch->next_attempt_at, now);

		if (dispatch->was_called)
			write_call(writer, dispatch);
		if (lane_waits(dispatch))
			next = DT_NOEND;
		write_dispatch(writer, dispatch, dispatch->status, next);
		if (dispatch->status == DISPATCH_ACTIVE && dispatch->was_called)
			waiting_note_due(next);
		else if (dispatch->status == DISPATCH_ACTIVE && next != DT_NOEND)
			note_waiting(dispatch->subscriber, next);
		delivered += (dispatch->status == DISPATCH_SUCCEEDED);
		failed += (dispatch->status == DISPATCH_FAILED);
		if (dispatch->is_gone)
			array_add_text(gone, dispatch->subscriber->id);
		if (dispatch->status != DISPATCH_ACTIVE && dispatch->has_waited &&
			dispatch->subscriber->webhook && dispatch->subscriber->webhook->is_ad_hoc)
			array_add_text(&retirement->webhooks, dispatch->subscriber->id);
		dispatch_forget(dispatch);
	}
	shared_count_results(delivered, failed);
	counters_add(COUNTER_SUCCEEDED, delivered);
	counters_add(COUNTER_GIVEN_UP, failed);
}

/*
 * Writes what has had no row for too long.  What is queued then goes to the
 * back of its webhook's line in the table, and its host gets no more in
 * memory until that line is short.
 */
static void
write_rowless(DispatchWriter *writer, TimestampTz now)
{
	while (!dlist_is_empty(&rowless_dispatches))
	{
		Dispatch   *dispatch = dlist_head_element(Dispatch, rowless_node,
												  &rowless_dispatches);
		bool		is_queued = (dispatch->state == DISPATCH_QUEUED);
		Host	   *host = dispatch->host;

		if (now - dispatch->since < ROWLESS_TIME)
			break;
		if (lane_waits(dispatch))
		{
			write_dispatch(writer, dispatch, DISPATCH_ACTIVE, DT_NOEND);
			dispatch_forget(dispatch);
			continue;
		}
		write_dispatch(writer, dispatch, DISPATCH_ACTIVE, now);
		if (is_queued)
		{
			/* What has had to wait for its turn says nothing of the host. */
			if (dispatch->lane == NULL)
				host->is_congested = true;
			note_waiting(dispatch->subscriber, now);
			dispatch_forget(dispatch);
		}
		else
			host_set_slow(host, true);
	}
}

/* Writes the mark of the last of the batches that are done. */
static void
write_mark(Retirement *retirement)
{
	CursorMark *last = NULL;

	while (mark_waits())
	{
		Batch	   *batch = dlist_head_element(Batch, node, &routed_batches);
		ListCell   *cell;

		foreach(cell, batch->ended_runs)
		{
			EndedRun   *run = lfirst(cell);

			array_add_text(&retirement->runs, run->id);
			array_add_time(&retirement->times, run->time);
		}
		cursor_mark_free(last);
		last = batch_take_mark(batch);
	}
	if (last != NULL)
		cursor_write(last);
	cursor_mark_free(last);
	mark_since = 0;
}

static void
retire(Retirement *retirement)
{
	Datum		values[3];

	if (retirement->runs.state == NULL && retirement->webhooks.state == NULL)
		return;
	values[0] = array_result(&retirement->runs);
	values[1] = array_result(&retirement->times);
	values[2] = array_result(&retirement->webhooks);
	statement_write(&retire_statement, values, NULL);
}

bool
recorder_flush(void)
{
	ArrayParameter gone = {TEXTOID, NULL};
	Retirement	retirement = {
		.runs = {TEXTOID, NULL},
		.times = {TIMESTAMPTZOID, NULL},
		.webhooks = {TEXTOID, NULL}
	};
	DispatchWriter *writer;
	TimestampTz now;

	if (!work_begin("recording results"))
		return false;
	now = waiting_write_time();
	writer = dispatch_writer_create();
	write_ended(writer, now, &gone, &retirement);
	write_rowless(writer, now);
	dispatch_writer_execute(writer);
	tally_write();
	waiting_wrote(now);
	write_mark(&retirement);
	if (gone.state != NULL)
	{
		Datum		ids = array_result(&gone);

		counters_add(COUNTER_DISABLED, statement_write(&disable_statement, &ids, NULL));
	}
	retire(&retirement);
	work_commit();
	return true;
}
