/*-------------------------------------------------------------------------
 *
 * outbox_rows.c
 *	  Events back from the outbox.
 *
 * IDENTIFICATION
 *	  src/store/outbox_rows.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "store/outbox_rows.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

enum
{
	EVENT_ID = 1,
	EVENT_CREATED_AT,
	EVENT_XID,
	EVENT_EVENT_TYPE,
	EVENT_USER_ID,
	EVENT_ACTOR_ID,
	EVENT_ACTOR_TASK_ID,
	EVENT_ACTOR_RUN_ID,
	EVENT_ACTOR_BUILD_ID,
	EVENT_WEBHOOK_ID,
	EVENT_RESOURCE,
	EVENT_HAS_PROBLEM,
	EVENT_NEXT_XID
};

/* The array tells the planner of no partition to be left out, the bounds do. */
static Statement find_statement = {
	"SELECT " OUTBOX_COLUMNS " FROM webhook_events_internal.outbox AS o"
	" WHERE o.id = ANY ($1) AND o.id >= $2 AND o.id <= $3",
	3, {TEXTARRAYOID, TEXTOID, TEXTOID}, NULL
};

static Statement resource_statement = {
	"SELECT resource FROM webhook_events_internal.outbox WHERE id = $1",
	1, {TEXTOID}, NULL
};

/*
 * Of an id that is none of ours, and longer, we take what sorts behind it, so that
 * it is not read for ever.
 */
void
outbox_row_id(uint64 row, Id id)
{
	if (strlcpy(id, statement_text(row, EVENT_ID), sizeof(Id)) >= sizeof(Id))
		id[ID_LENGTH - 1] = '~';
}

uint64
outbox_row_xid(uint64 row)
{
	bool		isnull;

	return datum_xid(statement_value(row, EVENT_XID, &isnull));
}

Event *
outbox_row_event(MemoryContext context, uint64 row)
{
	MemoryContext old_context = MemoryContextSwitchTo(context);
	Event	   *event = palloc0(sizeof(Event));
	Datum		next_xid;
	Datum		resource;
	bool		isnull;

	outbox_row_id(row, event->id);
	event->created_at =
		DatumGetTimestampTz(statement_value(row, EVENT_CREATED_AT, &isnull));
	event->xid = outbox_row_xid(row);
	next_xid = statement_value(row, EVENT_NEXT_XID, &isnull);
	event->next_xid = isnull ? 0 : datum_xid(next_xid);
	event->type = event_type_from_label(statement_text(row, EVENT_EVENT_TYPE));
	event->user_id = statement_text(row, EVENT_USER_ID);
	event->actor_id = statement_text(row, EVENT_ACTOR_ID);
	event->actor_task_id = statement_text(row, EVENT_ACTOR_TASK_ID);
	event->actor_run_id = statement_text(row, EVENT_ACTOR_RUN_ID);
	event->actor_build_id = statement_text(row, EVENT_ACTOR_BUILD_ID);
	event->webhook_id = statement_text(row, EVENT_WEBHOOK_ID);
	resource = statement_value(row, EVENT_RESOURCE, &isnull);
	if (!isnull)
		event->resource_length = toast_raw_datum_size(resource) - VARHDRSZ;
	if (event->resource_length <= OUTBOX_LONG_RESOURCE)
		event->resource = statement_long_text(row, EVENT_RESOURCE, &event->resource_length);
	event->has_problem =
		DatumGetBool(statement_value(row, EVENT_HAS_PROBLEM, &isnull));
	MemoryContextSwitchTo(old_context);
	return event;
}

bool
outbox_read_resource(MemoryContext context, Event *event)
{
	Datum		id = CStringGetTextDatum(event->id);
	MemoryContext old_context;

	if (statement_read(&resource_statement, &id, NULL, 1) == 0)
		return false;
	old_context = MemoryContextSwitchTo(context);
	event->resource = statement_long_text(0, 1, &event->resource_length);
	MemoryContextSwitchTo(old_context);
	return true;
}

bool
outbox_read_more(const char *id, LongText *resource, size_t budget, bool *is_all)
{
	Datum		parameter = CStringGetTextDatum(id);
	Datum		value;
	bool		isnull;

	if (statement_read(&resource_statement, &parameter, NULL, 1) == 0)
		return false;
	value = statement_value(0, 1, &isnull);
	if (isnull)
		long_text_start(resource, resource->context);
	*is_all = isnull ||
		long_text_read(resource, (struct varlena *) DatumGetPointer(value), budget);
	return true;
}

/* A row of the last statement, by the id in it. */
typedef struct FoundRow
{
	char	   *id;
	uint64		row;
} FoundRow;

static int
compare_found(const void *a, const void *b)
{
	return strcmp(((const FoundRow *) a)->id, ((const FoundRow *) b)->id);
}

int
outbox_find(MemoryContext context, const char **ids, int nids,
			size_t max_bytes, Event **events)
{
	ArrayParameter wanted = {TEXTOID, NULL};
	const char *least = ids[0];
	const char *greatest = ids[0];
	Datum		values[3];
	uint64		nrows;
	FoundRow   *rows;
	size_t		bytes = 0;
	int			count = 0;

	for (int i = 0; i < nids; i++)
	{
		array_add_text(&wanted, ids[i]);
		if (strcmp(ids[i], least) < 0)
			least = ids[i];
		if (strcmp(ids[i], greatest) > 0)
			greatest = ids[i];
	}
	values[0] = array_result(&wanted);
	values[1] = CStringGetTextDatum(least);
	values[2] = CStringGetTextDatum(greatest);
	nrows = statement_read(&find_statement, values, NULL, 0);
	rows = palloc(sizeof(FoundRow) * (nrows + 1));
	for (uint64 row = 0; row < nrows; row++)
	{
		rows[row].id = statement_text(row, EVENT_ID);
		rows[row].row = row;
	}
	qsort(rows, nrows, sizeof(FoundRow), compare_found);

	while (count < nids && bytes < max_bytes)
	{
		FoundRow	key = {unconstify(char *, ids[count]), 0};
		FoundRow   *found = bsearch(&key, rows, nrows, sizeof(FoundRow),
									compare_found);

		events[count] = found ? outbox_row_event(context, found->row) : NULL;
		bytes += found ? outbox_bytes_read(events[count]) : 0;
		count++;
	}
	return count;
}
