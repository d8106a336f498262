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
	"SELECT run_id, user_id, bool_and(has_ended)"
	" FROM webhook_events_internal.runs_now($1) GROUP BY run_id, user_id",
	1, {TEXTARRAYOID}, NULL
};

/* In all statements $1 of the users $2 are runs that have ended, $3 of $4 those that go on. */

/*
 * Which ad-hoc webhooks were defined too late to be told of the end of their runs, "e":
 * nobody has told them anything yet.  When that was is not known; so whatever is routed
 * later of their runs is theirs still, and no resurrection is too old.  One of nobody's is
 * of every user's run with that id, and waits for all of them.
 */
#define IS_LATE \
	IS_OF_RUN " AND w.is_enabled AND NOT w.run_ended AND w.run_changed_at IS NULL" \
	" AND (w.user_id IS NOT NULL OR e.run_id <> ALL ($3))"

static Statement retire_late_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET run_ended = true, is_enabled = r.waits, is_retired = NOT r.waits,"
	" disabled_reason = CASE WHEN NOT r.waits THEN '" RETIREMENT_REASON "' END"
	" FROM (SELECT w.id, EXISTS ("
	" SELECT FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id = w.id"
	" AND d.id >= webhook_events.id_lower_bound(w.created_at - interval '1 day')) AS waits"
	" FROM unnest($1, $2) AS e (run_id, user_id)"
	" JOIN webhook_events_internal.webhooks AS w ON" IS_LATE
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id",
	3, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}, NULL
};

/*
 * Dispatches wait for some: then the ends of their runs are kept, with a time that no
 * resurrection is older than, also one whose transaction is under way.
 */
static Statement keep_late_statement = {
	"INSERT INTO webhook_events_internal.ended_runs (run_id, user_id, time)"
	" SELECT e.run_id, e.user_id, '-infinity' FROM unnest($1, $2) AS e (run_id, user_id)"
	" WHERE EXISTS (SELECT FROM webhook_events_internal.webhooks AS w"
	" WHERE" IS_OF_RUN " AND w.is_enabled AND w.run_ended)"
	" AND NOT EXISTS (SELECT FROM webhook_events_internal.ended_runs AS k"
	" WHERE k.run_id = e.run_id AND k.user_id IS NOT DISTINCT FROM e.user_id)",
	2, {TEXTARRAYOID, TEXTARRAYOID}, NULL
};

/* Those that somebody had locked when their runs were resurrected. */
#define IS_BACK \
	IS_OF_RUN " AND w.run_ended"

static Statement revive_late_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET run_ended = false, is_enabled = w.is_enabled OR w.is_retired, is_retired = false,"
	" disabled_reason = CASE WHEN NOT w.is_retired THEN w.disabled_reason END"
	" FROM (SELECT w.id FROM unnest($3, $4) AS e (run_id, user_id)"
	" JOIN webhook_events_internal.webhooks AS w ON" IS_BACK
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id",
	4, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}, NULL
};

static Statement checked_statement = {
	"DELETE FROM webhook_events_internal.runs_to_check AS c"
	" WHERE c.id = ANY ($5)"
	" AND c.run_id <> ALL (ARRAY(SELECT e.run_id FROM unnest($1, $2) AS e (run_id, user_id)"
	" WHERE EXISTS (SELECT FROM webhook_events_internal.webhooks AS w WHERE" IS_LATE ")))"
	" AND c.run_id <> ALL (ARRAY(SELECT e.run_id FROM unnest($3, $4) AS e (run_id, user_id)"
	" WHERE EXISTS (SELECT FROM webhook_events_internal.webhooks AS w WHERE" IS_BACK ")))",
	5, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}, NULL
};

/*
 * Asks the tables which of these runs have ended and which go on, and sets the first four
 * parameters.  False: a table is locked.
 */
static bool
find_runs(Datum run_ids, Datum *values)
{
	ArrayParameter runs[2] = {{TEXTOID, NULL}, {TEXTOID, NULL}};
	ArrayParameter users[2] = {{TEXTOID, NULL}, {TEXTOID, NULL}};
	uint64		count = statement_read(&runs_statement, &run_ids, NULL, 0);

	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		Datum		run = statement_value(row, 1, &isnull);
		Datum		user;
		int			goes_on;

		if (isnull)
			return false;
		goes_on = DatumGetBool(statement_value(row, 3, &isnull)) ? 0 : 1;
		user = statement_value(row, 2, &isnull);
		array_add(&runs[goes_on], run, false);
		array_add(&users[goes_on], user, isnull);
	}
	for (int goes_on = 0; goes_on < 2; goes_on++)
	{
		values[2 * goes_on] = array_result(&runs[goes_on]);
		values[2 * goes_on + 1] = array_result(&users[goes_on]);
	}
	return true;
}

bool
run_checks_work(Id position, bool *is_full, int *nmade)
{
	ArrayParameter rows = {TEXTOID, NULL};
	ArrayParameter runs = {TEXTOID, NULL};
	Datum		values[5] = {CStringGetTextDatum(position), Int32GetDatum(MAX_LOOKED)};
	uint64		count = statement_read(&checks_statement, values, NULL, 0);
	Datum		run_ids;
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
	run_ids = array_result(&runs);
	*nmade = look_back(run_ids);
	if (!find_runs(run_ids, values))
		return false;
	values[4] = array_result(&rows);
	statement_write(&retire_late_statement, values, NULL);
	statement_write(&keep_late_statement, values, NULL);
	statement_write(&revive_late_statement, values, NULL);
	return statement_write(&checked_statement, values, NULL) == count;
}
