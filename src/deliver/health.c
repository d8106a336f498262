/*-------------------------------------------------------------------------
 *
 * health.c
 *	  Webhooks whose calls keep failing, and an end to that.
 *
 * If nothing succeeds for a while it is us, or our network.  Then nobody is
 * disabled, and with the first success all begin anew.
 *
 * IDENTIFICATION
 *	  src/deliver/health.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/health.h"
#include "server/clock.h"
#include "server/settings.h"
#include "store/counters.h"
#include "store/statement.h"
#include "utils/timestamp.h"

/* So long without any success, in microseconds, is an outage of ours. */
#define OUTAGE_TIME (INT64CONST(600) * USECS_PER_SEC)

static TimestampTz last_success_at; /* or when we started */
static bool has_succeeded;
static bool failed_since_success;
static TimestampTz forgiven_at; /* an outage ended, which is not written; or 0 */

/*
 * Webhooks of which so many are looked at in a step, and so many are disabled;
 * and up to so many of what waits for one of those is counted.
 */
#define MAX_WRITTEN 256
#define MAX_DISABLED 10
#define MAX_COUNTED 1000

/*
 * Of those that have a row which nobody has locked.  The conflict is certain, and
 * the way to find the row that the planner can't choose another for.
 */
static Statement write_statement = {
	"INSERT INTO webhook_events_internal.webhook_stats AS s (webhook_id,"
	" total_dispatches, last_dispatch_id, last_status, failing_since)"
	" SELECT l.webhook_id, 0, '', 'ACTIVE', n.failing_since"
	" FROM unnest($1, $2) AS n (webhook_id, failing_since) CROSS JOIN LATERAL ("
	" SELECT s.webhook_id FROM webhook_events_internal.webhook_stats AS s"
	" WHERE s.webhook_id = n.webhook_id FOR UPDATE SKIP LOCKED) AS l"
	" ON CONFLICT (webhook_id) DO UPDATE"
	" SET failing_since = excluded.failing_since"
	" RETURNING s.webhook_id, s.failing_since",
	2, {TEXTARRAYOID, TIMESTAMPTZARRAYOID}, NULL
};

static Statement forgive_statement = {
	"UPDATE webhook_events_internal.webhook_stats SET failing_since = $1"
	" WHERE webhook_id = ANY (ARRAY(SELECT webhook_id"
	" FROM webhook_events_internal.webhook_stats"
	" WHERE failing_since < $1 AND failing_since IS NOT NULL"
	" ORDER BY failing_since LIMIT $2 FOR UPDATE SKIP LOCKED))",
	2, {TIMESTAMPTZOID, INT4OID}, NULL
};

/* The table's trigger takes failing_since from what is disabled. */
static Statement disable_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET is_enabled = false, disabled_reason ="
	" format('All calls have failed since %s; %s dispatches were waiting.',"
	" (SELECT s.failing_since FROM webhook_events_internal.webhook_stats AS s"
	" WHERE s.webhook_id = w.id),"
	" (SELECT CASE WHEN count(*) > $3 THEN 'more than ' || $3 ELSE count(*)::text END"
	" FROM (SELECT FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id = w.id LIMIT $3 + 1) AS d))"
	" WHERE w.id = ANY (ARRAY("
	" SELECT l.id FROM (SELECT webhook_id FROM webhook_events_internal.webhook_stats"
	" WHERE failing_since < $1 AND failing_since IS NOT NULL"
	" ORDER BY failing_since OFFSET 0) AS s CROSS JOIN LATERAL ("
	" SELECT w.id FROM webhook_events_internal.webhooks AS w"
	" WHERE w.id = s.webhook_id AND w.is_enabled FOR UPDATE SKIP LOCKED) AS l"
	" LIMIT $2)) RETURNING w.id, w.disabled_reason",
	3, {TIMESTAMPTZOID, INT4OID, INT4OID}, NULL
};

void
health_open(void)
{
	last_success_at = clock_work_time();
	has_succeeded = false;
	failed_since_success = false;
	forgiven_at = 0;
}

void
health_note(Subscriber *subscriber, bool succeeded, TimestampTz time)
{
	if (!succeeded)
	{
		if (subscriber->failing_since == 0)
			subscriber_set_failing(subscriber, time);
		failed_since_success = true;
		return;
	}
	if (failed_since_success && time - last_success_at > OUTAGE_TIME)
	{
		forgiven_at = time;
		subscribers_forgive(time);
	}
	if (subscriber->failing_since != 0)
		subscriber_set_failing(subscriber, 0);
	last_success_at = time;
	has_succeeded = true;
	failed_since_success = false;
}

/* Disables some; returns whether there may be more. */
static bool
disable_failing(TimestampTz before)
{
	Datum		values[3];
	uint64		count;

	values[0] = TimestampTzGetDatum(before);
	values[1] = Int32GetDatum(MAX_DISABLED);
	values[2] = Int32GetDatum(MAX_COUNTED);
	count = statement_write(&disable_statement, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		Subscriber *subscriber = subscriber_find(statement_text(row, 1));

		if (subscriber != NULL)
			subscriber_knows_failing(subscriber, 0);
		ereport(LOG,
				(errmsg("webhook \"%s\" of database \"%s\" was disabled",
						statement_text(row, 1), work_database()),
				 errdetail("%s", statement_text(row, 2))));
	}
	counters_add(COUNTER_DISABLED, count);
	return count == MAX_DISABLED;
}

/* Lets some begin anew; returns whether there may be more. */
static bool
forgive(void)
{
	Datum		values[2];

	values[0] = TimestampTzGetDatum(forgiven_at);
	values[1] = Int32GetDatum(MAX_WRITTEN);
	return statement_write(&forgive_statement, values, NULL) == MAX_WRITTEN;
}

/* Writes since when some of the webhooks fail; returns whether there may be more. */
static bool
write_failing(void)
{
	ArrayParameter ids = {TEXTOID, NULL};
	ArrayParameter times = {TIMESTAMPTZOID, NULL};
	Datum		values[2];
	uint64		count;
	int			ntaken = subscribers_take_failing(&ids, &times, MAX_WRITTEN);

	if (ntaken == 0)
		return false;
	values[0] = array_result(&ids);
	values[1] = array_result(&times);
	count = statement_write(&write_statement, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		bool		isnull;
		Datum		since = statement_value(row, 2, &isnull);

		subscriber_knows_failing(subscriber_find(statement_text(row, 1)),
								 isnull ? 0 : DatumGetTimestampTz(since));
	}
	return ntaken == MAX_WRITTEN && count > 0;
}

bool
health_write(TimestampTz now)
{
	if (forgiven_at != 0)
	{
		if (!forgive())
			forgiven_at = 0;
		return true;
	}
	if (write_failing())
		return true;
	return setting_disable_after > 0 && has_succeeded &&
		last_success_at > now - OUTAGE_TIME &&
		disable_failing(now - setting_disable_after * USECS_PER_MINUTE);
}
