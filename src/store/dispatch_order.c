/*-------------------------------------------------------------------------
 *
 * dispatch_order.c
 *	  Waiting dispatches that go out in order.
 *
 * IDENTIFICATION
 *	  src/store/dispatch_order.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/dispatch_order.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * All conditions compare whole rows from the left, and the index starts with what no
 * other one has, so that none else fits; what is behind a lane is left out by the
 * second comparison.
 */
#define IN_LANES "FROM webhook_events_internal.dispatches AS d" \
	" WHERE d.order_key IS NOT NULL AND d.status = 'ACTIVE'"

static Statement first_statement = {
	"SELECT f.* FROM unnest($1, $2, $3, $4)"
	" WITH ORDINALITY AS l (webhook_id, order_key, event_id, id, number)"
	" CROSS JOIN LATERAL (" DUE_COLUMNS IN_LANES
	" AND (d.order_key, d.webhook_id, d.event_id, d.id)"
	" > (l.order_key, l.webhook_id, l.event_id, l.id)"
	" AND (d.order_key, d.webhook_id) <= (l.order_key, l.webhook_id)"
	" ORDER BY d.order_key, d.webhook_id, d.event_id, d.id LIMIT $5) AS f"
	" ORDER BY l.number, f.event_id, f.id",
	5, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4OID}, NULL
};

/* A value, since EXISTS could become a join that reads all lanes. */
static Statement any_statement = {
	"SELECT " IN_LANES " AND d.order_key >= '' ORDER BY d.order_key LIMIT 1",
	0, {0}, NULL
};

/* Steps from one lane to the next, so that the cost follows their number. */
static Statement next_statement = {
	"WITH RECURSIVE lane (webhook_id, order_key) AS ("
	" (SELECT d.webhook_id, d.order_key " IN_LANES
	" AND (d.order_key, d.webhook_id) > ($2, $1)"
	" ORDER BY d.order_key, d.webhook_id LIMIT 1)"
	" UNION ALL"
	" SELECT n.webhook_id, n.order_key FROM lane CROSS JOIN LATERAL ("
	"SELECT d.webhook_id, d.order_key " IN_LANES
	" AND (d.order_key, d.webhook_id) > (lane.order_key, lane.webhook_id)"
	" ORDER BY d.order_key, d.webhook_id LIMIT 1) AS n)"
	" SELECT webhook_id, order_key FROM lane LIMIT $3",
	3, {TEXTOID, TEXTOID, INT4OID}, NULL
};

static Statement overdue_statement = {
	DUE_COLUMNS IN_LANES " AND d.holds_until <= $1"
	" ORDER BY d.holds_until, d.id LIMIT $2",
	2, {TIMESTAMPTZOID, INT4OID}, NULL
};

static Statement next_overdue_statement = {
	"SELECT d.holds_until " IN_LANES " AND d.holds_until > $1"
	" ORDER BY d.holds_until, d.id LIMIT 1",
	1, {TIMESTAMPTZOID}, NULL
};

/* Found by id: "status" would make other indexes fit. */
static Statement let_pass_statement = {
	"UPDATE webhook_events_internal.dispatches AS d SET order_key = NULL"
	" WHERE d.id = ANY ($1) AND d.id >= $2 AND d.id <= $3"
	" AND d.finished_at IS NULL",
	3, {TEXTARRAYOID, TEXTOID, TEXTOID}, NULL
};

void
lane_list_init(LaneList *list)
{
	const LaneList empty = {
		.webhook_ids = {TEXTOID, NULL},
		.order_keys = {TEXTOID, NULL},
		.event_ids = {TEXTOID, NULL},
		.ids = {TEXTOID, NULL}
	};

	*list = empty;
}

void
lane_list_add(LaneList *list, const char *webhook_id, const char *order_key,
			  const char *event_id, const char *id)
{
	list->count++;
	array_add_text(&list->webhook_ids, webhook_id);
	array_add_text(&list->order_keys, order_key);
	array_add_text(&list->event_ids, event_id);
	array_add_text(&list->ids, id);
}

int
lanes_find_first(LaneList *list, int limit, DueRow **rows)
{
	Datum		values[5];

	values[0] = array_result(&list->webhook_ids);
	values[1] = array_result(&list->order_keys);
	values[2] = array_result(&list->event_ids);
	values[3] = array_result(&list->ids);
	values[4] = Int32GetDatum(limit);
	return dispatches_copy_due_rows(statement_read(&first_statement, values, NULL, 0),
									rows);
}

bool
lanes_exist(void)
{
	return statement_read(&any_statement, NULL, NULL, 1) > 0;
}

int
lanes_find_next(Id webhook_id, char **order_key, int limit, LaneList *list)
{
	Datum		values[] = {
		CStringGetTextDatum(webhook_id),
		CStringGetTextDatum(*order_key),
		Int32GetDatum(limit)
	};
	uint64		count = statement_read(&next_statement, values, NULL, 0);

	for (uint64 i = 0; i < count; i++)
	{
		strlcpy(webhook_id, statement_text(i, 1), sizeof(Id));
		*order_key = statement_text(i, 2);
		lane_list_add(list, webhook_id, *order_key, "", "");
	}
	return (int) count;
}

int
lanes_find_overdue(TimestampTz until, int limit, DueRow **rows)
{
	Datum		values[] = {TimestampTzGetDatum(until), Int32GetDatum(limit)};

	return dispatches_copy_due_rows(statement_read(&overdue_statement, values, NULL, 0),
									rows);
}

TimestampTz
lanes_next_overdue(TimestampTz after)
{
	Datum		value = TimestampTzGetDatum(after);
	bool		isnull;

	if (statement_read(&next_overdue_statement, &value, NULL, 1) == 0)
		return DT_NOEND;
	return DatumGetTimestampTz(statement_value(0, 1, &isnull));
}

void
lanes_let_pass(Datum ids, const char *least, const char *greatest)
{
	Datum		values[] = {
		ids, CStringGetTextDatum(least), CStringGetTextDatum(greatest)
	};

	statement_write(&let_pass_statement, values, NULL);
}
