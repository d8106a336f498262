/*-------------------------------------------------------------------------
 *
 * times.c
 *	  What the worker's time is, from worker to worker.
 *
 * Retries lie in the table with the time at which they are due.  If that were
 * compared with a clock that is set back, or with the slower one of another machine
 * after a failover, they would wait for the difference as well.  So the worker has a
 * time of its own, which never steps while it runs, and which is written down, so that
 * the next one, wherever it runs, does not fall behind.  It follows the wall clock again
 * once nothing waits.
 *
 * IDENTIFICATION
 *	  src/deliver/times.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "deliver/times.h"
#include "server/clock.h"
#include "server/slots.h"
#include "store/statement.h"
#include "utils/timestamp.h"

/* How often it is written down while something waits. */
#define WRITE_INTERVAL (INT64CONST(30) * USECS_PER_SEC)

/* From here on it is worth to set it again. */
#define DIFFERENCE USECS_PER_SEC

static TimestampTz next_write_at = 0;

static Statement find_statement = {
	"SELECT time FROM webhook_events_internal.clocks WHERE name = 'work'",
	0, {0}, NULL
};

static Statement waits_statement = {
	"SELECT FROM webhook_events_internal.dispatches"
	" WHERE status = 'ACTIVE' AND next_attempt_at IS NOT NULL LIMIT 1",
	0, {0}, NULL
};

static Statement write_statement = {
	"INSERT INTO webhook_events_internal.clocks AS c (name, time) VALUES ('work', $1)"
	" ON CONFLICT (name) DO UPDATE SET time = EXCLUDED.time",
	1, {TIMESTAMPTZOID}, NULL
};

/* What the tables say; unless they can be read something waits. */
typedef struct Found
{
	TimestampTz written;		/* DT_NOBEGIN: nothing was */
	bool		waits;
} Found;

static void
look_for_rows(void *argument)
{
	((Found *) argument)->waits = statement_read(&waits_statement, NULL, NULL, 1) > 0;
}

/* Somebody can have locked a day's table, which must not keep the worker from starting. */
static void
look(void *argument)
{
	Found	   *found = argument;
	bool		isnull;

	if (statement_read(&find_statement, NULL, NULL, 1) > 0)
		found->written = DatumGetTimestampTz(statement_value(0, 1, &isnull));
	(void) work_try(look_for_rows, found);
}

bool
times_open(void)
{
	TimestampTz now = clock_now();
	int64		wall_offset = GetCurrentTimestamp() - now;
	int64		offset;
	Found		found = {.written = DT_NOBEGIN, .waits = true};
	WorkError	error;

	if (work_run("looking for the time", true, look, &found, &error) == WORK_GONE)
		return false;
	if (!found.waits)
		offset = wall_offset;
	else if (!shared_work_offset(&offset))
		offset = found.written == DT_NOBEGIN ? wall_offset :
			Max(wall_offset, found.written - now);
	clock_set_work_offset(offset);
	shared_set_work_offset(offset);
	next_write_at = 0;
	return true;
}

bool
times_differ(void)
{
	int64		lead = clock_work_time() - GetCurrentTimestamp();

	return lead > DIFFERENCE || lead < -DIFFERENCE;
}

TimestampTz
times_deadline(void)
{
	return next_write_at;
}

static void
write_time(void *argument pg_attribute_unused())
{
	Datum		now = TimestampTzGetDatum(clock_work_time());

	statement_write(&write_statement, &now, NULL);
}

bool
times_write(void)
{
	WorkError	error;

	next_write_at = clock_work_time() + WRITE_INTERVAL;
	return work_run("writing the time", true, write_time, NULL, &error) != WORK_GONE;
}
