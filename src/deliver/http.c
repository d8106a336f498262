/*-------------------------------------------------------------------------
 *
 * http.c
 *	  The HTTP client: many requests at once, inside a process's own wait.
 *
 * libcurl tells through a callback which sockets it wants to hear of; they are
 * kept in one epoll (or kqueue) descriptor, which the process waits for along
 * with its latch.  A socket stays registered until it is closed: registering it
 * anew for every request would cost a quarter of the throughput.
 *
 * No error is raised and nothing is palloc'd inside libcurl's callbacks: they
 * note what happened, and return.  Signals are blocked around the calls that
 * may start libcurl's resolver threads, which would otherwise run PostgreSQL's
 * signal handlers.
 *
 * IDENTIFICATION
 *	  src/deliver/http.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>
#include <signal.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/epoll.h>
#else
#include <sys/event.h>
#endif

#include "deliver/http.h"
#include "lib/ilist.h"
#include "rules/address.h"
#include "rules/headers.h"
#include "server/settings.h"
#include "storage/fd.h"
#include "store/request.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So much of a body is read beyond what is kept, to save the connection. */
#define MAX_DISCARDED (64 * 1024)

/* So many handles are kept for later requests. */
#define MAX_IDLE_HANDLES 1024

/*
 * So many descriptors are left for PostgreSQL's own sets of wait events, and so
 * many a process has before it counts any.
 */
#define RESERVED_DESCRIPTORS 8
#define BASE_DESCRIPTORS 64

/* Readiness is taken from the kernel in portions of this size. */
#define MAX_EVENTS 256

typedef struct Transfer
{
	int			generation;		/* of the settings that the handle was made
								 * for */
	dlist_node	node;			/* in active, finished or idle */
	CURL	   *handle;
	struct curl_slist *headers;
	void	   *owner;
	TimestampTz started_at;
	TimestampTz finished_at;
	CURLcode	code;
	long		status;
	int64		retry_after;
	size_t		received;		/* bytes of the body */
	bool		was_cut;		/* we stopped it, having read enough */
	bool		was_refused;	/* because of "address x" or "port n" */
	char		refused[ADDRESS_TEXT_SIZE + 16];
	bool		lacks_descriptors;
	bool		has_address;	/* its name was resolved */
	size_t		kept;			/* bytes in body */
	char	   *body;			/* malloc'd, body_size bytes */
	size_t		body_size;
	char		error_buffer[CURL_ERROR_SIZE];
	char		error[CURL_ERROR_SIZE + 64];
} Transfer;

static CURLM *multi = NULL;
static int	events_fd = -1;
static TimestampTz timer_at;	/* 0: libcurl has set no timer */
static bool timer_is_set;
static dlist_head active = DLIST_STATIC_INIT(active);
static dlist_head finished = DLIST_STATIC_INIT(finished);
static dlist_head idle = DLIST_STATIC_INIT(idle);
static int	nactive;
static int	nfinished;
static int	nidle;
static int	limit;				/* of requests under way, for ... */
static int	limit_setting;		/* ... this max_in_flight */
static Transfer *handed_out;	/* its strings are with the caller */

/*
 * Signals
 */

static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/*
 * The descriptor
 */

/* For each socket, by its number: CURL_POLL_* or 0 for nothing. */
typedef struct Watch
{
	char		wanted;			/* what libcurl wants to hear of */
	char		registered;		/* what we hear of */
	bool		is_connection;	/* it is closed by close_socket_callback() */
} Watch;

static Watch *watches = NULL;
static int	nwatches = 0;

#ifdef __linux__

static int
open_events(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

/* Registers a socket, or changes for what it is. */
static bool
register_socket(curl_socket_t socket, int what, bool is_registered)
{
	struct epoll_event event = {0};

	event.data.fd = socket;
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		event.events |= EPOLLIN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		event.events |= EPOLLOUT;
	return epoll_ctl(events_fd, is_registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
					 socket, &event) == 0;
}

static void
unregister_socket(curl_socket_t socket)
{
	struct epoll_event event = {0};

	(void) epoll_ctl(events_fd, EPOLL_CTL_DEL, socket, &event);
}

typedef struct epoll_event Readiness;

static int
take_readiness(Readiness *events)
{
	return epoll_wait(events_fd, events, MAX_EVENTS, 0);
}

static curl_socket_t
readiness_of(const Readiness *event, int *flags)
{
	*flags = 0;
	if (event->events & EPOLLIN)
		*flags |= CURL_CSELECT_IN;
	if (event->events & EPOLLOUT)
		*flags |= CURL_CSELECT_OUT;
	if (event->events & (EPOLLERR | EPOLLHUP))
		*flags |= CURL_CSELECT_ERR;
	return event->data.fd;
}

#else

static int
open_events(void)
{
	return kqueue();
}

static void
change_filter(curl_socket_t socket, int filter, bool add)
{
	struct kevent change;

	EV_SET(&change, socket, filter, add ? EV_ADD : EV_DELETE, 0, 0, NULL);
	(void) kevent(events_fd, &change, 1, NULL, 0, NULL);
}

static bool
register_socket(curl_socket_t socket, int what,
				bool is_registered pg_attribute_unused())
{
	change_filter(socket, EVFILT_READ,
				  what == CURL_POLL_IN || what == CURL_POLL_INOUT);
	change_filter(socket, EVFILT_WRITE,
				  what == CURL_POLL_OUT || what == CURL_POLL_INOUT);
	return true;
}

static void
unregister_socket(curl_socket_t socket)
{
	change_filter(socket, EVFILT_READ, false);
	change_filter(socket, EVFILT_WRITE, false);
}

typedef struct kevent Readiness;

static int
take_readiness(Readiness *events)
{
	struct timespec now = {0, 0};

	return kevent(events_fd, NULL, 0, events, MAX_EVENTS, &now);
}

static curl_socket_t
readiness_of(const Readiness *event, int *flags)
{
	*flags = (event->filter == EVFILT_READ) ? CURL_CSELECT_IN : CURL_CSELECT_OUT;
	if (event->flags & EV_ERROR)
		*flags |= CURL_CSELECT_ERR;
	return (curl_socket_t) event->ident;
}

#endif

/* The entry of a socket, made if need be; NULL if memory ran out. */
static Watch *
watch_of(curl_socket_t socket)
{
	if (socket >= nwatches)
	{
		int			count = Max(2 * nwatches, socket + 64);
		Watch	   *bigger = realloc(watches, sizeof(Watch) * count);

		if (bigger == NULL)
			return NULL;
		memset(bigger + nwatches, 0, sizeof(Watch) * (count - nwatches));
		watches = bigger;
		nwatches = count;
	}
	return &watches[socket];
}

static void
stop_watching(Watch *watch, curl_socket_t socket)
{
	if (watch->registered)
		unregister_socket(socket);
	watch->registered = 0;
}

/*
 * libcurl's callbacks
 */

/*
 * A socket that libcurl has lost interest in stays registered, for its
 * connection may be used again soon; if it becomes ready before that,
 * http_process() unregisters it.  Those by which resolver threads report are
 * closed without a word, so they don't stay.
 */
static int
socket_callback(CURL *handle pg_attribute_unused(), curl_socket_t socket,
				int what, void *client pg_attribute_unused(),
				void *known pg_attribute_unused())
{
	Watch	   *watch = watch_of(socket);

	if (watch == NULL)
		return -1;
	watch->wanted = (what == CURL_POLL_REMOVE) ? 0 : what;
	if (watch->wanted == 0 && !watch->is_connection)
		stop_watching(watch, socket);
	if (watch->wanted == 0 || watch->wanted == watch->registered)
		return 0;
	if (!register_socket(socket, what, watch->registered != 0))
		return -1;
	watch->registered = watch->wanted;
	return 0;
}

static int
timer_callback(CURLM *handle pg_attribute_unused(), long milliseconds,
			   void *client pg_attribute_unused())
{
	timer_is_set = (milliseconds >= 0);
	if (timer_is_set)
		timer_at = GetCurrentTimestamp() + milliseconds * INT64CONST(1000);
	return 0;
}

/* A proxy is where we were told to go; it judges what is behind it. */
static bool
allow(Transfer *transfer, const struct sockaddr *address)
{
	char		text[ADDRESS_TEXT_SIZE];

	transfer->has_address = true;
	if (*setting_proxy || settings_allow_address(address))
		return true;
	transfer->was_refused = true;
	address_to_text(address, text);
	snprintf(transfer->refused, sizeof(transfer->refused), "address %s", text);
	return false;
}

/* Makes a socket for an address, if it is one that may be reached. */
static curl_socket_t
open_socket_callback(void *client, curlsocktype purpose pg_attribute_unused(),
					 struct curl_sockaddr *address)
{
	Transfer   *transfer = client;
	curl_socket_t result;
	Watch	   *watch;

	if (!allow(transfer, &address->addr))
		return CURL_SOCKET_BAD;
	if (!AcquireExternalFD())
	{
		transfer->lacks_descriptors = true;
		return CURL_SOCKET_BAD;
	}
	result = socket(address->family, address->socktype, address->protocol);
	watch = (result == CURL_SOCKET_BAD) ? NULL : watch_of(result);
	if (watch != NULL)
	{
		watch->is_connection = true;
		return result;
	}
	transfer->lacks_descriptors = (errno == EMFILE || errno == ENFILE);
	if (result != CURL_SOCKET_BAD)
		close(result);
	ReleaseExternalFD();
	return CURL_SOCKET_BAD;
}

static int
close_socket_callback(void *client pg_attribute_unused(), curl_socket_t socket)
{
	Watch	   *watch = watch_of(socket);

	if (watch != NULL)
	{
		stop_watching(watch, socket);
		watch->wanted = 0;
		watch->is_connection = false;
	}
	ReleaseExternalFD();
	return close(socket);
}

#if LIBCURL_VERSION_NUM >= 0x075000
/* A connection that is used again may lead where it no longer may. */
static int
before_request_callback(void *client, char *address,
						char *local_address pg_attribute_unused(),
						int port pg_attribute_unused(),
						int local_port pg_attribute_unused())
{
	Transfer   *transfer = client;
	struct sockaddr_storage peer;

	if (!address_from_text(address, &peer) ||
		!allow(transfer, (struct sockaddr *) &peer))
		return CURL_PREREQFUNC_ABORT;
	return CURL_PREREQFUNC_OK;
}
#endif

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
 * Handles
 */

/* Sets the options that all requests share. */
static void
set_common_options(Transfer *transfer)
{
	CURL	   *handle = transfer->handle;

	curl_easy_setopt(handle, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, transfer->error_buffer);
	curl_easy_setopt(handle, CURLOPT_USERAGENT, REQUEST_USER_AGENT);
	curl_easy_setopt(handle, CURLOPT_PROXY, setting_proxy);
	curl_easy_setopt(handle, CURLOPT_NOPROXY, "");
	curl_easy_setopt(handle, CURLOPT_SSLVERSION, (long) setting_tls_min_version);
	if (*setting_ca_file)
		curl_easy_setopt(handle, CURLOPT_CAINFO, setting_ca_file);
	if (*setting_client_certificate_file)
		curl_easy_setopt(handle, CURLOPT_SSLCERT, setting_client_certificate_file);
	if (*setting_client_key_file)
		curl_easy_setopt(handle, CURLOPT_SSLKEY, setting_client_key_file);
	curl_easy_setopt(handle, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(handle, CURLOPT_PROTOCOLS,
					 (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, open_socket_callback);
	curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_CLOSESOCKETFUNCTION, close_socket_callback);
#if LIBCURL_VERSION_NUM >= 0x075000
	curl_easy_setopt(handle, CURLOPT_PREREQFUNCTION, before_request_callback);
	curl_easy_setopt(handle, CURLOPT_PREREQDATA, transfer);
#endif
	curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, body_callback);
	curl_easy_setopt(handle, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(handle, CURLOPT_POST, 1L);
}

static void
free_transfer(Transfer *transfer)
{
	if (transfer->handle)
		curl_easy_cleanup(transfer->handle);
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

/* A transfer that isn't in use, with room for the body that is to be kept. */
static Transfer *
get_transfer(void)
{
	size_t		body_size = setting_response_body_limit;
	Transfer   *transfer = NULL;

	while (nidle > 0 && transfer == NULL)
	{
		transfer = dlist_container(Transfer, node, dlist_pop_head_node(&idle));
		nidle--;
		if (transfer->generation == setting_client_generation)
			break;
		free_transfer(transfer);
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
			free_transfer(transfer);
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
			free_transfer(transfer);
			out_of_memory();
		}
		transfer->body_size = body_size;
	}
	return transfer;
}

static void
put_transfer(Transfer *transfer)
{
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	if (nidle >= MAX_IDLE_HANDLES)
	{
		free_transfer(transfer);
		return;
	}
	dlist_push_head(&idle, &transfer->node);
	nidle++;
}

static void
add_header(Transfer *transfer, const char *line)
{
	struct curl_slist *list = curl_slist_append(transfer->headers, line);

	if (list == NULL)
	{
		put_transfer(transfer);
		out_of_memory();
	}
	transfer->headers = list;
}

static void
add_headers(Transfer *transfer, List *headers)
{
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
	}
	pfree(line.data);
	add_header(transfer, "Expect:");
}

/*
 * The client
 */

void
http_open(void)
{
	static bool curl_is_initialized = false;
	sigset_t	saved;

	Assert(multi == NULL);
	block_signals(&saved);
	if (!curl_is_initialized)
		curl_is_initialized = (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
	multi = curl_is_initialized ? curl_multi_init() : NULL;
	restore_signals(&saved);
	if (multi == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not initialize libcurl")));

	ReserveExternalFD();
	events_fd = open_events();
	if (events_fd < 0)
	{
		int			saved_errno = errno;

		http_close();
		errno = saved_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create a descriptor to wait for HTTP requests: %m")));
	}
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	timer_is_set = false;
	limit_setting = 0;
}

/*
 * PostgreSQL allows a process a third of its descriptors for other things than
 * its files.
 */
int
http_limit(void)
{
	int			most = Max(max_safe_fds / 3 - RESERVED_DESCRIPTORS, 1);

	if (setting_max_in_flight == limit_setting)
		return limit;
	limit_setting = setting_max_in_flight;
	limit = Min(limit_setting, most);
	if (limit < limit_setting)
		ereport(WARNING,
				(errmsg("webhook_events.max_in_flight is %d, but the worker has descriptors for only %d requests",
						limit_setting, limit),
				 errhint("Set max_files_per_process, and the system's limit on open files of a process, to at least %d.",
						 3 * (limit_setting + RESERVED_DESCRIPTORS) + BASE_DESCRIPTORS)));
	if (multi != NULL)
	{
		curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) limit);
		curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) limit);
	}
	return limit;
}

static void
free_list(dlist_head *list)
{
	while (!dlist_is_empty(list))
	{
		Transfer   *transfer = dlist_container(Transfer, node,
											   dlist_pop_head_node(list));

		curl_multi_remove_handle(multi, transfer->handle);
		curl_slist_free_all(transfer->headers);
		free_transfer(transfer);
	}
}

/* Could a resolver thread be under way? */
static bool
is_resolving(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &active)
	{
		if (!dlist_container(Transfer, node, iter.cur)->has_address)
			return true;
	}
	return false;
}

/*
 * libcurl's cleanup waits for resolver threads, for as long as the resolver
 * does.  We are not that patient: the process is about to end then, and leaves
 * all of it to the system.
 */
void
http_close(void)
{
	sigset_t	saved;

	if (multi == NULL || is_resolving())
		return;
	block_signals(&saved);
	if (handed_out)
		put_transfer(handed_out);
	handed_out = NULL;
	free_list(&active);
	free_list(&finished);
	free_list(&idle);
	nactive = nfinished = nidle = 0;
	curl_multi_cleanup(multi);
	multi = NULL;
	restore_signals(&saved);
	if (events_fd >= 0)
		close(events_fd);
	events_fd = -1;
	ReleaseExternalFD();
}

int
http_descriptor(void)
{
	return events_fd;
}

long
http_timeout(void)
{
	if (nfinished > 0)
		return 0;
	if (!timer_is_set)
		return -1;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), timer_at);
}

int
http_in_flight(void)
{
	return nactive + nfinished;
}

static void
finish(Transfer *transfer, CURLcode code)
{
	curl_off_t	retry_after = 0;

	transfer->code = code;
	transfer->finished_at = GetCurrentTimestamp();
	curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &transfer->status);
	if (transfer->status == 429 || transfer->status == 503)
		curl_easy_getinfo(transfer->handle, CURLINFO_RETRY_AFTER, &retry_after);
	transfer->retry_after = Min(retry_after, PG_INT32_MAX) * USECS_PER_SEC;
	dlist_delete(&transfer->node);
	nactive--;
	dlist_push_tail(&finished, &transfer->node);
	nfinished++;
}

void
http_start(const char *url, List *headers, const char *body,
		   size_t body_length, bool verify_tls, void *owner)
{
	Transfer   *transfer = get_transfer();
	CURL	   *handle = transfer->handle;

	transfer->owner = owner;
	transfer->started_at = GetCurrentTimestamp();
	transfer->status = 0;
	transfer->retry_after = 0;
	transfer->received = 0;
	transfer->kept = 0;
	transfer->was_cut = false;
	transfer->was_refused = false;
	transfer->lacks_descriptors = false;
	transfer->has_address = false;
	transfer->error_buffer[0] = '\0';
	add_headers(transfer, headers);

	curl_easy_setopt(handle, CURLOPT_URL, url);
	curl_easy_setopt(handle, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body_length);
	curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, (long) setting_request_timeout);
	curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, (long) setting_connect_timeout);
	curl_easy_setopt(handle, CURLOPT_DNS_CACHE_TIMEOUT, (long) setting_dns_cache_time);
	curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, verify_tls ? 1L : 0L);
	curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, verify_tls ? 2L : 0L);

	dlist_push_tail(&active, &transfer->node);
	nactive++;

	/* This sets a timer, no more: names are resolved by http_process(). */
	if (curl_multi_add_handle(multi, handle) != CURLM_OK)
		finish(transfer, CURLE_FAILED_INIT);
}

/* Takes the transfers that libcurl has done with. */
static void
take_finished(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *handle = message->easy_handle;
		CURLcode	code = message->data.result;
		Transfer   *transfer;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(handle, CURLINFO_PRIVATE, (char **) &transfer);
		finish(transfer, code);
		curl_multi_remove_handle(multi, handle);
	}
}

/*
 * Tells libcurl that its timer is up.  It sets the next one through the callback,
 * but not if that is where it thinks the timer is already: then we have to ask.
 */
static void
run_timer(void)
{
	long		milliseconds = -1;
	int			running;

	timer_is_set = false;
	curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	if (timer_is_set)
		return;
	curl_multi_timeout(multi, &milliseconds);
	if (milliseconds >= 0)
		(void) timer_callback(multi, Max(milliseconds, 1), NULL);
}

void
http_process(void)
{
	Readiness	events[MAX_EVENTS];
	sigset_t	saved;
	int			count;
	int			running;

	if (multi == NULL)
		return;
	block_signals(&saved);
	count = take_readiness(events);
	for (int i = 0; i < count; i++)
	{
		int			flags;
		curl_socket_t socket = readiness_of(&events[i], &flags);
		Watch	   *watch = watch_of(socket);

		if (watch != NULL && watch->wanted == 0)
			stop_watching(watch, socket);
		curl_multi_socket_action(multi, socket, flags, &running);
	}
	if (timer_is_set && timer_at <= GetCurrentTimestamp())
		run_timer();
	take_finished();
	restore_signals(&saved);
}

/* Says in one line why a transfer failed. */
static void
describe_failure(Transfer *transfer)
{
	const char *text = transfer->error_buffer[0] ?
	transfer->error_buffer : curl_easy_strerror(transfer->code);

	if (transfer->was_refused)
		snprintf(transfer->error, sizeof(transfer->error),
				 "%s is not allowed", transfer->refused);
	else if (transfer->lacks_descriptors)
		snprintf(transfer->error, sizeof(transfer->error),
				 "no file descriptor was left; raise the system's limit or lower webhook_events.max_in_flight");
	else
		strlcpy(transfer->error, text, sizeof(transfer->error));
	for (char *p = transfer->error; *p; p++)
	{
		if ((unsigned char) *p < ' ')
			*p = ' ';
	}
}

bool
http_next_result(HttpResult *result)
{
	Transfer   *transfer;
	bool		went_well;

	if (handed_out)
		put_transfer(handed_out);
	handed_out = NULL;
	if (nfinished == 0)
		return false;
	transfer = dlist_container(Transfer, node, dlist_pop_head_node(&finished));
	nfinished--;
	handed_out = transfer;

	went_well = (transfer->code == CURLE_OK ||
				 (transfer->was_cut && transfer->code == CURLE_WRITE_ERROR));
	if (!went_well)
		describe_failure(transfer);
	result->owner = transfer->owner;
	result->started_at = transfer->started_at;
	result->finished_at = transfer->finished_at;
	result->status = (int) transfer->status;
	result->error = went_well ? NULL : transfer->error;
	result->body = transfer->body;
	result->body_length = transfer->kept;
	result->retry_after = transfer->retry_after;
	return true;
}
