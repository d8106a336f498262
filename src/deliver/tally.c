/*-------------------------------------------------------------------------
 *
 * tally.c
 *	  What webhooks have got: counted while results are written, and added up
 *	  now and then, a little at a time.
 *
 * IDENTIFICATION
 *	  src/deliver/tally.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/health.h"
#include "deliver/tally.h"
#include "server/clock.h"
#include "store/counters.h"
#include "store/statistics.h"
#include "utils/timestamp.h"

/* So often what was logged is added up, and webhooks that fail are looked at. */
#define TALLY_TIME (INT64CONST(30) * USECS_PER_SEC)

/* Of the time from step to step, adding up takes no more than one in so many. */
#define STEP_SHARE 4

typedef enum TallyState
{
	TALLY_RESTS,				/* until the next round */
	TALLY_ADDS,					/* adds up the log */
	TALLY_HEALTH				/* looks at webhooks that fail */
} TallyState;

static TallyState state;
static bool has_counted;		/* since the round began */
static TimestampTz next_step_at;

/* Those with has_stats; in the memory of the transaction under way. */
static List *counted_subscribers = NIL;

void
tally_open(void)
{
	state = TALLY_RESTS;
	has_counted = false;
	next_step_at = 0;
	counted_subscribers = NIL;
}

void
tally_count(Dispatch *dispatch, const DispatchRow *row)
{
	Subscriber *subscriber = dispatch->subscriber;

	if (!subscriber->has_stats)
	{
		counted_subscribers = lappend(counted_subscribers, subscriber);
		subscriber->has_stats = true;
		subscriber->new_dispatches = 0;
		subscriber->last_dispatch_id[0] = '\0';
	}
	if (!dispatch->is_counted)
		subscriber->new_dispatches++;
	dispatch->is_counted = true;
	if (strcmp(row->id, subscriber->last_dispatch_id) < 0)
		return;
	strlcpy(subscriber->last_dispatch_id, row->id, sizeof(Id));
	subscriber->last_status = row->status;
	subscriber->last_finished_at = row->finished_at;
}

void
tally_write(void)
{
	StatsLog   *log;
	ListCell   *cell;

	if (counted_subscribers == NIL)
		return;
	log = stats_log_create();
	foreach(cell, counted_subscribers)
	{
		Subscriber *subscriber = lfirst(cell);
		StatsRow	row = {
			.webhook_id = subscriber->id,
			.dispatches = subscriber->new_dispatches,
			.last_dispatch_id = subscriber->last_dispatch_id,
			.last_status = subscriber->last_status,
			.last_finished_at = subscriber->last_finished_at
		};

		stats_log_add(log, &row);
		subscriber->has_stats = false;
	}
	stats_log_write(log);
	counted_subscribers = NIL;
	has_counted = true;
}

void
tally_hurry(void)
{
	has_counted = true;
	next_step_at = 0;
}

TimestampTz
tally_deadline(void)
{
	return state == TALLY_RESTS && !has_counted ? DT_NOEND : next_step_at;
}

/* Does one step; returns when the next one is due. */
static TimestampTz
step(TimestampTz now)
{
	switch (state)
	{
		case TALLY_RESTS:
			has_counted = false;
			statistics_begin();
			counters_write();
			state = TALLY_ADDS;
			break;
		case TALLY_ADDS:
			if (!statistics_add_up())
				state = TALLY_HEALTH;
			break;
		case TALLY_HEALTH:
			if (health_write(now))
				break;
			state = TALLY_RESTS;
			return now + TALLY_TIME;
	}
	return clock_work_time() + (clock_work_time() - now) * (STEP_SHARE - 1);
}

bool
tally_work(void)
{
	if (!work_begin("adding up statistics"))
		return false;
	next_step_at = step(clock_work_time());
	work_commit();
	return true;
}
