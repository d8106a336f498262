/*-------------------------------------------------------------------------
 *
 * draft.h
 *	  Rows of the table webhooks that are being made.
 *
 * IDENTIFICATION
 *	  src/sql/draft.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DRAFT_H
#define WEBHOOK_DRAFT_H

#include "access/tupdesc.h"
#include "store/webhook_columns.h"

/* A row of the table webhooks that is not in it yet, in CurrentMemoryContext. */
typedef struct Draft
{
	TupleDesc	desc;			/* pinned until draft_close() */
	Datum	   *values;
	bool	   *nulls;
} Draft;

/* One without any value, and one with those of a row. */
extern Draft draft_create(void);
extern Draft draft_from_row(Datum row);

/* Gives it the values of another row. */
extern void draft_set_row(Draft *draft, Datum row);

/* The row that it makes, in CurrentMemoryContext. */
extern Datum draft_row(const Draft *draft);

/* Lets go of what is pinned; an error does so by itself. */
extern void draft_close(Draft *draft);

/*
 * A column's value; a flag's, where NULL is false; and another value, which is not copied
 * and has to live as long as the draft.
 */
extern bool draft_is_null(const Draft *draft, WebhookColumn column);
extern Datum draft_value(const Draft *draft, WebhookColumn column);
extern bool draft_flag(const Draft *draft, WebhookColumn column);
extern void draft_set(Draft *draft, WebhookColumn column, Datum value);
extern void draft_set_null(Draft *draft, WebhookColumn column);

#endif							/* WEBHOOK_DRAFT_H */
