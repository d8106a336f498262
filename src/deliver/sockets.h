/*-------------------------------------------------------------------------
 *
 * sockets.h
 *	  The sockets of the HTTP client, behind one descriptor to wait for.
 *
 * Nothing here raises, pallocs or blocks, so that libcurl's callbacks can call
 * all of it.
 *
 * IDENTIFICATION
 *	  src/deliver/sockets.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SOCKETS_H
#define WEBHOOK_SOCKETS_H

#include <curl/curl.h>

/* A socket that is ready, and for what: CURL_CSELECT_* together. */
typedef struct ReadySocket
{
	curl_socket_t socket;
	int			flags;
} ReadySocket;

/* Starts with no sockets; false, with errno, if there is no descriptor. */
extern bool sockets_open(void);

/* Ends it, once libcurl has closed its sockets: none is counted any more. */
extern void sockets_close(void);

/* The descriptor to wait for; -1 if not open. */
extern int	sockets_descriptor(void);

/*
 * Makes a socket, as socket(2) does, and counts it among the descriptors that
 * PostgreSQL knows of; CURL_SOCKET_BAD if that can't be.  *lacks_descriptors is
 * set to whether none was left.
 */
extern curl_socket_t socket_make(int family, int type, int protocol,
								 bool *lacks_descriptors);

/* Closes one that socket_make() has made; returns what close(2) does. */
extern int	socket_end(curl_socket_t socket);

/*
 * Has libcurl closed this one without a word?  Then it isn't counted any more.
 * sockets_check_all() does that for every one.
 */
extern void socket_check(curl_socket_t socket);
extern void sockets_check_all(void);

/*
 * Listens for what libcurl wants to hear of a socket, CURL_POLL_*, whoever made
 * it; false, with errno, if that can't be.
 */
extern bool socket_watch(curl_socket_t socket, int what);

/*
 * Notes the local port of a socket, if that is it; and whether the socket of a
 * local port was ended by its peer, as far as that has arrived.
 */
extern void socket_set_port(curl_socket_t socket, int local_port);
extern bool socket_has_ended(int local_port);

/*
 * Was there anything to hear from the socket of a local port while libcurl did not listen:
 * an end, or what nobody has asked for?
 */
extern bool socket_is_stirred(int local_port);

/* The sockets that are ready now, at most "size"; how many there are. */
extern int	sockets_take_ready(ReadySocket *ready, int size);

/*
 * How often a socket had something to read since libcurl last began to listen to
 * it; and the bytes that it received since it was made, 0 if that isn't known.
 */
extern int	socket_reads(curl_socket_t socket);
extern uint64 socket_received(curl_socket_t socket);

#endif							/* WEBHOOK_SOCKETS_H */
