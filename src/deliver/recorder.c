/*-------------------------------------------------------------------------
 *
 * recorder.c
 *	  Writing down what became of dispatches, many in one transaction.
 *
 * A dispatch that is answered soon gets its row and its call in one go, already
 * finished.  One that is not gets a row that says it waits; if its request
 * has not started then, memory forgets it, and it comes back from the table.
 *
 * That transaction depends on nothing else.  Memory changes when it has been
 * committed.  If it fails because of what is written, it is tried by halves until
 * the one row that can't be written is alone; that is set aside.  If it fails for
 * another reason nothing is sent until a later try succeeds.
 *
 * What follows from results (jobs) has transactions of its own, which may fail.
 *
 * IDENTIFICATION
 *	  src/deliver/recorder.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/dispatch.h"
#include "deliver/http.h"
#include "deliver/jobs.h"
#include "deliver/retiring.h"
#include "deliver/lanes.h"
#include "deliver/recorder.h"
#include "deliver/recording.h"
#include "deliver/tally.h"
#include "deliver/trouble.h"
#include "deliver/waiting.h"
#include "server/clock.h"
#include "server/slots.h"
#include "store/counters.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* All times are in microseconds.  So long a dispatch can do without a row. */
#define ROWLESS_TIME 250000

/* So long results wait for more of them, and so many don't wait at all. */
#define RESULT_TIME 20000
#define MAX_RESULTS 1000

/* So long the cursor waits when it has nothing else to be written with. */
#define MARK_TIME 100000

/*
 * So long after a failure it is tried again, at first and at most; what is not urgent
 * is after the third time.
 */
#define MIN_RETRY_TIME 100000
#define MAX_RETRY_TIME (INT64CONST(5) * USECS_PER_SEC)
#define EXTRA_RETRY_TIME (INT64CONST(30) * USECS_PER_SEC)

/* So long a result whose row somebody has locked waits. */
#define LOCKED_TIME USECS_PER_SEC

static TimestampTz mark_since;	/* a batch is done and its mark not written */
static TimestampTz statistics_retry_at; /* they could not be logged */
static TimestampTz mark_retry_at;	/* nor that be written */

/* After a failure; 0: the last try has succeeded. */
static TimestampTz retry_at;
static int64 retry_time;

/* Was something written since the process started? */
static bool is_proven = false;

/* When results whose rows are locked are looked at again. */
static TimestampTz locked_until;

/* Dispatches that could not be written, by id; they stay as they are. */
static HTAB *set_aside;

static MemoryContext entries_context;

void
recorder_open(MemoryContext context)
{
	HASHCTL		control = {
		.keysize = sizeof(Id),
		.entrysize = sizeof(Id),
		.hcxt = context
	};

	entries_context = AllocSetContextCreate(context, "webhook_events results",
											ALLOCSET_DEFAULT_SIZES);
	set_aside = hash_create("webhook_events set aside", 16, &control,
							HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	mark_since = 0;
	statistics_retry_at = 0;
	mark_retry_at = 0;
	retry_at = 0;
	retry_time = 0;
	jobs_open(context);
}

bool
recorder_has_set_aside(const char *id)
{
	return hash_search(set_aside, id, HASH_FIND, NULL) != NULL;
}

static bool
mark_waits(void)
{
	const Batch *oldest = batch_next(NULL);

	return oldest != NULL && oldest->nwithout_row == 0 && !retiring_holds_marks();
}

bool
recorder_is_done(void)
{
	return dispatches_ended() == 0 && dispatches_rowless() == 0 &&
		!dispatches_any_put_off() && !mark_waits() && retry_at == 0;
}

bool
recorder_has_put_down(void)
{
	return dispatches_rowless() == 0 && batch_next(NULL) == NULL && retry_at == 0;
}

bool
recorder_is_blocked(void)
{
	return retry_at != 0;
}

TimestampTz
recorder_deadline(bool idle)
{
	TimestampTz deadline = jobs_deadline();

	if (retry_at != 0)
		return retry_at;
	if (dispatches_any_put_off())
		deadline = Min(deadline, locked_until);
	if (dispatches_ended() > 0)
	{
		if (idle || dispatches_ended() >= MAX_RESULTS)
			return 0;
		deadline = Min(deadline, dispatch_next_ended(NULL)->ended_at + RESULT_TIME);
	}

	/* Those that could not be logged along with results. */
	if (!tally_is_empty())
		deadline = Min(deadline, statistics_retry_at);
	if (dispatches_rowless() > 0)
		deadline = Min(deadline, dispatch_next_rowless(NULL)->since + ROWLESS_TIME);
	if (mark_waits())
	{
		if (mark_since == 0)
			mark_since = clock_work_time();
		deadline = Min(deadline, Max(mark_since + MARK_TIME, mark_retry_at));
	}
	return deadline;
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

/* What ended was written: forgets it, and sees to what follows from it. */
static void
forget_ended(const Entry *entry)
{
	Dispatch   *dispatch = entry->dispatch;
	Subscriber *subscriber = dispatch->subscriber;

	/* A backlog is of what is due, not of what was put off. */
	if (entry->status == DISPATCH_ACTIVE &&
		(dispatch->was_called || entry->next_attempt_at > clock_work_time()))
		waiting_note_due(entry->next_attempt_at);
	else if (entry->status == DISPATCH_ACTIVE)
		note_waiting(subscriber, entry->next_attempt_at);
	shared_count_results(entry->status == DISPATCH_SUCCEEDED,
						 entry->status == DISPATCH_FAILED);
	counters_add(COUNTER_SUCCEEDED, entry->status == DISPATCH_SUCCEEDED);
	counters_add(COUNTER_GIVEN_UP, entry->status == DISPATCH_FAILED);
	if (dispatch->was_called && dispatch->call.status == HTTP_GONE)
		jobs_add_gone(subscriber->id, dispatch->called_version);
	if (entry->status != DISPATCH_ACTIVE && dispatch->has_waited &&
		subscriber->webhook && subscriber->webhook->is_ad_hoc)
		retiring_add_dispatch(subscriber->id);
	dispatch_forget(dispatch);
}

/*
 * What had no row was written: what is queued is now at the back of its webhook's
 * line in the table, and its host gets no more in memory until that line is short.
 */
static void
forget_queued(const Entry *entry, TimestampTz now)
{
	Dispatch   *dispatch = entry->dispatch;

	if (dispatch->stage == STAGE_CALLING)
	{
		host_set_slow(dispatch->host, true);
		return;
	}
	if (entry->next_attempt_at != DT_NOEND)
	{
		/*
		 * What has had to wait for its turn says nothing of the host, nor
		 * does one that a lack of memory has kept from any queue.
		 */
		if (dispatch->lane == NULL && dispatch->host != NULL)
			dispatch->host->is_congested = true;
		note_waiting(dispatch->subscriber, now);
	}
	dispatch_forget(dispatch);
}

/* The transaction was committed. */
static void
note_written(const Recording *recording, TimestampTz now)
{
	for (int i = 0; i < recording->count; i++)
	{
		Entry	   *entry = &recording->entries[i];

		if (entry->is_locked)
		{
			/* It waits for that lock without being in anybody's way. */
			dispatch_put_off(entry->dispatch);
			locked_until = clock_work_time() + LOCKED_TIME;
			continue;
		}
		subscriber_count_waiting(entry->dispatch->subscriber,
								 (entry->status == DISPATCH_ACTIVE) -
								 entry->dispatch->has_row);
		dispatch_got_row(entry->dispatch);
		if (entry->dispatch->stage == STAGE_ENDED)
			forget_ended(entry);
		else
			forget_queued(entry, now);
	}
	if (recording->with_statistics)
		tally_written();
	if (recording->with_mark)
	{
		for (int i = 0; i < recording->nmarked; i++)
			cursor_mark_free(batch_take_mark(batch_next(NULL)));
		mark_since = 0;
	}
	is_proven |= recording->count > 0;
}

static WorkResult
try(Recording *recording, TimestampTz now, WorkError *error)
{
	WorkResult	result = recording_write(recording, error);

	if (result == WORK_DONE)
		note_written(recording, now);
	return result;
}

/* The number of the call that ended follows that of the last one in the table. */
static void
renumber(void *argument)
{
	Dispatch   *dispatch = argument;

	dispatch->attempts = dispatches_last_attempt(dispatch->id) + 1;
}

/*
 * A row that can't be written: its call, if it has that number already, gets the next
 * one; else the dispatch fails, without its call; else it is only remembered
 * that it must not be sent again.
 */
static WorkResult
set_row_aside(Recording *recording, TimestampTz now, WorkError *error)
{
	Entry	   *entry = recording->entries;
	Dispatch   *dispatch = entry->dispatch;
	char	   *reason = psprintf("Could not be recorded: %s", error->message);
	WorkError	other;
	WorkResult	result = WORK_FAILED;

	if (error->sqlstate == ERRCODE_UNIQUE_VIOLATION && dispatch->was_called &&
		work_run("numbering a call", false, renumber, dispatch, &other) == WORK_DONE)
		result = try(recording, now, error);
	if (result != WORK_FAILED || !error->is_of_row)
		return result;
	if (dispatch->stage == STAGE_CALLING)
	{
		/* Its result will be tried in turn. */
		dispatch->since = now;
		return WORK_DONE;
	}

	counters_add(COUNTER_LEFT_OUT, 1);
	ereport(LOG,
			(errcode(error->sqlstate),
			 errmsg("dispatch \"%s\" of webhook \"%s\" of database \"%s\" could not be recorded and is set aside: %s",
					dispatch->id, dispatch->subscriber->id, work_database(),
					error->message)));
	if (dispatch->stage == STAGE_ENDED)
	{
		entry->status = DISPATCH_FAILED;
		entry->without_call = true;
		dispatch_set_error(dispatch, reason);
		result = try(recording, now, error);
		if (result != WORK_FAILED || !error->is_of_row)
			return result;
	}
	hash_search(set_aside, dispatch->id, HASH_ENTER, NULL);
	dispatch_got_row(dispatch);
	dispatch_forget(dispatch);
	return WORK_DONE;
}

/* Records by halves what can be; ends at an error that is not of a row. */
static WorkResult
record_in_parts(Entry *entries, int count, TimestampTz now, WorkError *error)
{
	Recording	part = {.entries = entries, .count = count};
	WorkResult	result = try(&part, now, error);

	if (result != WORK_FAILED || !error->is_of_row)
		return result;
	if (count == 0)
		return result;
	if (count == 1)
		return set_row_aside(&part, now, error);
	result = record_in_parts(entries, count / 2, now, error);
	if (result != WORK_DONE)
		return result;
	return record_in_parts(entries + count / 2, count - count / 2, now, error);
}

/* What is written along with results is tried alone, to see what is wrong. */
static WorkResult
record_extra(TroubleKind kind, Recording *extra, TimestampTz now,
			 TimestampTz *next_at)
{
	WorkError	error;
	WorkResult	result = try(extra, now, &error);

	if (result == WORK_GONE)
		return result;
	if (result == WORK_DONE)
	{
		trouble_end(kind);
		return result;
	}
	trouble_note(kind, &error);
	*next_at = now + EXTRA_RETRY_TIME;
	return WORK_DONE;
}

static void
add_entry(Entry *entries, int *count, Dispatch *dispatch, DispatchStatus status,
		  TimestampTz next_attempt_at)
{
	Entry	   *entry = &entries[(*count)++];

	entry->dispatch = dispatch;
	entry->status = status;
	entry->next_attempt_at = lane_waits(dispatch) ? DT_NOEND : next_attempt_at;
	entry->without_call = false;
	tally_count(dispatch, status);
}

/*
 * Gathers all that ended, and what has had no row for too long, or all that has
 * none if "everything" is to have one.
 */
static Entry *
collect(bool everything, TimestampTz now, int *count)
{
	Entry	   *entries = palloc(sizeof(Entry) *
								 (dispatches_ended() + dispatches_rowless() + 1));
	Dispatch   *dispatch;

	*count = 0;
	for (dispatch = dispatch_next_ended(NULL); dispatch != NULL;
		 dispatch = dispatch_next_ended(dispatch))
		add_entry(entries, count, dispatch, dispatch->status,
				  Max(dispatch->next_attempt_at, now));
	for (dispatch = dispatch_next_rowless(NULL); dispatch != NULL;
		 dispatch = dispatch_next_rowless(dispatch))
	{
		if (!everything && now - dispatch->since < ROWLESS_TIME)
			break;
		if (dispatch->stage != STAGE_ENDED)
			add_entry(entries, count, dispatch, DISPATCH_ACTIVE, now);
	}
	return entries;
}

/*
 * After a failure nothing is sent, because it could not be recorded either.
 */
static void
note_outcome(WorkResult result, const WorkError *error, TimestampTz now)
{
	if (result == WORK_DONE)
	{
		retry_at = 0;
		retry_time = 0;
		trouble_end(TROUBLE_RECORDING);
	}
	else if (result == WORK_FAILED)
	{
		retry_time = Min(Max(2 * retry_time, MIN_RETRY_TIME), MAX_RETRY_TIME);
		retry_at = now + retry_time;
		trouble_note(TROUBLE_RECORDING, error);
	}
}

/* Records what there is, in as many transactions as it takes. */
static WorkResult
record(bool everything, TimestampTz now)
{
	Recording	all = {
		.with_statistics = now >= statistics_retry_at,
		.with_mark = now >= mark_retry_at
	};
	WorkError	error;
	WorkResult	result;

	clock_look_at_wall();
	all.entries = collect(everything, now, &all.count);
	if (tally_is_empty())
		all.with_statistics = false;
	result = try(&all, now, &error);
	if (result == WORK_FAILED)
		result = record_in_parts(all.entries, all.count, now, &error);
	else
	{
		if (all.with_statistics)
			trouble_end(TROUBLE_LOGGING_STATISTICS);
		if (all.with_mark)
			trouble_end(TROUBLE_MARKING);
		all.with_statistics = all.with_mark = false;
	}
	note_outcome(result, &error, now);
	if (result == WORK_DONE && all.with_statistics)
	{
		Recording	statistics = {.with_statistics = true};

		result = record_extra(TROUBLE_LOGGING_STATISTICS, &statistics, now,
							  &statistics_retry_at);
	}
	if (result == WORK_DONE && all.with_mark)
	{
		Recording	mark = {.with_mark = true};

		result = record_extra(TROUBLE_MARKING, &mark, now, &mark_retry_at);
	}
	return result;
}

/* Hands the runs that ended in batches that are done to a job. */
static void
take_ended_runs(void)
{
	for (Batch *batch = batch_next(NULL); batch != NULL && batch->nwithout_row == 0;
		 batch = batch_next(batch))
	{
		retiring_add_runs(batch->ended_runs);
		batch->ended_runs = NIL;
	}
}

static bool
flush(bool everything)
{
	MemoryContext old_context = MemoryContextSwitchTo(entries_context);
	TimestampTz now = waiting_write_time();
	WorkResult	result;

	if (locked_until <= now)
		dispatches_take_put_off();
	result = record(everything, now);
	if (result == WORK_DONE)
		waiting_wrote(now);
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(entries_context);
	if (result == WORK_DONE && !recorder_is_blocked())
	{
		take_ended_runs();
		if (!jobs_run(false))
			result = WORK_GONE;
	}
	return result != WORK_GONE;
}

bool
recorder_flush(void)
{
	return flush(false);
}

/* A batch in which runs have ended takes two turns until its mark is written. */
bool
recorder_put_down(void)
{
	for (int i = 0; i < 2 && !recorder_has_put_down(); i++)
	{
		if (!flush(true))
			return false;
	}
	return true;
}

bool
recorder_prove(void)
{
	TimestampTz now = clock_work_time();
	WorkError	error;
	WorkResult	result;

	if (is_proven || retry_at > now)
		return true;
	result = recording_prove(&error);
	note_outcome(result, &error, now);
	is_proven = (result == WORK_DONE);
	return result != WORK_GONE;
}

/*
 * What is under way gets a row too, so that whoever decides meanwhile about what waits
 * finds it there, and not among the events that nobody has seen.
 */
void
recorder_finish(void)
{
	dispatches_take_put_off();
	locked_until = 0;
	/* What could not be written a moment ago has no other time to be tried. */
	statistics_retry_at = 0;
	mark_retry_at = 0;
	(void) flush(true);
	(void) jobs_run(true);
	if (mark_waits())
		(void) flush(true);
	if (dispatches_ended() > 0 || dispatches_any_put_off())
		ereport(LOG,
				(errmsg("some of what was sent from database \"%s\" could not be recorded, and will be sent again",
						work_database())));
}
