/*-------------------------------------------------------------------------
 *
 * dispatch_writer.c
 *	  The tables dispatches and calls, written in batches.
 *
 * IDENTIFICATION
 *	  src/store/dispatch_writer.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "server/clock.h"
#include "store/answer_text.h"
#include "store/day_rows.h"
#include "store/day_update.h"
#include "store/dispatch_writer.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The columns of dispatches and of calls that are written. */
enum
{
	DISPATCHES_ID,
	DISPATCHES_EVENT_ID,
	DISPATCHES_WEBHOOK_ID,
	DISPATCHES_USER_ID,
	DISPATCHES_EVENT_TYPE,
	DISPATCHES_STATUS,
	DISPATCHES_CREATED_AT,
	DISPATCHES_FINISHED_AT,
	DISPATCHES_ATTEMPTS,
	DISPATCHES_NEXT_ATTEMPT_AT,
	DISPATCHES_ERROR_MESSAGE,
	DISPATCHES_ORDER_KEY,
	DISPATCHES_HOLDS_UNTIL,
	DISPATCHES_EPOCH,
	DISPATCHES_LAST_STATUS,
	DISPATCHES_LAST_DURATION,
	N_DISPATCHES
};

enum
{
	CALLS_DISPATCH_ID,
	CALLS_ATTEMPT,
	CALLS_STARTED_AT,
	CALLS_FINISHED_AT,
	CALLS_RESPONSE_STATUS,
	CALLS_RESPONSE_BODY,
	CALLS_ERROR_MESSAGE,
	CALLS_URL,
	CALLS_DURATION,
	CALLS_ADDRESS,
	N_CALLS
};

static const DayKind dispatches_kind = {
	"dispatches", N_DISPATCHES,
	{
		"id", "event_id", "webhook_id", "user_id", "event_type", "status",
		"created_at", "finished_at", "attempts", "next_attempt_at",
		"error_message", "order_key", "holds_until", "epoch",
		"last_status", "last_duration"
	},
	false
};

static const DayKind calls_kind = {
	"calls", N_CALLS,
	{
		"dispatch_id", "attempt", "started_at", "finished_at",
		"response_status", "response_body", "error_message", "url", "duration",
		"address"
	},
	false
};

enum
{
	UPDATE_ID,
	UPDATE_STATUS,
	UPDATE_FINISHED_AT,
	UPDATE_ATTEMPTS,
	UPDATE_NEXT_ATTEMPT_AT,
	UPDATE_ERROR_MESSAGE,
	UPDATE_HOLDS_UNTIL,
	UPDATE_IS_PASSED,
	N_UPDATE
};

struct DispatchWriter
{
	DayRows    *inserts;		/* NULL if there are none */
	DayUpdate  *changes;		/* NULL if there are none */
	DayRows    *calls;			/* NULL if there are none */
	ArrayParameter updates[N_UPDATE];
};

/*
 * A row "l" that the result "u" is about: it is ACTIVE, or somebody has ended it who
 * did not know of the call, as resume('skip') does between a call's end and this.
 */
#define TAKES_RESULT \
	" l.id = u.id AND (l.status::text = 'ACTIVE'" \
	" OR l.status::text = 'FAILED' AND l.attempts < u.attempts)"

/*
 * Of rows that are not where they were seen; those that are locked stay.  There is
 * but one index that fits: "status = 'ACTIVE'" would also fit those of waiting ones.
 * What was ended meanwhile is not called again, but its call counts.
 */
static Statement update_statement = {
	"UPDATE webhook_events_internal.dispatches AS d"
	" SET status = CASE WHEN new.stays THEN d.status"
	" ELSE new.status::webhook_events.dispatch_status END,"
	" finished_at = CASE WHEN new.stays THEN d.finished_at ELSE new.finished_at END,"
	" attempts = new.attempts,"
	" next_attempt_at = CASE WHEN new.stays THEN NULL ELSE new.next_attempt_at END,"
	" error_message = CASE WHEN new.stays THEN d.error_message ELSE new.error_message END,"
	" holds_until = coalesce(new.holds_until, d.holds_until),"
	" order_key = CASE WHEN new.is_passed = 0 THEN d.order_key END,"
	" last_status = NULL, last_duration = NULL"
	" FROM (SELECT u.*, l.stays FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
	" AS u (id, status, finished_at, attempts, next_attempt_at, error_message,"
	" holds_until, is_passed) CROSS JOIN LATERAL"
	" (SELECT l.status::text = 'FAILED' AND u.status = 'ACTIVE' AS stays"
	" FROM webhook_events_internal.dispatches AS l WHERE" TAKES_RESULT
	" FOR UPDATE SKIP LOCKED) AS l) AS new"
	" WHERE d.id = new.id RETURNING d.id",
	N_UPDATE,
	{TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID},
	NULL
};

/* Those that can still be written; its parameters are those of the update. */
static Statement open_statement = {
	"SELECT u.id FROM unnest($1, $4) AS u (id, attempts)"
	" JOIN webhook_events_internal.dispatches AS l ON" TAKES_RESULT,
	N_UPDATE,
	{TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID},
	NULL
};

/*
 * Looked up once: another extension's worker is another process.
 */
static Oid
status_oid(DispatchStatus status)
{
	static Oid	oids[DISPATCH_FAILED + 1];

	if (!OidIsValid(oids[status]))
		oids[status] = day_table_label("dispatch_status", dispatch_status_label(status));
	return oids[status];
}

/* Gives each array the element type of the statement's parameter. */
static void
set_types(ArrayParameter *arrays, const Statement *statement)
{
	for (int i = 0; i < statement->nparameters; i++)
	{
		switch (statement->types[i])
		{
			case INT4ARRAYOID:
				arrays[i].type = INT4OID;
				break;
			case TIMESTAMPTZARRAYOID:
				arrays[i].type = TIMESTAMPTZOID;
				break;
			default:
				arrays[i].type = TEXTOID;
		}
	}
}

DispatchWriter *
dispatch_writer_create(void)
{
	DispatchWriter *writer = palloc0(sizeof(DispatchWriter));

	set_types(writer->updates, &update_statement);
	return writer;
}

/* Starts a row of the day of a dispatch; its id is ours and has a time. */
static DayTable *
begin_row(DayRows **rows, const DayKind *kind, const char *dispatch_id)
{
	TimestampTz time;

	if (*rows == NULL)
		*rows = day_rows_create(kind);
	if (!id_time(dispatch_id, (int) strlen(dispatch_id), &time))
		time = DT_NOBEGIN;
	return day_rows_begin_row(*rows, time);
}

static void
set_time(DayRows *rows, int column, TimestampTz time)
{
	if (time != 0)
		day_rows_set(rows, column, TimestampTzGetDatum(time));
}

/*
 * Does the row tell of its last call, for who looks at many?  Of one that waits it would have to be
 * kept up, and what was odd with an answer stands in the call's row alone.
 */
static bool
tells_of_call(const DispatchRow *row)
{
	return row->call != NULL && row->call->note == NULL && row->status != DISPATCH_ACTIVE;
}

void
dispatch_writer_insert(DispatchWriter *writer, const DispatchRow *row)
{
	DayTable   *table = begin_row(&writer->inserts, &dispatches_kind, row->id);
	DayRows    *rows = writer->inserts;
	Interval	duration = {0};

	day_rows_set_text(rows, DISPATCHES_ID, row->id);
	day_rows_set_text(rows, DISPATCHES_EVENT_ID, row->event_id);
	day_rows_set_text(rows, DISPATCHES_WEBHOOK_ID, row->webhook_id);
	day_rows_set_text(rows, DISPATCHES_USER_ID, row->user_id);
	day_rows_set(rows, DISPATCHES_EVENT_TYPE,
				 ObjectIdGetDatum(table->event_types[row->event_type]));
	day_rows_set(rows, DISPATCHES_STATUS, ObjectIdGetDatum(status_oid(row->status)));
	set_time(rows, DISPATCHES_CREATED_AT, row->created_at);
	set_time(rows, DISPATCHES_FINISHED_AT, row->finished_at);
	day_rows_set(rows, DISPATCHES_ATTEMPTS, Int32GetDatum(row->attempts));
	set_time(rows, DISPATCHES_NEXT_ATTEMPT_AT, row->next_attempt_at);
	day_rows_set_text(rows, DISPATCHES_ERROR_MESSAGE, row->error_message);
	day_rows_set_text(rows, DISPATCHES_ORDER_KEY, row->order_key);
	set_time(rows, DISPATCHES_HOLDS_UNTIL, row->holds_until);
	if (row->epoch > 0)
		day_rows_set(rows, DISPATCHES_EPOCH, Int32GetDatum(row->epoch));
	if (tells_of_call(row))
	{
		duration.time = row->call->duration;
		day_rows_set(rows, DISPATCHES_LAST_STATUS, Int32GetDatum(row->call->status));
		day_rows_set(rows, DISPATCHES_LAST_DURATION, IntervalPGetDatum(&duration));
	}
	day_rows_end_row(rows, 0, row->place);
}

static void
change_time(DayUpdate *changes, int column, TimestampTz time)
{
	day_update_set(changes, column, TimestampTzGetDatum(time), time == 0);
}

/* Changes a row where it was seen. */
static RowFate
change_in_place(DispatchWriter *writer, const DispatchRow *row)
{
	DayUpdate  *changes;
	Interval	duration = {0};
	bool		is_silent = !tells_of_call(row);

	if (row->place == NULL)
		return ROW_ELSEWHERE;
	if (writer->changes == NULL)
		writer->changes = day_update_create(&dispatches_kind);
	changes = writer->changes;
	if (!day_update_begin_row(changes, row->place, row->id) ||
		DatumGetObjectId(day_update_value(changes, DISPATCHES_STATUS)) !=
		status_oid(DISPATCH_ACTIVE))
		return ROW_ELSEWHERE;
	if (day_update_is_locked(changes))
		return ROW_LOCKED;
	day_update_set(changes, DISPATCHES_STATUS,
				   ObjectIdGetDatum(status_oid(row->status)), false);
	change_time(changes, DISPATCHES_FINISHED_AT, row->finished_at);
	day_update_set(changes, DISPATCHES_ATTEMPTS, Int32GetDatum(row->attempts), false);
	change_time(changes, DISPATCHES_NEXT_ATTEMPT_AT, row->next_attempt_at);
	day_update_set(changes, DISPATCHES_ERROR_MESSAGE,
				   row->error_message ? CStringGetTextDatum(row->error_message) : (Datum) 0,
				   row->error_message == NULL);
	if (row->holds_until != 0)
		change_time(changes, DISPATCHES_HOLDS_UNTIL, row->holds_until);
	if (!is_silent)
		duration.time = row->call->duration;
	day_update_set(changes, DISPATCHES_LAST_STATUS,
				   Int32GetDatum(is_silent ? 0 : row->call->status), is_silent);
	day_update_set(changes, DISPATCHES_LAST_DURATION, IntervalPGetDatum(&duration), is_silent);
	if (row->is_passed)
		day_update_set(changes, DISPATCHES_ORDER_KEY, (Datum) 0, true);
	return day_update_end_row(changes, NULL) ? ROW_WRITTEN : ROW_ELSEWHERE;
}

RowFate
dispatch_writer_update(DispatchWriter *writer, const DispatchRow *row)
{
	ArrayParameter *a = writer->updates;
	RowFate		fate = change_in_place(writer, row);

	if (fate != ROW_ELSEWHERE)
		return fate;
	array_add_text(&a[UPDATE_ID], row->id);
	array_add_text(&a[UPDATE_STATUS], dispatch_status_label(row->status));
	array_add_time(&a[UPDATE_FINISHED_AT], row->finished_at);
	array_add_int(&a[UPDATE_ATTEMPTS], row->attempts);
	array_add_time(&a[UPDATE_NEXT_ATTEMPT_AT], row->next_attempt_at);
	array_add_text(&a[UPDATE_ERROR_MESSAGE], row->error_message);
	array_add_time(&a[UPDATE_HOLDS_UNTIL], row->holds_until);
	array_add_int(&a[UPDATE_IS_PASSED], row->is_passed);
	return fate;
}

/* Adds the ids of the last statement's rows. */
static List *
take_ids(List *ids, uint64 count)
{
	for (uint64 row = 0; row < count; row++)
		ids = lappend(ids, statement_text(row, 1));
	return ids;
}

List *
dispatch_writer_find_locked(DispatchWriter *writer)
{
	ArrayParameter *a = writer->updates;
	Datum		values[N_UPDATE];
	List	   *written;
	List	   *open;
	List	   *locked = NIL;
	ListCell   *cell;

	if (a[UPDATE_ID].state == NULL)
		return NIL;
	CommandCounterIncrement();
	for (int i = 0; i < N_UPDATE; i++)
		values[i] = array_result(&a[i]);
	written = take_ids(NIL, statement_write(&update_statement, values, NULL));
	open = take_ids(NIL, statement_read(&open_statement, values, NULL, 0));
	foreach(cell, open)
	{
		ListCell   *other;
		bool		is_written = false;

		foreach(other, written)
			is_written |= strcmp(lfirst(cell), lfirst(other)) == 0;
		if (!is_written)
			locked = lappend(locked, lfirst(cell));
	}
	return locked;
}

void
dispatch_writer_call(DispatchWriter *writer, const char *dispatch_id, int attempt,
					 const CallResult *call)
{
	DayRows    *rows;
	Interval	duration = {.time = call->duration};
	char	   *body = call->body ? answer_to_text(call->body, call->body_length) : NULL;

	(void) begin_row(&writer->calls, &calls_kind, dispatch_id);
	rows = writer->calls;
	day_rows_set_text(rows, CALLS_DISPATCH_ID, dispatch_id);
	day_rows_set(rows, CALLS_ATTEMPT, Int32GetDatum(attempt));
	set_time(rows, CALLS_STARTED_AT, clock_to_wall(call->started_at));
	set_time(rows, CALLS_FINISHED_AT, clock_to_wall(call->finished_at));
	if (call->status != 0)
		day_rows_set(rows, CALLS_RESPONSE_STATUS, Int32GetDatum(call->status));
	day_rows_set_text(rows, CALLS_RESPONSE_BODY, body);
	day_rows_set_text(rows, CALLS_ERROR_MESSAGE, call->note ? call->note : call->error);
	day_rows_set_text(rows, CALLS_URL, call->url);
	day_rows_set(rows, CALLS_DURATION, IntervalPGetDatum(&duration));
	if (call->address[0] != '\0')
		day_rows_set_text(rows, CALLS_ADDRESS, call->address);
	day_rows_end_row(rows, body ? strlen(body) : 0, NULL);
}

void
dispatch_writer_execute(DispatchWriter *writer)
{
	if (writer->inserts != NULL)
		day_rows_finish(writer->inserts);
	if (writer->calls != NULL)
		day_rows_finish(writer->calls);
	if (writer->changes != NULL)
		day_update_finish(writer->changes);
	CommandCounterIncrement();
}
