/*-------------------------------------------------------------------------
 *
 * webhook_triggers.c
 *	  The triggers of the table webhooks: no row that can't be delivered to,
 *	  and no dispatch that waits for a webhook that is gone.
 *
 * IDENTIFICATION
 *	  src/process/webhook_triggers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/settings.h"
#include "storage/shared.h"
#include "storage/wake.h"
#include "storage/webhooks.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(webhook_events_check_webhook);
PG_FUNCTION_INFO_V1(webhook_events_webhook_ended);

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be called by a row trigger of table \"webhooks\"")));
	return data;
}

/* What says who a webhook is and which events it gets never changes. */
static void
check_unchanged(const Webhook *old, const Webhook *new)
{
	if (strcmp(old->id, new->id) == 0 && old->created_at == new->created_at &&
		old->created_xid == new->created_xid)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("id, created_at and created_xid of webhook \"%s\" can't be changed",
					old->id)));
}

/* Each version of a row has a time of its own; the worker knows it by that. */
static HeapTuple
set_modified_at(HeapTuple row, TupleDesc desc, TimestampTz last)
{
	int			attnum = SPI_fnumber(desc, "modified_at");
	Datum		value = TimestampTzGetDatum(Max(GetCurrentTimestamp(), last + 1));
	bool		isnull = false;

	return heap_modify_tuple_by_cols(row, desc, 1, &attnum, &value, &isnull);
}

/* check_webhook() RETURNS trigger; BEFORE INSERT OR UPDATE */
Datum
webhook_events_check_webhook(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	bool		is_update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	HeapTuple	row = is_update ? data->tg_newtuple : data->tg_trigtuple;
	Webhook    *webhook = webhook_from_row(row, desc);

	if (webhook->address &&
		!settings_allow_address((const struct sockaddr *) webhook->address))
	{
		char		address[ADDRESS_TEXT_SIZE];

		address_to_text((const struct sockaddr *) webhook->address, address);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("address %s is not allowed", address),
				 errdetail("Setting webhook_events.denied_networks has it, and webhook_events.allowed_networks has not.")));
	}
	if (is_update)
	{
		Webhook    *old = webhook_from_row(data->tg_trigtuple, desc);

		check_unchanged(old, webhook);
		row = set_modified_at(row, desc, old->modified_at);
	}
	return PointerGetDatum(row);
}

/* Does a dispatch wait for this webhook? */
static bool
has_waiting_dispatches(const char *webhook_id)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(webhook_id);
	bool		found;

	SPI_connect();
	if (SPI_execute_with_args("SELECT FROM webhook_events.dispatches"
							  " WHERE status = 'ACTIVE' AND webhook_id = $1"
							  " LIMIT 1", 1, &type, &value, NULL, true, 1) < 0)
		elog(ERROR, "could not look for waiting dispatches");
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

/* webhook_ended() RETURNS trigger; AFTER UPDATE (to disabled) OR DELETE */
Datum
webhook_events_webhook_ended(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc	desc = RelationGetDescr(data->tg_relation);

	if (has_waiting_dispatches(SPI_getvalue(data->tg_trigtuple, desc,
											SPI_fnumber(desc, "id"))))
		wake_at_commit(WAKE_COMMANDS);
	return PointerGetDatum(NULL);
}
