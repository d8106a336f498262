/*-------------------------------------------------------------------------
 *
 * statistics.c
 *	  Webhooks' statistics: a log along with the results, added up in small
 *	  steps.
 *
 * Nothing here waits for a lock: a webhook that is about to be deleted must not
 * keep the others' dispatches from being recorded.  And no statement leaves the
 * planner an order of joins to choose: it chooses while the tables are small,
 * and what it chose then is kept.
 *
 * IDENTIFICATION
 *	  src/store/statistics.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/day_rows.h"
#include "store/statistics.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A row of the log holds no more webhooks than this ... */
#define MAX_LOGGED 256

/*
 * ... and a step takes so many rows, until they hold so many.  That is a few
 * milliseconds.
 */
#define MAX_ROWS 100
#define MAX_ADDED 256


enum
{
	STATS_WEBHOOK_ID,
	STATS_DISPATCHES,
	STATS_LAST_DISPATCH_ID,
	STATS_LAST_STATUS,
	STATS_LAST_FINISHED_AT,
	N_STATS
};

struct StatsLog
{
	int			count;
	ArrayParameter columns[N_STATS];
};

/*
 * The rows that are being added up: those behind the first id, up to the last.  A
 * row that is older than the first, because the clock has stepped back, counts
 * for readers all the same; the next worker begins at the start and adds it up.
 */
static Id	added_to;
static Id	add_until;

static Statement log_statement = {
	"INSERT INTO webhook_events_internal.webhook_stats_log (webhook_ids, dispatches,"
	" last_dispatch_ids, last_statuses, last_finished_at)"
	" VALUES ($1, $2, $3, $4::webhook_events.dispatch_status[], $5)",
	N_STATS,
	{TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TIMESTAMPTZARRAYOID},
	NULL
};

static const DayKind stats_kind = {
	"webhook_stats", N_STATS,
	{
		"webhook_id", "total_dispatches", "last_dispatch_id", "last_status",
		"last_finished_at"
	},
	true
};

/* Of each webhook: is it there? */
static Statement exist_statement = {
	"SELECT (SELECT true FROM webhook_events_internal.webhooks AS w WHERE w.id = n.webhook_id)"
	" FROM unnest($1) AS n (webhook_id)",
	1, {TEXTARRAYOID}, NULL
};

static Statement newest_statement = {
	"SELECT id FROM webhook_events_internal.webhook_stats_log"
	" ORDER BY id DESC LIMIT 1",
	0, {0}, NULL
};

/* Not from the start: an old transaction can keep what was deleted before. */
static Statement logged_statement = {
	"SELECT id, cardinality(webhook_ids)"
	" FROM webhook_events_internal.webhook_stats_log"
	" WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3",
	3, {TEXTOID, TEXTOID, INT4OID}, NULL
};

static Statement take_statement = {
	"WITH logged AS ("
	" DELETE FROM webhook_events_internal.webhook_stats_log WHERE id = ANY ($1)"
	" RETURNING *)"
	" SELECT DISTINCT ON (u.webhook_id) u.webhook_id,"
	" (sum(u.dispatches) OVER (PARTITION BY u.webhook_id))::integer,"
	" u.last_dispatch_id, u.last_status::text, u.last_finished_at"
	" FROM logged AS l CROSS JOIN LATERAL unnest(l.webhook_ids, l.dispatches,"
	" l.last_dispatch_ids, l.last_statuses, l.last_finished_at) AS u (webhook_id,"
	" dispatches, last_dispatch_id, last_status, last_finished_at)"
	" ORDER BY u.webhook_id, u.last_dispatch_id COLLATE \"C\" DESC,"
	" u.last_status <> 'ACTIVE' DESC",
	1, {TEXTARRAYOID}, NULL
};

/* Of each webhook: is it there, has it statistics, and could they be locked? */
static Statement lock_statement = {
	"SELECT (SELECT true FROM webhook_events_internal.webhooks AS w"
	" WHERE w.id = n.webhook_id),"
	" (SELECT true FROM webhook_events_internal.webhook_stats AS s"
	" WHERE s.webhook_id = n.webhook_id),"
	" (SELECT true FROM webhook_events_internal.webhook_stats AS s"
	" WHERE s.webhook_id = n.webhook_id FOR UPDATE SKIP LOCKED)"
	" FROM unnest($1) AS n (webhook_id)",
	1, {TEXTARRAYOID}, NULL
};

static Statement add_statement = {
	"INSERT INTO webhook_events_internal.webhook_stats AS s (webhook_id,"
	" total_dispatches, last_dispatch_id, last_status, last_finished_at)"
	" SELECT webhook_id, dispatches, last_dispatch_id,"
	" last_status::webhook_events.dispatch_status, last_finished_at"
	" FROM unnest($1, $2, $3, $4, $5) AS n (webhook_id, dispatches,"
	" last_dispatch_id, last_status, last_finished_at)"
	" ON CONFLICT (webhook_id) DO UPDATE"
	" SET total_dispatches = s.total_dispatches + excluded.total_dispatches,"
	" last_dispatch_id = greatest(s.last_dispatch_id, excluded.last_dispatch_id),"
	" last_status = CASE WHEN excluded.last_dispatch_id >= s.last_dispatch_id"
	" THEN excluded.last_status ELSE s.last_status END,"
	" last_finished_at = CASE WHEN excluded.last_dispatch_id >= s.last_dispatch_id"
	" THEN excluded.last_finished_at ELSE s.last_finished_at END",
	N_STATS,
	{TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TIMESTAMPTZARRAYOID},
	NULL
};

StatsLog *
stats_log_create(void)
{
	static const Oid types[N_STATS] = {
		TEXTOID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID
	};
	StatsLog   *log = palloc0(sizeof(StatsLog));

	for (int i = 0; i < N_STATS; i++)
		log->columns[i].type = types[i];
	return log;
}

/* Writes what was gathered with this statement, and starts anew. */
static void
write_rows(StatsLog *log, Statement *statement)
{
	Datum		values[N_STATS];

	if (log->count == 0)
		return;
	for (int i = 0; i < N_STATS; i++)
	{
		values[i] = array_result(&log->columns[i]);
		log->columns[i].state = NULL;
	}
	log->count = 0;
	statement_write(statement, values, NULL);
}

static void
gather(StatsLog *log, const StatsRow *row)
{
	ArrayParameter *columns = log->columns;

	array_add_text(&columns[STATS_WEBHOOK_ID], row->webhook_id);
	array_add_int(&columns[STATS_DISPATCHES], row->dispatches);
	array_add_text(&columns[STATS_LAST_DISPATCH_ID], row->last_dispatch_id);
	array_add_text(&columns[STATS_LAST_STATUS],
				   dispatch_status_label(row->last_status));
	array_add_time(&columns[STATS_LAST_FINISHED_AT], row->last_finished_at);
	log->count++;
}

void
stats_log_add(StatsLog *log, const StatsRow *row)
{
	gather(log, row);
	if (log->count == MAX_LOGGED)
		stats_log_write(log);
}

void
stats_log_write(StatsLog *log)
{
	write_rows(log, &log_statement);
}

void
statistics_begin(void)
{
	add_until[0] = '\0';
	if (statement_read(&newest_statement, NULL, NULL, 1) > 0)
		strlcpy(add_until, statement_text(0, 1), sizeof(add_until));
}

/* The ids of the next rows of the log, as a text[]; false if there are none. */
static bool
next_rows(Datum *ids)
{
	ArrayParameter array = {TEXTOID, NULL};
	Datum		values[3];
	uint64		nrows;
	int			count = 0;

	values[0] = CStringGetTextDatum(added_to);
	values[1] = CStringGetTextDatum(add_until);
	values[2] = Int32GetDatum(MAX_ROWS);
	nrows = statement_read(&logged_statement, values, NULL, 0);
	for (uint64 row = 0; row < nrows && count < MAX_ADDED; row++)
	{
		bool		isnull;
		int			size = DatumGetInt32(statement_value(row, 2, &isnull));

		if (row > 0 && count + size > MAX_ADDED)
			break;
		count += size;
		strlcpy(added_to, statement_text(row, 1), sizeof(added_to));
		array_add_text(&array, added_to);
	}
	if (array.state == NULL)
		return false;
	*ids = array_result(&array);
	return true;
}

/* Takes these rows from the log, and copies what they say of each webhook. */
static int
take_rows(Datum ids, StatsRow **rows)
{
	uint64		nrows = statement_write(&take_statement, &ids, NULL);

	*rows = palloc(sizeof(StatsRow) * (nrows + 1));
	for (uint64 i = 0; i < nrows; i++)
	{
		StatsRow   *row = &(*rows)[i];
		bool		isnull;

		row->webhook_id = statement_text(i, 1);
		row->dispatches = DatumGetInt32(statement_value(i, 2, &isnull));
		row->last_dispatch_id = statement_text(i, 3);
		row->last_status = dispatch_status_from_label(statement_text(i, 4));
		row->last_finished_at = DatumGetTimestampTz(statement_value(i, 5, &isnull));
		if (isnull)
			row->last_finished_at = 0;
	}
	return (int) nrows;
}

/* Is this column of the last statement not null? */
static bool
has_value(uint64 row, int column)
{
	bool		isnull;

	(void) statement_value(row, column, &isnull);
	return !isnull;
}

void
stats_write_first(const StatsRow *rows, int count)
{
	ArrayParameter webhooks = {TEXTOID, NULL};
	DayRows    *inserts = day_rows_create(&stats_kind);
	Datum		ids;

	for (int i = 0; i < count; i++)
		array_add_text(&webhooks, rows[i].webhook_id);
	ids = array_result(&webhooks);
	(void) statement_read(&exist_statement, &ids, NULL, 0);
	for (int i = 0; i < count; i++)
	{
		const StatsRow *row = &rows[i];

		if (!has_value(i, 1))
			continue;
		(void) day_rows_begin_row(inserts, DT_NOBEGIN);
		day_rows_set_text(inserts, STATS_WEBHOOK_ID, row->webhook_id);
		day_rows_set(inserts, STATS_DISPATCHES, Int64GetDatum(row->dispatches));
		day_rows_set_text(inserts, STATS_LAST_DISPATCH_ID, row->last_dispatch_id);
		day_rows_set(inserts, STATS_LAST_STATUS,
					 ObjectIdGetDatum(day_table_label("dispatch_status",
													  dispatch_status_label(row->last_status))));
		if (row->last_finished_at != 0)
			day_rows_set(inserts, STATS_LAST_FINISHED_AT,
						 TimestampTzGetDatum(row->last_finished_at));
		day_rows_end_row(inserts, 0, NULL);
	}
	day_rows_finish(inserts);
}

void
statistics_recover(void)
{
	added_to[0] = '\0';
}

bool
statistics_add_up(void)
{
	StatsLog   *gains;
	StatsLog   *later;
	ArrayParameter webhooks = {TEXTOID, NULL};
	StatsRow   *rows;
	Datum		ids;
	int			nrows;

	if (!next_rows(&ids))
		return false;
	gains = stats_log_create();
	later = stats_log_create();
	nrows = take_rows(ids, &rows);
	for (int i = 0; i < nrows; i++)
		array_add_text(&webhooks, rows[i].webhook_id);
	ids = array_result(&webhooks);
	statement_write(&lock_statement, &ids, NULL);
	for (int i = 0; i < nrows; i++)
	{
		bool		exists = has_value(i, 1);
		bool		has_stats = has_value(i, 2);
		bool		is_locked = has_value(i, 3);

		if (exists && (is_locked || !has_stats))
			gather(gains, &rows[i]);
		else if (exists)
			gather(later, &rows[i]);
	}
	write_rows(gains, &add_statement);
	write_rows(later, &log_statement);
	return true;
}
