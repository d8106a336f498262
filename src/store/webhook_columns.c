/*-------------------------------------------------------------------------
 *
 * webhook_columns.c
 *	  The columns of the table of webhooks, found by their names.
 *
 * IDENTIFICATION
 *	  src/store/webhook_columns.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "store/webhook_columns.h"

const char *const webhook_column_names[N_WEBHOOK_COLUMNS] = {
	"payload_template",
	"headers_template",
	"should_interpolate_strings",
	"request_url",
	"ordering",
	"secret",
	"id",
	"created_at",
	"is_enabled",
	"is_retired",
	"disabled_reason",
	"user_id",
	"actor_id",
	"actor_task_id",
	"actor_run_id",
	"modified_at",
	"is_ad_hoc",
	"ignore_ssl_errors",
	"do_not_retry",
	"description",
	"idempotency_key",
	"epoch",
	"event_types",
	"max_rate",
	"created_in",
	"created_xid",
	"old_secrets",
	"old_secrets_until",
	"run_ended",
	"api_keys",
	"run_changed_at",
	"turned",
	"turned_there",
	"begun_at"
};

/* Most rows have the same columns as the one before. */
AttrNumber
webhook_column_if_any(TupleDesc desc, WebhookColumn column)
{
	static AttrNumber attnums[N_WEBHOOK_COLUMNS];
	AttrNumber	attnum = attnums[column];
	const char *name = webhook_column_names[column];

	if (attnum <= 0 || attnum > desc->natts ||
		strcmp(NameStr(TupleDescAttr(desc, attnum - 1)->attname), name) != 0)
		attnum = attnums[column] = SPI_fnumber(desc, name);
	return attnum > 0 ? attnum : InvalidAttrNumber;
}

AttrNumber
webhook_column(TupleDesc desc, WebhookColumn column)
{
	AttrNumber	attnum = webhook_column_if_any(desc, column);

	if (attnum == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"webhooks\" lacks column \"%s\"",
						webhook_column_names[column])));
	return attnum;
}
