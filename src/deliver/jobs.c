/*-------------------------------------------------------------------------
 *
 * jobs.c
 *	  What follows from results and can wait: disabling webhooks and retiring them.
 *
 * IDENTIFICATION
 *	  src/deliver/jobs.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/dispatch.h"
#include "deliver/jobs.h"
#include "deliver/run_checks.h"
#include "deliver/trouble.h"
#include "server/clock.h"
#include "store/counters.h"
#include "store/retirement.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So long after a failure a job is tried again, in microseconds. */
#define RETRY_TIME (INT64CONST(10) * USECS_PER_SEC)

/* So many webhooks a job that keeps failing remembers; then it forgets the oldest. */
#define MAX_PENDING 100000

/*
 * So much of what earlier tries or workers have left is looked at once, and so soon
 * after that at more; a worker that starts waits as long.
 */
#define MAX_LOOKED 1000
#define LOOK_TIME USECS_PER_SEC

/* Up to so many dispatches that wait for a webhook that is gone are counted. */
#define MAX_COUNTED 1000

/* New runs to check come one by one, and are looked at together. */
#define CHECK_INTERVAL (INT64CONST(200) * USECS_PER_SEC / 1000)

typedef struct Job
{
	TroubleKind kind;
	const char *activity;
	bool		(*is_wanted) (TimestampTz now);
	void		(*work) (void *argument);
	TimestampTz (*done) (TimestampTz now);	/* after the commit; when it is to
											 * be looked at again, 0: not */
	WorkResult	(*failed) (TimestampTz now);	/* NULL: nothing is to be done */
	TimestampTz next_at;		/* not before; 0: as soon as it is wanted */
} Job;

/* A webhook whose endpoint is gone. */
typedef struct Gone
{
	Id			webhook_id;
	TimestampTz modified_at;	/* the version that was called */
	bool		is_left;		/* somebody has locked it */
} Gone;

static MemoryContext jobs_context;
static List *gone_webhooks;		/* Gone * */
static List *ending_webhooks;	/* char * */
static List *ended_runs;		/* EndedRun: those that the table doesn't hold */

/* When the table is to be looked at for what was left there; and from where on. */
static TimestampTz look_at;
static Id	run_position;
static Id	check_position;
static TimestampTz check_at;	/* at the earliest */

/* The version that was called: whoever changes a webhook meanwhile gave it a new URL. */
#define GONE_VERSIONS \
	" FROM unnest($1, $2) WITH ORDINALITY AS g (id, modified_at, number) CROSS JOIN LATERAL (" \
	" SELECT w.id FROM webhook_events_internal.webhooks AS w" \
	" WHERE w.id = g.id AND w.modified_at = g.modified_at AND w.is_enabled"

/* For the log it says what was waiting, which is counted up to a number. */
static Statement disable_statement = {
	"UPDATE webhook_events_internal.webhooks AS w SET is_enabled = false,"
	" disabled_reason = 'The endpoint answered 410 Gone.'"
	" WHERE w.id = ANY (ARRAY(SELECT w.id" GONE_VERSIONS
	" FOR UPDATE SKIP LOCKED) AS w))"
	" RETURNING w.id, format('%s %s dispatches were waiting.', w.disabled_reason,"
	" (SELECT CASE WHEN count(*) > $3 THEN 'more than ' || $3 ELSE count(*)::text END"
	" FROM (SELECT FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id = w.id LIMIT $3 + 1) AS d))",
	3, {TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4OID}, NULL
};

static Statement left_statement = {
	"SELECT g.number::integer" GONE_VERSIONS " OFFSET 0) AS w",
	2, {TEXTARRAYOID, TIMESTAMPTZARRAYOID}, NULL
};

/*
 * Notes that runs have ended, and disables their webhooks once nothing waits
 * for them: those of these runs, and of the runs of these webhooks, $3.  The table's
 * trigger only looks at what a person could change.
 */
static Statement retire_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET run_ended = true, run_changed_at = nullif(greatest(r.time, w.run_changed_at), '-infinity'),"
	" is_enabled = r.waits, is_retired = NOT r.waits,"
	" disabled_reason = CASE WHEN NOT r.waits THEN '" RETIREMENT_REASON "' END"
	" FROM (SELECT w.id, e.time, EXISTS ("
	" SELECT FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id = w.id"
	" AND d.id >= webhook_events.id_lower_bound(w.created_at - interval '1 day')) AS waits"
	" FROM (SELECT * FROM unnest($1, $2) UNION ALL"
	" SELECT o.actor_run_id, NULL FROM webhook_events_internal.webhooks AS o"
	" WHERE o.id = ANY ($3) AND o.run_ended) AS e (run_id, time)"
	" JOIN webhook_events_internal.webhooks AS w"
	" ON w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL"
	" AND w.is_ad_hoc AND w.is_enabled"
	" AND (w.run_ended OR w.run_changed_at < e.time OR w.run_changed_at IS NULL)"
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id AND NOT (w.run_ended AND r.waits)",
	3, {TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID}, NULL
};

/* Has this run, "e", ended for a webhook that has not retired? */
#define IS_LEFT \
	"EXISTS (SELECT FROM webhook_events_internal.webhooks AS w" \
	" WHERE w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL" \
	" AND w.is_ad_hoc AND w.is_enabled" \
	" AND (w.run_ended OR w.run_changed_at < e.time OR w.run_changed_at IS NULL))"

/* Or for one that does not even show it?  That was locked. */
#define IS_LOCKED \
	"EXISTS (SELECT FROM webhook_events_internal.webhooks AS w" \
	" WHERE w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL" \
	" AND w.is_ad_hoc AND w.is_enabled AND NOT w.run_ended" \
	" AND (w.run_changed_at < e.time OR w.run_changed_at IS NULL))"

/* With $3 all of them, whatever webhooks there are. */
static Statement keep_statement = {
	"INSERT INTO webhook_events_internal.ended_runs AS e (run_id, time)"
	" SELECT e.run_id, e.time FROM unnest($1, $2) AS e (run_id, time)"
	" WHERE ($3 OR " IS_LEFT ")"
	" AND NOT EXISTS (SELECT FROM webhook_events_internal.ended_runs AS k"
	" WHERE k.run_id = e.run_id AND k.time >= e.time)"
	" RETURNING " IS_LOCKED,
	3, {TEXTARRAYOID, TIMESTAMPTZARRAYOID, BOOLOID}, NULL
};

static Statement kept_statement = {
	"SELECT id, run_id, time FROM webhook_events_internal.ended_runs"
	" WHERE id > $1 ORDER BY id LIMIT $2",
	2, {TEXTOID, INT4OID}, NULL
};

static Statement forget_statement = {
	"DELETE FROM webhook_events_internal.ended_runs AS e"
	" WHERE e.id = ANY ($1) AND NOT " IS_LEFT,
	1, {TEXTARRAYOID}, NULL
};

static Statement locked_statement = {
	"SELECT FROM webhook_events_internal.ended_runs AS e"
	" WHERE e.id = ANY ($1) AND " IS_LOCKED " LIMIT 1",
	1, {TEXTARRAYOID}, NULL
};

/* Forgets the runs of these webhooks, if all have retired. */
static Statement forget_runs_statement = {
	"DELETE FROM webhook_events_internal.ended_runs AS e"
	" WHERE e.run_id = ANY (ARRAY(SELECT w.actor_run_id"
	" FROM webhook_events_internal.webhooks AS w WHERE w.id = ANY ($1)))"
	" AND NOT " IS_LEFT,
	1, {TEXTARRAYOID}, NULL
};

static bool
any_gone(TimestampTz now pg_attribute_unused())
{
	return gone_webhooks != NIL;
}

static void
disable_gone(void *argument pg_attribute_unused())
{
	ArrayParameter ids = {TEXTOID, NULL};
	ArrayParameter versions = {TIMESTAMPTZOID, NULL};
	Datum		values[3];
	uint64		count;
	ListCell   *cell;

	foreach(cell, gone_webhooks)
	{
		Gone	   *gone = lfirst(cell);

		array_add_text(&ids, gone->webhook_id);
		array_add_time(&versions, gone->modified_at);
		gone->is_left = false;
	}
	values[0] = array_result(&ids);
	values[1] = array_result(&versions);
	values[2] = Int32GetDatum(MAX_COUNTED);
	count = statement_write(&disable_statement, values, NULL);
	counters_add(COUNTER_DISABLED, count);
	for (uint64 row = 0; row < count; row++)
		ereport(LOG,
				(errmsg("webhook \"%s\" of database \"%s\" was disabled",
						statement_text(row, 1), work_database()),
				 errdetail("%s", statement_text(row, 2))));
	if (count == (uint64) list_length(gone_webhooks))
		return;
	work_see_writes();
	count = statement_read(&left_statement, values, NULL, 0);
	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		int			number = DatumGetInt32(statement_value(row, 1, &isnull));

		((Gone *) list_nth(gone_webhooks, number - 1))->is_left = true;
	}
}

/* Those that somebody has locked are left for later. */
static TimestampTz
forget_gone(TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, gone_webhooks)
	{
		Gone	   *gone = lfirst(cell);

		if (gone->is_left)
			continue;
		gone_webhooks = foreach_delete_current(gone_webhooks, cell);
		pfree(gone);
	}
	return gone_webhooks == NIL ? 0 : now + RETRY_TIME;
}

/* What a transaction has to do with, and what came of it. */
typedef struct Retiring
{
	bool		looks;			/* at the table, too */
	ArrayParameter runs;
	ArrayParameter times;
	ArrayParameter kept;		/* ids of rows of ended_runs */
	Id			run_position;
	Id			check_position;
	bool		is_full;		/* there may be more behind these */
	bool		leaves;			/* some were locked */
} Retiring;

static Retiring retiring;

static bool
any_ended(TimestampTz now)
{
	retiring.looks = (look_at <= now);
	return retiring.looks || ending_webhooks != NIL || ended_runs != NIL;
}

/* Adds what is in the table, some of it. */
static void
look(Retiring *all)
{
	Datum		values[] = {CStringGetTextDatum(run_position), Int32GetDatum(MAX_LOOKED)};
	uint64		count = statement_read(&kept_statement, values, NULL, 0);
	bool		isnull;

	for (uint64 row = 0; row < count; row++)
	{
		array_add(&all->kept, statement_value(row, 1, &isnull), false);
		array_add(&all->runs, statement_value(row, 2, &isnull), false);
		array_add(&all->times, statement_value(row, 3, &isnull), false);
	}
	strlcpy(all->run_position, count < MAX_LOOKED ? "" : statement_text(count - 1, 1),
			sizeof(Id));
	all->is_full = (count == MAX_LOOKED);
}

/*
 * Keeps the ends of these runs in the table, all or those that could not be seen to.
 * Returns whether webhooks of some are locked.
 */
static bool
keep(Datum runs, Datum times, bool all)
{
	Datum		values[] = {runs, times, BoolGetDatum(all)};
	uint64		count = statement_write(&keep_statement, values, NULL);
	bool		any_locked = false;
	bool		isnull;

	for (uint64 row = 0; row < count; row++)
		any_locked |= DatumGetBool(statement_value(row, 1, &isnull));
	return any_locked;
}

/* Retires one whose row is where it was seen, and for which nothing has waited. */
static bool
retire_in_place(DayUpdate *changes, const EndedRun *run)
{
	const Subscriber *subscriber = subscriber_find(run->webhook);

	return subscriber != NULL && subscriber_is_idle(subscriber) &&
		retirement_write(changes, &subscriber->place, run->webhook, run->time);
}

/* The runs that have ended, each once, but for those whose webhooks "changes" retires. */
static void
add_runs(Retiring *all, DayUpdate *changes)
{
	const EndedRun *last = NULL;
	ListCell   *cell;

	foreach(cell, ended_runs)
	{
		const EndedRun *run = lfirst(cell);

		if (changes != NULL && retire_in_place(changes, run))
			continue;
		if (last == NULL || last->time != run->time || strcmp(last->id, run->id) != 0)
		{
			array_add_text(&all->runs, run->id);
			array_add_time(&all->times, run->time);
		}
		last = run;
	}
}

/* Retires those of which it takes the tables to know whether they can. */
static void
retire_others(Retiring *all)
{
	Datum		runs = array_result(&all->runs);
	Datum		times = array_result(&all->times);
	ArrayParameter ending = {TEXTOID, NULL};
	Datum		webhooks;
	Datum		values[3] = {runs, times};
	ListCell   *cell;

	foreach(cell, ending_webhooks)
		array_add_text(&ending, lfirst(cell));
	webhooks = values[2] = array_result(&ending);
	statement_write(&retire_statement, values, NULL);
	all->leaves |= keep(runs, times, false);
	if (ending_webhooks != NIL)
		statement_write(&forget_runs_statement, &webhooks, NULL);
	if (all->kept.state != NULL)
	{
		Datum		kept = array_result(&all->kept);

		statement_write(&forget_statement, &kept, NULL);
		all->leaves |= statement_write(&locked_statement, &kept, NULL) > 0;
	}
}

static void
retire(void *argument pg_attribute_unused())
{
	Retiring	all = {
		.looks = retiring.looks,
		.runs = {TEXTOID, NULL}, .times = {TIMESTAMPTZOID, NULL}, .kept = {TEXTOID, NULL}
	};
	DayUpdate  *changes = day_update_create(&retirement_kind);

	add_runs(&all, changes);
	day_update_finish(changes);
	if (all.looks)
	{
		look(&all);
		strcpy(all.check_position, check_position);
		all.leaves = !run_checks_work(all.check_position, &all.is_full);
	}
	if (all.runs.state != NULL || ending_webhooks != NIL)
		retire_others(&all);
	retiring = all;
}

static TimestampTz
forget_ended(TimestampTz now)
{
	list_free_deep(ended_runs);
	list_free_deep(ending_webhooks);
	ended_runs = NIL;
	ending_webhooks = NIL;
	if (retiring.looks)
	{
		strcpy(run_position, retiring.run_position);
		strcpy(check_position, retiring.check_position);
		check_at = now + CHECK_INTERVAL;
		look_at = retiring.is_full ? now + LOOK_TIME : DT_NOEND;
	}
	if (retiring.leaves)
		look_at = Min(look_at, now + RETRY_TIME);
	return 0;
}

static void
keep_all(void *argument pg_attribute_unused())
{
	Retiring	all = {.runs = {TEXTOID, NULL}, .times = {TIMESTAMPTZOID, NULL}};
	Datum		runs;

	add_runs(&all, NULL);
	runs = array_result(&all.runs);
	(void) keep(runs, array_result(&all.times), true);
}

/* What the tables hold is found there later. */
static WorkResult
keep_ended(TimestampTz now)
{
	WorkError	error;
	WorkResult	result = ended_runs == NIL ? WORK_DONE :
	work_run("keeping the ends of runs", false, keep_all, NULL, &error);

	look_at = now + RETRY_TIME;
	list_free_deep(ending_webhooks);
	ending_webhooks = NIL;
	if (result == WORK_DONE)
	{
		list_free_deep(ended_runs);
		ended_runs = NIL;
	}
	return result;
}

static Job	jobs[] = {
	{
		.kind = TROUBLE_DISABLING, .activity = "disabling webhooks",
		.is_wanted = any_gone, .work = disable_gone, .done = forget_gone
	},
	{
		.kind = TROUBLE_RETIRING, .activity = "retiring webhooks",
		.is_wanted = any_ended, .work = retire, .done = forget_ended, .failed = keep_ended
	}
};

void
jobs_open(MemoryContext context)
{
	jobs_context = context;
	gone_webhooks = NIL;
	ending_webhooks = NIL;
	ended_runs = NIL;
	look_at = clock_work_time() + LOOK_TIME;
	run_position[0] = '\0';
	check_position[0] = '\0';
	check_at = 0;
	for (int i = 0; i < (int) lengthof(jobs); i++)
		jobs[i].next_at = 0;
}

/* Remembers one more. */
static void
remember(List **list, void *item)
{
	MemoryContext old_context = MemoryContextSwitchTo(jobs_context);

	if (list_length(*list) >= MAX_PENDING)
	{
		pfree(linitial(*list));
		*list = list_delete_first(*list);
	}
	*list = lappend(*list, item);
	MemoryContextSwitchTo(old_context);
}

void
jobs_add_gone(const char *webhook_id, TimestampTz modified_at)
{
	Gone	   *gone = MemoryContextAlloc(jobs_context, sizeof(Gone));

	strlcpy(gone->webhook_id, webhook_id, sizeof(gone->webhook_id));
	gone->modified_at = modified_at;
	remember(&gone_webhooks, gone);
}

void
jobs_add_ended_dispatch(const char *webhook_id)
{
	remember(&ending_webhooks, MemoryContextStrdup(jobs_context, webhook_id));
}

void
jobs_add_ended_runs(List *runs)
{
	ListCell   *cell;

	foreach(cell, runs)
	{
		MemoryContext old_context = MemoryContextSwitchTo(jobs_context);

		ended_runs = lappend(ended_runs, lfirst(cell));
		MemoryContextSwitchTo(old_context);
	}
	list_free(runs);
}

bool
jobs_hold_marks(void)
{
	return ended_runs != NIL;
}

void
jobs_look_again(void)
{
	look_at = 0;
}

void
jobs_check_runs(void)
{
	look_at = Min(look_at, check_at);
}

void
jobs_forget_ended_run(const char *id, TimestampTz time)
{
	ListCell   *cell;

	foreach(cell, ended_runs)
	{
		EndedRun   *run = lfirst(cell);

		if (run->time >= time || strcmp(run->id, id) != 0)
			continue;
		ended_runs = foreach_delete_current(ended_runs, cell);
		pfree(run);
	}
}

TimestampTz
jobs_deadline(void)
{
	TimestampTz deadline = look_at;

	for (int i = 0; i < (int) lengthof(jobs); i++)
	{
		if (jobs[i].next_at != 0)
			deadline = Min(deadline, jobs[i].next_at);
	}
	return deadline;
}

/* Does one; false if the extension is gone. */
static bool
run(Job *job, TimestampTz now)
{
	WorkError	error;

	switch (work_run(job->activity, true, job->work, NULL, &error))
	{
		case WORK_DONE:
			job->next_at = job->done(now);
			trouble_end(job->kind);
			return true;
		case WORK_FAILED:
			job->next_at = now + RETRY_TIME;
			trouble_note(job->kind, &error);
			return job->failed == NULL || job->failed(now) != WORK_GONE;
		case WORK_GONE:
			return false;
	}
	pg_unreachable();
}

bool
jobs_run(bool all)
{
	TimestampTz now = clock_work_time();

	for (int i = 0; i < (int) lengthof(jobs); i++)
	{
		Job		   *job = &jobs[i];

		/* A look that is to come later is taken now. */
		if (!all && job->next_at > now)
			continue;
		if (job->is_wanted(all && look_at != DT_NOEND ? look_at : now) && !run(job, now))
			return false;
	}
	return true;
}
