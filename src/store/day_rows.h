/*-------------------------------------------------------------------------
 *
 * day_rows.h
 *	  Adding many rows to a table that is partitioned by day.
 *
 * Rows go straight into the table of their day and from there into that table's
 * indexes, many at a time: tables are opened once and not for each row, and a
 * page is logged once.  No trigger is called.
 *
 * IDENTIFICATION
 *	  src/store/day_rows.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DAY_ROWS_H
#define WEBHOOK_DAY_ROWS_H

#include "store/day_table.h"

/* Rows that are to be inserted. */
typedef struct DayRows DayRows;

/*
 * None yet.  They live until day_rows_finish() or the end of the subtransaction,
 * which forgets them.
 */
extern DayRows *day_rows_create(const DayKind *kind);

/*
 * Starts a row of this day, DT_NOBEGIN for none, with NULL in all columns, and
 * returns its table; sets columns, which count as in the kind, a text that is
 * NULL leaving it so; and ends it, when it is copied.  "bytes" is about what it
 * weighs if that is much; "place", unless it is NULL, is set when the row is
 * inserted, at the latest by day_rows_finish().  Raises what opening tables and
 * writing rows raises.
 */
extern DayTable *day_rows_begin_row(DayRows *rows, TimestampTz time);
extern void day_rows_set(DayRows *rows, int column, Datum value);
extern void day_rows_set_text(DayRows *rows, int column, const char *text);
extern void day_rows_end_row(DayRows *rows, size_t bytes, RowPlace *place);

/* Inserts what is left, and frees them. */
extern void day_rows_finish(DayRows *rows);

#endif							/* WEBHOOK_DAY_ROWS_H */
