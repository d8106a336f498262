/*-------------------------------------------------------------------------
 *
 * reviving.c
 *	  Ad-hoc webhooks of runs that were resurrected: they are enabled again.
 *
 * IDENTIFICATION
 *	  src/deliver/reviving.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/batches.h"
#include "deliver/retiring.h"
#include "deliver/reviving.h"
#include "store/retirement.h"
#include "utils/timestamp.h"

static Statement revive_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET run_ended = false, run_changed_at = r.time,"
	" is_enabled = w.is_enabled OR w.is_retired, is_retired = false,"
	" disabled_reason = CASE WHEN NOT w.is_retired THEN w.disabled_reason END"
	" FROM (SELECT w.id, e.time FROM (SELECT run_id, user_id, max(time)"
	" FROM unnest($1, $2, $3) AS u (run_id, user_id, time)"
	" GROUP BY run_id, user_id) AS e (run_id, user_id, time)"
	" JOIN webhook_events_internal.webhooks AS w ON" IS_OF_RUN
	" AND (w.run_changed_at < e.time OR w.run_changed_at IS NULL)"
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id",
	3, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}, NULL
};

/* Ends of runs that were kept, and were not the last word. */
static Statement forget_ends_statement = {
	"DELETE FROM webhook_events_internal.ended_runs AS k"
	" USING unnest($1, $2, $3) AS e (run_id, user_id, time)"
	" WHERE k.run_id = e.run_id AND k.user_id IS NOT DISTINCT FROM e.user_id"
	" AND k.time < e.time",
	3, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}, NULL
};

/* Those whose webhooks somebody had locked. */
static Statement not_revived_statement = {
	"INSERT INTO webhook_events_internal.runs_to_check (run_id)"
	" SELECT DISTINCT e.run_id FROM unnest($1, $2, $3) AS e (run_id, user_id, time)"
	" WHERE EXISTS (SELECT FROM webhook_events_internal.webhooks AS w"
	" WHERE" IS_OF_RUN " AND w.run_ended"
	" AND (w.run_changed_at < e.time OR w.run_changed_at IS NULL))",
	3, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}, NULL
};

static void
revive(void *argument)
{
	statement_write(&forget_ends_statement, argument, NULL);
	statement_write(&revive_statement, argument, NULL);
	if (statement_write(&not_revived_statement, argument, NULL) > 0)
		retiring_check_runs();
}

void
reviving_enable(Event **events, int nevents)
{
	ArrayParameter runs = {TEXTOID, NULL};
	ArrayParameter users = {TEXTOID, NULL};
	ArrayParameter times = {TIMESTAMPTZOID, NULL};
	Datum		values[3];
	char	   *error;

	for (int i = 0; i < nevents; i++)
	{
		if (events[i]->type != EVENT_RUN_RESURRECTED ||
			events[i]->actor_run_id == NULL)
			continue;
		array_add_text(&runs, events[i]->actor_run_id);
		array_add_text(&users, webhook_run_user(events[i]->user_id));
		array_add_time(&times, events[i]->created_at);
		batches_forget_ended_run(events[i]);
		retiring_forget_run(events[i]);
	}
	if (runs.state == NULL)
		return;
	values[0] = array_result(&runs);
	values[1] = array_result(&users);
	values[2] = array_result(&times);
	error = work_try_row(revive, values);
	if (error != NULL)
		ereport(LOG,
				(errmsg("could not enable ad-hoc webhooks of resurrected runs of database \"%s\": %s",
						work_database(), error)));
	work_see_writes();
}
