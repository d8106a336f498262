/*-------------------------------------------------------------------------
 *
 * inspection.c
 *	  SQL functions that show what the worker would decide and send, by the
 *	  worker's own rules.
 *
 * IDENTIFICATION
 *	  src/sql/inspection.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "rules/headers.h"
#include "server/settings.h"
#include "store/installed.h"
#include "store/json_write.h"
#include "store/outbox_rows.h"
#include "store/request.h"
#include "store/webhooks.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(webhook_events_refusal);
PG_FUNCTION_INFO_V1(webhook_events_build_request);

/* The arguments of refusal(). */
enum
{
	REFUSAL_WEBHOOK,
	REFUSAL_EVENT_TYPE,
	REFUSAL_USER_ID,
	REFUSAL_ACTOR_ID,
	REFUSAL_ACTOR_TASK_ID,
	REFUSAL_ACTOR_RUN_ID,
	REFUSAL_CREATED_AT,
	REFUSAL_XID,
	REFUSAL_TEST_OF
};

/* The columns of build_request(). */
enum
{
	REQUEST_METHOD,
	REQUEST_URL,
	REQUEST_HEADERS,
	REQUEST_BODY,
	REQUEST_ERROR,
	N_REQUEST
};

/*
 * The webhook that a function was called with last.  A query calls it with the
 * same one for many events, and a row as it stands has the same bytes.
 */
typedef struct KnownWebhook
{
	MemoryContext context;		/* of all that follows */
	HeapTupleHeader row;
	Webhook    *webhook;
} KnownWebhook;

/* Reads an argument of type webhooks with this function, unless it's known. */
static Webhook *
webhook_argument(FunctionCallInfo fcinfo, int number,
				 Webhook *(*read_row) (HeapTuple row, TupleDesc desc))
{
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(number);
	uint32		length = HeapTupleHeaderGetDatumLength(row);
	KnownWebhook *known = fcinfo->flinfo->fn_extra;
	MemoryContext old_context;
	MemoryContext context;
	HeapTupleData tuple = {.t_len = length};
	TupleDesc	desc;

	if (known != NULL && HeapTupleHeaderGetDatumLength(known->row) == length &&
		memcmp(known->row, row, length) == 0)
		return known->webhook;
	if (known != NULL)
		MemoryContextDelete(known->context);
	fcinfo->flinfo->fn_extra = NULL;

	context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt,
									"webhook_events webhook",
									ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(context);
	known = palloc0(sizeof(KnownWebhook));
	known->context = context;
	known->row = palloc(length);
	memcpy(known->row, row, length);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_data = known->row;
	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(row),
									   HeapTupleHeaderGetTypMod(row));
	known->webhook = read_row(&tuple, desc);
	MemoryContextSwitchTo(old_context);
	fcinfo->flinfo->fn_extra = known;
	return known->webhook;
}

static char *
text_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static EventType
event_type_argument(FunctionCallInfo fcinfo, int number)
{
	return event_type_from_label(DatumGetCString(OidFunctionCall1(F_ENUM_OUT,
																  PG_GETARG_DATUM(number))));
}

/*
 * refusal(webhook webhooks, event_type event_type, user_id text, actor_id text,
 * actor_task_id text, actor_run_id text, created_at timestamptz, xid xid8,
 * test_of text) RETURNS text
 */
Datum
webhook_events_refusal(PG_FUNCTION_ARGS)
{
	Webhook		webhook;
	Event		event = {0};
	char	   *reason;

	if (PG_ARGISNULL(REFUSAL_WEBHOOK) || PG_ARGISNULL(REFUSAL_EVENT_TYPE))
		PG_RETURN_NULL();
	webhook = *webhook_argument(fcinfo, REFUSAL_WEBHOOK,
								webhook_condition_from_row);
	event.type = event_type_argument(fcinfo, REFUSAL_EVENT_TYPE);
	event.user_id = text_argument(fcinfo, REFUSAL_USER_ID);
	event.actor_id = text_argument(fcinfo, REFUSAL_ACTOR_ID);
	event.actor_task_id = text_argument(fcinfo, REFUSAL_ACTOR_TASK_ID);
	event.actor_run_id = text_argument(fcinfo, REFUSAL_ACTOR_RUN_ID);
	event.webhook_id = text_argument(fcinfo, REFUSAL_TEST_OF);
	if (!PG_ARGISNULL(REFUSAL_XID))
		event.xid = U64FromFullTransactionId(DatumGetFullTransactionId(PG_GETARG_DATUM(REFUSAL_XID)));
	if (!PG_ARGISNULL(REFUSAL_CREATED_AT))
		event.created_at = PG_GETARG_TIMESTAMPTZ(REFUSAL_CREATED_AT);
	else
	{
		webhook.is_enabled = true;
		webhook.since = event.created_at;
		webhook.created_xmax = 0;
	}
	reason = webhook_match_reason(&webhook, &event,
								  webhook_match(&webhook, &event));
	if (reason == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(reason));
}

/* Finds an event; raises an error if there is none. */
static Event *
find_event(const char *id)
{
	Event	   *event;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	(void) outbox_find(CurrentMemoryContext, &id, 1, 1, &event);
	if (event == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("event \"%s\" does not exist", id)));
	if (outbox_left_resource(event))
		(void) outbox_read_resource(CurrentMemoryContext, event);
	return event;
}

static Datum
to_text(const char *utf8, size_t length)
{
	char	   *text = pg_any_to_server(utf8, (int) length, PG_UTF8);

	return PointerGetDatum(cstring_to_text_with_len(text,
													text == utf8 ? (int) length : (int) strlen(text)));
}

/* {"Host": "example.com", ...} */
static Datum
headers_to_jsonb(List *headers)
{
	StringInfoData json;
	ListCell   *cell;

	initStringInfo(&json);
	foreach(cell, headers)
	{
		Header	   *header = lfirst(cell);

		appendStringInfoChar(&json, json.len == 0 ? '{' : ',');
		json_append_string(&json, header->name, strlen(header->name));
		appendStringInfoChar(&json, ':');
		json_append_string(&json, header->value, strlen(header->value));
	}
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in,
							   CStringGetDatum(pg_any_to_server(json.data, json.len, PG_UTF8)));
}

/*
 * build_request(webhook webhooks, event_id text) RETURNS record
 */
Datum
webhook_events_build_request(PG_FUNCTION_ARGS)
{
	Webhook    *webhook = webhook_argument(fcinfo, 0, webhook_from_row);
	char	   *event_id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	MemoryContext context = CurrentMemoryContext;
	Datum		values[N_REQUEST] = {0};
	bool		nulls[N_REQUEST];
	TupleDesc	desc;
	StringInfoData body;
	Request		request;
	Event	   *event;
	Id			dispatch_id;
	char	   *error;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(nulls, true, sizeof(nulls));
	installed_check_version();

	event = find_event(event_id);
	MemoryContextSwitchTo(context);
	id_make_dispatch(dispatch_id, event->id, webhook->id);
	initStringInfo(&body);
	if (request_build(webhook, event, dispatch_id, setting_header_prefix,
					  setting_payload_limit, GetCurrentTimestamp(), &body, &request, &error))
	{
		values[REQUEST_METHOD] = CStringGetTextDatum("POST");
		values[REQUEST_URL] = CStringGetTextDatum(request.url);
		values[REQUEST_HEADERS] = headers_to_jsonb(request_wire_headers(&request));
		values[REQUEST_BODY] = to_text(request.body, request.body_length);
		memset(nulls, false, sizeof(nulls));
		nulls[REQUEST_ERROR] = true;
	}
	else
	{
		values[REQUEST_ERROR] = CStringGetTextDatum(error);
		nulls[REQUEST_ERROR] = false;
	}
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
