/*-------------------------------------------------------------------------
 *
 * maintenance_process.c
 *	  What is done now and then: tables for the days to come, and an end of those
 *	  that are over.
 *
 * Each table is made or dropped in a transaction of its own, so that what somebody
 * has locked, or made something depend on, is all that stays as it is.
 *
 * IDENTIFICATION
 *	  src/store/maintenance_process.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "rules/ids.h"
#include "server/clock.h"
#include "server/settings.h"
#include "server/slots.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/installed.h"
#include "store/maintenance_process.h"
#include "store/statement.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* How often it is done, and how soon again if something was in the way. */
#define INTERVAL (INT64CONST(3600) * USECS_PER_SEC)
#define RETRY_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

/* What was added since is summarized so soon again, where there was something now. */
#define SUMMARY_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

/*
 * So many webhooks are deleted at once, and so many rows that are in no table of a
 * day; so soon come the next ones, and after so long it is another database's turn.
 */
#define MAX_DELETED 1000
#define DELETE_INTERVAL USECS_PER_SEC
#define MAX_DURATION (INT64CONST(60) * USECS_PER_SEC)

/* A clock that has not been set for so long may be right. */
#define STEADY_TIME (INT64CONST(3600) * USECS_PER_SEC)

/*
 * So long a lock is waited for: attaching and dropping tables must not make others
 * queue behind us.
 */
#define LOCK_TIMEOUT "100ms"

/*
 * What there is to do.  An extension that was just created gets its days from
 * attach() or from the dump that is being restored into it, not from here, and a
 * restored copy keeps what it has until it is resumed.
 */
static Statement find_tasks_statement = {
	"SELECT 'make', m.kind, m.day FROM webhook_events_internal.missing_days($1,"
	" webhook_events_internal.last_day_ahead($1)) AS m"
	" WHERE webhook_events_internal.has_own_outbox()"
	" UNION ALL"
	" SELECT 'drop', p.kind, p.day FROM webhook_events_internal.past_days($2) AS p"
	" WHERE $2 IS NOT NULL AND webhook_events_internal.has_own_outbox()"
	" UNION ALL"
	" SELECT 'index', u.kind, u.day FROM webhook_events_internal.unindexed_days($3) AS u"
	" WHERE ($2 IS NULL OR u.day >= $2) AND webhook_events_internal.has_own_outbox()"
	" UNION ALL"
	" SELECT 'summarize', o.kind, o.day FROM webhook_events_internal.open_days($3) AS o"
	" WHERE webhook_events_internal.has_own_outbox()",
	3, {DATEOID, DATEOID, DATEOID}, NULL
};

/*
 * Retention follows the clock as fast as that goes.  Further ahead it believes a clock
 * that has not been set for an hour, and a day for each hour: one that was set wrongly must not
 * take all history with it.
 */
static Statement believe_statement = {
	"INSERT INTO webhook_events_internal.clocks AS c (name, time)"
	" VALUES ('retention', $1) ON CONFLICT (name) DO UPDATE SET time = CASE"
	" WHEN EXCLUDED.time <= c.time + interval '2 hours' THEN EXCLUDED.time"
	" WHEN $2 THEN least(EXCLUDED.time, c.time + interval '1 day')"
	" ELSE c.time END RETURNING time",
	2, {TIMESTAMPTZOID, BOOLOID}, NULL
};

static Statement create_day_statement = {
	"SELECT webhook_events_internal.create_day($1, $2)",
	2, {TEXTOID, DATEOID}, NULL
};

static Statement drop_day_statement = {
	"SELECT webhook_events_internal.drop_day($1, $2)",
	2, {TEXTOID, DATEOID}, NULL
};

static Statement index_day_statement = {
	"SELECT webhook_events_internal.index_day($1, $2)",
	2, {TEXTOID, DATEOID}, NULL
};

static Statement summarize_day_statement = {
	"SELECT webhook_events_internal.summarize_day($1, $2)",
	2, {TEXTOID, DATEOID}, NULL
};

static Statement delete_undated_statement = {
	"SELECT webhook_events_internal.delete_undated($1, $2, $3)"
	" WHERE webhook_events_internal.has_own_outbox()",
	3, {TEXTOID, DATEOID, INT4OID}, NULL
};

/*
 * What happened to ad-hoc webhooks of that age is dropped as well.  None has retired
 * before it was made; those whose run never ends are passed over, once in each hour.
 */
static Statement delete_webhooks_statement = {
	"DELETE FROM webhook_events_internal.webhooks WHERE id IN ("
	" SELECT id FROM webhook_events_internal.webhooks"
	" WHERE is_ad_hoc AND NOT is_enabled"
	" AND modified_at < $1::timestamp AT TIME ZONE 'UTC'"
	" AND id < webhook_events.id_lower_bound($1::timestamp AT TIME ZONE 'UTC')"
	" AND id > $3"
	" ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id",
	3, {DATEOID, INT4OID, TEXTOID}, NULL
};

static Id	deleted_to;			/* the last one of which that was done */

/* What is done with tables, and how often it was. */
typedef struct DayWork
{
	const char *what;			/* in find_tasks_statement */
	Statement  *statement;
	const char *doing;
	const char *done;			/* NULL: nobody wants to know */
	int			count;
} DayWork;

static DayWork day_works[] = {
	{"make", &create_day_statement, "making", "made", 0},
	{"drop", &drop_day_statement, "dropping", "dropped", 0},
	{"index", &index_day_statement, "indexing", "indexed", 0},
	{"summarize", &summarize_day_statement, "summarizing", NULL, 0}
};

/* One thing to do, which may fail without harm to the others. */
typedef struct Task
{
	const char *activity;
	DayWork    *work;			/* NULL: it is none with a table of a day */
	Statement  *statement;
	Datum		values[3];
	bool		is_deletion;	/* there is more if it deletes MAX_DELETED */
	bool		has_more;
} Task;

/* The first error of this run, for status(); NULL: all went well. */
static char *first_error = NULL;

/* A day (UTC) as SQL's date. */
static DateADT
day_of(TimestampTz time)
{
	return (DateADT) ((time - time % USECS_PER_DAY) / USECS_PER_DAY) -
		(time % USECS_PER_DAY < 0 ? 1 : 0);
}

/* Notes how far the deletion of webhooks has come. */
static void
note_deleted(uint64 count)
{
	for (uint64 row = 0; row < count; row++)
	{
		char	   *id = statement_text(row, 1);

		if (strcmp(deleted_to, id) < 0)
			strlcpy(deleted_to, id, sizeof(Id));
	}
}

static void
run_task(void *argument)
{
	Task	   *task = argument;
	bool		isnull;
	uint64		count;

	count = statement_write(task->statement, task->values, NULL);
	if (task->work != NULL)
	{
		bool		done = DatumGetBool(statement_value(0, 1, &isnull));

		if (isnull)
			task->has_more = true;
		else if (done)
			task->work->count++;
	}
	if (!task->is_deletion)
		return;
	if (task->statement == &delete_webhooks_statement)
		note_deleted(count);
	else
		count = count == 0 ? 0 : DatumGetInt32(statement_value(0, 1, &isnull));
	task->has_more = (count == MAX_DELETED);
}

/* Logs the first thing that went wrong, if nothing did last time, and keeps it for status(). */
static void
note_error(const char *activity, const char *error)
{
	if (first_error != NULL)
		return;
	first_error = MemoryContextStrdup(TopMemoryContext,
									  psprintf("%s: %s", activity, error));
	if (!shared_maintenance_fails())
		ereport(LOG,
				(errmsg("webhook_events will try again to look after the tables of days of database \"%s\", after an error while %s",
						work_database(), first_error)));
}

static void
report_end(int64 delay)
{
	if (first_error == NULL && shared_maintenance_fails())
		ereport(LOG,
				(errmsg("webhook_events looks after the tables of days of database \"%s\" again",
						work_database())));
	shared_report_maintenance(first_error, delay);
}

/* Does one thing in a transaction; returns whether it may have left some. */
static bool
try_task(Task *task)
{
	char	   *error;

	CHECK_FOR_INTERRUPTS();
	if (!work_begin(task->activity))
		proc_exit(0);
	error = work_try(run_task, task);
	if (error != NULL)
		note_error(task->activity, error);
	work_commit();
	return error == NULL && task->has_more;
}

/* What tables there are to be made and dropped. */
typedef struct Search
{
	MemoryContext context;		/* of the tasks */
	DateADT		today;
	DateADT		before;
	DateADT		over;			/* days before this one are indexed */
	bool		drops;
	List	   *tasks;
} Search;

static void
find_tasks(void *argument)
{
	Search	   *search = argument;
	Datum		values[] = {
		DateADTGetDatum(search->today), DateADTGetDatum(search->before),
		DateADTGetDatum(search->over)
	};
	const bool	nulls[] = {false, !search->drops, false};
	uint64		count = statement_read(&find_tasks_statement, values, nulls, 0);

	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		char	   *what = statement_text(row, 1);
		char	   *kind = statement_text(row, 2);
		Datum		day = statement_value(row, 3, &isnull);
		MemoryContext old_context = MemoryContextSwitchTo(search->context);
		Task	   *task = palloc0(sizeof(Task));

		for (int i = 0; i < (int) lengthof(day_works); i++)
		{
			if (strcmp(day_works[i].what, what) == 0)
				task->work = &day_works[i];
		}
		task->statement = task->work->statement;
		task->activity = psprintf("%s a table of a day of %s", task->work->doing, kind);
		task->values[0] = CStringGetTextDatum(kind);
		task->values[1] = day;
		search->tasks = lappend(search->tasks, task);
		MemoryContextSwitchTo(old_context);
	}
}

/* "made 9, dropped 3 tables of days"; an hour in which nothing was done changes nothing. */
static void
tell_what_was_done(void)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < (int) lengthof(day_works); i++)
	{
		if (day_works[i].count > 0 && day_works[i].done != NULL)
			appendStringInfo(&text, "%s%s %d", text.len > 0 ? ", " : "",
							 day_works[i].done, day_works[i].count);
	}
	if (text.len == 0)
		return;
	appendStringInfoString(&text, " tables of days");
	shared_maintenance_did(text.data);
}

static bool
has_summarized(void)
{
	for (int i = 0; i < (int) lengthof(day_works); i++)
	{
		if (day_works[i].statement == &summarize_day_statement)
			return day_works[i].count > 0;
	}
	return false;
}

/*
 * Makes, drops, indexes and summarizes tables.  Returns whether there is more to do: to index
 * takes seconds each, and ends when it is another database's turn, and settings that have
 * changed meanwhile are for the next process, since this one may not drop what is to be kept
 * now.
 */
static bool
look_after_days(DateADT today, DateADT before, DateADT over, bool drops,
				TimestampTz end_at)
{
	Search		search = {
		.context = AllocSetContextCreate(TopMemoryContext,
										 "webhook_events maintenance",
										 ALLOCSET_DEFAULT_SIZES),
		.today = today,
		.before = before,
		.over = over,
		.drops = drops
	};
	char	   *error;
	ListCell   *cell;
	bool		more = false;

	if (!work_begin("looking for tables of days"))
		proc_exit(0);
	error = work_try(find_tasks, &search);
	if (error != NULL)
		note_error("looking for them", error);
	work_commit();
	foreach(cell, search.tasks)
	{
		Task	   *task = lfirst(cell);

		if (ConfigReloadPending ||
			(task->statement == &index_day_statement && clock_now() >= end_at))
		{
			more = true;
			break;
		}
		shared_maintenance_does(task->activity, foreach_current_index(cell),
								list_length(search.tasks));

		/*
		 * A table that others depend on is emptied; why it stays is an error
		 * of its own.
		 */
		if (try_task(task))
			(void) try_task(task);
	}
	shared_maintenance_does("", 0, 0);
	tell_what_was_done();
	return more;
}

/* Deletes some of what can't be dropped; returns whether there may be more. */
static bool
delete_old_rows(DateADT before)
{
	static const char *const kinds[] = {"calls", "dispatches", "outbox"};
	Task		webhooks = {
		.activity = "deleting ad-hoc webhooks",
		.statement = &delete_webhooks_statement,
		.values = {DateADTGetDatum(before), Int32GetDatum(MAX_DELETED),
		CStringGetTextDatum(deleted_to)},
		.is_deletion = true
	};
	bool		more = try_task(&webhooks);

	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		Task		task = {
			.activity = "deleting rows that are in no table of a day",
			.statement = &delete_undated_statement,
			.values = {CStringGetTextDatum(kinds[i]), DateADTGetDatum(before),
			Int32GetDatum(MAX_DELETED)},
			.is_deletion = true
		};

		more |= try_task(&task);
	}
	return more;
}

static void
believe(void *argument)
{
	TimestampTz *time = argument;
	Datum		values[] = {
		TimestampTzGetDatum(GetCurrentTimestamp()),
		BoolGetDatum(shared_believe_clock(STEADY_TIME))
	};
	bool		isnull;

	statement_write(&believe_statement, values, NULL);
	*time = DatumGetTimestampTz(statement_value(0, 1, &isnull));
}

/* Are the tables those that this library knows? */
static bool
version_fits(void)
{
	bool		fits;

	if (!work_begin("looking at the version"))
		proc_exit(0);
	fits = installed_version_fits();
	work_commit();
	return fits;
}

/* The time by which days are over; false if it could not be had. */
static bool
believed_time(TimestampTz *time)
{
	char	   *error;

	if (!work_begin("looking at the clock"))
		proc_exit(0);
	error = work_try(believe, time);
	if (error != NULL)
		note_error("looking at the clock", error);
	work_commit();
	return error == NULL;
}

static void
rest(int64 duration)
{
	TimestampTz until = clock_now() + duration;
	TimestampTz now;

	while ((now = clock_now()) < until)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(now, until),
						 wait_event_named("WebhookEventsMaintenance"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
webhook_events_maintenance_main(Datum arg)
{
	TimestampTz end_at = clock_now() + MAX_DURATION;
	TimestampTz time;
	DateADT		before = 0;
	bool		drops;
	bool		more;
	bool		has_deleted = false;
	TimestampTz now;
	Oid			database;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!shared_attach_maintenance(DatumGetInt32(arg), &database))
		proc_exit(0);
	work_connect(database);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	if (!version_fits())
	{
		shared_report_maintenance(NULL, RETRY_INTERVAL);
		proc_exit(0);
	}
	drops = (setting_retention > 0 && believed_time(&time));
	if (drops)
		before = day_of(time - setting_retention * INT64CONST(60) * USECS_PER_SEC);
	now = GetCurrentTimestamp();
	more = look_after_days(day_of(now), before, day_of(now - INTERVAL), drops, end_at);
	while (drops && !ConfigReloadPending && (has_deleted = delete_old_rows(before)) &&
		   clock_now() < end_at)
		rest(DELETE_INTERVAL);
	more |= (has_deleted || ConfigReloadPending);
	report_end(first_error != NULL ? RETRY_INTERVAL :
			   more ? DELETE_INTERVAL :
			   has_summarized() ? SUMMARY_INTERVAL : INTERVAL);
	proc_exit(0);
}
