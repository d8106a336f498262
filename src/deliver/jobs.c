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
#include "deliver/trouble.h"
#include "server/clock.h"
#include "store/counters.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So long after a failure a job is tried again, in microseconds. */
#define RETRY_TIME (INT64CONST(10) * USECS_PER_SEC)

/* So much a job that keeps failing remembers; then it forgets the oldest. */
#define MAX_PENDING 100000

typedef struct Job
{
	TroubleKind kind;
	const char *activity;
	bool		(*is_wanted) (void);
	void		(*work) (void *argument);
	void		(*done) (void); /* after the commit */
	TimestampTz next_at;		/* after a failure */
	bool		has_failed;
} Job;

static MemoryContext jobs_context;
static List *gone_webhooks;		/* char * */
static List *ending_webhooks;	/* char * */
static List *ended_runs;		/* EndedRun */
static bool must_look;			/* a worker before us may have noted more */

static Statement disable_statement = {
	"UPDATE webhook_events_internal.webhooks SET is_enabled = false,"
	" disabled_reason = 'The endpoint answered 410 Gone.'"
	" WHERE id IN (SELECT id FROM webhook_events_internal.webhooks"
	" WHERE id = ANY ($1) AND is_enabled FOR UPDATE SKIP LOCKED)"
	" RETURNING id, disabled_reason",
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

/* Those for which nothing may wait any more, though nobody has noted it. */
static Statement ending_statement = {
	"SELECT id FROM webhook_events_internal.webhooks WHERE run_ended AND is_enabled"
	" ORDER BY id LIMIT 10000",
	0, {0}, NULL
};

static bool
any_gone(void)
{
	return gone_webhooks != NIL;
}

static Datum
texts(List *list)
{
	ArrayParameter array = {TEXTOID, NULL};
	ListCell   *cell;

	foreach(cell, list)
		array_add_text(&array, lfirst(cell));
	return array_result(&array);
}

static void
disable_gone(void *argument pg_attribute_unused())
{
	Datum		ids = texts(gone_webhooks);
	uint64		count = statement_write(&disable_statement, &ids, NULL);

	counters_add(COUNTER_DISABLED, count);
	for (uint64 row = 0; row < count; row++)
		ereport(LOG,
				(errmsg("webhook \"%s\" of database \"%s\" was disabled",
						statement_text(row, 1), work_database()),
				 errdetail("%s", statement_text(row, 2))));
}

static void
forget_gone(void)
{
	list_free_deep(gone_webhooks);
	gone_webhooks = NIL;
}

static bool
any_ended(void)
{
	return must_look || ending_webhooks != NIL || ended_runs != NIL;
}

/* All those, whether it was noted or not; in the transaction's memory. */
static List *
find_ending(void)
{
	uint64		count = statement_read(&ending_statement, NULL, NULL, 0);
	List	   *ids = list_copy(ending_webhooks);

	for (uint64 row = 0; row < count; row++)
		ids = lappend(ids, statement_text(row, 1));
	return ids;
}

static void
retire(void *argument pg_attribute_unused())
{
	ArrayParameter runs = {TEXTOID, NULL};
	ArrayParameter times = {TIMESTAMPTZOID, NULL};
	Datum		values[3];
	ListCell   *cell;

	foreach(cell, ended_runs)
	{
		EndedRun   *run = lfirst(cell);

		array_add_text(&runs, run->id);
		array_add_time(&times, run->time);
	}
	values[0] = array_result(&runs);
	values[1] = array_result(&times);
	values[2] = texts(must_look ? find_ending() : ending_webhooks);
	statement_write(&retire_statement, values, NULL);
}

static void
forget_ended(void)
{
	list_free_deep(ended_runs);
	list_free_deep(ending_webhooks);
	ended_runs = NIL;
	ending_webhooks = NIL;
	must_look = false;
}

static Job	jobs[] = {
	{
		.kind = TROUBLE_DISABLING, .activity = "disabling webhooks",
		.is_wanted = any_gone, .work = disable_gone, .done = forget_gone
	},
	{
		.kind = TROUBLE_RETIRING, .activity = "retiring webhooks",
		.is_wanted = any_ended, .work = retire, .done = forget_ended
	}
};

void
jobs_open(MemoryContext context)
{
	jobs_context = context;
	gone_webhooks = NIL;
	ending_webhooks = NIL;
	ended_runs = NIL;
	must_look = true;
	for (int i = 0; i < (int) lengthof(jobs); i++)
	{
		jobs[i].next_at = 0;
		jobs[i].has_failed = false;
	}
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
jobs_add_gone(const char *webhook_id)
{
	remember(&gone_webhooks, MemoryContextStrdup(jobs_context, webhook_id));
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
		remember(&ended_runs, lfirst(cell));
	list_free(runs);
}

TimestampTz
jobs_deadline(void)
{
	TimestampTz deadline = DT_NOEND;

	for (int i = 0; i < (int) lengthof(jobs); i++)
	{
		if (jobs[i].has_failed)
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
			job->done();
			job->has_failed = false;
			job->next_at = 0;
			trouble_end(job->kind);
			return true;
		case WORK_FAILED:
			job->has_failed = true;
			job->next_at = now + RETRY_TIME;
			trouble_note(job->kind, &error);
			return true;
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

		if (!all && job->next_at > now)
			continue;
		if (job->is_wanted() && !run(job, now))
			return false;
	}
	return true;
}
