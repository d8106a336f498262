/*-------------------------------------------------------------------------
 *
 * request.c
 *	  The HTTP request that takes an event to a webhook.
 *
 * IDENTIFICATION
 *	  src/store/request.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "common/base64.h"
#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"
#include "rules/headers.h"
#include "rules/json_scan.h"
#include "rules/url.h"
#include "server/settings.h"
#include "store/json_write.h"
#include "store/request.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

/* As the platform's documentation has it. */
const char *const request_default_payload =
"{\n"
"    \"userId\": {{userId}},\n"
"    \"createdAt\": {{createdAt}},\n"
"    \"eventType\": {{eventType}},\n"
"    \"eventData\": {{eventData}},\n"
"    \"resource\": {{resource}}\n"
"}";

/* No rendered headers template that passes headers_parse() is longer. */
#define MAX_HEADERS_TEXT (8 * HEADERS_MAX_SIZE)

/* Of a long resource, and what a body has besides, as a rule. */
#define BIG_RESOURCE (64 * 1024)
#define BODY_OVERHEAD 4096

static void
append_string_or_null(StringInfo out, const char *value)
{
	if (value)
		json_append_string(out, value, strlen(value));
	else
		appendStringInfoString(out, "null");
}

/* {"actorId", "actorTaskId" (only if there is one), "actorRunId"} */
static void
append_event_data(StringInfo out, const Event *event)
{
	appendStringInfoString(out, "{\"actorId\":");
	append_string_or_null(out, event->actor_id);
	if (event->actor_build_id)
	{
		appendStringInfoString(out, ",\"actorBuildId\":");
		append_string_or_null(out, event->actor_build_id);
	}
	else
	{
		if (event->actor_task_id)
		{
			appendStringInfoString(out, ",\"actorTaskId\":");
			append_string_or_null(out, event->actor_task_id);
		}
		appendStringInfoString(out, ",\"actorRunId\":");
		append_string_or_null(out, event->actor_run_id);
	}
	appendStringInfoChar(out, '}');
}

static int64
unix_seconds(TimestampTz time)
{
	return (int64) (time / USECS_PER_SEC) +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}

static void
append_globals(StringInfo out, TimestampTz now)
{
	appendStringInfoString(out, "{\"dateISO\":");
	json_append_timestamp(out, now);
	appendStringInfo(out, ",\"dateUnix\":" INT64_FORMAT "}", unix_seconds(now));
}

/* Text of the server's encoding as a value for the template. */
static JsonText
to_json_text(const char *text, size_t length)
{
	JsonText	json;

	json.data = pg_server_to_any(text, (int) length, PG_UTF8);
	json.length = (json.data == text) ? length : strlen(json.data);
	return json;
}

/* Does one of a webhook's templates use it? */
static bool
is_used(const Webhook *webhook, TemplateVariable variable)
{
	return template_uses(webhook->payload, variable) ||
		(webhook->headers && template_uses(webhook->headers, variable));
}

bool
request_uses_resource(const Webhook *webhook)
{
	return is_used(webhook, TEMPLATE_RESOURCE);
}

/* Fills values[] with what the variables stand for that a webhook uses. */
static void
make_values(const Webhook *webhook, const Event *event, TimestampTz now,
			JsonText values[TEMPLATE_NVARIABLES])
{
	for (int i = 0; i < TEMPLATE_NVARIABLES; i++)
	{
		StringInfoData text;

		values[i].data = NULL;
		values[i].length = 0;
		if (!is_used(webhook, (TemplateVariable) i))
			continue;
		if (i == TEMPLATE_RESOURCE)
		{
			if (event->resource)
				values[i] = to_json_text(event->resource, event->resource_length);
			continue;
		}
		initStringInfo(&text);
		switch ((TemplateVariable) i)
		{
			case TEMPLATE_USER_ID:
				append_string_or_null(&text, event->user_id);
				break;
			case TEMPLATE_CREATED_AT:
				json_append_timestamp(&text, event->created_at);
				break;
			case TEMPLATE_EVENT_TYPE:
				append_string_or_null(&text, event_type_label(event->type));
				break;
			case TEMPLATE_EVENT_DATA:
				append_event_data(&text, event);
				break;
			case TEMPLATE_GLOBALS:
				append_globals(&text, now);
				break;
			case TEMPLATE_RESOURCE:
				break;
		}
		values[i] = to_json_text(text.data, text.len);
	}
}

/* Adds a header of strings that are palloc'd already. */
static void
take_header(List **headers, char *name, char *value)
{
	Header	   *header = palloc(sizeof(Header));

	header->name = name;
	header->value = value;
	*headers = lappend(*headers, header);
}

static void
add_header(List **headers, const char *name, const char *value)
{
	take_header(headers, pstrdup(name), pstrdup(value));
}

/* Adds a header whose name begins with a prefix; psprintf() would take longer. */
static void
add_prefixed_header(List **headers, const char *prefix, const char *name,
					const char *value)
{
	char	   *whole = palloc(strlen(prefix) + strlen(name) + 1);

	strcpy(stpcpy(whole, prefix), name);
	take_header(headers, whole, pstrdup(value));
}

/* Ids are in headers; a row that was written by hand can have any. */
static bool
is_header_text(const char *id)
{
	for (; *id; id++)
	{
		if (!isalnum((unsigned char) *id) || IS_HIGHBIT_SET(*id))
			return false;
	}
	return true;
}

/* The headers that every request has, whatever its template says. */
static void
add_forced_headers(List **headers, const char *prefix, const char *webhook_id,
				   const char *dispatch_id)
{
	add_header(headers, "Content-Type", "application/json");
	add_prefixed_header(headers, prefix, "-Webhook", webhook_id);
	add_prefixed_header(headers, prefix, "-Webhook-Dispatch-Id", dispatch_id);
	add_prefixed_header(headers, prefix, "-Request-Origin", "WEBHOOK");
}

static char *
text_of(int64 number)
{
	char	   *text = palloc(MAXINT8LEN + 1);

	pg_lltoa(number, text);
	return text;
}

/* A request that is made. */
struct RequestMaking
{
	const Webhook *webhook;
	const char *dispatch_id;
	TimestampTz now;
	size_t		limit;			/* of the body */
	StringInfo	out;
	JsonText	values[TEMPLATE_NVARIABLES];
	Rendering  *rendering;
	Signing   **signings;		/* by secrets; of one that has expired NULL */
	int			nsignings;
	int			nsigned;		/* bytes of the body */
	Request		request;
};

/*
 * Starts a signature by each secret that has not expired.  The worker has no resource
 * owner between its transactions, and the hash needs one.
 */
static void
start_signatures(RequestMaking *making)
{
	static ResourceOwner own = NULL;
	ResourceOwner owner = CurrentResourceOwner;
	const Webhook *webhook = making->webhook;

	making->signings = palloc0(sizeof(Signing *) * webhook->nsecrets);
	if (owner == NULL && own == NULL)
		own = ResourceOwnerCreate(NULL, "webhook_events signatures");
	if (owner == NULL)
		CurrentResourceOwner = own;
	for (int i = 0; i < webhook->nsecrets; i++)
	{
		const WebhookSecret *secret = &webhook->secrets[i];

		making->nsignings = i + 1;
		if (secret->expires_at > making->now)
			making->signings[i] = signing_start(&secret->key, making->dispatch_id,
												unix_seconds(making->now));
	}
	CurrentResourceOwner = owner;
}

/* Signs what has been added to the body. */
static void
sign_more(RequestMaking *making)
{
	const char *data = making->out->data + making->nsigned;
	size_t		length = making->out->len - making->nsigned;

	if (making->signings == NULL)
		start_signatures(making);
	for (int i = 0; i < making->nsignings; i++)
	{
		if (making->signings[i] == NULL || signing_add(making->signings[i], data, length))
			continue;
		signing_drop(making->signings[i]);
		making->signings[i] = NULL;
	}
	making->nsigned = making->out->len;
}

/* The headers of the signatures, if there are any. */
static void
add_signatures(RequestMaking *making)
{
	List	  **headers = &making->request.headers;
	StringInfoData signatures;

	initStringInfo(&signatures);
	for (int i = 0; i < making->nsignings; i++)
	{
		Signing    *signing = making->signings[i];

		if (making->webhook->secrets[i].expires_at <= making->now)
			continue;
		if (signatures.len > 0)
			appendStringInfoChar(&signatures, ' ');
		making->signings[i] = NULL;
		appendStringInfoString(&signatures, signing_end(signing));
	}
	if (signatures.len == 0)
		return;
	add_header(headers, "webhook-id", making->dispatch_id);
	take_header(headers, pstrdup("webhook-timestamp"),
				text_of(unix_seconds(making->now)));
	take_header(headers, pstrdup("webhook-signature"), signatures.data);
}

static bool
render_headers(const Template *template, const JsonText *values,
			   const char *prefix, List **headers, char **error)
{
	StringInfoData text;

	initStringInfo(&text);
	if (!template_render(template, values, MAX_HEADERS_TEXT, &text))
	{
		*error = psprintf("headers are longer than %d bytes", HEADERS_MAX_SIZE);
		return false;
	}
	return headers_parse(text.data, text.len, prefix, headers, error);
}

/* Makes all but the body. */
static bool
start(RequestMaking *making, const Webhook *webhook, const Event *event,
	  const char *dispatch_id, const char *prefix, size_t limit, TimestampTz now,
	  StringInfo out, char **error)
{
	Request    *request = &making->request;

	if (!is_header_text(webhook->id) || !is_header_text(dispatch_id))
	{
		*error = pstrdup("an id holds other characters than letters and digits");
		return false;
	}
	making->webhook = webhook;
	making->dispatch_id = dispatch_id;
	making->now = now;
	making->limit = limit;
	making->out = out;
	making->signings = NULL;
	making->nsignings = 0;
	making->nsigned = 0;
	make_values(webhook, event, now, making->values);
	request->url = webhook->request_url;
	request->headers = NIL;
	if (webhook->headers &&
		!render_headers(webhook->headers, making->values, prefix, &request->headers, error))
		return false;
	add_forced_headers(&request->headers, prefix, webhook->id, dispatch_id);

	/*
	 * One that holds the resource need not grow, and be copied, as it is
	 * written.
	 */
	if (event->resource != NULL && event->resource_length > BIG_RESOURCE &&
		event->resource_length < limit &&
		template_uses(webhook->payload, TEMPLATE_RESOURCE))
		enlargeStringInfo(out, (int) event->resource_length + BODY_OVERHEAD);
	making->rendering = rendering_start(webhook->payload, making->values, limit, out);
	return true;
}

static RequestResult
go_on(RequestMaking *making, size_t budget, char **error)
{
	RenderResult result = rendering_go_on(making->rendering, budget);

	if (result == RENDER_TOO_LONG)
	{
		*error = psprintf("payload is longer than %zu bytes", making->limit);
		return REQUEST_FAILED;
	}
	if (making->webhook->nsecrets > 0)
		sign_more(making);
	if (result == RENDER_GOES_ON)
		return REQUEST_GOES_ON;
	rendering_end(making->rendering);
	making->rendering = NULL;
	making->request.body = making->out->data;
	making->request.body_length = making->out->len;
	if (making->webhook->nsecrets > 0)
		add_signatures(making);
	return REQUEST_MADE;
}

bool
request_build(const Webhook *webhook, const Event *event,
			  const char *dispatch_id, const char *prefix, size_t limit,
			  TimestampTz now, StringInfo out, Request *request, char **error)
{
	RequestMaking making;

	if (!start(&making, webhook, event, dispatch_id, prefix, limit, now, out, error) ||
		go_on(&making, SIZE_MAX, error) != REQUEST_MADE)
		return false;
	*request = making.request;
	return true;
}

RequestMaking *
request_start(const Webhook *webhook, const Event *event, const char *dispatch_id,
			  const char *prefix, size_t limit, TimestampTz now, StringInfo out,
			  char **error)
{
	RequestMaking *making = palloc(sizeof(RequestMaking));

	if (start(making, webhook, event, dispatch_id, prefix, limit, now, out, error))
		return making;
	pfree(making);
	return NULL;
}

RequestResult
request_go_on(RequestMaking *making, size_t budget, Request *request, char **error)
{
	RequestResult result = go_on(making, budget, error);

	if (result == REQUEST_MADE)
		*request = making->request;
	return result;
}

void
request_drop(RequestMaking *making)
{
	for (int i = 0; i < making->nsignings; i++)
	{
		if (making->signings[i] != NULL)
			signing_drop(making->signings[i]);
	}
	making->nsignings = 0;
}

static bool
has_header(List *headers, const char *name)
{
	ListCell   *cell;

	foreach(cell, headers)
	{
		if (pg_strcasecmp(((Header *) lfirst(cell))->name, name) == 0)
			return true;
	}
	return false;
}

static char *
basic_authorization(const char *credentials)
{
	int			length = (int) strlen(credentials);
	int			size = pg_b64_enc_len(length);
	char	   *text = palloc(size + 1);

	text[pg_b64_encode((const void *) credentials, length, text, size)] = '\0';
	return psprintf("Basic %s", text);
}

List *
request_wire_headers(const Request *request)
{
	List	   *headers = NIL;
	char	   *error;
	Url			url;

	if (url_parse(request->url, &url, &error))
	{
		add_header(&headers, "Host", url.host_header);
		if (url.credentials && !has_header(request->headers, "Authorization"))
			add_header(&headers, "Authorization",
					   basic_authorization(url.credentials));
	}
	if (!has_header(request->headers, "User-Agent"))
		add_header(&headers, "User-Agent", REQUEST_USER_AGENT);
	if (!has_header(request->headers, "Accept"))
		add_header(&headers, "Accept", "*/*");
	headers = list_concat(headers, request->headers);
	add_header(&headers, "Content-Length",
			   psprintf("%zu", request->body_length));
	return headers;
}

/*
 * Appends JSON text with a string for every null, which at definition stands
 * for a variable whose value nobody knows yet.
 */
static void
append_without_nulls(StringInfo out, const char *json, size_t length)
{
	const char *copied = json;
	JsonScan	scan;
	JsonToken	token;

	json_scan_start(&scan, json, length, false);
	do
	{
		token = json_scan_next(&scan);
		if (token != JSON_SCALAR || *scan.token != 'n')
			continue;
		appendBinaryStringInfo(out, copied, (int) (scan.token - copied));
		appendStringInfoString(out, "\"\"");
		copied = scan.token_end;
	} while (token != JSON_DONE && token != JSON_ERROR);
	json_scan_finish(&scan);
	appendBinaryStringInfo(out, copied, (int) (json + length - copied));
}

void
request_check_headers(const Template *template)
{
	JsonText	values[TEMPLATE_NVARIABLES] = {{NULL, 0}};
	StringInfoData rendered;
	StringInfoData sample;
	List	   *headers;
	char	   *error;

	initStringInfo(&rendered);
	initStringInfo(&sample);
	if (!template_render(template, values, MAX_HEADERS_TEXT, &rendered))
		error = psprintf("headers are longer than %d bytes", HEADERS_MAX_SIZE);
	else
	{
		append_without_nulls(&sample, rendered.data, rendered.len);
		if (headers_parse(sample.data, sample.len, setting_header_prefix,
						  &headers, &error))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("headers template is not valid: %s", error)));
}
