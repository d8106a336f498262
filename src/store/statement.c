/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  The worker's transactions, and the SQL statements in them.
 *
 * IDENTIFICATION
 *	  src/store/statement.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "server/clock.h"
#include "server/wal.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "store/statement.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/resowner.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static char *database_name = NULL;
static Oid	known_extension = InvalidOid;
static TimestampTz report_at = DT_NOEND;	/* statistics that were kept back */

/* A transaction that others may cancel is under way; see handle_cancel(). */
static volatile sig_atomic_t is_under_way = false;

/* The transaction may be cut short; see work_cancel(). */
static volatile sig_atomic_t may_be_cancelled = false;
static volatile sig_atomic_t was_cancelled = false;

/*
 * The statements are made for these settings, whatever the database's are.  With a
 * role of the database's choice we would not even get at our own tables.
 *
 * The worker waits for nobody's lock: what it can't get within lock_timeout is left
 * for later.
 */
static const struct
{
	const char *name;
	const char *value;
}			options[] = {
	{"role", "none"},
	{"client_encoding", "UTF8"},
	{"search_path", "pg_catalog, pg_temp"},
	{"row_security", "off"},
	{"session_replication_role", "origin"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"synchronous_commit", "off"},
	{"statement_timeout", "0"},
	{"lock_timeout", "250ms"},
	{"transaction_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"plan_cache_mode", "force_generic_plan"},
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_sort", "off"},
	{"enable_nestloop", "on"},
	{"enable_indexscan", "on"},
	{"enable_partition_pruning", "on"},
	{"max_parallel_workers_per_gather", "0"},
	{"jit", "off"},
	{"webhook_events.user_id", ""}
};

/*
 * In a transaction, because client_encoding looks for its conversion.  What
 * this version of the server does not have needs no setting.
 */
static void
set_options(void)
{
	StartTransactionCommand();
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type, PGC_SUSET,
					PGC_S_OVERRIDE);
	for (int i = 0; i < (int) lengthof(options); i++)
	{
		if (GetConfigOption(options[i].name, true, false) != NULL)
			SetConfigOption(options[i].name, options[i].value, PGC_SUSET,
							PGC_S_OVERRIDE);
	}
	CommitTransactionCommand();
}

/* Nobody renames a database that is in use. */
static void
read_database_name(void)
{
	StartTransactionCommand();
	database_name = MemoryContextStrdup(TopMemoryContext,
										get_database_name(MyDatabaseId));
	CommitTransactionCommand();
}

/*
 * PostgreSQL's own lets a cancel wait for whoever looks next.  That can be the end of a
 * line for the log, between transactions, where a call is half noted: nobody
 * expects an error there.  So a cancel is for a transaction, or for nothing.
 */
static void
handle_cancel(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (is_under_way)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* One that came too late must not hit what follows, nor one that comes meanwhile. */
static void
end_cancelling(void)
{
	may_be_cancelled = false;
	is_under_way = false;
	QueryCancelPending = false;
}

void
work_connect(Oid database)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	set_options();
	read_database_name();
	set_ps_display(database_name);
	pqsignal(SIGINT, handle_cancel);
	end_cancelling();
}

const char *
work_database(void)
{
	return database_name;
}

/* That is what the log has of a process that crashes, so it names the database. */
static void
report_activity(const char *activity)
{
	char		text[NAMEDATALEN + 128];

	snprintf(text, sizeof(text), "%s in database \"%s\"", activity, database_name);
	pgstat_report_activity(STATE_RUNNING, text);
}

/*
 * Finds the extension and keeps it from being dropped before the transaction
 * ends.  Whoever drops it locks it first, so neither of us meets the other half
 * way through the tables.
 */
static Oid
lock_extension(void)
{
	Oid			extension = get_extension_oid("webhook_events", true);

	if (!OidIsValid(extension))
		return InvalidOid;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return get_extension_oid("webhook_events", true);
}

bool
work_begin(const char *activity)
{
	Oid			extension;

	is_under_way = true;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	extension = lock_extension();
	if (!OidIsValid(known_extension))
		known_extension = extension;
	if (!OidIsValid(extension) || extension != known_extension)
	{
		AbortCurrentTransaction();
		end_cancelling();
		return false;
	}
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	report_activity(activity);
	return true;
}

void
work_see_writes(void)
{
	PopActiveSnapshot();
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static bool
is_cancel(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED;
}

/* Is it the server, or whoever ends us, that an error of this kind comes from? */
static bool
is_passing(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_INVALID_TRANSACTION_STATE):
		case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
		case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
		case ERRCODE_TO_CATEGORY(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE):
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR):
		case ERRCODE_TO_CATEGORY(ERRCODE_SNAPSHOT_TOO_OLD):
			return true;
		default:
			return false;
	}
}

/* A part in a subtransaction; which errors are the transaction's as well? */
static char *
try(void (*work) (void *argument), void *argument,
	bool (*is_passed_on) (int sqlstate))
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile message = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(argument);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *data;

		MemoryContextSwitchTo(context);
		data = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (is_passed_on(data->sqlerrcode))
			ReThrowError(data);
		message = data->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return message;
}

char *
work_try(void (*work) (void *argument), void *argument)
{
	return try(work, argument, is_cancel);
}

char *
work_try_row(void (*work) (void *argument), void *argument)
{
	return try(work, argument, is_passing);
}

bool
work_is_of_row(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION):
		case ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED):
		case ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR):
			return true;
		default:
			return false;
	}
}

/* Runs in a signal handler. */
void
work_cancel(void)
{
	if (!may_be_cancelled)
		return;
	was_cancelled = true;
	InterruptPending = true;
	QueryCancelPending = true;
}

/* Copies a message that has its place in rows, as far as there is room. */
static void
copy_message(WorkError *error, const char *message)
{
	int			length = pg_mbcliplen(message, (int) strlen(message),
									  sizeof(error->message) - 1);

	memcpy(error->message, message, length);
	error->message[length] = '\0';
}

WorkResult
work_run(const char *activity, bool cancellable, void (*work) (void *argument),
		 void *argument, WorkError *error)
{
	MemoryContext context = CurrentMemoryContext;
	volatile WorkResult result = WORK_DONE;

	PG_TRY();
	{
		may_be_cancelled = cancellable;
		if (work_begin(activity))
		{
			work(argument);
			work_commit();
		}
		else
			result = WORK_GONE;
	}
	PG_CATCH();
	{
		ErrorData  *data;

		/* What may have been a signal's doing must not hit the next one. */
		HOLD_INTERRUPTS();
		end_cancelling();
		MemoryContextSwitchTo(context);
		data = CopyErrorData();
		error->sqlstate = data->sqlerrcode;
		error->is_of_row = work_is_of_row(data->sqlerrcode);
		error->is_cancel = was_cancelled && is_cancel(data->sqlerrcode);
		copy_message(error, data->message ? data->message : "missing error text");
		FreeErrorData(data);
		AbortCurrentTransaction();
		FlushErrorState();
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
		result = WORK_FAILED;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return result;
}

static void
report(bool force)
{
	long		wait = pgstat_report_stat(force);

	report_at = wait == 0 ? DT_NOEND :
		TimestampTzPlusMilliseconds(clock_work_time(), wait);
}

void
work_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	end_cancelling();
	wal_note_commit();
	report(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

TimestampTz
work_report_deadline(void)
{
	return report_at;
}

void
work_report(void)
{
	if (report_at <= clock_work_time())
		report(true);
}

/*
 * The row of the last statement that was looked at, taken apart: to find a column anew behind
 * those of no fixed length takes longer with each one.
 */
static Datum row_values[STATEMENT_MAX_COLUMNS];
static bool row_nulls[STATEMENT_MAX_COLUMNS];
static HeapTuple known_row = NULL;

static uint64
run(Statement *statement, Datum *values, const bool *nulls, bool read_only,
	long limit)
{
	char		spi_nulls[STATEMENT_MAX_PARAMETERS];
	int			result;

	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->sql, statement->nparameters,
									   statement->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not plan \"%s\"", statement->sql);
		statement->plan = plan;
	}
	known_row = NULL;
	for (int i = 0; i < statement->nparameters; i++)
		spi_nulls[i] = (nulls != NULL && nulls[i]) ? 'n' : ' ';
	result = SPI_execute_plan(statement->plan, values, spi_nulls, read_only,
							  limit);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statement->sql,
			 SPI_result_code_string(result));
	return SPI_processed;
}

uint64
statement_read(Statement *statement, Datum *values, const bool *nulls,
			   long limit)
{
	return run(statement, values, nulls, true, limit);
}

uint64
statement_write(Statement *statement, Datum *values, const bool *nulls)
{
	return run(statement, values, nulls, false, 0);
}

Datum
statement_value(uint64 row, int column, bool *isnull)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;

	/* The first ones are found at once, and often alone. */
	if (tuple != known_row && (column <= 2 || desc->natts > STATEMENT_MAX_COLUMNS))
		return SPI_getbinval(tuple, desc, column, isnull);
	if (tuple != known_row)
		heap_deform_tuple(tuple, desc, row_values, row_nulls);
	known_row = tuple;
	*isnull = row_nulls[column - 1];
	return row_values[column - 1];
}

char *
statement_text(uint64 row, int column)
{
	bool		isnull;
	Datum		value = statement_value(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

const char *
statement_long_text(uint64 row, int column, size_t *length)
{
	bool		isnull;
	Datum		value = statement_value(row, column, &isnull);
	struct varlena *text;

	*length = 0;
	if (isnull)
		return NULL;
	text = PG_DETOAST_DATUM_PACKED(value);
	*length = VARSIZE_ANY_EXHDR(text);
	if (text != (struct varlena *) DatumGetPointer(value))
		return VARDATA_ANY(text);
	return pnstrdup(VARDATA_ANY(text), *length);
}

void
array_add(ArrayParameter *array, Datum value, bool isnull)
{
	array->state = accumArrayResult(array->state, value, isnull, array->type,
									CurrentMemoryContext);
}

void
array_add_text(ArrayParameter *array, const char *value)
{
	array_add(array, value ? CStringGetTextDatum(value) : (Datum) 0,
			  value == NULL);
}

void
array_add_time(ArrayParameter *array, TimestampTz value)
{
	array_add(array, TimestampTzGetDatum(value), value == 0);
}

void
array_add_int(ArrayParameter *array, int32 value)
{
	array_add(array, Int32GetDatum(value), false);
}

Datum
array_result(ArrayParameter *array)
{
	if (array->state == NULL)
		return PointerGetDatum(construct_empty_array(array->type));
	return makeArrayResult(array->state, CurrentMemoryContext);
}
