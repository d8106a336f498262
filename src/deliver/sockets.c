/*-------------------------------------------------------------------------
 *
 * sockets.c
 *	  The sockets of the HTTP client, behind one descriptor to wait for.
 *
 * libcurl tells through a callback which sockets it wants to hear of; they are
 * kept in one epoll descriptor.  A socket stays there until it is closed:
 * registering it anew for every request would cost a quarter of the throughput.
 *
 * What is known of a socket goes by its number, and libcurl 7.88 to 8.1 closes
 * sockets that are not connected yet (after a timeout, or when another address
 * was faster) without a word.  The kernel forgets such a socket, and its number
 * comes again as another socket, a resolver's pipe, or a file of PostgreSQL's.
 * So those that we made are known by device and inode as well, and the kernel
 * has the last word on what is registered.
 *
 * IDENTIFICATION
 *	  src/deliver/sockets.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deliver/sockets.h"
#include "storage/fd.h"

/* Readiness is taken from the kernel in portions of this size. */
#define MAX_EVENTS 256

/* What is known of a descriptor, by its number; what to hear is CURL_POLL_*. */
typedef struct Watch
{
	int			wanted;			/* by libcurl; 0: nothing */
	int			registered;		/* with the kernel, if all is as we think */
	int			nreads;			/* since "wanted" was 0 */
	bool		is_ours;		/* made here and counted, and then it is ... */
	dev_t		device;
	ino_t		inode;
	int			local_port;		/* 0: not connected, as far as we know */
	bool		is_stirred;		/* it became ready while nothing was wanted */
} Watch;

static int	events_fd = -1;
static Watch *watches = NULL;
static int	nwatches = 0;
static int	nstirred = 0;

/* The entry of a descriptor, made if need be; NULL if memory ran out. */
static Watch *
watch_of(curl_socket_t socket)
{
	if (socket >= nwatches)
	{
		int			count = Max(2 * nwatches, socket + 64);
		Watch	   *bigger = realloc(watches, sizeof(Watch) * count);

		if (bigger == NULL)
		{
			errno = ENOMEM;
			return NULL;
		}
		memset(bigger + nwatches, 0, sizeof(Watch) * (count - nwatches));
		watches = bigger;
		nwatches = count;
	}
	return &watches[socket];
}

/*
 * Registers a descriptor, or changes what for; what we know of that may be
 * about an earlier one of this number.
 */
static bool
register_watch(Watch *watch, curl_socket_t socket)
{
	struct epoll_event event = {.data.fd = socket};
	int			what = watch->wanted;
	bool		done;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		event.events |= EPOLLIN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		event.events |= EPOLLOUT;
	if (watch->registered)
		done = epoll_ctl(events_fd, EPOLL_CTL_MOD, socket, &event) == 0 ||
			(errno == ENOENT &&
			 epoll_ctl(events_fd, EPOLL_CTL_ADD, socket, &event) == 0);
	else
		done = epoll_ctl(events_fd, EPOLL_CTL_ADD, socket, &event) == 0 ||
			(errno == EEXIST &&
			 epoll_ctl(events_fd, EPOLL_CTL_MOD, socket, &event) == 0);
	watch->registered = done ? what : 0;
	return done;
}

static void
unregister_watch(Watch *watch, curl_socket_t socket)
{
	struct epoll_event event = {0};

	if (watch->registered)
		(void) epoll_ctl(events_fd, EPOLL_CTL_DEL, socket, &event);
	watch->registered = 0;
}

/* Is this number still the socket that we made? */
static bool
is_still_ours(const Watch *watch, curl_socket_t socket)
{
	struct stat status;

	return fstat(socket, &status) == 0 &&
		status.st_dev == watch->device && status.st_ino == watch->inode;
}

static void
set_stirred(Watch *watch, bool is_stirred)
{
	nstirred += is_stirred - watch->is_stirred;
	watch->is_stirred = is_stirred;
}

/* It was closed, and the kernel has forgotten it. */
static void
forget(Watch *watch)
{
	set_stirred(watch, false);
	watch->registered = 0;
	watch->is_ours = false;
	watch->local_port = 0;
	ReleaseExternalFD();
}

bool
sockets_open(void)
{
	events_fd = epoll_create1(EPOLL_CLOEXEC);
	if (events_fd < 0)
		return false;
	ReserveExternalFD();
	return true;
}

void
sockets_close(void)
{
	for (int i = 0; i < nwatches; i++)
	{
		if (watches[i].is_ours)
			forget(&watches[i]);
	}
	free(watches);
	watches = NULL;
	nwatches = 0;
	if (events_fd < 0)
		return;
	close(events_fd);
	events_fd = -1;
	ReleaseExternalFD();
}

int
sockets_descriptor(void)
{
	return events_fd;
}

void
socket_check(curl_socket_t socket)
{
	if (socket < nwatches && watches[socket].is_ours &&
		!is_still_ours(&watches[socket], socket))
		forget(&watches[socket]);
}

void
sockets_check_all(void)
{
	for (int i = 0; i < nwatches; i++)
		socket_check(i);
}

curl_socket_t
socket_make(int family, int type, int protocol, bool *lacks_descriptors)
{
	curl_socket_t result;
	struct stat status;
	Watch	   *watch;

	*lacks_descriptors = false;
	if (!AcquireExternalFD())
	{
		sockets_check_all();
		if (!AcquireExternalFD())
		{
			*lacks_descriptors = true;
			return CURL_SOCKET_BAD;
		}
	}
	result = socket(family, type, protocol);
	watch = (result == CURL_SOCKET_BAD) ? NULL : watch_of(result);
	if (watch == NULL || fstat(result, &status) != 0)
	{
		*lacks_descriptors = (errno == EMFILE || errno == ENFILE);
		if (result != CURL_SOCKET_BAD)
			close(result);
		ReleaseExternalFD();
		return CURL_SOCKET_BAD;
	}

	/* An earlier one of this number was closed without a word. */
	if (watch->is_ours)
		forget(watch);
	watch->registered = 0;
	watch->is_ours = true;
	watch->device = status.st_dev;
	watch->inode = status.st_ino;

	/*
	 * If libcurl believes that we listen to that one still, it won't say so
	 * again for this one.
	 */
	if (watch->wanted && !register_watch(watch, result))
	{
		forget(watch);
		close(result);
		return CURL_SOCKET_BAD;
	}
	return result;
}

int
socket_end(curl_socket_t socket)
{
	if (socket < nwatches)
	{
		Watch	   *watch = &watches[socket];

		watch->wanted = 0;
		watch->registered = 0;	/* closing it takes care of that */
		if (watch->is_ours)
			forget(watch);
	}
	return close(socket);
}

bool
socket_watch(curl_socket_t socket, int what)
{
	Watch	   *watch = watch_of(socket);
	int			wanted = (what == CURL_POLL_REMOVE) ? 0 : what;
	bool		begins;

	if (watch == NULL)
		return false;
	begins = (watch->wanted == 0);
	watch->wanted = wanted;
	if (begins)
	{
		watch->nreads = 0;
		set_stirred(watch, false);
		/* What was connected is closed through our callback. */
		if (watch->is_ours && watch->local_port == 0 &&
			!is_still_ours(watch, socket))
			forget(watch);
	}

	/*
	 * One of ours stays registered, for its connection may be used again
	 * soon; if it becomes ready before that, it ceases to be.  The others, by
	 * which resolvers report, are closed without a word.
	 */
	if (wanted == 0)
	{
		if (!watch->is_ours)
			unregister_watch(watch, socket);
		return true;
	}
	if (watch->is_ours && wanted == watch->registered)
		return true;
	return register_watch(watch, socket);
}

void
socket_set_port(curl_socket_t socket, int local_port)
{
	struct sockaddr_storage address = {0};
	socklen_t	size = sizeof(address);
	in_port_t	port = 0;

	if (socket >= nwatches || !watches[socket].is_ours ||
		getsockname(socket, (struct sockaddr *) &address, &size) != 0)
		return;
	if (address.ss_family == AF_INET)
		port = ((struct sockaddr_in *) &address)->sin_port;
	else if (address.ss_family == AF_INET6)
		port = ((struct sockaddr_in6 *) &address)->sin6_port;
	if (ntohs(port) == local_port)
		watches[socket].local_port = local_port;
}

/* Connections to several peers can have the same port: then nothing is known. */
bool
socket_has_ended(int local_port)
{
	struct pollfd poll_one = {.fd = -1, .events = POLLRDHUP};

	for (int i = 0; i < nwatches; i++)
	{
		if (watches[i].local_port != local_port || local_port == 0)
			continue;
		if (poll_one.fd >= 0)
			return false;
		poll_one.fd = i;
	}
	return poll_one.fd >= 0 && poll(&poll_one, 1, 0) == 1;
}

bool
socket_is_stirred(int local_port)
{
	for (int i = 0; i < nwatches && nstirred > 0; i++)
	{
		if (watches[i].is_stirred && watches[i].local_port == local_port)
			return true;
	}
	return false;
}

int
sockets_take_ready(ReadySocket *ready, int size)
{
	struct epoll_event events[MAX_EVENTS];
	int			count = epoll_wait(events_fd, events, Min(size, MAX_EVENTS), 0);

	for (int i = 0; i < count; i++)
	{
		curl_socket_t socket = events[i].data.fd;
		Watch	   *watch = watch_of(socket);

		ready[i].socket = socket;
		ready[i].flags = 0;
		if (events[i].events & EPOLLIN)
			ready[i].flags |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			ready[i].flags |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			ready[i].flags |= CURL_CSELECT_ERR;
		if (watch == NULL)
			continue;
		if (events[i].events & EPOLLIN)
			watch->nreads++;
		if (watch->wanted == 0)
		{
			unregister_watch(watch, socket);
			set_stirred(watch, watch->is_ours);
		}
	}
	return Max(count, 0);
}

int
socket_reads(curl_socket_t socket)
{
	return socket < nwatches ? watches[socket].nreads : 0;
}

uint64
socket_received(curl_socket_t socket)
{
	struct tcp_info info;
	socklen_t	size = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
		return 0;
	return info.tcpi_bytes_received;
}
