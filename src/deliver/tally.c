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
#include "deliver/trouble.h"
#include "server/clock.h"
#include "store/counters.h"
#include "store/statistics.h"
#include "utils/timestamp.h"

/* So often what was logged is added up, and webhooks that fail are looked at. */
#define TALLY_TIME (INT64CONST(30) * USECS_PER_SEC)

/* So long after a failure it is tried again. */
#define RETRY_TIME (INT64CONST(5) * USECS_PER_SEC)

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

/* Those with has_stats. */
static List *counted_subscribers = NIL;
static MemoryContext tally_context;

void
tally_open(MemoryContext context)
{
	tally_context = context;
	state = TALLY_RESTS;
	has_counted = false;
	next_step_at = 0;
	counted_subscribers = NIL;
}

void
tally_count(Dispatch *dispatch, DispatchStatus status)
{
	Subscriber *subscriber = dispatch->subscriber;

	if (!subscriber->has_stats)
	{
		MemoryContext old_context = MemoryContextSwitchTo(tally_context);

		counted_subscribers = lappend(counted_subscribers, subscriber);
		MemoryContextSwitchTo(old_context);
		subscriber->has_stats = true;
		subscriber->new_dispatches = 0;
		subscriber->last_dispatch_id[0] = '\0';
	}
	if (!dispatch->is_counted)
		subscriber->new_dispatches++;
	dispatch->is_counted = true;
	if (strcmp(dispatch->id, subscriber->last_dispatch_id) < 0)
		return;
	strlcpy(subscriber->last_dispatch_id, dispatch->id, sizeof(Id));
	subscriber->last_status = status;
	subscriber->last_finished_at = status == DISPATCH_ACTIVE ? 0 :
		clock_to_wall(dispatch->ended_at);
}

bool
tally_is_empty(void)
{
	return counted_subscribers == NIL;
}

void
tally_write(void)
{
	StatsLog   *log;
	StatsRow   *first;
	int			nfirst = 0;
	ListCell   *cell;

	if (counted_subscribers == NIL)
		return;
	log = stats_log_create();
	first = palloc(sizeof(StatsRow) * list_length(counted_subscribers));
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

		if (subscriber->is_uncounted)
			first[nfirst++] = row;
		else
			stats_log_add(log, &row);
	}
	stats_log_write(log);
	if (nfirst > 0)
		stats_write_first(first, nfirst);
}

void
tally_written(void)
{
	ListCell   *cell;

	has_counted |= (counted_subscribers != NIL);
	foreach(cell, counted_subscribers)
	{
		Subscriber *subscriber = lfirst(cell);

		subscriber->has_stats = false;
		subscriber->is_uncounted = false;
	}
	list_free(counted_subscribers);
	counted_subscribers = NIL;
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

/* The transaction: one step, after which *argument is when the next one is due. */
static void
take_step(void *argument)
{
	TimestampTz now = clock_work_time();
	TimestampTz *next_at = argument;

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
			*next_at = now + TALLY_TIME;
			return;
	}
	*next_at = clock_work_time() + (clock_work_time() - now) * (STEP_SHARE - 1);
}

bool
tally_work(void)
{
	TroubleKind kind = state == TALLY_HEALTH ? TROUBLE_HEALTH : TROUBLE_STATISTICS;
	WorkError	error;

	switch (work_run("adding up statistics", true, take_step, &next_step_at, &error))
	{
		case WORK_DONE:
			if (state == TALLY_HEALTH)
				trouble_end(TROUBLE_STATISTICS);
			if (state == TALLY_RESTS)
				trouble_end(TROUBLE_HEALTH);
			break;
		case WORK_FAILED:
			trouble_note(kind, &error);
			statistics_recover();

			/*
			 * What can't be added up keeps nobody's health from being seen
			 * to.
			 */
			state = kind == TROUBLE_STATISTICS ? TALLY_HEALTH : TALLY_RESTS;
			has_counted = true;
			next_step_at = clock_work_time() + RETRY_TIME;
			break;
		case WORK_GONE:
			return false;
	}
	return true;
}
