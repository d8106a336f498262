/*-------------------------------------------------------------------------
 *
 * http.c
 *	  The HTTP client: many requests at once, inside a process's own wait.
 *
 * Signals are blocked around the calls that may start libcurl's resolver
 * threads, which would otherwise run PostgreSQL's signal handlers.  Callbacks
 * never tell libcurl that something failed: it would end all transfers.
 *
 * IDENTIFICATION
 *	  src/deliver/http.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <time.h>

#include "deliver/http.h"
#include "deliver/sockets.h"
#include "deliver/transfer.h"
#include "server/settings.h"
#include "storage/fd.h"
#include "store/statement.h"

/*
 * So many descriptors are left for PostgreSQL's own sets of wait events, and so
 * many a process has before it counts any.
 */
#define RESERVED_DESCRIPTORS 8
#define BASE_DESCRIPTORS 64

/* So many sockets are looked after at once. */
#define MAX_READY 256

/* How often those that connect are run, in milliseconds: a tenth of their time. */
#define MIN_NUDGE 10
#define MAX_NUDGE 500

/* How often an answer is read without a look at how long it is. */
#define READS_BETWEEN_LOOKS 4

static CURLM *multi = NULL;
static int64 timer_at;			/* as monotonic_now(), if it is set */
static bool timer_is_set;
static bool needs_nudges;		/* to connect: libcurl is that old */
static int64 nudge_at;			/* likewise, while transfers_connecting */
static bool cant_watch;			/* a transfer's watch_error was set */
static dlist_head active = DLIST_STATIC_INIT(active);
static dlist_head finished = DLIST_STATIC_INIT(finished);
static int	nactive;
static int	nfinished;
static int	limit;				/* of requests under way, for ... */
static int	limit_setting;		/* ... this max_in_flight */
static Transfer *handed_out;	/* its strings are with the caller */

/* Microseconds on a clock that nobody sets. */
static int64
monotonic_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

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
 * libcurl's callbacks
 */

static Transfer *
transfer_of(CURL *handle)
{
	Transfer   *transfer = NULL;

	curl_easy_getinfo(handle, CURLINFO_PRIVATE, (char **) &transfer);
	return transfer;
}

/*
 * One that can't be listened to ends later, and alone.  A handle without a
 * transfer is libcurl's own, in which it closes connections.
 */
static int
socket_callback(CURL *handle, curl_socket_t socket, int what,
				void *client pg_attribute_unused(),
				void *known pg_attribute_unused())
{
	Transfer   *transfer = transfer_of(handle);
	bool		done = socket_watch(socket, what);

	if (transfer == NULL || what == CURL_POLL_REMOVE)
		return 0;
	transfer->socket = socket;
	if (!done)
	{
		transfer->watch_error = errno;
		cant_watch = true;
	}
	return 0;
}

static int
timer_callback(CURLM *handle pg_attribute_unused(), long milliseconds,
			   void *client pg_attribute_unused())
{
	timer_is_set = (milliseconds >= 0);
	if (timer_is_set)
		timer_at = monotonic_now() + milliseconds * INT64CONST(1000);
	return 0;
}

/*
 * The client
 */

void
http_open(void)
{
	static bool curl_is_initialized = false;
	sigset_t	saved;
	bool		is_old;

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

	if (!sockets_open())
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
	cant_watch = false;
	is_old = (curl_version_info(CURLVERSION_NOW)->version_num < 0x080e00);
	needs_nudges = is_old;

	/*
	 * To a host that has spoken HTTP/2 once, 7.88 also sends a request on a
	 * connection of HTTP/1.1 that waits for the answer to another one, which
	 * is taken for this one's then.  8.14 doesn't (ConnectionExists(),
	 * url_match_multiplex_needs() in its lib/url.c); and none does without
	 * multiplexing.
	 */
	if (is_old)
		curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	nudge_at = 0;
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
				(errmsg("webhook_events.max_in_flight is %d, but the worker of database \"%s\" has descriptors for only %d requests",
						limit_setting, work_database(), limit),
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
		transfer_free(transfer);
	}
}

/* Could a resolver thread be under way for it? */
static bool
is_nowhere(const Transfer *transfer)
{
	return transfer->address[0] == '\0';
}

static bool
is_resolving(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &active)
	{
		if (is_nowhere(dlist_container(Transfer, node, iter.cur)))
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
		transfer_free(handed_out);
	handed_out = NULL;
	free_list(&active);
	free_list(&finished);
	transfer_free_idle();
	nactive = nfinished = 0;
	curl_multi_cleanup(multi);
	multi = NULL;
	restore_signals(&saved);
	sockets_close();
}

int
http_descriptor(void)
{
	return sockets_descriptor();
}

long
http_timeout(void)
{
	int64		until = timer_is_set ? timer_at : PG_INT64_MAX;
	int64		left;

	if (nfinished > 0)
		return 0;
	if (needs_nudges && transfers_are_connecting())
		until = Min(until, nudge_at);
	if (until == PG_INT64_MAX)
		return -1;
	left = until - monotonic_now();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

int
http_in_flight(void)
{
	return nactive + nfinished;
}

/* Its handle is no longer libcurl's to work with, or never was. */
static void
finish(Transfer *transfer, CURLcode code)
{
	transfer_note_end(transfer, code);
	dlist_delete(&transfer->node);
	nactive--;
	dlist_push_tail(&finished, &transfer->node);
	nfinished++;
}

void
http_start(const HttpRequest *request)
{
	Transfer   *transfer = transfer_get();

	transfer_prepare(transfer, request);
	dlist_push_tail(&active, &transfer->node);
	nactive++;

	/* This sets a timer, no more: names are resolved by http_process(). */
	if (curl_multi_add_handle(multi, transfer->handle) != CURLM_OK)
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

		if (message->msg != CURLMSG_DONE)
			continue;
		if (transfer_try_anew(transfer_of(handle)))
		{
			curl_multi_remove_handle(multi, handle);
			if (curl_multi_add_handle(multi, handle) == CURLM_OK)
				continue;
		}
		finish(transfer_of(handle), code);
		curl_multi_remove_handle(multi, handle);
	}
}

/* Ends a transfer that libcurl would go on with. */
static void
break_off(Transfer *transfer, CURLcode code)
{
	curl_multi_remove_handle(multi, transfer->handle);
	finish(transfer, code);
}

/* Ends those that can't be listened to. */
static void
end_unwatched(void)
{
	dlist_mutable_iter iter;

	cant_watch = false;
	dlist_foreach_modify(iter, &active)
	{
		Transfer   *transfer = dlist_container(Transfer, node, iter.cur);

		if (transfer->watch_error != 0)
			break_off(transfer, CURLE_WRITE_ERROR);
	}
}

/* Most answers are read at once, and their length needs no look. */
static bool
is_time_to_look(curl_socket_t socket)
{
	int			reads = socket_reads(socket);

	return reads != 0 && reads % READS_BETWEEN_LOOKS == 0;
}

/* Ends the transfer that reads from this socket, if it has no end itself. */
static void
end_flooded(curl_socket_t socket)
{
	dlist_iter	iter;

	dlist_foreach(iter, &active)
	{
		Transfer   *transfer = dlist_container(Transfer, node, iter.cur);

		if (transfer->socket != socket)
			continue;
		if (transfer_is_flooded(transfer))
			break_off(transfer, CURLE_WRITE_ERROR);
		return;
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

/*
 * libcurl gives each of a name's addresses a part of the time that there is to
 * connect, but old versions set no timer for its end, and when it is over none for
 * the next address: all transfers have to be run.  The function is deprecated
 * because it is slow; there is no other.
 */
static void
nudge_connecting(void)
{
	int64		now = monotonic_now();
	int			running;

	if (nudge_at > now)
		return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	curl_multi_socket_all(multi, &running);
#pragma GCC diagnostic pop
	nudge_at = now + Min(Max(setting_connect_timeout / 10, MIN_NUDGE), MAX_NUDGE) *
		INT64CONST(1000);
}

void
http_process(void)
{
	ReadySocket ready[MAX_READY];
	sigset_t	saved;
	int			count;
	int			running;

	if (multi == NULL)
		return;
	block_signals(&saved);
	count = sockets_take_ready(ready, MAX_READY);
	for (int i = 0; i < count; i++)
	{
		curl_multi_socket_action(multi, ready[i].socket, ready[i].flags, &running);
		if (is_time_to_look(ready[i].socket))
			end_flooded(ready[i].socket);
	}
	if (timer_is_set && timer_at <= monotonic_now())
		run_timer();
	if (needs_nudges && transfers_are_connecting())
		nudge_connecting();
	if (cant_watch)
		end_unwatched();
	take_finished();
	restore_signals(&saved);
}

int
http_give_up(void)
{
	dlist_mutable_iter iter;
	sigset_t	saved;
	int			count = 0;

	block_signals(&saved);
	dlist_foreach_modify(iter, &active)
	{
		Transfer   *transfer = dlist_container(Transfer, node, iter.cur);

		if (transfer->is_last || is_nowhere(transfer))
			continue;
		transfer->was_given_up = true;
		break_off(transfer, CURLE_OPERATION_TIMEDOUT);
		count++;
	}
	restore_signals(&saved);
	return count;
}

bool
http_next_address(void **owner, const char **address)
{
	dlist_iter	iter;

	if (!transfers_have_news())
		return false;
	dlist_foreach(iter, &active)
	{
		Transfer   *transfer = dlist_container(Transfer, node, iter.cur);

		if (!transfer->address_is_news)
			continue;
		transfer->address_is_news = false;
		*owner = transfer->owner;
		*address = transfer->address;
		return true;
	}
	transfers_forget_news();
	return false;
}

bool
http_next_result(HttpResult *result)
{
	if (handed_out)
		transfer_put(handed_out);
	handed_out = NULL;
	if (nfinished == 0)
		return false;
	handed_out = dlist_container(Transfer, node, dlist_pop_head_node(&finished));
	nfinished--;
	transfer_result(handed_out, result);
	return true;
}
