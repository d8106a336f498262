/*-------------------------------------------------------------------------
 *
 * day_update.h
 *	  Changing rows of a table that is partitioned by day, where they lie.
 *
 * Who has read or written a row knows its place, and needs no index to find it
 * again.  No trigger is called.
 *
 * IDENTIFICATION
 *	  src/store/day_update.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DAY_UPDATE_H
#define WEBHOOK_DAY_UPDATE_H

#include "store/day_table.h"

/* Changes under way. */
typedef struct DayUpdate DayUpdate;

/* None yet; for columns of this kind, the first of which is a text and the key. */
extern DayUpdate *day_update_create(const DayKind *kind);

/*
 * Starts a new version of the row with this key, a copy of the one at this
 * place; the place may be that of another row meanwhile, or of none.  Returns
 * false if the row is not there, as the transaction's snapshot has it.
 */
extern bool day_update_begin_row(DayUpdate *update, const RowPlace *place,
								 const char *key);

/* Is somebody else about to change that row, or to keep it from being changed? */
extern bool day_update_is_locked(const DayUpdate *update);

/* A column of the row as it is, and as it shall be. */
extern bool day_update_is_null(const DayUpdate *update, int column);
extern Datum day_update_value(const DayUpdate *update, int column);
extern void day_update_set(DayUpdate *update, int column, Datum value, bool isnull);

/*
 * Writes the new version, which lies at *place then, unless that is NULL.  Returns false,
 * with nothing written, if somebody else has changed the row.
 */
extern bool day_update_end_row(DayUpdate *update, RowPlace *place);

/* Lets go of all; tables stay locked for the rest of the transaction. */
extern void day_update_finish(DayUpdate *update);

#endif							/* WEBHOOK_DAY_UPDATE_H */
