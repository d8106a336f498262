/*-------------------------------------------------------------------------
 *
 * webhooks.c
 *	  The table of webhooks: from a row to a compiled Webhook.
 *
 * IDENTIFICATION
 *	  src/store/webhooks.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "rules/url.h"
#include "server/settings.h"
#include "store/request.h"
#include "store/webhook_columns.h"
#include "store/webhooks.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* In characters, as the platform's API has them. */
#define MAX_TEMPLATE_LENGTH 1000000
#define MAX_DESCRIPTION_LENGTH 320
#define MAX_IDEMPOTENCY_KEY_LENGTH 128

/* Each of them signs every request: what is kept of them costs the worker. */
#define MAX_OLD_SECRETS 10

/* Of a bad value so many bytes are shown. */
#define MAX_SHOWN 80

/* Of max_rate: from one call in a day to more than there can be. */
#define MIN_RATE (1.0 / (24 * 60 * 60))
#define MAX_RATE 1000000.0

/* A row of the table, or of a query that has all of its columns. */
typedef struct Row
{
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
} Row;

static Row
open_row(HeapTuple tuple, TupleDesc desc)
{
	Row			row = {
		desc,
		palloc(sizeof(Datum) * desc->natts),
		palloc(sizeof(bool) * desc->natts)
	};

	heap_deform_tuple(tuple, desc, row.values, row.nulls);
	return row;
}

static void
close_row(Row *row)
{
	pfree(row->values);
	pfree(row->nulls);
}

static Datum
column(const Row *row, WebhookColumn number, bool *isnull)
{
	AttrNumber	attnum = webhook_column_if_any(row->desc, number);

	*isnull = attnum == InvalidAttrNumber || row->nulls[attnum - 1];
	return *isnull ? (Datum) 0 : row->values[attnum - 1];
}

static char *
text_column(const Row *row, WebhookColumn number)
{
	bool		isnull;
	Datum		value = column(row, number, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static bool
bool_column(const Row *row, WebhookColumn number)
{
	bool		isnull;
	Datum		value = column(row, number, &isnull);

	return !isnull && DatumGetBool(value);
}

static TimestampTz
time_column(const Row *row, WebhookColumn number)
{
	bool		isnull;
	Datum		value = column(row, number, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

static void
check_length(const char *text, const char *what, int min, int max)
{
	int			length;

	if (text == NULL)
		return;
	length = pg_mbstrlen(text);
	if (length > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d characters, more than %d", what, length, max)));
	if (length < min)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is empty", what)));
}

/* A part of the condition, or the user: any text but an empty one. */
static const char *
id_column(const Row *row, WebhookColumn number)
{
	char	   *id = text_column(row, number);

	if (id != NULL && id[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a webhook is empty", webhook_column_names[number]),
				 errhint("Leave it NULL to match every value.")));
	return id;
}

static int
read_epoch(const Row *row)
{
	bool		isnull;
	Datum		value = column(row, WEBHOOK_EPOCH, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

/* The labels of event_types as bits. */
static uint32
read_event_types(const Row *row)
{
	bool		isnull;
	Datum		value = column(row, WEBHOOK_EVENT_TYPES, &isnull);
	ArrayType  *array;
	Oid			output;
	bool		is_varlena;
	Datum	   *elements;
	bool	   *nulls;
	int			count = 0;
	uint32		types = 0;

	if (!isnull)
	{
		array = DatumGetArrayTypeP(value);
		deconstruct_array(array, ARR_ELEMTYPE(array), sizeof(Oid), true,
						  TYPALIGN_INT, &elements, &nulls, &count);
		getTypeOutputInfo(ARR_ELEMTYPE(array), &output, &is_varlena);
	}
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a webhook needs at least one event type")));
	for (int i = 0; i < count; i++)
	{
		EventType	type;
		char	   *label;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("event type of a webhook is null")));
		label = OidOutputFunctionCall(output, elements[i]);
		type = event_type_from_label(label);
		if (type == EVENT_TEST)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a webhook can't be defined for event type %s", label),
					 errhint("Call webhook_events.test_webhook() for an event of this type.")));
		types |= 1 << type;
	}
	return types;
}

static Template *
compile(const char *text, bool interpolate, const char *what)
{
	char	   *utf8 = pg_server_to_any(text, (int) strlen(text), PG_UTF8);

	return template_compile(utf8, strlen(utf8), interpolate, what);
}

/* The default payload, compiled once for all webhooks that have no other. */
static Template *
default_payload(bool interpolate)
{
	static Template *defaults[2];

	if (defaults[interpolate] == NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(TopMemoryContext);

		defaults[interpolate] = compile(request_default_payload, interpolate,
										"payload template");
		MemoryContextSwitchTo(old_context);
	}
	return defaults[interpolate];
}

static void
read_templates(Webhook *webhook, const Row *row)
{
	char	   *payload = text_column(row, WEBHOOK_PAYLOAD_TEMPLATE);
	char	   *headers = text_column(row, WEBHOOK_HEADERS_TEMPLATE);
	bool		interpolate = bool_column(row, WEBHOOK_SHOULD_INTERPOLATE_STRINGS);

	check_length(payload, "payload template", 0, MAX_TEMPLATE_LENGTH);
	check_length(headers, "headers template", 0, MAX_TEMPLATE_LENGTH);
	webhook->payload = payload ?
		compile(payload, interpolate, "payload template") : default_payload(interpolate);
	if (headers)
	{
		webhook->headers = compile(headers, interpolate, "headers template");
		request_check_headers(webhook->headers);
		pfree(headers);
	}
	if (payload)
		pfree(payload);
}

void
webhook_read_templates(Webhook *webhook, HeapTuple tuple, TupleDesc desc)
{
	Row			row = open_row(tuple, desc);

	read_templates(webhook, &row);
	close_row(&row);
}

/* Bytes of a text column, which need not be fetched for that. */
static size_t
column_size(const Row *row, WebhookColumn number)
{
	bool		isnull;
	Datum		value = column(row, number, &isnull);

	return isnull ? 0 : toast_raw_datum_size(value);
}

/* A text as it is shown in messages, palloc'd. */
static char *
shorten(const char *text)
{
	int			length = (int) strlen(text);
	int			shown = pg_mbcliplen(text, length, MAX_SHOWN);

	return psprintf("%.*s%s", shown, text, shown < length ? "..." : "");
}

static void
read_url(Webhook *webhook, const Row *row)
{
	Url			url;
	char	   *error;

	webhook->request_url = text_column(row, WEBHOOK_REQUEST_URL);
	if (webhook->request_url == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a webhook needs a request URL")));
	if (!url_parse(webhook->request_url, &url, &error))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", error),
				 errdetail("The URL is \"%s\".", shorten(webhook->request_url))));
	webhook->host = url.host;
	webhook->port = url.port;
	if (url.is_address)
	{
		struct sockaddr_storage *address = palloc(sizeof(struct sockaddr_storage));

		*address = url.address;
		webhook->address = address;
	}
}

static double
read_max_rate(const Row *row)
{
	bool		isnull;
	Datum		value = column(row, WEBHOOK_MAX_RATE, &isnull);
	double		rate = isnull ? 0 : DatumGetFloat8(value);

	if (!isnull && !(rate >= MIN_RATE && rate <= MAX_RATE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rate %g of a webhook is not between one call a day and 1,000,000 calls a second",
						rate),
				 errhint("It is the number of calls for each second; NULL sets no limit.")));
	return rate;
}

static Ordering
read_ordering(const Row *row)
{
	char	   *name = text_column(row, WEBHOOK_ORDERING);
	Ordering	ordering = ORDERING_NONE;

	if (webhook_column_if_any(row->desc, WEBHOOK_ORDERING) == InvalidAttrNumber)
		return ORDERING_NONE;
	if (name == NULL || !ordering_from_name(name, &ordering))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ordering \"%s\" of a webhook is neither \"none\", \"resource\" nor \"webhook\"",
						name ? name : "null")));
	return ordering;
}

/* Adds a secret; raises an error if it is none. */
static void
add_secret(Webhook *webhook, const char *secret, TimestampTz expires_at)
{
	WebhookSecret *added = &webhook->secrets[webhook->nsecrets++];
	char	   *error;

	added->expires_at = expires_at;
	if (!secret_decode(secret, SECRET_MIN_BYTES, &added->key, &error))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", error)));
}

/* An array column without its nulls; 0 elements if it is null itself. */
static int
array_column(const Row *row, WebhookColumn number, Oid type,
			 Datum **elements)
{
	bool		isnull;
	Datum		value = column(row, number, &isnull);
	int			count = 0;
	bool	   *nulls;

	if (isnull)
		return 0;
	if (type == TEXTOID)
		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
						  TYPALIGN_INT, elements, &nulls, &count);
	else
		deconstruct_array(DatumGetArrayTypeP(value), TIMESTAMPTZOID,
						  sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
						  elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s of a webhook holds a null", webhook_column_names[number])));
	}
	return count;
}

static void
read_secrets(Webhook *webhook, const Row *row)
{
	char	   *current = text_column(row, WEBHOOK_SECRET);
	Datum	   *old;
	Datum	   *expire;
	int			nold = array_column(row, WEBHOOK_OLD_SECRETS, TEXTOID, &old);

	if (array_column(row, WEBHOOK_OLD_SECRETS_UNTIL, TIMESTAMPTZOID, &expire) != nold)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("old_secrets and old_secrets_until of a webhook differ in length")));
	if (nold > MAX_OLD_SECRETS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("webhook has %d old secrets, more than %d", nold,
						MAX_OLD_SECRETS)));
	webhook->secrets = palloc(sizeof(WebhookSecret) * (nold + 1));
	if (current != NULL)
		add_secret(webhook, current, DT_NOEND);
	for (int i = 0; i < nold; i++)
		add_secret(webhook, TextDatumGetCString(old[i]),
				   DatumGetTimestampTz(expire[i]));
}

/*
 * Takes the snapshot in which the webhook was created, if it was one of this server:
 * other ones' transaction ids, of a restored dump or by replication, mean nothing here.
 */
static void
read_created_in(Webhook *webhook, const Row *row)
{
	bool		isnull;
	Datum		value = column(row, WEBHOOK_CREATED_IN, &isnull);
	ArrayType  *array = isnull ? NULL : DatumGetArrayTypeP(value);
	const int64 *place;

	if (array == NULL || ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] != 3 ||
		ARR_HASNULL(array))
		return;
	place = (const int64 *) ARR_DATA_PTR(array);
	if ((uint64) place[0] != GetSystemIdentifier())
		return;
	webhook->created_xmin = (uint64) place[1];
	webhook->created_xmax = (uint64) place[2];
}

/*
 * Of another server's webhook for one run what that has raised since the transaction began,
 * most likely in it, is not older: the run was made there.  Clocks differ by a little.
 */
static TimestampTz
read_since(const Webhook *webhook, const Row *row)
{
	TimestampTz begun_at = time_column(row, WEBHOOK_BEGUN_AT);

	if (webhook->created_xmax != 0 || !webhook->is_ad_hoc || webhook->actor_run_id == NULL ||
		begun_at == 0 || TIMESTAMP_NOT_FINITE(begun_at))
		return webhook->created_at;
	return Min(webhook->created_at, begun_at - USECS_PER_SEC);
}

static Webhook *
read_condition(const Row *row)
{
	Webhook    *webhook = palloc0(sizeof(Webhook));
	bool		isnull;
	Datum		xid = column(row, WEBHOOK_CREATED_XID, &isnull);
	char	   *id = text_column(row, WEBHOOK_ID);

	if (!isnull)
		webhook->created_xid = U64FromFullTransactionId(DatumGetFullTransactionId(xid));
	if (id == NULL)
		id = "";
	(void) id_time_of(id, strlen(id));
	strlcpy(webhook->id, id, sizeof(Id));
	webhook->created_at = time_column(row, WEBHOOK_CREATED_AT);
	read_created_in(webhook, row);
	webhook->is_enabled = bool_column(row, WEBHOOK_IS_ENABLED);
	webhook->epoch = read_epoch(row);
	webhook->is_retired = bool_column(row, WEBHOOK_IS_RETIRED);
	webhook->disabled_reason = text_column(row, WEBHOOK_DISABLED_REASON);
	webhook->event_types = read_event_types(row);
	webhook->user_id = id_column(row, WEBHOOK_USER_ID);
	webhook->actor_id = id_column(row, WEBHOOK_ACTOR_ID);
	webhook->actor_task_id = id_column(row, WEBHOOK_ACTOR_TASK_ID);
	webhook->actor_run_id = id_column(row, WEBHOOK_ACTOR_RUN_ID);
	webhook->is_ad_hoc = bool_column(row, WEBHOOK_IS_AD_HOC);
	webhook->since = read_since(webhook, row);
	return webhook;
}

Webhook *
webhook_condition_from_row(HeapTuple tuple, TupleDesc desc)
{
	Row			row = open_row(tuple, desc);
	Webhook    *webhook = read_condition(&row);

	close_row(&row);
	return webhook;
}

static Webhook *
read_all(const Row *row, size_t max_templates)
{
	Webhook    *webhook = read_condition(row);

	webhook->modified_at = time_column(row, WEBHOOK_MODIFIED_AT);
	webhook->ignore_ssl_errors = bool_column(row, WEBHOOK_IGNORE_SSL_ERRORS);
	webhook->do_not_retry = bool_column(row, WEBHOOK_DO_NOT_RETRY);
	webhook->max_rate = read_max_rate(row);
	webhook->ordering = read_ordering(row);
	check_length(text_column(row, WEBHOOK_DESCRIPTION), "description", 0,
				 MAX_DESCRIPTION_LENGTH);
	check_length(text_column(row, WEBHOOK_IDEMPOTENCY_KEY), "idempotency key", 1,
				 MAX_IDEMPOTENCY_KEY_LENGTH);
	read_url(webhook, row);
	webhook->templates_left_out =
		column_size(row, WEBHOOK_PAYLOAD_TEMPLATE) +
		column_size(row, WEBHOOK_HEADERS_TEMPLATE) > max_templates;
	if (!webhook->templates_left_out)
		read_templates(webhook, row);
	read_secrets(webhook, row);
	return webhook;
}

Webhook *
webhook_from_row(HeapTuple tuple, TupleDesc desc)
{
	return webhook_from_row_without(tuple, desc, SIZE_MAX);
}

Webhook *
webhook_from_row_without(HeapTuple tuple, TupleDesc desc, size_t max_templates)
{
	Row			row = open_row(tuple, desc);
	Webhook    *webhook = read_all(&row, max_templates);

	close_row(&row);
	return webhook;
}

char *
webhook_forbidden(const Webhook *webhook)
{
	const struct sockaddr *address = (const struct sockaddr *) webhook->address;
	char		text[ADDRESS_TEXT_SIZE];

	if (!settings_allow_port(webhook->port))
		return psprintf("port %d is not allowed", webhook->port);
	if (address == NULL || settings_allow_address(address))
		return NULL;
	address_to_text(address, text);
	return psprintf("address %s is not allowed", text);
}
