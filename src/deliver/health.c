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
#include "server/settings.h"
#include "store/statement.h"
#include "utils/timestamp.h"

/* So long without any success, in microseconds, is an outage of ours. */
#define OUTAGE_TIME (INT64CONST(600) * USECS_PER_SEC)

static TimestampTz last_success_at; /* or when we started */
static bool has_succeeded;
static bool failed_since_success;
static bool must_forgive;		/* an outage has ended and is not written */

static Statement write_statement = {
	"UPDATE webhook_events_internal.webhook_stats AS s"
	" SET failing_since = n.failing_since"
	" FROM unnest($1, $2) AS n (webhook_id, failing_since)"
	" WHERE s.webhook_id = n.webhook_id",
	2, {TEXTARRAYOID, TIMESTAMPTZARRAYOID}, NULL
};

static Statement forgive_statement = {
	"UPDATE webhook_events_internal.webhook_stats SET failing_since = $1"
	" WHERE failing_since IS NOT NULL",
	1, {TIMESTAMPTZOID}, NULL
};

static Statement disable_statement = {
	"UPDATE webhook_events_internal.webhooks AS w"
	" SET is_enabled = false, disabled_reason ="
	" format('All calls have failed since %s; %s dispatches were waiting.',"
	" f.failing_since, (SELECT count(*) FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id = f.id))"
	" FROM (SELECT w.id, s.failing_since FROM webhook_events_internal.webhook_stats AS s"
	" JOIN webhook_events_internal.webhooks AS w ON w.id = s.webhook_id"
	" WHERE s.failing_since < $1 AND s.failing_since IS NOT NULL"
	" AND w.is_enabled LIMIT 100 FOR UPDATE OF w SKIP LOCKED) AS f"
	" WHERE w.id = f.id RETURNING w.id",
	1, {TIMESTAMPTZOID}, NULL
};

void
health_open(void)
{
	last_success_at = GetCurrentTimestamp();
	has_succeeded = false;
	failed_since_success = false;
	must_forgive = false;
}

void
health_note(Subscriber *subscriber, bool succeeded, TimestampTz time)
{
	if (!succeeded)
	{
		if (subscriber->failing_since == 0)
			subscriber->failing_since = time;
		failed_since_success = true;
		return;
	}
	if (failed_since_success && time - last_success_at > OUTAGE_TIME)
	{
		must_forgive = true;
		subscribers_forgive(time);
	}
	subscriber->failing_since = 0;
	last_success_at = time;
	has_succeeded = true;
	failed_since_success = false;
}

static void
disable_failing(TimestampTz before)
{
	ArrayParameter ids = {TEXTOID, NULL};
	ArrayParameter times = {TIMESTAMPTZOID, NULL};
	Datum		values[2];
	uint64		count;

	values[0] = TimestampTzGetDatum(before);
	count = statement_write(&disable_statement, values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		char	   *id = statement_text(row, 1);
		Subscriber *subscriber = subscriber_find(id);

		array_add_text(&ids, id);
		array_add_time(&times, 0);
		if (subscriber != NULL)
			subscriber->failing_since = subscriber->known_failing_since = 0;
	}
	if (count == 0)
		return;
	values[0] = array_result(&ids);
	values[1] = array_result(&times);
	statement_write(&write_statement, values, NULL);
}

void
health_write(TimestampTz now)
{
	ArrayParameter ids = {TEXTOID, NULL};
	ArrayParameter times = {TIMESTAMPTZOID, NULL};
	Datum		values[2];

	values[0] = TimestampTzGetDatum(now);
	if (must_forgive)
		statement_write(&forgive_statement, values, NULL);
	must_forgive = false;

	subscribers_take_failing(&ids, &times);
	if (ids.state != NULL)
	{
		values[0] = array_result(&ids);
		values[1] = array_result(&times);
		statement_write(&write_statement, values, NULL);
	}
	if (setting_disable_after > 0 && has_succeeded &&
		last_success_at > now - OUTAGE_TIME)
		disable_failing(now - setting_disable_after * USECS_PER_MINUTE);
}
