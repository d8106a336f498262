/*-------------------------------------------------------------------------
 *
 * webhook_insert.h
 *	  Adding rows to the table of webhooks, several without a statement for each.
 *
 * IDENTIFICATION
 *	  src/store/webhook_insert.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WEBHOOK_INSERT_H
#define WEBHOOK_WEBHOOK_INSERT_H

#include "executor/tuptable.h"

/* Insertions under way. */
typedef struct WebhookInsert WebhookInsert;

/*
 * Opens the table, in CurrentMemoryContext.  webhook_insert_end() lets go of it; an
 * error does so by itself.  Raises an error if the table is not there.
 */
extern WebhookInsert *webhook_insert_begin(void);
extern void webhook_insert_end(WebhookInsert *insert);

/*
 * Adds a row, of which all columns are given, as INSERT does: with triggers and
 * constraints; the next command sees it.  The columns become those that the row has
 * then; they are valid until the next row or the end.
 */
extern void webhook_insert_row(WebhookInsert *insert, Datum *values, bool *nulls);

#endif							/* WEBHOOK_WEBHOOK_INSERT_H */
