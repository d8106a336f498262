/*-------------------------------------------------------------------------
 *
 * counters.c
 *	  What a worker counts of its work, kept over restarts.
 *
 * Rows are only added, the newest one counts, and old ones are deleted in larger
 * steps: a row that is updated for ever would be slow to read behind an old
 * transaction.
 *
 * IDENTIFICATION
 *	  src/store/counters.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "server/live.h"
#include "store/counters.h"
#include "store/day_table.h"
#include "store/reading.h"
#include "store/statement.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* So many rows are left to be deleted together. */
#define MAX_OLD_ROWS 64

const double counter_bounds[COUNTER_BOUNDS] = {
	0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
	1, 2.5, 5, 10, 30, 60, 300, 3600, 86400
};

/* Until counters_open() has succeeded what is counted is kept here. */
static uint64 own_counters[COUNTER_SIZE];
static uint64 *counters = own_counters;
static bool is_open = false;
static int64 last_number;		/* of the last row */

static Statement read_statement = {
	"SELECT number, counters FROM webhook_events_internal.tallies"
	" ORDER BY number DESC LIMIT 1",
	0, {0}, NULL
};

static Statement insert_statement = {
	"INSERT INTO webhook_events_internal.tallies (number, counters) VALUES ($1, $2)",
	2, {INT8OID, INT8ARRAYOID}, NULL
};

static Statement delete_statement = {
	"DELETE FROM webhook_events_internal.tallies WHERE number >= $1 AND number < $2",
	2, {INT8OID, INT8OID}, NULL
};

StaticAssertDecl(COUNTER_SIZE <= LIVE_COUNTERS, "they must fit");

static void
delete_old_rows(int64 from)
{
	Datum		values[] = {Int64GetDatum(from), Int64GetDatum(last_number)};

	statement_write(&delete_statement, values, NULL);
}

/* What was written last. */
typedef struct Written
{
	bool		is_there;
	uint64		counters[COUNTER_SIZE];
} Written;

/* The transaction. */
static void
read_written(void *argument)
{
	Written    *written = argument;
	bool		isnull;
	Datum	   *values;
	bool	   *nulls;
	int			count;

	last_number = 0;
	written->is_there = statement_read(&read_statement, NULL, NULL, 1) > 0;
	if (!written->is_there)
		return;
	last_number = DatumGetInt64(statement_value(0, 1, &isnull));
	deconstruct_array(DatumGetArrayTypeP(statement_value(0, 2, &isnull)),
					  INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &values, &nulls, &count);
	for (int i = 0; i < Min(count, COUNTER_SIZE); i++)
		written->counters[i] = nulls[i] ? 0 : (uint64) DatumGetInt64(values[i]);
	delete_old_rows(0);
}

WorkResult
counters_open(void)
{
	Written		written = {0};
	WorkError	error;
	WorkResult	result = work_run("reading what was counted", true, read_written,
								  &written, &error);
	uint64	   *live = live_counters();

	if (result != WORK_DONE)
		return result;
	for (int i = 0; i < COUNTER_SIZE && live != NULL; i++)
		live[i] = (written.is_there ? written.counters[i] : live[i]) + own_counters[i];
	for (int i = 0; i < COUNTER_SIZE && live == NULL; i++)
		own_counters[i] += written.counters[i];
	if (live != NULL)
		counters = live;
	is_open = true;
	counters_add(COUNTER_WORKER_STARTS, 1);
	return result;
}

void
counters_add(Counter counter, uint64 count)
{
	counters[counter] += count;
}

uint64
counters_get(Counter counter)
{
	return counters[counter];
}

static void
count_time(int histogram, Counter sum, int64 time)
{
	double		seconds = (double) time / USECS_PER_SEC;
	int			class = 0;

	while (class < COUNTER_BOUNDS && seconds > counter_bounds[class])
		class++;
	counters[histogram + class]++;
	counters[sum] += Max(time, 0);
}

void
counters_delay(int64 delay)
{
	count_time(COUNTER_DELAYS, COUNTER_DELAY_SUM, delay);
}

void
counters_duration(int64 duration)
{
	count_time(COUNTER_DURATIONS, COUNTER_DURATION_SUM, duration);
}

void
counters_write(void)
{
	ArrayParameter array = {INT8OID, NULL};
	Datum		values[2];

	if (!is_open)
		return;
	for (int i = 0; i < COUNTER_SIZE; i++)
		array_add(&array, Int64GetDatum((int64) counters[i]), false);
	last_number++;
	values[0] = Int64GetDatum(last_number);
	values[1] = array_result(&array);
	statement_write(&insert_statement, values, NULL);
	if (last_number % MAX_OLD_ROWS == 0)
		delete_old_rows(last_number - 2 * MAX_OLD_ROWS);
}

/* Reads the counters of the newest row of a table; false if there is none. */
static bool
read_newest(const char *name, uint64 found[COUNTER_SIZE])
{
	Relation	table = table_open(get_relname_relid(name, day_table_namespace()),
								   AccessShareLock);
	HeapTuple	row = reading_newest(table);

	if (row != NULL)
	{
		bool		isnull;
		Datum		counted = heap_getattr(row, 2, RelationGetDescr(table), &isnull);
		Datum	   *values;
		bool	   *nulls;
		int			count;

		deconstruct_array(DatumGetArrayTypeP(counted), INT8OID, sizeof(int64),
						  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values, &nulls, &count);
		MemSet(found, 0, COUNTER_SIZE * sizeof(uint64));
		for (int i = 0; i < Min(count, COUNTER_SIZE); i++)
			found[i] = nulls[i] ? 0 : (uint64) DatumGetInt64(values[i]);
	}
	table_close(table, AccessShareLock);
	return row != NULL;
}

void
counters_report(uint64 report[COUNTER_SIZE])
{
	uint64		live[LIVE_COUNTERS];
	uint64		before[COUNTER_SIZE];

	MemSet(report, 0, COUNTER_SIZE * sizeof(uint64));
	if (live_copy_counters(MyDatabaseId, live))
		memcpy(report, live, COUNTER_SIZE * sizeof(uint64));
	else
		(void) read_newest("tallies", report);
	if (!read_newest("tally_resets", before))
		return;
	for (int i = 0; i < COUNTER_SIZE; i++)
		report[i] -= Min(report[i], before[i]);
}
