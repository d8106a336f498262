/*-------------------------------------------------------------------------
 *
 * transfer_callbacks.c
 *	  What libcurl asks and tells while an exchange is under way: where it may go, whether
 *	  it may be sent, and what comes back.
 *
 * No error is raised and nothing is palloc'd inside libcurl's callbacks: they
 * note what happened, and return.
 *
 * IDENTIFICATION
 *	  src/deliver/transfer_callbacks.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/crowd.h"
#include "deliver/sockets.h"
#include "deliver/transfer.h"
#include "server/settings.h"

/* So much of a body is read beyond what is kept, to save the connection. */
#define MAX_DISCARDED (64 * 1024)

static int	nconnecting = 0;
static bool have_news = false;

/* A proxy is where we were told to go; it judges what is behind it. */
static bool
allow(Transfer *transfer, const struct sockaddr *address)
{
	if (*setting_proxy || settings_allow_address(address))
		return true;
	transfer->was_refused = true;
	snprintf(transfer->refused, sizeof(transfer->refused), "address %s",
			 transfer->address);
	return false;
}

/*
 * Is libcurl about to send a request for the second time?  It does so by itself
 * when a connection that was used before dies without an answer, although the
 * server may have read the request.
 */
static bool
is_sent_again(Transfer *transfer)
{
	long		sent = 0;

	if (!transfer->was_asked || transfer->may_repeat)
		return false;
	curl_easy_getinfo(transfer->handle, CURLINFO_REQUEST_SIZE, &sent);
	transfer->was_lost = (sent > transfer->unsent);
	return transfer->was_lost;
}

bool
transfers_are_connecting(void)
{
	return nconnecting > 0;
}

bool
transfers_have_news(void)
{
	return have_news;
}

void
transfers_forget_news(void)
{
	have_news = false;
}

void
transfer_set_connecting(Transfer *transfer, bool is_connecting)
{
	nconnecting += is_connecting - transfer->is_connecting;
	transfer->is_connecting = is_connecting;
}

/* Makes a socket for an address, if it is one that may be reached. */
static curl_socket_t
open_socket_callback(void *client, curlsocktype purpose pg_attribute_unused(),
					 struct curl_sockaddr *address)
{
	Transfer   *transfer = client;
	curl_socket_t result;

	address_to_text(&address->addr, transfer->address);
	crowd_enter(transfer);
	transfer->address_is_news = true;
	have_news = true;
	if (!allow(transfer, &address->addr) || is_sent_again(transfer) ||
		crowd_is_full(transfer))
		return CURL_SOCKET_BAD;
	result = socket_make(address->family, address->socktype, address->protocol,
						 &transfer->lacks_descriptors);
	if (result != CURL_SOCKET_BAD)
	{
		transfer->sockets[transfer->nsockets % TRANSFER_MAX_SOCKETS] = result;
		transfer->nsockets++;
		transfer_set_connecting(transfer, true);
	}
	return result;
}

static int
close_socket_callback(void *client pg_attribute_unused(), curl_socket_t socket)
{
	return socket_end(socket);
}

#if LIBCURL_VERSION_NUM >= 0x075000
/* A connection that is used again may lead where it no longer may. */
static int
before_request_callback(void *client, char *address,
						char *local_address pg_attribute_unused(),
						int port pg_attribute_unused(), int local_port)
{
	Transfer   *transfer = client;
	struct sockaddr_storage peer;

	strlcpy(transfer->address, address, sizeof(transfer->address));
	if (!transfer->is_located)
		crowd_enter(transfer);
	if (!address_from_text(address, &peer) ||
		!allow(transfer, (struct sockaddr *) &peer) || is_sent_again(transfer))
		return CURL_PREREQFUNC_ABORT;
	for (int i = 0; i < Min(transfer->nsockets, TRANSFER_MAX_SOCKETS); i++)
		socket_set_port(transfer->sockets[i], local_port);
	if (transfer->nsockets == 0 && !transfer->was_asked &&
		((transfer->must_look && socket_has_ended(local_port)) ||
		 (transfer->is_alone && socket_is_stirred(local_port))))
	{
		transfer->was_stale = true;
		return CURL_PREREQFUNC_ABORT;
	}
	transfer_set_connecting(transfer, false);
	transfer->was_asked = true;
	transfer->may_repeat = false;
	curl_easy_getinfo(transfer->handle, CURLINFO_REQUEST_SIZE, &transfer->unsent);
	return CURL_PREREQFUNC_OK;
}
#endif

/*
 * The only word of libcurl's that HTTP/2's server refused a request before it did
 * anything, as it does when it closes a connection: then it may be sent again.  Before
 * 8.23 it says so when it is about to do that, and later also when it only remembers
 * an earlier refusal.
 */
static int
debug_callback(CURL *handle pg_attribute_unused(), curl_infotype type,
			   char *text, size_t length, void *client)
{
	Transfer   *transfer = client;
	const char *refused;

	if (type != CURLINFO_TEXT)
		return 0;
	refused = transfer_tells_refusals() ? "refused by server" : "REFUSED_STREAM";
	if (memmem(text, length, refused, strlen(refused)) != NULL)
		transfer->may_repeat = transfer->saw_refusal = true;
	return 0;
}

/* Stops an answer that goes on with what is no body. */
static void
stop_flood(Transfer *transfer)
{
	transfer->was_cut = true;
	transfer->was_flooded = true;
}

static size_t
head_callback(char *line, size_t size, size_t count, void *client)
{
	Transfer   *transfer = client;
	size_t		length = size * count;
	long		status = 0;

	transfer->head += length;
	if (transfer->head > TRANSFER_MAX_HEAD)
	{
		stop_flood(transfer);
		return 0;
	}
	if (line[0] == '\r' || line[0] == '\n')
	{
		curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &status);
		transfer->has_head = (status >= 200);
	}
	return length;
}

static size_t
body_callback(char *data, size_t size, size_t count, void *client)
{
	Transfer   *transfer = client;
	size_t		length = size * count;
	size_t		room = transfer->body_size - transfer->kept;
	size_t		taken = Min(room, length);

	if (taken > 0)
		memcpy(transfer->body + transfer->kept, data, taken);
	transfer->kept += taken;
	transfer->received += length;
	if (transfer->received > transfer->body_size + MAX_DISCARDED)
	{
		transfer->was_cut = true;
		return 0;
	}
	return length;
}

/*
 * Chunk extensions and such reach no callback, so the socket is asked.  HTTP/2 has
 * nothing of the kind, and many answers on one socket.
 */
bool
transfer_is_flooded(Transfer *transfer)
{
	long		version = CURL_HTTP_VERSION_NONE;
	uint64		received;

	curl_easy_getinfo(transfer->handle, CURLINFO_HTTP_VERSION, &version);
	if (version > CURL_HTTP_VERSION_1_1 ||
		(version == CURL_HTTP_VERSION_NONE && transfer->may_use_http2))
		return false;
	received = socket_received(transfer->socket);
	if (transfer->flood_base == 0)
		transfer->flood_base = received;
	if (received - transfer->flood_base <=
		TRANSFER_MAX_HEAD + transfer->body_size + MAX_DISCARDED)
		return false;
	stop_flood(transfer);
	return true;
}

void
transfer_set_callbacks(Transfer *transfer)
{
	CURL	   *handle = transfer->handle;

	curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, open_socket_callback);
	curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_CLOSESOCKETFUNCTION, close_socket_callback);
#if LIBCURL_VERSION_NUM >= 0x075000
	curl_easy_setopt(handle, CURLOPT_PREREQFUNCTION, before_request_callback);
	curl_easy_setopt(handle, CURLOPT_PREREQDATA, transfer);
#endif
	curl_easy_setopt(handle, CURLOPT_DEBUGFUNCTION, debug_callback);
	curl_easy_setopt(handle, CURLOPT_DEBUGDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, head_callback);
	curl_easy_setopt(handle, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, body_callback);
	curl_easy_setopt(handle, CURLOPT_WRITEDATA, transfer);
}
