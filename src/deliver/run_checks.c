/*-------------------------------------------------------------------------
 *
 * run_checks.c
 *	  Runs that ended, or were resurrected, without a word to their ad-hoc webhooks.
 *
 * IDENTIFICATION
 *	  src/deliver/run_checks.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/look_back.h"
#include "deliver/run_checks.h"
#include "store/retirement.h"
#include "store/statement.h"
#include "utils/builtins.h"

/* So many are looked at once. */
#define MAX_LOOKED 1000

static Statement checks_statement = {
	"SELECT id, run_id FROM webhook_events_internal.runs_to_check"
	" WHERE id > $1 ORDER BY id LIMIT $2",
	2, {TEXTOID, INT4OID}, NULL
};

static Statement runs_statement = {
	"SELECT run_id, has_ended FROM webhook_events_internal.runs_now($1)",
	1, {TEXTARRAYOID}, NULL
};

/*
 * Which ad-hoc webhooks were defined too late to be told of the end of their runs, "e":
 * nobody has told them anything yet.  When that was is not known; so whatever is routed
 * later of their runs is theirs still, and no resurrection is too old.
 */
#define IS_LATE \
	" w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL" \
	" AND w.is_ad_hoc AND w.is_enabled AND NOT w.run_ended" \
	" AND w.run_changed_at IS NULL"

static Statement retire_late_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET run_ended = true, is_enabled = r.waits, is_retired = NOT r.waits,"
	" disabled_reason = CASE WHEN NOT r.waits THEN '" RETIREMENT_REASON "' END"
	" FROM (SELECT w.id, EXISTS ("
	" SELECT FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id = w.id"
	" AND d.id >= webhook_events.id_lower_bound(w.created_at - interval '1 day')) AS waits"
	" FROM unnest($1) AS e (run_id)"
	" JOIN webhook_events_internal.webhooks AS w ON" IS_LATE
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id",
	1, {TEXTARRAYOID}, NULL
};

/*
 * Dispatches wait for some: then the ends of their runs are kept, with a time that no
 * resurrection is older than, also one whose transaction is under way.
 */
static Statement keep_late_statement = {
	"INSERT INTO webhook_events_internal.ended_runs (run_id, time)"
	" SELECT e.run_id, '-infinity' FROM unnest($1) AS e (run_id)"
	" WHERE EXISTS (SELECT FROM webhook_events_internal.webhooks AS w"
	" WHERE w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL"
	" AND w.is_ad_hoc AND w.is_enabled AND w.run_ended)"
	" AND NOT EXISTS (SELECT FROM webhook_events_internal.ended_runs AS k"
	" WHERE k.run_id = e.run_id)",
	1, {TEXTARRAYOID}, NULL
};

/* Those that somebody had locked when their runs were resurrected. */
#define IS_BACK \
	" w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL" \
	" AND w.is_ad_hoc AND w.run_ended"

static Statement revive_late_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET run_ended = false, is_enabled = w.is_enabled OR w.is_retired, is_retired = false,"
	" disabled_reason = CASE WHEN NOT w.is_retired THEN w.disabled_reason END"
	" FROM (SELECT w.id FROM unnest($1) AS e (run_id)"
	" JOIN webhook_events_internal.webhooks AS w ON" IS_BACK
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id",
	1, {TEXTARRAYOID}, NULL
};

/* $2 are the runs that have ended, $3 those that go on. */
static Statement checked_statement = {
	"DELETE FROM webhook_events_internal.runs_to_check AS e"
	" WHERE e.id = ANY ($1)"
	" AND NOT (e.run_id = ANY ($2) AND EXISTS ("
	" SELECT FROM webhook_events_internal.webhooks AS w WHERE" IS_LATE "))"
	" AND NOT (e.run_id = ANY ($3) AND EXISTS ("
	" SELECT FROM webhook_events_internal.webhooks AS w WHERE" IS_BACK "))",
	3, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}, NULL
};

bool
run_checks_work(Id position, bool *is_full, int *nmade)
{
	ArrayParameter rows = {TEXTOID, NULL};
	ArrayParameter runs = {TEXTOID, NULL};
	ArrayParameter ended = {TEXTOID, NULL};
	ArrayParameter going_on = {TEXTOID, NULL};
	Datum		values[3] = {CStringGetTextDatum(position), Int32GetDatum(MAX_LOOKED)};
	uint64		count = statement_read(&checks_statement, values, NULL, 0);
	uint64		nfound;
	bool		isnull;

	strlcpy(position, count < MAX_LOOKED ? "" : statement_text(count - 1, 1),
			sizeof(Id));
	*is_full |= (count == MAX_LOOKED);
	if (count == 0)
		return true;
	for (uint64 row = 0; row < count; row++)
	{
		array_add(&rows, statement_value(row, 1, &isnull), false);
		array_add(&runs, statement_value(row, 2, &isnull), false);
	}
	values[0] = array_result(&runs);
	*nmade = look_back(values[0]);
	nfound = statement_read(&runs_statement, values, NULL, 0);
	for (uint64 row = 0; row < nfound; row++)
	{
		Datum		run = statement_value(row, 1, &isnull);
		bool		has_ended;

		if (isnull)
			return false;
		has_ended = DatumGetBool(statement_value(row, 2, &isnull));
		array_add(has_ended ? &ended : &going_on, run, false);
	}
	values[0] = array_result(&ended);
	statement_write(&retire_late_statement, values, NULL);
	statement_write(&keep_late_statement, values, NULL);
	values[1] = values[0];
	values[0] = values[2] = array_result(&going_on);
	statement_write(&revive_late_statement, values, NULL);
	values[0] = array_result(&rows);
	return statement_write(&checked_statement, values, NULL) == count;
}
