/*-------------------------------------------------------------------------
 *
 * transfer.c
 *	  One exchange of the HTTP client: a handle of libcurl, and what is noted of
 *	  a request and its answer.
 *
 * IDENTIFICATION
 *	  src/deliver/transfer.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/crowd.h"
#include "deliver/sockets.h"
#include "deliver/transfer.h"
#include "rules/headers.h"
#include "server/clock.h"
#include "server/settings.h"
#include "store/request.h"
#include "utils/timestamp.h"

/* So many handles are kept for later requests. */
#define MAX_IDLE_HANDLES 1024

/*
 * Connections with different options of TLS are kept apart.  These are of Windows' own TLS
 * alone.
 */
static const long generations[] = {
	0, CURLSSLOPT_NO_REVOKE, CURLSSLOPT_REVOKE_BEST_EFFORT,
	CURLSSLOPT_NO_REVOKE | CURLSSLOPT_REVOKE_BEST_EFFORT
};

static dlist_head idle = DLIST_STATIC_INIT(idle);
static int	nidle = 0;

/*
 * Handles
 */

bool
transfer_tells_refusals(void)
{
	return curl_version_info(CURLVERSION_NOW)->version_num >= 0x081700;
}

/*
 * Is HTTP/2 spoken with those who can?  Old versions get its endings wrong: up to
 * 7.88 they take some for failures, and 8.14 does not say whether a request that it
 * sends again was refused or may have been read.  8.23 was tried.
 */
static bool
wants_http2(void)
{
	if (setting_http2 == HTTP2_AUTO)
		return transfer_tells_refusals();
	return setting_http2 == HTTP2_ON;
}

/*
 * Does libcurl use a connection again without a look whether it is still there?
 * 8.23 does; 7.88 polls each one before, which need not be done twice.
 */
static bool
trusts_kept_connections(void)
{
	return curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000;
}

/* Sets the options that all requests share. */
static void
set_common_options(Transfer *transfer)
{
	CURL	   *handle = transfer->handle;

	transfer->may_use_http2 = wants_http2();
	transfer->must_look = trusts_kept_connections();
	curl_easy_setopt(handle, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, transfer->error_buffer);
	curl_easy_setopt(handle, CURLOPT_USERAGENT, REQUEST_USER_AGENT);
	curl_easy_setopt(handle, CURLOPT_PROXY, setting_proxy);
	curl_easy_setopt(handle, CURLOPT_NOPROXY, "");
	curl_easy_setopt(handle, CURLOPT_HTTP_VERSION,
					 (long) (transfer->may_use_http2 ? CURL_HTTP_VERSION_2TLS :
							 CURL_HTTP_VERSION_1_1));
	curl_easy_setopt(handle, CURLOPT_SSLVERSION, (long) setting_tls_min_version);
	if (*setting_ca_file)
		curl_easy_setopt(handle, CURLOPT_CAINFO, setting_ca_file);
	if (*setting_client_certificate_file)
		curl_easy_setopt(handle, CURLOPT_SSLCERT, setting_client_certificate_file);
	if (*setting_client_key_file)
		curl_easy_setopt(handle, CURLOPT_SSLKEY, setting_client_key_file);
	/* Without one an encrypted key is asked for at the server's terminal. */
	curl_easy_setopt(handle, CURLOPT_KEYPASSWD, "");
	curl_easy_setopt(handle, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
	/* Answers are decoded, though the request doesn't ask for an encoding. */
	curl_easy_setopt(handle, CURLOPT_ACCEPT_ENCODING, "");
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(handle, CURLOPT_PROTOCOLS,
					 (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	transfer_set_callbacks(transfer);
	curl_easy_setopt(handle, CURLOPT_POST, 1L);
}

void
transfer_free(Transfer *transfer)
{
	transfer_set_connecting(transfer, false);
	crowd_leave(transfer);
	if (transfer->handle)
		curl_easy_cleanup(transfer->handle);
	curl_slist_free_all(transfer->headers);
	free(transfer->body);
	free(transfer);
}

static void
out_of_memory(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory"),
			 errdetail("An HTTP request could not be made.")));
}

/* Forgets the last exchange. */
static void
reset(Transfer *transfer)
{
	transfer->duration = 0;
	transfer->status = 0;
	transfer->retry_after = 0;
	transfer->received = 0;
	transfer->head = 0;
	transfer->has_head = false;
	transfer->was_cut = false;
	transfer->was_flooded = false;
	transfer->flood_base = 0;
	transfer->was_given_up = false;
	transfer->was_refused = false;
	transfer->lacks_descriptors = false;
	transfer->watch_error = 0;
	transfer->socket = CURL_SOCKET_BAD;
	transfer->nsockets = 0;
	transfer->address[0] = '\0';
	transfer->address_is_news = false;
	transfer->was_crowded = false;
	transfer->was_asked = false;
	transfer->unsent = 0;
	transfer->may_repeat = false;
	transfer->was_stale = false;
	transfer->was_lost = false;
	transfer->kept = 0;
	transfer->error_buffer[0] = '\0';
}

Transfer *
transfer_get(void)
{
	size_t		body_size = setting_response_body_limit;
	Transfer   *transfer = NULL;

	while (nidle > 0 && transfer == NULL)
	{
		transfer = dlist_container(Transfer, node, dlist_pop_head_node(&idle));
		nidle--;
		if (transfer->generation == setting_client_generation)
			break;
		transfer_free(transfer);
		transfer = NULL;
	}
	if (transfer == NULL)
	{
		transfer = calloc(1, sizeof(Transfer));
		if (transfer == NULL)
			out_of_memory();
		transfer->handle = curl_easy_init();
		if (transfer->handle == NULL)
		{
			transfer_free(transfer);
			out_of_memory();
		}
		transfer->generation = setting_client_generation;
		set_common_options(transfer);
	}
	if (transfer->body_size != body_size)
	{
		free(transfer->body);
		transfer->body = malloc(body_size + 1);
		if (transfer->body == NULL)
		{
			transfer_free(transfer);
			out_of_memory();
		}
		transfer->body_size = body_size;
	}
	reset(transfer);
	return transfer;
}

/*
 * libcurl remembers with the handle that a server of HTTP/2 has refused a request.
 * Unless it was the first one of its connection, it does so even when it has sent that
 * again, and would do it with the handle's next request, whatever had become of that.
 */
static bool
remembers_refusal(const Transfer *transfer)
{
	return transfer->saw_refusal || (transfer->was_lost && transfer->may_use_http2);
}

void
transfer_put(Transfer *transfer)
{
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	if (nidle >= MAX_IDLE_HANDLES || remembers_refusal(transfer))
	{
		transfer_free(transfer);
		return;
	}
	dlist_push_head(&idle, &transfer->node);
	nidle++;
}

void
transfer_free_idle(void)
{
	while (!dlist_is_empty(&idle))
		transfer_free(dlist_container(Transfer, node, dlist_pop_head_node(&idle)));
	nidle = 0;
}

/*
 * The request
 */

static void
add_header(Transfer *transfer, const char *line)
{
	struct curl_slist *list = curl_slist_append(transfer->headers, line);

	if (list == NULL)
	{
		transfer_put(transfer);
		out_of_memory();
	}
	transfer->headers = list;
}

static void
add_headers(Transfer *transfer, List *headers)
{
	bool		asks_for_encoding = false;
	StringInfoData line;
	ListCell   *cell;

	initStringInfo(&line);
	foreach(cell, headers)
	{
		Header	   *header = lfirst(cell);

		/* libcurl has its own way to write a header without a value. */
		resetStringInfo(&line);
		appendStringInfoString(&line, header->name);
		appendStringInfoString(&line, header->value[0] == '\0' ? ";" : ": ");
		appendStringInfoString(&line, header->value);
		add_header(transfer, line.data);
		asks_for_encoding |= (pg_strcasecmp(header->name, "Accept-Encoding") == 0);
	}
	pfree(line.data);

	/* What libcurl would add. */
	add_header(transfer, "Expect:");
	if (!asks_for_encoding)
		add_header(transfer, "Accept-Encoding:");
}

void
transfer_prepare(Transfer *transfer, const HttpRequest *request)
{
	CURL	   *handle = transfer->handle;
	bool		listens = transfer->may_use_http2 &&
	pg_strncasecmp(request->url, "https:", 6) == 0;

	transfer->is_alone = !listens;
	transfer->owner = request->owner;
	transfer->url = request->url;
	transfer->is_last = request->is_last;
	transfer->crowd = Max(http_limit() / 2, 1);
	transfer->started_at = clock_work_time();
	add_headers(transfer, request->headers);
	curl_easy_setopt(handle, CURLOPT_URL, request->url);
	curl_easy_setopt(handle, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request->body);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE,
					 (curl_off_t) request->body_length);
	curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, (long) setting_request_timeout);
	curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, (long) setting_connect_timeout);
	curl_easy_setopt(handle, CURLOPT_DNS_CACHE_TIMEOUT, (long) setting_dns_cache_time);
	curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, request->verify_tls ? 1L : 0L);
	curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, request->verify_tls ? 2L : 0L);
	curl_easy_setopt(handle, CURLOPT_FRESH_CONNECT, request->is_repeated ? 1L : 0L);
	if (transfer->may_use_http2)
		curl_easy_setopt(handle, CURLOPT_SSL_OPTIONS,
						 generations[request->generation % lengthof(generations)]);
	curl_easy_setopt(handle, CURLOPT_VERBOSE, listens ? 1L : 0L);
#if LIBCURL_VERSION_NUM >= 0x075000
	curl_easy_setopt(handle, CURLOPT_MAXLIFETIME_CONN, (long) setting_connection_age);
#else
	/* It would send requests again by itself, and nobody could tell. */
	curl_easy_setopt(handle, CURLOPT_FRESH_CONNECT, 1L);
#endif
}

/*
 * The answer
 */

bool
transfer_try_anew(Transfer *transfer)
{
	if (!transfer->was_stale)
		return false;
	reset(transfer);
	curl_easy_setopt(transfer->handle, CURLOPT_FRESH_CONNECT, 1L);
	return true;
}

void
transfer_note_end(Transfer *transfer, CURLcode code)
{
	curl_off_t	retry_after = 0;
	curl_off_t	duration = 0;

	transfer_set_connecting(transfer, false);
	crowd_leave(transfer);
	transfer->code = code;
	transfer->finished_at = clock_work_time();
	curl_easy_getinfo(transfer->handle, CURLINFO_TOTAL_TIME_T, &duration);
	transfer->duration = duration;
	curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &transfer->status);
	if (transfer->status == 429 || transfer->status == 503)
		curl_easy_getinfo(transfer->handle, CURLINFO_RETRY_AFTER, &retry_after);
	transfer->retry_after = Min(retry_after, PG_INT32_MAX) * USECS_PER_SEC;

	/* Of its sockets those that led nowhere are closed now, perhaps silently. */
	if (transfer->nsockets > TRANSFER_MAX_SOCKETS)
		sockets_check_all();
	else if (code != CURLE_OK || transfer->nsockets > 1)
	{
		for (int i = 0; i < transfer->nsockets; i++)
			socket_check(transfer->sockets[i]);
	}
}

/*
 * Says in one line why a transfer failed.  A certificate can have its say in that, which
 * nobody has looked at and libcurl cuts off anywhere: so only ASCII is left of it, which
 * is text in every encoding.
 */
static void
describe_failure(Transfer *transfer, const char *prefix)
{
	const char *text = transfer->error_buffer[0] ?
	transfer->error_buffer : curl_easy_strerror(transfer->code);
	char	   *error = transfer->error;
	size_t		size = sizeof(transfer->error);

	if (transfer->was_refused)
		snprintf(error, size, "%s is not allowed", transfer->refused);
	else if (transfer->was_given_up)
		strlcpy(error, "given up, for another database waited for this worker; see webhook_events.lending_patience and max_workers",
				size);
	else if (transfer->was_lost)
		strlcpy(error, "Empty reply: connection was closed or reset before an answer was received", size);
	else if (transfer->watch_error != 0)
		snprintf(error, size, "could not listen to its socket: %s",
				 strerror(transfer->watch_error));
	else if (transfer->lacks_descriptors)
		strlcpy(error, "no file descriptor was left; raise the system's limit or lower webhook_events.max_in_flight",
				size);
	else if (transfer->code == CURLE_OUT_OF_MEMORY && transfer->status != 0)
		snprintf(error, size, "%sanswer has a header that is too long, or memory was lacking",
				 prefix);
	else if (transfer->was_flooded)
		snprintf(error, size, "%sanswer has more than %d bytes that are not its body",
				 prefix, TRANSFER_MAX_HEAD);
	else
		snprintf(error, size, "%s%s", prefix, text);
	for (char *p = error; *p; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
		else if (*p < ' ')
			*p = ' ';
	}
}

/* What kind of failure it was. */
static HttpFailure
classify_failure(const Transfer *transfer)
{
	if (transfer->was_refused)
		return HTTP_NOT_ALLOWED;
	if (transfer->was_lost)
		return HTTP_BROKEN;
	switch (transfer->code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			return HTTP_NO_NAME;
		case CURLE_COULDNT_CONNECT:
			return HTTP_NO_CONNECTION;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
			return HTTP_NO_TLS;
		case CURLE_OPERATION_TIMEDOUT:
			return HTTP_TIMEOUT;
		default:
			return HTTP_BROKEN;
	}
}

/* What its row will say. */
static void
fill_call(Transfer *transfer, CallResult *call)
{
	call->started_at = transfer->started_at;
	call->finished_at = transfer->finished_at;
	call->duration = transfer->duration;
	call->url = transfer->url;
	strlcpy(call->address, transfer->address, sizeof(call->address));
	call->status = (int) transfer->status;
	if (transfer->status != 0)
		call->body = transfer->body;
	call->body_length = transfer->kept;
}

void
transfer_result(Transfer *transfer, HttpResult *result)
{
	bool		went_well = (transfer->code == CURLE_OK ||
							 (transfer->was_cut && !transfer->was_flooded &&
							  transfer->code == CURLE_WRITE_ERROR));
	bool		is_success = (transfer->status >= 200 && transfer->status <= 299);
	bool		was_accepted = (transfer->has_head && is_success);
	long		version = CURL_HTTP_VERSION_NONE;

	if (transfer->may_use_http2)
		curl_easy_getinfo(transfer->handle, CURLINFO_HTTP_VERSION, &version);
	memset(result, 0, sizeof(HttpResult));
	result->owner = transfer->owner;
	fill_call(transfer, &result->call);
	if (!went_well)
	{
		describe_failure(transfer, was_accepted ? "answer broke off: " : "");
		*(was_accepted ? &result->call.note : &result->call.error) = transfer->error;
		if (!was_accepted)
			result->failure = classify_failure(transfer);
	}
	else if (!is_success)
	{
		snprintf(transfer->error, sizeof(transfer->error), "HTTP status %ld", transfer->status);
		result->call.error = transfer->error;
	}
	result->was_crowded = (!went_well && transfer->was_crowded &&
						   !transfer->was_asked);
	result->was_lost = transfer->was_lost;
	result->was_shared = (version == CURL_HTTP_VERSION_2_0);
	result->retry_after = transfer->retry_after;
}
