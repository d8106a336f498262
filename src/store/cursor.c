/*-------------------------------------------------------------------------
 *
 * cursor.c
 *	  Reading the outbox: every committed event once, whatever the order in
 *	  which transactions commit.
 *
 * The events of a window (from, to] are those of transactions that "from" did
 * not see and "to" does.  Their ids are either among those in progress in
 * "from" (the late ones, few) or at least its xmax, so both parts are found
 * through the index on (xid, id) without a look at what was read before.
 *
 * IDENTIFICATION
 *	  src/store/cursor.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "store/cursor.h"
#include "store/floors.h"
#include "store/outbox_rows.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* So many cursors are kept behind the newest, for whoever looks. */
#define CURSORS_KEPT 100

struct CursorMark
{
	struct varlena *window_from;	/* pg_snapshot; NULL: nothing was seen */
	struct varlena *window_to;
	bool		at_end;			/* the whole window is done, or else ... */
	uint64		xid;			/* ... all up to here */
	Id			id;
};

/* The window that is open, or the last one if at_end. */
static CursorMark *current = NULL;
static uint64 *late = NULL;		/* late transactions, in order */
static int	nlate;
static int	nrows_read;			/* by the last read */
static int	nopened;			/* windows since the reset */

static int64 last_number;		/* of the newest row of cursors */
static int64 pruned_before;

static Statement newest_statement = {
	"SELECT number, window_from, window_to, position_xid, position_id"
	" FROM webhook_events_internal.cursors ORDER BY number DESC LIMIT 1",
	0, {0}, NULL
};

static Statement snapshot_statement = {
	"SELECT pg_current_snapshot()", 0, {0}, NULL
};

static Statement late_statement = {
	"SELECT xid FROM pg_snapshot_xip($1) AS xid"
	" WHERE pg_visible_in_snapshot(xid, $2) ORDER BY xid",
	2, {PG_SNAPSHOTOID, PG_SNAPSHOTOID}, NULL
};

/*
 * A nested loop, so that the order is that of the array.  With "xid =" the index
 * on id would fit as well, and read a whole day.  The row comparison is where the
 * index scan starts: at the late transaction, not at the oldest of the day.
 */
static Statement late_events_statement = {
	"SELECT o.* FROM unnest($1) AS late (xid) CROSS JOIN LATERAL ("
	" SELECT " OUTBOX_COLUMNS " FROM webhook_events_internal.outbox AS o"
	" WHERE (o.xid, o.id) > (late.xid, CASE WHEN late.xid = $2 THEN $3 ELSE '' END)"
	" AND o.xid <= late.xid AND o.id >= $4"
	" ORDER BY o.xid, o.id LIMIT $5) AS o LIMIT $5",
	5, {XID8ARRAYOID, XID8OID, TEXTOID, TEXTOID, INT4OID}, NULL
};

/*
 * What was committed since the window was opened lies behind its end, $6: a call in
 * place of that value would be looked up anew for each table of a day.
 */
static Statement events_statement = {
	"SELECT " OUTBOX_COLUMNS " FROM webhook_events_internal.outbox AS o"
	" WHERE (o.xid, o.id) > ($1, $2) AND o.id >= $3"
	" AND o.xid < $6 AND pg_visible_in_snapshot(o.xid, $4)"
	" ORDER BY o.xid, o.id LIMIT $5",
	6, {XID8OID, TEXTOID, TEXTOID, PG_SNAPSHOTOID, INT4OID, XID8OID}, NULL
};

static Statement next_xid_statement = {
	"SELECT o.xid FROM webhook_events_internal.outbox AS o"
	" WHERE (o.xid, o.id) > ($1, '~') AND o.id >= $2"
	" AND o.xid < pg_snapshot_xmax($3) AND pg_visible_in_snapshot(o.xid, $3)"
	" ORDER BY o.xid, o.id LIMIT 1",
	3, {XID8OID, TEXTOID, PG_SNAPSHOTOID}, NULL
};

static Statement write_statement = {
	"INSERT INTO webhook_events_internal.cursors"
	" (number, window_from, window_to, position_xid, position_id)"
	" VALUES ($1, $2, $3, $4, $5)",
	5, {INT8OID, PG_SNAPSHOTOID, PG_SNAPSHOTOID, XID8OID, TEXTOID}, NULL
};

static Statement prune_statement = {
	"DELETE FROM webhook_events_internal.cursors WHERE number >= $1 AND number < $2",
	2, {INT8OID, INT8OID}, NULL
};

static struct varlena *
copy_snapshot(const struct varlena *snapshot)
{
	struct varlena *copy;

	if (snapshot == NULL)
		return NULL;
	copy = MemoryContextAlloc(TopMemoryContext, VARSIZE_ANY(snapshot));
	memcpy(copy, snapshot, VARSIZE_ANY(snapshot));
	return copy;
}

static struct varlena *
snapshot_value(int column)
{
	bool		isnull;
	Datum		value = statement_value(0, column, &isnull);

	return isnull ? NULL : copy_snapshot(PG_DETOAST_DATUM(value));
}

static CursorMark *
make_mark(const CursorMark *from)
{
	CursorMark *mark = MemoryContextAlloc(TopMemoryContext, sizeof(CursorMark));

	*mark = *from;
	mark->window_from = copy_snapshot(from->window_from);
	mark->window_to = copy_snapshot(from->window_to);
	return mark;
}

void
cursor_mark_free(CursorMark *mark)
{
	if (mark == NULL)
		return;
	if (mark->window_from)
		pfree(mark->window_from);
	if (mark->window_to)
		pfree(mark->window_to);
	pfree(mark);
}

static uint64
snapshot_xmin(struct varlena *snapshot)
{
	return datum_xid(DirectFunctionCall1(pg_snapshot_xmin,
										 PointerGetDatum(snapshot)));
}

static uint64
snapshot_xmax(struct varlena *snapshot)
{
	return datum_xid(DirectFunctionCall1(pg_snapshot_xmax,
										 PointerGetDatum(snapshot)));
}

static Datum
xid_datum(uint64 xid)
{
	return FullTransactionIdGetDatum(FullTransactionIdFromU64(xid));
}

void
cursor_reset(void)
{
	cursor_mark_free(current);
	current = NULL;
	if (late)
		pfree(late);
	late = NULL;
	nlate = 0;
	floors_forget();
	nopened = 0;
}

/* Lists the transactions that commit late in the open window. */
static void
find_late(void)
{
	Datum		values[2];
	bool		isnull;

	nlate = 0;
	if (current->window_from == NULL ||
		snapshot_xmin(current->window_from) == snapshot_xmax(current->window_from))
		return;
	values[0] = PointerGetDatum(current->window_from);
	values[1] = PointerGetDatum(current->window_to);
	nlate = (int) statement_read(&late_statement, values, NULL, 0);
	if (nlate == 0)
		return;
	if (late)
		pfree(late);
	late = NULL;
	late = MemoryContextAlloc(TopMemoryContext, nlate * sizeof(uint64));
	for (int i = 0; i < nlate; i++)
		late[i] = datum_xid(statement_value(i, 1, &isnull));
}

/* Starts at the last mark that was written. */
static void
load_newest(void)
{
	CursorMark	mark = {.at_end = true};

	last_number = 0;
	pruned_before = 0;
	if (statement_read(&newest_statement, NULL, NULL, 1) > 0)
	{
		bool		isnull;
		Datum		xid;
		char	   *id;

		last_number = DatumGetInt64(statement_value(0, 1, &isnull));
		mark.window_from = snapshot_value(2);
		mark.window_to = snapshot_value(3);
		xid = statement_value(0, 4, &isnull);
		mark.at_end = isnull;
		if (!isnull)
			mark.xid = datum_xid(xid);
		id = statement_text(0, 5);
		strlcpy(mark.id, id ? id : "", sizeof(Id));
	}
	current = MemoryContextAlloc(TopMemoryContext, sizeof(CursorMark));
	*current = mark;
	if (!mark.at_end)
		find_late();
}

/* Opens the window from the end of the last one to now. */
static bool
open_window(void)
{
	struct varlena *now;

	nopened++;
	floors_put();
	statement_read(&snapshot_statement, NULL, NULL, 1);
	now = snapshot_value(1);
	if (current->window_to != NULL &&
		datumIsEqual(PointerGetDatum(now), PointerGetDatum(current->window_to),
					 false, -1))
	{
		pfree(now);
		return false;
	}
	if (current->window_from)
		pfree(current->window_from);
	current->window_from = current->window_to;
	current->window_to = now;
	current->at_end = false;
	current->xid = 0;
	current->id[0] = '\0';
	find_late();
	return true;
}

bool
cursor_has_caught_up(void)
{
	return nopened > 1 || (nopened == 1 && current->at_end);
}

int
cursor_windows(void)
{
	return nopened;
}

bool
cursor_window_is_done(void)
{
	return current->at_end;
}

/* Then no transaction has an id that the last window did not see the end of. */
bool
cursor_is_at_end(void)
{
	uint64		xmax;

	if (current == NULL || !current->at_end || current->window_to == NULL)
		return false;
	xmax = snapshot_xmax(current->window_to);
	return snapshot_xmin(current->window_to) == xmax &&
		U64FromFullTransactionId(ReadNextFullTransactionId()) == xmax;
}

/* Takes the rows of the last statement until they are too many bytes. */
static int
take_events(MemoryContext context, uint64 nrows, size_t max_bytes,
			Event **events)
{
	size_t		bytes = 0;
	int			count = 0;

	while (count < (int) nrows && bytes < max_bytes)
	{
		events[count] = outbox_row_event(context, count);
		bytes += outbox_bytes_read(events[count++]);
	}
	return count;
}

/* Runs the statement for late transactions from the current place on. */
static uint64
read_late(int limit, const char *least_id)
{
	ArrayParameter xids = {XID8OID, NULL};
	Datum		values[5];

	for (int i = 0; i < nlate; i++)
	{
		if (late[i] >= current->xid)
			array_add(&xids, xid_datum(late[i]), false);
	}
	if (xids.state == NULL)
		return 0;
	values[0] = array_result(&xids);
	values[1] = xid_datum(current->xid);
	values[2] = CStringGetTextDatum(current->id);
	values[3] = CStringGetTextDatum(least_id);
	values[4] = Int32GetDatum(limit);
	return statement_read(&late_events_statement, values, NULL, 0);
}

/* Runs the statement for the others. */
static uint64
read_new(int limit, const char *least_id)
{
	uint64		xmax = current->window_from ?
	snapshot_xmax(current->window_from) : 0;
	Datum		values[6];

	values[0] = xid_datum(Max(current->xid, xmax));
	values[1] = CStringGetTextDatum(current->xid >= xmax ? current->id : "");
	values[2] = CStringGetTextDatum(least_id);
	values[3] = PointerGetDatum(current->window_to);
	values[4] = Int32GetDatum(limit);
	values[5] = xid_datum(snapshot_xmax(current->window_to));
	return statement_read(&events_statement, values, NULL, 0);
}

/* Reads rows of the open window; none means that it is done. */
static uint64
read_window(int limit)
{
	Id			least_id;
	uint64		nrows;

	least_id[0] = '\0';
	if (current->window_from != NULL)
		floors_least_id(snapshot_xmin(current->window_from), least_id);
	nrows = read_late(limit, least_id);
	if (nrows == 0)
	{
		nrows = read_new(limit, least_id);
		current->at_end = (nrows < (uint64) limit);
	}
	return nrows;
}

/* Reads rows of the open window, or of the next one. */
static uint64
read_rows(int limit)
{
	uint64		nrows = 0;

	if (current == NULL)
		load_newest();
	if (!current->at_end)
		nrows = read_window(limit);
	if (nrows == 0 && open_window())
		nrows = read_window(limit);
	nrows_read = (int) nrows;
	return nrows;
}

int
cursor_read(MemoryContext context, int limit, size_t max_bytes,
			Event **events)
{
	return take_events(context, read_rows(limit), max_bytes, events);
}

uint64
cursor_next_xid(void)
{
	Id			least_id;
	Datum		values[3];
	bool		isnull;

	if (current->window_from != NULL &&
		current->xid < snapshot_xmax(current->window_from))
		return 0;
	least_id[0] = '\0';
	if (current->window_from != NULL)
		floors_least_id(snapshot_xmin(current->window_from), least_id);
	values[0] = xid_datum(current->xid);
	values[1] = CStringGetTextDatum(least_id);
	values[2] = PointerGetDatum(current->window_to);
	if (statement_read(&next_xid_statement, values, NULL, 1) == 0)
		return PG_UINT64_MAX;
	return datum_xid(statement_value(0, 1, &isnull));
}

/* Moves on behind an event; "count" rows of those that were read are done then. */
static CursorMark *
move_behind(uint64 xid, const char *id, int count)
{
	if (count < nrows_read)
		current->at_end = false;
	current->xid = xid;
	strlcpy(current->id, id, sizeof(Id));
	return make_mark(current);
}

CursorMark *
cursor_take(Event **events, int count)
{
	const Event *last = events[count - 1];

	return move_behind(last->xid, last->id, count);
}

CursorMark *
cursor_skip(Id id)
{
	if (read_rows(1) == 0)
		return NULL;
	outbox_row_id(0, id);
	return move_behind(outbox_row_xid(0), id, 1);
}

void
cursor_write(const CursorMark *mark)
{
	Datum		values[5] = {0};
	bool		nulls[5] = {false};

	values[0] = Int64GetDatum(++last_number);
	values[1] = PointerGetDatum(mark->window_from);
	nulls[1] = (mark->window_from == NULL);
	values[2] = PointerGetDatum(mark->window_to);
	values[3] = xid_datum(mark->xid);
	values[4] = CStringGetTextDatum(mark->id);
	nulls[3] = nulls[4] = mark->at_end;
	statement_write(&write_statement, values, nulls);

	/* Only numbers not looked at before, so no dead row is met again. */
	if (last_number - pruned_before >= 2 * CURSORS_KEPT)
	{
		values[0] = Int64GetDatum(pruned_before);
		values[1] = Int64GetDatum(last_number - CURSORS_KEPT);
		statement_write(&prune_statement, values, NULL);
		pruned_before = last_number - CURSORS_KEPT;
	}
}
