/*-------------------------------------------------------------------------
 *
 * webhook_columns.h
 *	  The columns of the table of webhooks, found by their names.
 *
 * IDENTIFICATION
 *	  src/store/webhook_columns.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WEBHOOK_COLUMNS_H
#define WEBHOOK_WEBHOOK_COLUMNS_H

#include "access/tupdesc.h"

/* Those that are read or written in C. */
typedef enum WebhookColumn
{
	WEBHOOK_PAYLOAD_TEMPLATE,
	WEBHOOK_HEADERS_TEMPLATE,
	WEBHOOK_SHOULD_INTERPOLATE_STRINGS,
	WEBHOOK_REQUEST_URL,
	WEBHOOK_ORDERING,
	WEBHOOK_SECRET,
	WEBHOOK_ID,
	WEBHOOK_CREATED_AT,
	WEBHOOK_IS_ENABLED,
	WEBHOOK_IS_RETIRED,
	WEBHOOK_DISABLED_REASON,
	WEBHOOK_USER_ID,
	WEBHOOK_ACTOR_ID,
	WEBHOOK_ACTOR_TASK_ID,
	WEBHOOK_ACTOR_RUN_ID,
	WEBHOOK_MODIFIED_AT,
	WEBHOOK_IS_AD_HOC,
	WEBHOOK_IGNORE_SSL_ERRORS,
	WEBHOOK_DO_NOT_RETRY,
	WEBHOOK_DESCRIPTION,
	WEBHOOK_IDEMPOTENCY_KEY,
	WEBHOOK_EPOCH,
	WEBHOOK_EVENT_TYPES,
	WEBHOOK_MAX_RATE,
	WEBHOOK_CREATED_IN,
	WEBHOOK_CREATED_XID,
	WEBHOOK_OLD_SECRETS,
	WEBHOOK_OLD_SECRETS_UNTIL,
	WEBHOOK_RUN_ENDED,
	WEBHOOK_API_KEYS,
	WEBHOOK_RUN_CHANGED_AT,
	WEBHOOK_TURNED,
	WEBHOOK_TURNED_THERE,
	WEBHOOK_BEGUN_AT,
	N_WEBHOOK_COLUMNS
} WebhookColumn;

extern const char *const webhook_column_names[N_WEBHOOK_COLUMNS];

/*
 * The number of a column in rows of the table, or of a query that has all of its
 * columns.  Raises ERRCODE_UNDEFINED_COLUMN if there is none of that name.
 */
extern AttrNumber webhook_column(TupleDesc desc, WebhookColumn column);

/*
 * The same, but InvalidAttrNumber if there is none: a table of an older version, which
 * has not been updated yet, lacks what came later.
 */
extern AttrNumber webhook_column_if_any(TupleDesc desc, WebhookColumn column);

#endif							/* WEBHOOK_WEBHOOK_COLUMNS_H */
