/*-------------------------------------------------------------------------
 *
 * webhook_counting.c
 *	  How many webhooks there are: the worker's part, which counts those that are
 *	  new in small steps.
 *
 * IDENTIFICATION
 *	  src/store/webhook_counting.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "store/day_table.h"
#include "store/statement.h"
#include "store/webhook_counts.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* Fewer than so many, of webhooks or changes, are left to those who ask ... */
#define MIN_COUNTED 256

/* ... and a step takes no more than so many. */
#define MAX_COUNTED 4096

/* An id of the future would have all that are made until then logged. */
static Statement new_statement = {
	"SELECT count(*)::integer, max(n.id) FROM (SELECT w.id FROM webhook_events_internal.webhooks AS w"
	" WHERE w.id > $1 AND w.id < (SELECT webhook_events.id_lower_bound(clock_timestamp()))"
	" ORDER BY w.id LIMIT $2) AS n",
	2, {TEXTOID, INT4OID}, NULL
};

static Statement logged_statement = {
	"SELECT FROM webhook_events_internal.webhook_counts_log AS l WHERE l.up_to <= $1 LIMIT $2",
	2, {TEXTOID, INT4OID}, NULL
};

static Statement write_statement = {
	"WITH old AS (DELETE FROM webhook_events_internal.webhook_counts_positions WHERE number < $1)"
	" INSERT INTO webhook_events_internal.webhook_counts_positions VALUES ($1, $2, $3)",
	3, {INT8OID, TEXTOID, TEXTOID}, NULL
};

/*
 * Counts those behind $1, up to $2, and adds what was logged of those before; what was
 * logged of the others they show themselves.  Each webhook counts for whoever asks for any
 * of its ids or several of them; those with the same ids are added up before, as ad-hoc ones
 * of a user have.
 */
static Statement count_statement = {
	"WITH logged AS MATERIALIZED (DELETE FROM webhook_events_internal.webhook_counts_log"
	" WHERE ctid = ANY (ARRAY(SELECT ctid FROM webhook_events_internal.webhook_counts_log"
	" WHERE up_to > $1 UNION ALL (SELECT ctid FROM webhook_events_internal.webhook_counts_log"
	" WHERE up_to <= $1 LIMIT $3))) RETURNING *),"
	" change AS (SELECT n.user_id, n.actor_id, n.actor_task_id, sum(n.change) AS change"
	" FROM (SELECT user_id, actor_id, actor_task_id, change FROM logged WHERE up_to <= $1"
	" UNION ALL SELECT w.user_id, w.actor_id, w.actor_task_id, 1"
	" FROM webhook_events_internal.webhooks AS w WHERE w.id > $1 AND w.id <= $2) AS n"
	" GROUP BY 1, 2, 3),"
	" gain AS MATERIALIZED (SELECT s.user_id, s.actor_id, s.actor_task_id,"
	" hash_record_extended(ROW (s.user_id, s.actor_id, s.actor_task_id), 0) AS key,"
	" sum(s.change) AS webhooks FROM (SELECT"
	" CASE WHEN parts & 1 <> 0 THEN coalesce(c.user_id, '') END AS user_id,"
	" CASE WHEN parts & 2 <> 0 THEN c.actor_id END AS actor_id,"
	" CASE WHEN parts & 4 <> 0 THEN c.actor_task_id END AS actor_task_id, c.change"
	" FROM change AS c CROSS JOIN generate_series(0, 7) AS parts"
	" WHERE (parts & 2 = 0 OR c.actor_id IS NOT NULL)"
	" AND (parts & 4 = 0 OR c.actor_task_id IS NOT NULL)) AS s GROUP BY 1, 2, 3),"
	" old AS (DELETE FROM webhook_events_internal.webhook_counts AS o"
	" WHERE o.key = ANY (ARRAY(SELECT g.key FROM gain AS g))"
	" RETURNING user_id, actor_id, actor_task_id, key, webhooks)"
	" INSERT INTO webhook_events_internal.webhook_counts (user_id, actor_id, actor_task_id, key, webhooks)"
	" SELECT n.user_id, n.actor_id, n.actor_task_id, n.key, sum(n.webhooks)"
	" FROM (SELECT * FROM old UNION ALL SELECT * FROM gain) AS n"
	" GROUP BY 1, 2, 3, 4 HAVING sum(n.webhooks) <> 0",
	3, {TEXTOID, TEXTOID, INT4OID}, NULL
};

/* The transactions that may not know what was announced by the position of this number. */
static VirtualTransactionId *awaited = NULL;
static int	nawaited;
static int64 awaited_number = 0;

static Oid
table_of_webhooks(void)
{
	return get_relname_relid("webhooks", day_table_namespace());
}

static void
write_position(int64 number, const char *counted, const char *announced)
{
	Datum		values[] = {
		Int64GetDatum(number), CStringGetTextDatum(counted), CStringGetTextDatum(announced)
	};

	statement_write(&write_statement, values, NULL);
}

/* Notes who has locked the table to write there, now that what was announced is committed. */
static void
await_writers(int64 number)
{
	LOCKTAG		tag;
	VirtualTransactionId *writers;
	int			count;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, table_of_webhooks());
	writers = GetLockConflicts(&tag, ShareLock, &count);
	if (awaited != NULL)
		pfree(awaited);
	awaited = NULL;
	awaited = MemoryContextAlloc(TopMemoryContext,
								 sizeof(VirtualTransactionId) * (count + 1));
	memcpy(awaited, writers, sizeof(VirtualTransactionId) * count);
	nawaited = count;
	awaited_number = number;
}

/* Have those ended? */
static bool
writers_have_ended(void)
{
	while (nawaited > 0 && VirtualXactLock(awaited[nawaited - 1], false))
		nawaited--;
	return nawaited == 0;
}

static void
count_up_to(const WebhookCountsPosition *position, const char *end)
{
	Datum		values[] = {
		CStringGetTextDatum(position->counted), CStringGetTextDatum(end),
		Int32GetDatum(MAX_COUNTED)
	};

	statement_write(&count_statement, values, NULL);
}

/* Announces how far is counted next, if there is enough; returns whether it did. */
static bool
announce(const WebhookCountsPosition *position)
{
	Datum		values[] = {CStringGetTextDatum(position->counted), Int32GetDatum(MAX_COUNTED)};
	bool		isnull;

	statement_write(&new_statement, values, NULL);
	if (DatumGetInt32(statement_value(0, 1, &isnull)) < MIN_COUNTED)
		return false;
	write_position(position->number + 1, position->counted, statement_text(0, 2));
	return true;
}

/* Adds up changes alone, if there are enough; returns whether it did. */
static bool
add_changes(const WebhookCountsPosition *position)
{
	Datum		values[] = {CStringGetTextDatum(position->counted), Int32GetDatum(MIN_COUNTED)};

	if (statement_write(&logged_statement, values, NULL) < MIN_COUNTED)
		return false;
	count_up_to(position, position->counted);
	return true;
}

void
webhook_counts_open(void)
{
	awaited_number = 0;
}

CountingResult
webhook_counts_step(void)
{
	WebhookCountsPosition position;

	/*
	 * So that nobody empties the table meanwhile, or has all counted anew;
	 * while somebody has locked it there is nothing to count.
	 */
	if (!ConditionalLockRelationOid(table_of_webhooks(), RowExclusiveLock))
		return COUNTING_DONE;
	position = webhook_counts_position();
	if (strcmp(position.announced, position.counted) > 0)
	{
		if (awaited_number != position.number)
			await_writers(position.number);
		if (!writers_have_ended())
			return COUNTING_WAITS;
		count_up_to(&position, position.announced);
		write_position(position.number + 1, position.announced, position.announced);
		return COUNTING_GOES_ON;
	}
	/* Once the table was emptied, numbers come again. */
	awaited_number = 0;
	return announce(&position) || add_changes(&position) ? COUNTING_GOES_ON : COUNTING_DONE;
}
