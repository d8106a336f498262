/*-------------------------------------------------------------------------
 *
 * webhooks.h
 *	  The table of webhooks: from a row to a compiled Webhook.
 *
 * IDENTIFICATION
 *	  src/store/webhooks.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WEBHOOKS_H
#define WEBHOOK_WEBHOOKS_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "rules/webhook.h"

/*
 * Reads of a row of the table webhooks what webhook_match() looks at, in
 * CurrentMemoryContext.  The rest of the Webhook is not set.
 */
extern Webhook *webhook_condition_from_row(HeapTuple row, TupleDesc desc);

/*
 * Reads a row of the table webhooks (its columns are found by name) and
 * compiles its templates, everything in CurrentMemoryContext.  Raises
 * ERRCODE_INVALID_PARAMETER_VALUE or ERRCODE_INVALID_TEXT_REPRESENTATION for
 * a value that no webhook may have, naming it and the limit.  This is the
 * check that every new or changed row has to pass, and what the worker uses.
 */
extern Webhook *webhook_from_row(HeapTuple row, TupleDesc desc);

/*
 * The same, but leaves templates out, and says so, if they have more bytes than
 * that together; and what adds them to such a webhook, in CurrentMemoryContext.
 */
extern Webhook *webhook_from_row_without(HeapTuple row, TupleDesc desc,
										 size_t max_templates);
extern void webhook_read_templates(Webhook *webhook, HeapTuple row,
								   TupleDesc desc);

/*
 * Why the settings forbid requests to this webhook as far as its URL tells, for
 * example "address 10.0.0.7 is not allowed", palloc'd; NULL if they don't.
 * Where a name leads to is judged when a socket is made.
 */
extern char *webhook_forbidden(const Webhook *webhook);

#endif							/* WEBHOOK_WEBHOOKS_H */
