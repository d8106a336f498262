/*-------------------------------------------------------------------------
 *
 * dispatches.c
 *	  The tables dispatches and calls: written in batches, read when due.
 *
 * IDENTIFICATION
 *	  src/store/dispatches.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "store/day_rows.h"
#include "store/day_update.h"
#include "store/dispatches.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The columns of dispatches and of calls that are written. */
enum
{
	DISPATCH_ID,
	DISPATCH_EVENT_ID,
	DISPATCH_WEBHOOK_ID,
	DISPATCH_USER_ID,
	DISPATCH_EVENT_TYPE,
	DISPATCH_STATUS,
	DISPATCH_CREATED_AT,
	DISPATCH_FINISHED_AT,
	DISPATCH_ATTEMPTS,
	DISPATCH_NEXT_ATTEMPT_AT,
	DISPATCH_ERROR_MESSAGE,
	DISPATCH_ORDER_KEY,
	DISPATCH_HOLDS_UNTIL,
	DISPATCH_EPOCH,
	N_DISPATCH
};

enum
{
	CALL_DISPATCH_ID,
	CALL_ATTEMPT,
	CALL_STARTED_AT,
	CALL_FINISHED_AT,
	CALL_RESPONSE_STATUS,
	CALL_RESPONSE_BODY,
	CALL_ERROR_MESSAGE,
	CALL_URL,
	CALL_DURATION,
	CALL_ADDRESS,
	N_CALL
};

static const DayKind dispatches_kind = {
	"dispatches", N_DISPATCH,
	{
		"id", "event_id", "webhook_id", "user_id", "event_type", "status",
		"created_at", "finished_at", "attempts", "next_attempt_at",
		"error_message", "order_key", "holds_until", "epoch"
	}
};

static const DayKind calls_kind = {
	"calls", N_CALL,
	{
		"dispatch_id", "attempt", "started_at", "finished_at",
		"response_status", "response_body", "error_message", "url", "duration",
		"address"
	}
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
 * Of rows that are not where they were seen; those that are locked stay.
 *
 * Plans are made while tables are small, when every index is as good as another,
 * and then kept.  So conditions and orders are written such that there is but one
 * index that fits.  Here, "status = 'ACTIVE'" would also fit those of waiting ones.
 */
static Statement update_statement = {
	"UPDATE webhook_events_internal.dispatches AS d"
	" SET status = new.status::webhook_events.dispatch_status,"
	" finished_at = new.finished_at, attempts = new.attempts,"
	" next_attempt_at = new.next_attempt_at,"
	" error_message = new.error_message,"
	" holds_until = coalesce(new.holds_until, d.holds_until),"
	" order_key = CASE WHEN new.is_passed = 0 THEN d.order_key END"
	" FROM (SELECT u.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
	" AS u (id, status, finished_at, attempts, next_attempt_at, error_message,"
	" holds_until, is_passed)"
	" CROSS JOIN LATERAL (SELECT FROM webhook_events_internal.dispatches AS l"
	" WHERE l.id = u.id AND l.status::text = 'ACTIVE' FOR UPDATE SKIP LOCKED) AS l) AS new"
	" WHERE d.id = new.id RETURNING d.id",
	N_UPDATE,
	{TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID},
	NULL
};

static Statement active_statement = {
	"SELECT id FROM webhook_events_internal.dispatches"
	" WHERE id = ANY ($1) AND status::text = 'ACTIVE'",
	1, {TEXTARRAYOID}, NULL
};

static Statement last_attempt_statement = {
	"SELECT max(attempt) FROM webhook_events_internal.calls WHERE dispatch_id = $1",
	1, {TEXTOID}, NULL
};

static Statement last_id_statement = {
	"SELECT id FROM webhook_events_internal.dispatches ORDER BY id DESC LIMIT 1",
	0, {0}, NULL
};

static Statement existing_statement = {
	"SELECT id FROM webhook_events_internal.dispatches WHERE id = ANY ($1)",
	1, {TEXTARRAYOID}, NULL
};

static Statement waits_below_statement = {
	"SELECT FROM webhook_events_internal.dispatches"
	" WHERE status = 'ACTIVE' AND next_attempt_at > '-infinity' AND id < $1"
	" UNION ALL SELECT FROM webhook_events_internal.dispatches"
	" WHERE status = 'ACTIVE' AND next_attempt_at IS NULL AND id < $1 LIMIT 1",
	1, {TEXTOID}, NULL
};

static Statement due_statement = {
	DUE_COLUMNS "FROM webhook_events_internal.dispatches AS d"
	" WHERE status = 'ACTIVE' AND (next_attempt_at, id) > ($1, $2)"
	" AND next_attempt_at <= $3 ORDER BY next_attempt_at, id LIMIT $4",
	4, {TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, INT4OID}, NULL
};

static Statement due_of_statement = {
	DUE_COLUMNS "FROM webhook_events_internal.dispatches AS d"
	" WHERE status = 'ACTIVE'"
	" AND (webhook_id, next_attempt_at, id) > ($5, $1, $2)"
	" AND (webhook_id, next_attempt_at) <= ($5, $3)"
	" ORDER BY webhook_id, next_attempt_at, id LIMIT $4",
	5, {TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, INT4OID, TEXTOID}, NULL
};

/* A row comparison does not prove that next_attempt_at is not null. */
static Statement next_due_statement = {
	"SELECT next_attempt_at FROM webhook_events_internal.dispatches"
	" WHERE status = 'ACTIVE' AND next_attempt_at IS NOT NULL"
	" AND (next_attempt_at, id) > ($1, $2)"
	" ORDER BY next_attempt_at, id LIMIT 1",
	2, {TIMESTAMPTZOID, TEXTOID}, NULL
};

static Statement replays_of_statement = {
	DUE_COLUMNS "FROM webhook_events_internal.dispatches AS d"
	" WHERE status = 'ACTIVE' AND webhook_id = $1"
	" AND next_attempt_at IS NULL AND id >= $2"
	" ORDER BY webhook_id, next_attempt_at, id LIMIT $3",
	3, {TEXTOID, TEXTOID, INT4OID}, NULL
};

/*
 * Steps from one webhook that has waiting dispatches to the next, so that the
 * cost follows their number and not that of the dispatches.  The first and the
 * last of a webhook's tell what else there is: replays come last.
 */
static Statement webhooks_statement = {
	"WITH RECURSIVE waiting (webhook_id) AS ("
	" (SELECT webhook_id FROM webhook_events_internal.dispatches"
	" WHERE status = 'ACTIVE' AND webhook_id > $1 ORDER BY webhook_id LIMIT 1)"
	" UNION ALL"
	" SELECT (SELECT d.webhook_id FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id > waiting.webhook_id"
	" ORDER BY d.webhook_id LIMIT 1)"
	" FROM waiting WHERE waiting.webhook_id IS NOT NULL)"
	" SELECT w.webhook_id,"
	" (SELECT coalesce(d.next_attempt_at, 'infinity') FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id >= w.webhook_id"
	" ORDER BY d.webhook_id, d.next_attempt_at, d.id LIMIT 1),"
	" (SELECT d.next_attempt_at IS NULL FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id <= w.webhook_id"
	" ORDER BY d.webhook_id DESC, d.next_attempt_at DESC, d.id DESC LIMIT 1)"
	" FROM (SELECT webhook_id FROM waiting WHERE webhook_id IS NOT NULL"
	" LIMIT $2) AS w",
	2, {TEXTOID, INT4OID}, NULL
};

static Statement waiting_of_statement = {
	DUE_COLUMNS "FROM webhook_events_internal.dispatches AS d"
	" WHERE status = 'ACTIVE' AND webhook_id = $1"
	" AND coalesce(epoch, 0) < $4 AND ($2 OR event_type <> 'TEST') LIMIT $3",
	4, {TEXTOID, BOOLOID, INT4OID, INT4OID}, NULL
};

const char *
dispatch_status_label(DispatchStatus status)
{
	switch (status)
	{
		case DISPATCH_ACTIVE:
			return "ACTIVE";
		case DISPATCH_SUCCEEDED:
			return "SUCCEEDED";
		case DISPATCH_FAILED:
			return "FAILED";
	}
	pg_unreachable();
}

DispatchStatus
dispatch_status_from_label(const char *label)
{
	for (DispatchStatus status = DISPATCH_ACTIVE; status <= DISPATCH_FAILED; status++)
	{
		if (strcmp(label, dispatch_status_label(status)) == 0)
			return status;
	}
	elog(ERROR, "unknown status \"%s\"", label);
}

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

void
dispatch_writer_insert(DispatchWriter *writer, const DispatchRow *row)
{
	DayTable   *table = begin_row(&writer->inserts, &dispatches_kind, row->id);
	DayRows    *rows = writer->inserts;

	day_rows_set_text(rows, DISPATCH_ID, row->id);
	day_rows_set_text(rows, DISPATCH_EVENT_ID, row->event_id);
	day_rows_set_text(rows, DISPATCH_WEBHOOK_ID, row->webhook_id);
	day_rows_set_text(rows, DISPATCH_USER_ID, row->user_id);
	day_rows_set(rows, DISPATCH_EVENT_TYPE,
				 ObjectIdGetDatum(table->event_types[row->event_type]));
	day_rows_set(rows, DISPATCH_STATUS, ObjectIdGetDatum(status_oid(row->status)));
	set_time(rows, DISPATCH_CREATED_AT, row->created_at);
	set_time(rows, DISPATCH_FINISHED_AT, row->finished_at);
	day_rows_set(rows, DISPATCH_ATTEMPTS, Int32GetDatum(row->attempts));
	set_time(rows, DISPATCH_NEXT_ATTEMPT_AT, row->next_attempt_at);
	day_rows_set_text(rows, DISPATCH_ERROR_MESSAGE, row->error_message);
	day_rows_set_text(rows, DISPATCH_ORDER_KEY, row->order_key);
	set_time(rows, DISPATCH_HOLDS_UNTIL, row->holds_until);
	if (row->epoch > 0)
		day_rows_set(rows, DISPATCH_EPOCH, Int32GetDatum(row->epoch));
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

	if (row->place == NULL)
		return ROW_ELSEWHERE;
	if (writer->changes == NULL)
		writer->changes = day_update_create(&dispatches_kind);
	changes = writer->changes;
	if (!day_update_begin_row(changes, row->place, row->id) ||
		DatumGetObjectId(day_update_value(changes, DISPATCH_STATUS)) !=
		status_oid(DISPATCH_ACTIVE))
		return ROW_ELSEWHERE;
	if (day_update_is_locked(changes))
		return ROW_LOCKED;
	day_update_set(changes, DISPATCH_STATUS,
				   ObjectIdGetDatum(status_oid(row->status)), false);
	change_time(changes, DISPATCH_FINISHED_AT, row->finished_at);
	day_update_set(changes, DISPATCH_ATTEMPTS, Int32GetDatum(row->attempts), false);
	change_time(changes, DISPATCH_NEXT_ATTEMPT_AT, row->next_attempt_at);
	day_update_set(changes, DISPATCH_ERROR_MESSAGE,
				   row->error_message ? CStringGetTextDatum(row->error_message) : (Datum) 0,
				   row->error_message == NULL);
	if (row->holds_until != 0)
		change_time(changes, DISPATCH_HOLDS_UNTIL, row->holds_until);
	if (row->is_passed)
		day_update_set(changes, DISPATCH_ORDER_KEY, (Datum) 0, true);
	return day_update_end_row(changes) ? ROW_WRITTEN : ROW_ELSEWHERE;
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
	List	   *active;
	List	   *locked = NIL;
	ListCell   *cell;

	if (a[UPDATE_ID].state == NULL)
		return NIL;
	CommandCounterIncrement();
	for (int i = 0; i < N_UPDATE; i++)
		values[i] = array_result(&a[i]);
	written = take_ids(NIL, statement_write(&update_statement, values, NULL));
	active = take_ids(NIL, statement_read(&active_statement, values, NULL, 0));
	foreach(cell, active)
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

int
dispatches_last_attempt(const char *id)
{
	Datum		value = CStringGetTextDatum(id);
	bool		isnull;
	Datum		last;

	statement_read(&last_attempt_statement, &value, NULL, 1);
	last = statement_value(0, 1, &isnull);
	return isnull ? 0 : DatumGetInt32(last);
}

void
dispatch_writer_call(DispatchWriter *writer, const CallRow *row)
{
	DayRows    *rows;
	Interval	duration = {.time = row->duration};

	(void) begin_row(&writer->calls, &calls_kind, row->dispatch_id);
	rows = writer->calls;
	day_rows_set_text(rows, CALL_DISPATCH_ID, row->dispatch_id);
	day_rows_set(rows, CALL_ATTEMPT, Int32GetDatum(row->attempt));
	set_time(rows, CALL_STARTED_AT, row->started_at);
	set_time(rows, CALL_FINISHED_AT, row->finished_at);
	if (row->response_status != 0)
		day_rows_set(rows, CALL_RESPONSE_STATUS, Int32GetDatum(row->response_status));
	day_rows_set_text(rows, CALL_RESPONSE_BODY, row->response_body);
	day_rows_set_text(rows, CALL_ERROR_MESSAGE, row->error_message);
	day_rows_set_text(rows, CALL_URL, row->url);
	day_rows_set(rows, CALL_DURATION, IntervalPGetDatum(&duration));
	if (row->address[0] != '\0')
		day_rows_set_text(rows, CALL_ADDRESS, row->address);
	day_rows_end_row(rows, row->response_body ? strlen(row->response_body) : 0,
					 NULL);
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

void
dispatches_last_id(Id id)
{
	id[0] = '\0';
	if (statement_read(&last_id_statement, NULL, NULL, 1) > 0)
		strlcpy(id, statement_text(0, 1), sizeof(Id));
}

bool
dispatches_any_waits_below(const char *id)
{
	Datum		value = CStringGetTextDatum(id);

	return statement_read(&waits_below_statement, &value, NULL, 1) > 0;
}

uint64
dispatches_find_existing(Datum ids)
{
	return statement_read(&existing_statement, &ids, NULL, 0);
}

int
dispatches_copy_due_rows(uint64 count, DueRow **rows)
{
	bool		isnull;

	*rows = palloc(sizeof(DueRow) * (count + 1));
	for (uint64 i = 0; i < count; i++)
	{
		DueRow	   *row = &(*rows)[i];
		char	   *type = statement_text(i, 4);

		row->id = statement_text(i, 1);
		row->event_id = statement_text(i, 2);
		row->webhook_id = statement_text(i, 3);
		if (!event_type_from_label(type, &row->event_type))
			elog(ERROR, "unknown event type \"%s\"", type);
		row->attempts = DatumGetInt32(statement_value(i, 5, &isnull));
		row->next_attempt_at =
			DatumGetTimestampTz(statement_value(i, 6, &row->is_replay));
		row->is_new = DatumGetBool(statement_value(i, 7, &isnull));
		row->place.table = DatumGetObjectId(statement_value(i, 8, &isnull));
		row->place.tid = *(ItemPointer) DatumGetPointer(statement_value(i, 9, &isnull));
		row->order_key = statement_text(i, 10);
		row->holds_until = DatumGetTimestampTz(statement_value(i, 11, &isnull));
		if (isnull)
			row->holds_until = 0;
		row->epoch = DatumGetInt32(statement_value(i, 12, &isnull));
		if (isnull)
			row->epoch = 0;
	}
	return (int) count;
}

int
dispatches_find_due(const DuePosition *position, TimestampTz until, int limit,
					DueRow **rows)
{
	Datum		values[] = {
		TimestampTzGetDatum(position->time),
		CStringGetTextDatum(position->id),
		TimestampTzGetDatum(until),
		Int32GetDatum(limit)
	};

	return dispatches_copy_due_rows(statement_read(&due_statement, values, NULL, 0), rows);
}

int
dispatches_find_due_of(const char *webhook_id, const DuePosition *position,
					   TimestampTz until, int limit, DueRow **rows)
{
	Datum		values[] = {
		TimestampTzGetDatum(position->time),
		CStringGetTextDatum(position->id),
		TimestampTzGetDatum(until),
		Int32GetDatum(limit),
		CStringGetTextDatum(webhook_id)
	};

	return dispatches_copy_due_rows(statement_read(&due_of_statement, values, NULL, 0),
									rows);
}

bool
dispatches_next_due(const DuePosition *position, TimestampTz *time)
{
	bool		isnull;
	Datum		values[] = {
		TimestampTzGetDatum(position->time),
		CStringGetTextDatum(position->id)
	};

	if (statement_read(&next_due_statement, values, NULL, 1) == 0)
		return false;
	*time = DatumGetTimestampTz(statement_value(0, 1, &isnull));
	return true;
}

int
dispatches_find_replays_of(const char *webhook_id, const char *position,
						   int limit, DueRow **rows)
{
	Datum		values[] = {
		CStringGetTextDatum(webhook_id),
		CStringGetTextDatum(position),
		Int32GetDatum(limit)
	};

	return dispatches_copy_due_rows(statement_read(&replays_of_statement, values, NULL, 0),
									rows);
}

int
dispatches_find_webhooks(const char *after, int limit, WaitingWebhook **webhooks)
{
	Datum		values[] = {CStringGetTextDatum(after), Int32GetDatum(limit)};
	uint64		count = statement_read(&webhooks_statement, values, NULL, 0);
	bool		isnull;

	*webhooks = palloc(sizeof(WaitingWebhook) * (count + 1));
	for (uint64 i = 0; i < count; i++)
	{
		WaitingWebhook *webhook = &(*webhooks)[i];

		webhook->id = statement_text(i, 1);
		webhook->first_due_at = DatumGetTimestampTz(statement_value(i, 2, &isnull));
		webhook->has_replays = DatumGetBool(statement_value(i, 3, &isnull));
	}
	return (int) count;
}

int
dispatches_find_waiting_of(const char *webhook_id, int epoch, bool with_tests,
						   int limit, DueRow **rows)
{
	Datum		values[] = {
		CStringGetTextDatum(webhook_id),
		BoolGetDatum(with_tests),
		Int32GetDatum(limit),
		Int32GetDatum(epoch)
	};

	return dispatches_copy_due_rows(statement_read(&waiting_of_statement, values, NULL, 0),
									rows);
}
