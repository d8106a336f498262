/*
 * post.c
 *	  What libcurl's multi interface can do alone: the reference of the
 *	  benchmarks of delivery.
 *
 * Usage: post URL HEADERS BODY COUNT IN_FLIGHT [LOG]
 *
 * POSTs the contents of file BODY, with the header lines of file HEADERS, COUNT
 * times, with IN_FLIGHT requests under way at once, over kept connections.
 * Easy handles are used again, and a descriptor stays registered with epoll
 * until its socket is closed.  Prints the seconds and the requests that failed.
 *
 * With LOG the requests are made one after the other, 2 ms apart; the "@KEY@" in
 * the body is replaced by a key of its own, and LOG gets a line with the key and
 * the time before its request, in nanoseconds of CLOCK_MONOTONIC.  The
 * environment variable CA names a file with a trusted certificate.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"

#define MAX_EVENTS 256
#define MAX_FDS 65536

static CURLM *multi;
static int	events_fd;
static long timeout = -1;
static char registered[MAX_FDS];
static char *body;
static size_t body_length;
static struct curl_slist *headers;
static long failed;

static char *
read_file(const char *name, size_t *length)
{
	FILE	   *file = fopen(name, "r");
	char	   *text = malloc(1 << 20);

	if (file == NULL)
	{
		perror(name);
		exit(1);
	}
	*length = fread(text, 1, (1 << 20) - 1, file);
	text[*length] = '\0';
	fclose(file);
	return text;
}

static int
socket_callback(CURL *handle, curl_socket_t socket, int what, void *client,
				void *known)
{
	struct epoll_event event = {.data.fd = socket};

	(void) handle, (void) client, (void) known;
	if (what == CURL_POLL_REMOVE || registered[socket] == what)
		return 0;
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) |
		(what & CURL_POLL_OUT ? EPOLLOUT : 0);
	epoll_ctl(events_fd, registered[socket] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
			  socket, &event);
	registered[socket] = (char) what;
	return 0;
}

static int
close_callback(void *client, curl_socket_t socket)
{
	(void) client;
	registered[socket] = 0;
	return close(socket);
}

static int
timer_callback(CURLM *handle, long milliseconds, void *client)
{
	(void) handle, (void) client;
	timeout = milliseconds;
	return 0;
}

static size_t
ignore(char *data, size_t size, size_t count, void *client)
{
	(void) data, (void) client;
	return size * count;
}

static CURL *
make_handle(const char *url)
{
	CURL	   *handle = curl_easy_init();

	curl_easy_setopt(handle, CURLOPT_URL, url);
	curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(handle, CURLOPT_POST, 1L);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, (long) body_length);
	curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, ignore);
	curl_easy_setopt(handle, CURLOPT_CLOSESOCKETFUNCTION, close_callback);
	curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, 120000L);
	if (getenv("CA"))
		curl_easy_setopt(handle, CURLOPT_CAINFO, getenv("CA"));
	return handle;
}

/* Takes what is done, and starts others in its place. */
static long
take_done(long *to_start)
{
	CURLMsg    *message;
	int			left;
	long		done = 0;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *handle = message->easy_handle;
		long		status;

		curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
		if (message->data.result != CURLE_OK || status != 200)
		{
			if (failed++ == 0)
				fprintf(stderr, "post: %s, status %ld\n",
						curl_easy_strerror(message->data.result), status);
		}
		curl_multi_remove_handle(multi, handle);
		done++;
		if (*to_start > 0)
		{
			(*to_start)--;
			curl_multi_add_handle(multi, handle);
		}
	}
	return done;
}

static void
wait_for_sockets(void)
{
	struct epoll_event events[MAX_EVENTS];
	int			running;
	int			count = epoll_wait(events_fd, events, MAX_EVENTS,
								   timeout < 0 ? 1000 : (int) timeout);

	for (int i = 0; i < count; i++)
		curl_multi_socket_action(multi, events[i].data.fd,
								 (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
								 (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
								 (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
								 &running);
	if (count == 0)
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

static void
post_many(const char *url, long count, long in_flight)
{
	long		to_start = count;
	long		to_end = count;

	multi = curl_multi_init();
	events_fd = epoll_create1(0);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, in_flight);
	for (; in_flight > 0 && to_start > 0; in_flight--, to_start--)
		curl_multi_add_handle(multi, make_handle(url));
	while (to_end > 0)
	{
		wait_for_sockets();
		to_end -= take_done(&to_start);
	}
}

static void
post_each(const char *url, long count, const char *log_name)
{
	FILE	   *log = fopen(log_name, "w");
	CURL	   *handle = make_handle(url);
	char	   *key = strstr(body, "@KEY@");

	if (log == NULL || key == NULL)
	{
		fprintf(stderr, "post: no log, or no @KEY@ in the body\n");
		exit(1);
	}
	for (long i = 0; i < count; i++)
	{
		struct timespec pause = {0, 2000000};
		char		digits[8];

		snprintf(digits, sizeof(digits), "K%04ld", i % 10000);
		memcpy(key, digits, 5);
		nanosleep(&pause, NULL);
		fprintf(log, "%s %lld\n", digits, (long long) now());
		failed += (curl_easy_perform(handle) != CURLE_OK);
	}
	fclose(log);
}

int
main(int argc, char **argv)
{
	size_t		length;
	char	   *line;
	int64_t		started;

	if (argc < 6)
	{
		fprintf(stderr, "usage: post URL HEADERS BODY COUNT IN_FLIGHT [LOG]\n");
		return 2;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	for (line = strtok(read_file(argv[2], &length), "\r\n"); line;
		 line = strtok(NULL, "\r\n"))
	{
		/* libcurl knows it better: the body can be another one. */
		if (strncasecmp(line, "Content-Length:", 15) != 0)
			headers = curl_slist_append(headers, line);
	}
	headers = curl_slist_append(headers, "Expect:");
	body = read_file(argv[3], &body_length);
	started = now();
	if (argc > 6)
		post_each(argv[1], atol(argv[4]), argv[6]);
	else
		post_many(argv[1], atol(argv[4]), atol(argv[5]));
	printf("%.6f %ld\n", (double) (now() - started) / 1e9, failed);
	return 0;
}
