/*-------------------------------------------------------------------------
 *
 * webhook_triggers.c
 *	  The triggers of the table webhooks: no row that can't be delivered to,
 *	  and no dispatch that waits for a webhook that is gone.
 *
 * IDENTIFICATION
 *	  src/store/webhook_triggers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/bitmapset.h"
#include "server/shared.h"
#include "server/wake.h"
#include "store/access.h"
#include "store/webhook_columns.h"
#include "store/webhook_counts.h"
#include "store/webhooks.h"
#include "utils/builtins.h"
#include "utils/datum.h"
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

/*
 * A tenant can't take the id of a webhook that is gone, for which dispatches of
 * somebody else may wait.
 */
static void
check_new(const Webhook *webhook)
{
	TimestampTz time;

	if (id_time(webhook->id, ID_LENGTH, &time) &&
		time >= GetCurrentTransactionStartTimestamp() &&
		webhook->created_at >= GetCurrentTransactionStartTimestamp() &&
		webhook->created_xid == U64FromFullTransactionId(GetTopFullTransactionId()))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("id, created_at and created_xid of a webhook can't be chosen")));
}

/*
 * Is the table of a version that ALTER EXTENSION has not updated yet?  Webhooks can be
 * defined there, while the worker waits.
 */
static bool
is_of_older_version(TupleDesc desc)
{
	return webhook_column_if_any(desc, WEBHOOK_EPOCH) == InvalidAttrNumber;
}

static bool
get_flag(HeapTuple row, TupleDesc desc, const char *name)
{
	bool		isnull;
	Datum		value = heap_getattr(row, SPI_fnumber(desc, name), desc, &isnull);

	return !isnull && DatumGetBool(value);
}

/* Each version of a row has a time of its own; the worker knows it by that. */
static TimestampTz
next_modified_at(HeapTuple old_row, TupleDesc desc)
{
	bool		isnull;
	TimestampTz last = DatumGetTimestampTz(heap_getattr(old_row, webhook_column(desc, WEBHOOK_MODIFIED_AT),
														desc, &isnull));
	TimestampTz now = GetCurrentTimestamp();

	return TIMESTAMP_NOT_FINITE(last) ? now : Max(now, last + 1);
}

static HeapTuple
set_modified_at(HeapTuple row, HeapTuple old_row, TupleDesc desc)
{
	int			attnum = webhook_column(desc, WEBHOOK_MODIFIED_AT);
	Datum		value = TimestampTzGetDatum(next_modified_at(old_row, desc));
	bool		isnull = false;

	return heap_modify_tuple_by_cols(row, desc, 1, &attnum, &value, &isnull);
}

static bool
is_given_away(HeapTuple row, HeapTuple old_row, TupleDesc desc)
{
	int			attnum = SPI_fnumber(desc, "user_id");
	const char *before = SPI_getvalue(old_row, desc, attnum);
	const char *after = SPI_getvalue(row, desc, attnum);

	if (before == NULL || after == NULL)
		return before != after;
	return strcmp(before, after) != 0;
}

/*
 * With an epoch all ends that waits when the webhook is disabled, however soon it is enabled
 * again, or given to another user, whose it is not; one that has retired gets what waits.
 */
static HeapTuple
set_version(HeapTuple row, HeapTuple old_row, TupleDesc desc)
{
	int			attnums[] = {
		SPI_fnumber(desc, "modified_at"), SPI_fnumber(desc, "epoch"), SPI_fnumber(desc, "turned")
	};
	Datum		values[3];
	bool		nulls[3] = {false};
	Datum		epoch = heap_getattr(old_row, attnums[1], desc, &nulls[1]);
	bool		ends = is_given_away(row, old_row, desc) ||
	(get_flag(old_row, desc, "is_enabled") && !get_flag(row, desc, "is_enabled") &&
	 !get_flag(row, desc, "is_retired"));

	values[0] = TimestampTzGetDatum(next_modified_at(old_row, desc));
	values[1] = epoch;
	if (ends)
		values[1] = Int32GetDatum(nulls[1] ? 1 : DatumGetInt32(epoch) + 1);
	nulls[1] = nulls[1] && !ends;
	values[2] = heap_getattr(row, attnums[2], desc, &nulls[2]);
	if (get_flag(old_row, desc, "is_enabled") != get_flag(row, desc, "is_enabled"))
	{
		/* Not counted twice by who has said so. */
		values[2] = heap_getattr(old_row, attnums[2], desc, &nulls[2]);
		values[2] = Int32GetDatum(nulls[2] ? 1 : DatumGetInt32(values[2]) + 1);
		nulls[2] = false;
	}
	return heap_modify_tuple_by_cols(row, desc, lengthof(attnums), attnums, values, nulls);
}

/*
 * Did nothing change but what says whether the webhook is enabled?  That must
 * be possible even if the settings would not allow its URL any more.
 */
static bool
is_same_definition(HeapTuple old, HeapTuple new, TupleDesc desc)
{
	static const char *const state[] = {
		"is_enabled", "disabled_reason", "is_retired", "run_ended",
		"run_changed_at", "modified_at", "created_in", "epoch", "turned", "turned_there"
	};
	Bitmapset  *ignored = NULL;

	for (int i = 0; i < (int) lengthof(state); i++)
	{
		int			attnum = SPI_fnumber(desc, state[i]);

		if (attnum > 0)
			ignored = bms_add_member(ignored, attnum);
	}
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		bool		old_null;
		bool		new_null;
		Datum		old_value = heap_getattr(old, i + 1, desc, &old_null);
		Datum		new_value = heap_getattr(new, i + 1, desc, &new_null);

		if (attribute->attisdropped || bms_is_member(i + 1, ignored))
			continue;
		if (old_null != new_null)
			return false;
		if (!old_null && !datum_image_eq(old_value, new_value,
										 attribute->attbyval, attribute->attlen))
			return false;
	}
	return true;
}

/* Raises an error for a new or changed definition that can't be accepted. */
static void
check_definition(HeapTuple row, HeapTuple old_row, TupleDesc desc)
{
	Webhook    *webhook = webhook_from_row(row, desc);
	char	   *forbidden = webhook_forbidden(webhook);

	if (forbidden != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", forbidden),
				 errdetail("Requests go nowhere inside of a network unless an administrator allows it."),
				 errhint("An administrator can allow it by the setting %s.",
						 strncmp(forbidden, "port", 4) == 0 ?
						 "webhook_events.allowed_ports" : "webhook_events.allowed_networks")));
	if (old_row == NULL && !access_to_all(ACCESS_MANAGE))
		check_new(webhook);
	if (!access_to(ACCESS_MANAGE, webhook->user_id))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 webhook->user_id ?
				 errmsg("webhooks of user \"%s\" are not yours to define", webhook->user_id) :
				 errmsg("webhooks of no user are not yours to define")));
	if (old_row != NULL)
		check_unchanged(webhook_condition_from_row(old_row, desc), webhook);
}

/* check_webhook() RETURNS trigger; BEFORE INSERT OR UPDATE */
Datum
webhook_events_check_webhook(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo);
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	bool		is_update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	HeapTuple	old_row = is_update ? data->tg_trigtuple : NULL;
	HeapTuple	row = is_update ? data->tg_newtuple : data->tg_trigtuple;

	if (!is_update || !is_same_definition(old_row, row, desc))
		check_definition(row, old_row, desc);
	if (!is_update)
		return PointerGetDatum(row);
	return PointerGetDatum(is_of_older_version(desc) ? set_modified_at(row, old_row, desc) :
						   set_version(row, old_row, desc));
}

/*
 * Runs a statement about the webhook that $1 stands for, or about those of the
 * statement that has fired the trigger; returns how many rows it found or changed.
 */
static uint64
run(const char *sql, TriggerData *data, const char *webhook_id)
{
	Oid			type = TEXTOID;
	Datum		value = webhook_id ? CStringGetTextDatum(webhook_id) : (Datum) 0;
	uint64		count;

	SPI_connect();
	if (SPI_register_trigger_data(data) < 0 ||
		SPI_execute_with_args(sql, webhook_id ? 1 : 0, &type, &value, NULL, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	count = SPI_processed;
	SPI_finish();
	return count;
}

/*
 * That of a webhook's index, so that this is what finds the first: where most of what waits
 * is for few others, the planner believes that it soon meets one wherever it reads.
 */
#define IN_ORDER " ORDER BY next_attempt_at, id"

/* A webhook was disabled or given away: nothing waits for it any more, and nothing fails. */
static void
note_disabled(TriggerData *data)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	char	   *id = SPI_getvalue(data->tg_trigtuple, desc, SPI_fnumber(desc, "id"));

	if (run("SELECT FROM webhook_events_internal.dispatches"
			" WHERE status = 'ACTIVE' AND webhook_id = $1" IN_ORDER " LIMIT 1", data, id) > 0)
		wake_at_commit(WAKE_COMMANDS);
	run("UPDATE webhook_events_internal.webhook_stats SET failing_since = NULL"
		" WHERE webhook_id = $1 AND failing_since IS NOT NULL", data, id);
}

static void
log_deleted(TriggerData *data)
{
	SPI_connect();
	if (SPI_register_trigger_data(data) < 0)
		elog(ERROR, "could not register a trigger's data");
	webhook_counts_deleted();
	SPI_finish();
}

/*
 * Webhooks were deleted, many at once when those for single runs have had their
 * time: each is looked up, whatever there is for others.
 */
static void
note_deleted(TriggerData *data)
{
	if (run("SELECT FROM ended AS e"
			" WHERE (SELECT true FROM webhook_events_internal.dispatches AS d"
			" WHERE d.status = 'ACTIVE' AND d.webhook_id = e.id" IN_ORDER " LIMIT 1) LIMIT 1",
			data, NULL) > 0)
		wake_at_commit(WAKE_COMMANDS);
	run("DELETE FROM webhook_events_internal.webhook_stats"
		" WHERE webhook_id = ANY (ARRAY(SELECT id FROM ended))", data, NULL);

	/* Where only triggers of replicas fire, one of each row does this. */
	if (SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		log_deleted(data);
}

/* webhook_ended() RETURNS trigger; AFTER UPDATE (to disabled, to another user) OR DELETE */
Datum
webhook_events_webhook_ended(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_DELETE(data->tg_event) &&
		TRIGGER_FIRED_FOR_STATEMENT(data->tg_event))
		note_deleted(data);

	/*
	 * After an update a worker starts, and looks for what waits for those by
	 * itself.
	 */
	else if (!is_of_older_version(RelationGetDescr(trigger_data(fcinfo)->tg_relation)))
		note_disabled(data);
	return PointerGetDatum(NULL);
}
