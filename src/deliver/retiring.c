/*-------------------------------------------------------------------------
 *
 * retiring.c
 *	  Ad-hoc webhooks whose runs have ended: they retire once nothing waits for
 *	  them.
 *
 * IDENTIFICATION
 *	  src/deliver/retiring.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/dispatch.h"
#include "deliver/look_back.h"
#include "deliver/pending.h"
#include "deliver/retiring.h"
#include "deliver/run_checks.h"
#include "server/clock.h"
#include "store/retirement.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So long after a failure a job is tried again, in microseconds. */
#define RETRY_TIME (INT64CONST(10) * USECS_PER_SEC)

/*
 * So much of what earlier tries or workers have left is looked at once, and so soon
 * after that at more; a worker that starts waits as long.
 */
#define MAX_LOOKED 1000
#define LOOK_TIME USECS_PER_SEC

/* New runs to check come one by one, and are looked at together. */
#define CHECK_INTERVAL (INT64CONST(200) * USECS_PER_SEC / 1000)

/*
 * They are no older than this; those of a longer transaction are seen when all is looked
 * at.  An old transaction keeps the index entries of all rows that were deleted meanwhile,
 * which are not to be read with each new run.
 */
#define NEW_TIME (INT64CONST(60) * USECS_PER_SEC)

static MemoryContext retiring_context;
static List *ending_webhooks;	/* char * */
static List *ended_runs;		/* EndedRun: those that the table doesn't hold */

/*
 * When the tables are to be looked at for what was left there; whether for all of it, or
 * for what is new; and from where on.
 */
static TimestampTz look_at;
static bool must_look_at_all;
static Id	run_position;
static Id	check_position;
static TimestampTz check_at;	/* at the earliest */

/*
 * Notes that runs have ended, and disables their webhooks once nothing waits
 * for them: those of these runs, and of the runs of these webhooks, $4, for whom they have
 * ended.  The table's trigger only looks at what a person could change.
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
	" FROM (SELECT * FROM unnest($1, $2, $3) UNION ALL"
	" SELECT o.actor_run_id, o.user_id, NULL FROM webhook_events_internal.webhooks AS o"
	" WHERE o.id = ANY ($4) AND o.run_ended) AS e (run_id, user_id, time)"
	" JOIN webhook_events_internal.webhooks AS w ON" IS_OF_RUN " AND w.is_enabled"
	" AND (w.run_ended OR w.run_changed_at < e.time OR w.run_changed_at IS NULL)"
	" FOR UPDATE OF w SKIP LOCKED) AS r"
	" WHERE w.id = r.id AND NOT (w.run_ended AND r.waits)",
	4, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID}, NULL
};

/*
 * Has this run, "e", ended for a webhook that has not retired?  OFFSET 0 has that asked of
 * each run: joined, runs of which there seem to be many would be looked for in all there is.
 */
#define IS_LEFT \
	"EXISTS (SELECT FROM webhook_events_internal.webhooks AS w" \
	" WHERE" IS_OF_RUN " AND w.is_enabled" \
	" AND (w.run_ended OR w.run_changed_at < e.time OR w.run_changed_at IS NULL) OFFSET 0)"

/* Or for one that does not even show it?  That was locked. */
#define IS_LOCKED \
	"EXISTS (SELECT FROM webhook_events_internal.webhooks AS w" \
	" WHERE" IS_OF_RUN " AND w.is_enabled AND NOT w.run_ended" \
	" AND (w.run_changed_at < e.time OR w.run_changed_at IS NULL) OFFSET 0)"

/* Ends that are not known yet. */
#define ADD_NEW \
	"INSERT INTO webhook_events_internal.ended_runs AS e (run_id, user_id, time)" \
	" SELECT e.run_id, e.user_id, e.time FROM unnest($1, $2, $3) AS e (run_id, user_id, time)" \
	" WHERE NOT EXISTS (SELECT FROM webhook_events_internal.ended_runs AS k" \
	" WHERE k.run_id = e.run_id AND k.user_id IS NOT DISTINCT FROM e.user_id AND k.time >= e.time)"

/* With $4 all of them, whatever webhooks there are. */
static Statement keep_statement = {
	ADD_NEW " AND ($4 OR " IS_LEFT ") RETURNING " IS_LOCKED,
	4, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, BOOLOID}, NULL
};

/* Those of which the webhooks' rows tell. */
static Statement add_statement = {
	ADD_NEW,
	3, {TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID}, NULL
};

static Statement kept_statement = {
	"SELECT id, run_id, user_id, time FROM webhook_events_internal.ended_runs"
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

/* Runs with their users and the times of their ends. */
typedef struct RunList
{
	ArrayParameter ids;
	ArrayParameter users;
	ArrayParameter times;
	const EndedRun *last;
} RunList;

/* A webhook's version that the transaction under way has written. */
typedef struct NewVersion
{
	Id			webhook_id;
	TimestampTz before;
	TimestampTz modified_at;
	RowPlace	place;
} NewVersion;

/* They are known once that has committed. */
static List *new_versions;

/* What a transaction has to do with, and what came of it. */
typedef struct Retiring
{
	bool		looks;			/* at the table, too */
	RunList		runs;
	RunList		noted;			/* of which the webhooks' rows tell */
	ArrayParameter ending;		/* webhooks of which a dispatch has ended */
	ArrayParameter retired;		/* of these */
	ArrayParameter kept;		/* ids of rows of ended_runs */
	Id			run_position;
	Id			check_position;
	bool		is_full;		/* there may be more behind these */
	bool		leaves;			/* some were locked */
	int			nmade;			/* dispatches that webhooks should have had */
} Retiring;

static Retiring retiring;

bool
retiring_is_wanted(TimestampTz now)
{
	retiring.looks = (look_at <= now);
	return retiring.looks || ending_webhooks != NIL || ended_runs != NIL;
}

/* Where a look begins that goes on from this place. */
static void
begin_look(Id position, const char *last)
{
	strlcpy(position, last, sizeof(Id));
	if (*last == '\0' && !must_look_at_all)
		id_lower_bound(position, GetCurrentTimestamp() - NEW_TIME);
}

/* Adds what is in the table, some of it. */
static void
look(Retiring *all)
{
	Datum		values[2] = {0, Int32GetDatum(MAX_LOOKED)};
	uint64		count;
	bool		isnull;

	begin_look(all->run_position, run_position);
	values[0] = CStringGetTextDatum(all->run_position);
	count = statement_read(&kept_statement, values, NULL, 0);

	for (uint64 row = 0; row < count; row++)
	{
		Datum		user;

		array_add(&all->kept, statement_value(row, 1, &isnull), false);
		array_add(&all->runs.ids, statement_value(row, 2, &isnull), false);
		user = statement_value(row, 3, &isnull);
		array_add(&all->runs.users, user, isnull);
		array_add(&all->runs.times, statement_value(row, 4, &isnull), false);
	}
	strlcpy(all->run_position, count < MAX_LOOKED ? "" : statement_text(count - 1, 1),
			sizeof(Id));
	all->is_full = (count == MAX_LOOKED);
}

/* The first three parameters of statements about these runs; once for each list. */
static void
get_arrays(RunList *runs, Datum *values)
{
	values[0] = array_result(&runs->ids);
	values[1] = array_result(&runs->users);
	values[2] = array_result(&runs->times);
}

/*
 * Keeps the ends of these runs in the table, all or those that could not be seen to; of four
 * parameters three are theirs.  Returns whether webhooks of some are locked.
 */
static bool
keep(Datum *values, bool all)
{
	uint64		count;
	bool		any_locked = false;
	bool		isnull;

	values[3] = BoolGetDatum(all);
	count = statement_write(&keep_statement, values, NULL);
	for (uint64 row = 0; row < count; row++)
		any_locked |= DatumGetBool(statement_value(row, 1, &isnull));
	return any_locked;
}

/* A run, once: its webhooks follow each other. */
static void
add_run(RunList *list, const EndedRun *run)
{
	const EndedRun *last = list->last;

	if (last == NULL || last->time != run->time || strcmp(last->id, run->id) != 0 ||
		!same_text(last->user, run->user))
	{
		array_add_text(&list->ids, run->id);
		array_add_text(&list->users, run->user);
		array_add_time(&list->times, run->time);
	}
	list->last = run;
}

/* The transaction has written this version of a webhook, which the worker needn't read. */
static void
note_version(const Subscriber *subscriber, TimestampTz modified_at, const RowPlace *place)
{
	MemoryContext old_context = MemoryContextSwitchTo(retiring_context);
	NewVersion *version = palloc(sizeof(NewVersion));

	strcpy(version->webhook_id, subscriber->id);
	version->before = subscriber->modified_at;
	version->modified_at = modified_at;
	version->place = *place;
	new_versions = lappend(new_versions, version);
	MemoryContextSwitchTo(old_context);
}

static void
forget_versions(void)
{
	list_free_deep(new_versions);
	new_versions = NIL;
}

/*
 * Sees to the end of a webhook's run in its row, if that is where it was seen: it
 * retires if nothing has waited for it.
 */
static void
add_ended_run(Retiring *all, DayUpdate *changes, const EndedRun *run)
{
	const Subscriber *subscriber = subscriber_find(run->webhook);
	TimestampTz modified_at;
	RowPlace	place;

	if (subscriber == NULL || !subscriber->is_known)
		add_run(&all->runs, run);
	else if (subscriber_is_idle(subscriber))
	{
		if (!retirement_write(changes, &subscriber->place, run->webhook, run->time))
			add_run(&all->runs, run);
	}
	else if (retirement_write_end(changes, &subscriber->place, run->webhook, run->time,
								  &modified_at, &place))
	{
		note_version(subscriber, modified_at, &place);
		add_run(&all->noted, run);
	}
	else
		add_run(&all->runs, run);
}

/* The same for one of which a dispatch has ended that had waited. */
static void
add_ending_webhook(Retiring *all, DayUpdate *changes, const char *id)
{
	const Subscriber *subscriber = subscriber_find(id);
	RetirementResult result = RETIREMENT_UNKNOWN;

	if (subscriber != NULL && subscriber_is_idle(subscriber))
		result = retirement_write_rest(changes, &subscriber->place, id);
	if (result == RETIREMENT_DONE)
		array_add_text(&all->retired, id);
	if (result == RETIREMENT_UNKNOWN)
		array_add_text(&all->ending, id);
}

static void
write_in_place(Retiring *all)
{
	DayUpdate  *changes = day_update_create(&retirement_kind);
	ListCell   *cell;

	foreach(cell, ended_runs)
		add_ended_run(all, changes, lfirst(cell));
	foreach(cell, ending_webhooks)
		add_ending_webhook(all, changes, lfirst(cell));
	day_update_finish(changes);
}

/* Keeps ends of runs in the table, and forgets runs whose webhooks have all retired. */
static void
write_runs(Retiring *all)
{
	if (all->noted.ids.state != NULL)
	{
		Datum		values[3];

		get_arrays(&all->noted, values);
		statement_write(&add_statement, values, NULL);
	}
	if (all->retired.state != NULL)
	{
		Datum		retired = array_result(&all->retired);

		statement_write(&forget_runs_statement, &retired, NULL);
	}
}

/* Retires those of which it takes the tables to know whether they can. */
static void
retire_others(Retiring *all)
{
	bool		any_ending = all->ending.state != NULL;
	Datum		ending = array_result(&all->ending);
	Datum		values[4];

	get_arrays(&all->runs, values);
	values[3] = ending;
	statement_write(&retire_statement, values, NULL);
	all->leaves |= keep(values, false);
	if (any_ending)
		statement_write(&forget_runs_statement, &ending, NULL);
	if (all->kept.state != NULL)
	{
		Datum		kept = array_result(&all->kept);

		statement_write(&forget_statement, &kept, NULL);
		all->leaves |= statement_write(&locked_statement, &kept, NULL) > 0;
	}
}

static Retiring
nothing_yet(void)
{
	const RunList none = {{TEXTOID, NULL}, {TEXTOID, NULL}, {TIMESTAMPTZOID, NULL}, NULL};

	return (Retiring)
	{
		.runs = none, .noted = none,
			.ending =
		{
			TEXTOID, NULL
		},.retired =
		{
			TEXTOID, NULL
		},.kept =
		{
			TEXTOID, NULL
		}
	};
}

void
retiring_work(void *argument pg_attribute_unused())
{
	Retiring	all = nothing_yet();

	all.looks = retiring.looks;
	forget_versions();
	write_in_place(&all);
	if (all.looks)
	{
		look(&all);
		begin_look(all.check_position, check_position);
		all.leaves = !run_checks_work(all.check_position, &all.is_full, &all.nmade);
	}
	write_runs(&all);
	if (all.runs.ids.state != NULL || all.ending.state != NULL)
		retire_others(&all);
	retiring = all;
}

/* The worker knows the versions that were written, unless it has read others meanwhile. */
static void
take_versions(void)
{
	ListCell   *cell;

	foreach(cell, new_versions)
	{
		const NewVersion *version = lfirst(cell);
		Subscriber *subscriber = subscriber_find(version->webhook_id);

		if (subscriber == NULL || subscriber->modified_at != version->before)
			continue;
		subscriber->modified_at = version->modified_at;
		subscriber->place = version->place;
		if (subscriber->webhook != NULL)
			subscriber->webhook->modified_at = version->modified_at;
	}
	forget_versions();
}

TimestampTz
retiring_done(TimestampTz now)
{
	take_versions();
	look_back_done(retiring.nmade);
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
		must_look_at_all &= retiring.is_full;
	}
	if (retiring.leaves)
	{
		look_at = Min(look_at, now + RETRY_TIME);
		must_look_at_all = true;
	}
	return 0;
}

static void
keep_all(void *argument pg_attribute_unused())
{
	Retiring	all = nothing_yet();
	Datum		values[4];
	ListCell   *cell;

	foreach(cell, ended_runs)
		add_run(&all.runs, lfirst(cell));
	get_arrays(&all.runs, values);
	(void) keep(values, true);
}

/* What the tables hold is found there later. */
WorkResult
retiring_failed(TimestampTz now)
{
	WorkError	error;
	WorkResult	result = ended_runs == NIL ? WORK_DONE :
	work_run("keeping the ends of runs", false, keep_all, NULL, &error);

	look_at = now + RETRY_TIME;
	must_look_at_all = true;
	list_free_deep(ending_webhooks);
	ending_webhooks = NIL;
	if (result == WORK_DONE)
	{
		list_free_deep(ended_runs);
		ended_runs = NIL;
	}
	return result;
}

void
retiring_open(MemoryContext context)
{
	retiring_context = context;
	ending_webhooks = NIL;
	ended_runs = NIL;
	new_versions = NIL;
	look_at = clock_work_time() + LOOK_TIME;
	must_look_at_all = true;
	run_position[0] = '\0';
	check_position[0] = '\0';
	check_at = 0;
}

TimestampTz
retiring_deadline(void)
{
	return look_at;
}

void
retiring_add_dispatch(const char *webhook_id)
{
	if (!pending_add(&ending_webhooks, webhook_id, strlen(webhook_id) + 1, retiring_context))
		retiring_look_again();
}

void
retiring_add_runs(List *runs)
{
	MemoryContext old_context = MemoryContextSwitchTo(retiring_context);

	/* All or none: each has one owner, also after an error. */
	ended_runs = list_concat(ended_runs, runs);
	MemoryContextSwitchTo(old_context);
	list_free(runs);
}

bool
retiring_holds_marks(void)
{
	return ended_runs != NIL;
}

void
retiring_look_again(void)
{
	look_at = 0;
	must_look_at_all = true;
}

void
retiring_check_runs(void)
{
	look_at = Min(look_at, check_at);
}

void
retiring_forget_run(const Event *event)
{
	ended_runs = ended_runs_forget(ended_runs, event);
}
