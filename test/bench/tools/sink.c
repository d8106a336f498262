/*
 * sink.c
 *	  A receiver of webhooks that costs little, for benchmarks.
 *
 * Usage: sink LOG BEHAVIOUR=PORT...
 *
 * Listens on 127.0.0.1.  Behaviours: "ok" answers at once, "slow" after one
 * second, "hang" never, and "reset" resets the connection.  For each request
 * that is answered, LOG gets a line with the value of "actorRunId" in its body
 * and when it was complete, in nanoseconds of CLOCK_MONOTONIC.  The log is whole
 * after SIGTERM, or when nothing has come for a while.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define MAX_CONNECTIONS 65536
#define MAX_EVENTS 256
#define DELAY INT64_C(1000000000)

typedef enum Behaviour
{
	LISTENS = 1,				/* flag of sockets that accept */
	OK = 2,
	SLOW = 4,
	HANG = 8,
	RESET = 16
} Behaviour;

typedef struct Connection
{
	int			behaviour;		/* 0: not open */
	unsigned	number;			/* tells connections of one descriptor apart */
	size_t		length;
	size_t		size;
	char	   *data;
} Connection;

/* An answer that is to be given later; all have the same delay. */
typedef struct Late
{
	int			fd;
	unsigned	number;
	int64_t		at;
} Late;

static Connection connections[MAX_CONNECTIONS];
static Late *late;
static size_t first_late,
			nlate,
			late_size;
static FILE *log_file;
static int	events_fd;
static volatile sig_atomic_t must_stop;

static const char answer[] =
"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static void
handle_stop(int signal)
{
	(void) signal;
	must_stop = 1;
}

static void
watch(int fd, int behaviour)
{
	struct epoll_event event = {.events = EPOLLIN,.data.fd = fd};

	if (fd >= MAX_CONNECTIONS)
	{
		close(fd);
		return;
	}
	connections[fd].behaviour = behaviour;
	connections[fd].number++;
	connections[fd].length = 0;
	if (epoll_ctl(events_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		die("epoll_ctl");
}

static void
listen_on(const char *argument)
{
	static const struct
	{
		const char *name;
		int			behaviour;
	}			names[] = {{"ok", OK}, {"slow", SLOW}, {"hang", HANG}, {"reset", RESET}};
	const char *port = strchr(argument, '=');
	struct sockaddr_in address = {.sin_family = AF_INET};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int			on = 1;

	for (int i = 0; port != NULL && i < 4; i++)
	{
		if (strncmp(argument, names[i].name, port - argument) != 0)
			continue;
		address.sin_port = htons((uint16_t) atoi(port + 1));
		address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
			listen(fd, 4096) != 0)
			die(argument);
		watch(fd, names[i].behaviour | LISTENS);
		return;
	}
	fprintf(stderr, "sink: \"%s\" is not BEHAVIOUR=PORT\n", argument);
	exit(2);
}

static void
end(int fd, int reset)
{
	struct linger linger = {1, 0};

	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	connections[fd].behaviour = 0;
	connections[fd].number++;
	close(fd);
}

static void
send_answer(int fd)
{
	if (write(fd, answer, sizeof(answer) - 1) != sizeof(answer) - 1)
		end(fd, 1);
}

static void
log_request(const char *body, const char *limit)
{
	static const char key[] = "\"actorRunId\":";
	const char *value = memmem(body, limit - body, key, sizeof(key) - 1);
	const char *value_end;

	if (value == NULL)
		return;
	value = memchr(value + sizeof(key) - 1, '"', limit - value - (sizeof(key) - 1));
	value_end = value ? memchr(value + 1, '"', limit - value - 1) : NULL;
	if (value_end)
		fprintf(log_file, "%.*s %lld\n", (int) (value_end - value - 1), value + 1,
				(long long) now());
}

static void
answer_later(int fd)
{
	if (nlate == late_size)
	{
		/* Make room at the front, or else at the end. */
		memmove(late, late + first_late, (nlate - first_late) * sizeof(Late));
		nlate -= first_late;
		first_late = 0;
		if (nlate * 2 >= late_size)
		{
			late_size = late_size * 2 + 1024;
			late = realloc(late, late_size * sizeof(Late));
		}
	}
	late[nlate++] = (Late) {fd, connections[fd].number, now() + DELAY};
}

/* Deals with what is complete of what was read. */
static void
take_requests(int fd)
{
	Connection *c = &connections[fd];

	while (c->behaviour != 0)
	{
		char	   *head_end = memmem(c->data, c->length, "\r\n\r\n", 4);
		char	   *field;
		size_t		total;

		if (head_end == NULL)
			return;
		*head_end = '\0';
		field = strcasestr(c->data, "\r\ncontent-length:");
		total = head_end + 4 - c->data + (field ? strtoul(field + 17, NULL, 10) : 0);
		*head_end = '\r';
		if (c->length < total)
			return;
		if (c->behaviour == RESET)
		{
			end(fd, 1);
			return;
		}
		if (c->behaviour != HANG)
			log_request(head_end + 4, c->data + total);
		if (c->behaviour == OK)
			send_answer(fd);
		else if (c->behaviour == SLOW)
			answer_later(fd);
		memmove(c->data, c->data + total, c->length - total);
		c->length -= total;
	}
}

static void
take_input(int fd)
{
	Connection *c = &connections[fd];
	ssize_t		count;

	if (c->behaviour & LISTENS)
	{
		int			one = 1;
		int			client;

		while ((client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		{
			setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
			watch(client, c->behaviour & ~LISTENS);
		}
		return;
	}
	if (c->size < c->length + 16384)
	{
		c->size = c->length + 65536;
		c->data = realloc(c->data, c->size + 1);
	}
	count = read(fd, c->data + c->length, c->size - c->length);
	if (count < 0 && errno == EAGAIN)
		return;
	if (count <= 0)
	{
		end(fd, 0);
		return;
	}
	c->length += count;
	take_requests(fd);
}

/* Gives the late answers whose time has come; milliseconds until the next. */
static int
give_late_answers(void)
{
	int64_t		time = now();

	for (; first_late < nlate; first_late++)
	{
		Late	   *next = &late[first_late];

		if (next->at > time)
			return (int) ((next->at - time) / 1000000 + 1);
		if (connections[next->fd].number == next->number)
			send_answer(next->fd);
	}
	return -1;
}

int
main(int argc, char **argv)
{
	struct epoll_event events[MAX_EVENTS];

	if (argc < 3 || (log_file = fopen(argv[1], "w")) == NULL)
	{
		fprintf(stderr, "usage: sink LOG BEHAVIOUR=PORT...\n");
		return 2;
	}
	setvbuf(log_file, NULL, _IOFBF, 1 << 20);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, handle_stop);
	events_fd = epoll_create1(0);
	for (int i = 2; i < argc; i++)
		listen_on(argv[i]);
	while (!must_stop)
	{
		int			wait = give_late_answers();
		int			count = epoll_wait(events_fd, events, MAX_EVENTS,
									   wait >= 0 && wait < 50 ? wait : 50);

		if (count <= 0)
			fflush(log_file);
		for (int i = 0; i < count; i++)
			take_input(events[i].data.fd);
	}
	fclose(log_file);
	return 0;
}
