/*-------------------------------------------------------------------------
 *
 * dispatch_rows.c
 *	  Rows of the table dispatches, read when they are due.
 *
 * Plans are made while tables are small, when every index is as good as another,
 * and then kept.  So conditions and orders are written such that there is but one
 * index that fits.
 *
 * IDENTIFICATION
 *	  src/store/dispatch_rows.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/dispatch_rows.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

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

		row->id = statement_text(i, 1);
		row->event_id = statement_text(i, 2);
		row->webhook_id = statement_text(i, 3);
		row->event_type = event_type_from_label(statement_text(i, 4));
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
