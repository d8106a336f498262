/*-------------------------------------------------------------------------
 *
 * delivery.c
 *	  The engine of a worker: routing, calling and recording in turns.
 *
 * Memory holds only what the tables hold as well, or the outbox still has to
 * tell: it can be lost at any moment, and nothing else is.
 *
 * IDENTIFICATION
 *	  src/deliver/delivery.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/caller.h"
#include "deliver/counting.h"
#include "deliver/delivery.h"
#include "deliver/dispatch.h"
#include "deliver/health.h"
#include "deliver/hosts.h"
#include "deliver/http.h"
#include "deliver/retiring.h"
#include "deliver/lanes.h"
#include "deliver/making.h"
#include "deliver/recorder.h"
#include "deliver/router.h"
#include "deliver/slices.h"
#include "deliver/tally.h"
#include "deliver/times.h"
#include "deliver/waiting.h"
#include "server/clock.h"
#include "server/live.h"
#include "server/settings.h"
#include "server/shared.h"
#include "server/slots.h"
#include "server/wal.h"
#include "store/counters.h"
#include "store/statement.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * How often the whole table of dispatches is looked at for rows that nothing
 * announced, in microseconds.
 */
#define SWEEP_INTERVAL (INT64CONST(300) * USECS_PER_SEC)

/* How often requests are started before results are looked after. */
#define MAX_ROUNDS 16

/* So long, in microseconds, a worker that ends goes on adding up statistics. */
#define FINISH_TIME 200000

/* How often it is tried to take the time of a clock that was set. */
#define FOLLOW_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

static MemoryContext delivery_context = NULL;
static bool is_put_down;		/* nothing is in memory but what is under way */
static TimestampTz next_poll_at;
static TimestampTz next_sweep_at;
static TimestampTz next_follow_at = 0;

void
delivery_open(void)
{
	MemoryContext context;

	Assert(delivery_context == NULL);
	(void) times_open();

	/* It is not open, and nothing to be ended, before all of it is. */
	http_open();
	context = AllocSetContextCreate(TopMemoryContext, "webhook_events delivery",
									ALLOCSET_DEFAULT_SIZES);
	hosts_open(context);
	subscribers_open(context);
	dispatches_open(context);
	lanes_open(context);
	caller_open(context);
	cursor_reset();
	slices_open(context);
	router_open();
	waiting_open();
	recorder_open(context);
	tally_open(context);
	counting_open();
	health_open();
	is_put_down = false;
	next_poll_at = 0;
	next_sweep_at = clock_work_time() + SWEEP_INTERVAL;
	delivery_context = context;
}

bool
delivery_is_open(void)
{
	return delivery_context != NULL;
}

void
delivery_close(void)
{
	if (delivery_context == NULL)
		return;
	http_close();
	subscribers_close();
	MemoryContextDelete(delivery_context);
	delivery_context = NULL;
	shared_set_in_flight(0);
}

/* The rest is in the log for the next worker. */
static void
finish_tally(void)
{
	TimestampTz until = clock_work_time() + FINISH_TIME;

	tally_hurry();
	while (tally_deadline() != DT_NOEND && clock_work_time() < until)
	{
		if (!tally_work())
			return;
	}
}

/*
 * Does anything lie in the table that is due by the worker's time, or will if the worker
 * ends: what is in memory, and in the table already unless it is young?
 */
static bool
time_matters(bool at_end)
{
	int			nheld = dispatches_queued() + http_in_flight();

	return waiting_has_rows() || nheld > (at_end ? 0 : dispatches_rowless());
}

void
delivery_finish(void)
{
	if (delivery_context == NULL)
		return;
	caller_take_answers();
	recorder_finish();
	finish_tally();
	if (time_matters(true))
		(void) times_write();
	wal_flush_commits();
	delivery_close();
}

/*
 * Takes the time of the wall clock, if that was set, once nothing is left that has the
 * old one: in memory, which starts anew, or in the table.
 */
static void
follow_clock(void)
{
	TimestampTz now = clock_work_time();

	if (!times_differ() || now < next_follow_at || !delivery_is_quiet() ||
		waiting_has_rows())
		return;
	delivery_finish();
	delivery_open();
	next_follow_at = clock_work_time() + FOLLOW_INTERVAL;
}

/* Passes on what the worker was woken for, and what the clock says. */
static void
note_wake(uint32 wake)
{
	TimestampTz now = clock_work_time();

	if (wake & WAKE_EVENTS || (now >= next_poll_at && !cursor_is_at_end()))
		router_look_again();
	if (wake & WAKE_EVENTS || now >= next_poll_at)
		next_poll_at = TimestampTzPlusMilliseconds(now, setting_poll_interval);
	if (wake & WAKE_RUNS)
		retiring_check_runs();
	if (wake & WAKE_COMMANDS || now >= next_sweep_at)
	{
		waiting_look_again();
		if (now >= next_sweep_at)
		{
			retiring_look_again();
			lanes_look_again();
		}
		next_sweep_at = now + SWEEP_INTERVAL;
	}
}

/* Is no answer awaited that could be recorded along with others? */
static bool
is_idle(void)
{
	return http_in_flight() == 0;
}

static bool
record_if_due(void)
{
	if (recorder_deadline(is_idle()) > clock_work_time())
		return true;
	return recorder_flush();
}

/* Finds new work that may be sent; false if the extension is gone. */
static bool
find_work(void)
{
	if (router_has_work() && !router_route())
		return false;
	if (waiting_deadline() <= clock_work_time() && !waiting_fetch())
		return false;
	if (lanes_deadline() <= clock_work_time() && !lanes_run())
		return false;
	wal_flush_seen();
	return true;
}

/* Bytes of events that memory has gained since it held so many. */
static Size
gained(Size before)
{
	Size		now = batches_event_bytes();

	return now > before ? now - before : 0;
}

/*
 * Starts what can be started, after so many bytes of events were read.  What is
 * answered at once makes room for more; but results must not wait for ever.
 */
static void
call(Size nread)
{
	caller_begin_turn(nread);
	for (int i = 0; i < MAX_ROUNDS; i++)
	{
		caller_start_requests(false);
		if (!caller_take_answers())
			break;
	}
	caller_start_requests(true);
}

/* Milliseconds until something has to be done. */
static long
time_to_wait(bool may_send)
{
	TimestampTz now = clock_work_time();
	TimestampTz deadline = Min(Min(recorder_deadline(is_idle()), tally_deadline()),
							   Min(work_report_deadline(), wal_deadline()));
	long		http_wait = http_timeout();
	long		wait;

	deadline = Min(deadline, counting_deadline());
	if (!may_send && slices_exist() && !recorder_is_blocked())
		return 0;
	if (may_send)
	{
		if (router_has_work())
			return 0;
		deadline = Min(deadline, caller_deadline());
		deadline = Min(deadline, Min(waiting_deadline(), lanes_deadline()));
		deadline = Min(deadline, router_deadline());
		deadline = Min(deadline, Min(next_poll_at, next_sweep_at));
		deadline = Min(deadline, hosts_deadline());
		if (time_matters(false))
			deadline = Min(deadline, times_deadline());
	}
	if (deadline <= now)
		return 0;
	wait = (deadline == DT_NOEND) ? setting_poll_interval :
		Min(TimestampDifferenceMilliseconds(now, deadline), setting_poll_interval);
	return http_wait < 0 ? wait : Min(wait, http_wait);
}

/*
 * For a hold: all but what is under way leaves memory, so that the tables tell
 * what waits, and whoever changes that there need not reckon with us.  False if the
 * extension is gone.
 */
static bool
put_down(void)
{
	if (recorder_is_blocked() && recorder_deadline(true) > clock_work_time())
		return true;
	if (slices_exist() && !router_put_down())
		return false;
	dispatches_forget_queued();
	if (!recorder_put_down())
		return false;
	if (!recorder_has_put_down())
		return true;
	making_forget();
	cursor_reset();
	router_open();
	is_put_down = true;
	return true;
}

/* After a hold: what waits is looked for in the tables. */
static void
take_up(void)
{
	waiting_open();
	lanes_look_again();
	retiring_look_again();
	is_put_down = false;
}

bool
delivery_has_put_down(void)
{
	return delivery_context == NULL || is_put_down;
}

long
delivery_run(uint32 wake, bool may_send)
{
	if (!may_send && !is_put_down && !put_down())
		return -1;
	if (may_send && is_put_down)
		take_up();
	if (may_send)
		follow_clock();
	note_wake(wake);
	caller_take_answers();
	if (!record_if_due())
		return -1;
	if (may_send && !recorder_prove())
		return -1;
	may_send = may_send && !recorder_is_blocked();
	if (may_send)
	{
		Size		held = batches_event_bytes();

		if (!find_work())
			return -1;
		call(gained(held));
		if (time_matters(false) && times_deadline() <= clock_work_time() &&
			!times_write())
			return -1;
	}
	if (!record_if_due())
		return -1;
	if (tally_deadline() <= clock_work_time() && !tally_work())
		return -1;
	if (counting_deadline() <= clock_work_time() && !counting_work())
		return -1;
	if (wal_deadline() <= clock_work_time())
		wal_flush_commits();
	work_report();
	shared_set_in_flight(http_in_flight());
	live_behind(LIVE_ROUTING, may_send && router_has_work(), counters_get(COUNTER_EVENTS));
	live_behind(LIVE_DELIVERY, may_send && (dispatches_queued() > 0 ||
											hosts_first_backlogged() != NULL),
				counters_get(COUNTER_SUCCEEDED) + counters_get(COUNTER_GIVEN_UP));
	return time_to_wait(may_send);
}

TimestampTz
delivery_next_work(void)
{
	if (delivery_context == NULL)
		return DT_NOEND;
	if (router_has_work())
		return 0;
	return Min(Min(waiting_deadline(), lanes_deadline()), hosts_deadline());
}

bool
delivery_is_quiet(void)
{
	return delivery_context == NULL ||
		(http_in_flight() == 0 && recorder_is_done() && !slices_exist());
}
