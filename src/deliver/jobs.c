/*-------------------------------------------------------------------------
 *
 * jobs.c
 *	  What follows from results and can wait: disabling webhooks, and what else is
 *	  done as a job.
 *
 * IDENTIFICATION
 *	  src/deliver/jobs.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/jobs.h"
#include "deliver/pending.h"
#include "deliver/retiring.h"
#include "deliver/trouble.h"
#include "rules/ids.h"
#include "server/clock.h"
#include "store/counters.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So long after a failure a job is tried again, in microseconds. */
#define RETRY_TIME (INT64CONST(10) * USECS_PER_SEC)

/* Up to so many dispatches that wait for a webhook that is gone are counted. */
#define MAX_COUNTED 1000

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

static Job	jobs[] = {
	{
		.kind = TROUBLE_DISABLING, .activity = "disabling webhooks",
		.is_wanted = any_gone, .work = disable_gone, .done = forget_gone
	},
	{
		.kind = TROUBLE_RETIRING, .activity = "retiring webhooks",
		.is_wanted = retiring_is_wanted, .work = retiring_work, .done = retiring_done,
		.failed = retiring_failed
	}
};

void
jobs_open(MemoryContext context)
{
	jobs_context = context;
	gone_webhooks = NIL;
	retiring_open(context);
	for (int i = 0; i < (int) lengthof(jobs); i++)
		jobs[i].next_at = 0;
}

void
jobs_add_gone(const char *webhook_id, TimestampTz modified_at)
{
	Gone		gone = {.modified_at = modified_at};

	/* If it can't be remembered the next answer of this kind will be. */
	strlcpy(gone.webhook_id, webhook_id, sizeof(gone.webhook_id));
	(void) pending_add(&gone_webhooks, &gone, sizeof(gone), jobs_context);
}

TimestampTz
jobs_deadline(void)
{
	TimestampTz deadline = retiring_deadline();

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
		if (job->is_wanted(all && retiring_deadline() != DT_NOEND ?
						   retiring_deadline() : now) && !run(job, now))
			return false;
	}
	return true;
}
