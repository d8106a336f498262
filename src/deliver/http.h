/*-------------------------------------------------------------------------
 *
 * http.h
 *	  The HTTP client: many requests at once, inside a process's own wait.
 *
 * libcurl's multi interface behind one descriptor.  A process has one client.
 * Requests are started, http_process() moves them on whenever the descriptor
 * is readable or the time is up, and http_next_result() hands out what ended.
 * Nothing here blocks, knows the database, or raises, but where it says so.
 *
 * A request is sent once: whether to send it again, when its connection dies, is
 * for the caller to say.
 *
 * IDENTIFICATION
 *	  src/deliver/http.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_HTTP_H
#define WEBHOOK_HTTP_H

#include "nodes/pg_list.h"
#include "store/call_result.h"

/* A POST that is to be sent. */
typedef struct HttpRequest
{
	const char *url;			/* not copied: it must live until the result
								 * was taken */
	List	   *headers;		/* of Header (rules/headers.h), copied */
	const char *body;			/* likewise */
	size_t		body_length;	/* bytes */
	bool		verify_tls;
	bool		is_repeated;	/* it goes over a connection of its own */
	bool		is_last;		/* nobody tries it again if it fails */
	int			generation;		/* of connections: it shares none with the
								 * generations before */
	void	   *owner;			/* comes back with the result, not NULL */
} HttpRequest;

/* The endpoint is gone for good. */
#define HTTP_GONE 410

/* What kept an exchange from going well. */
typedef enum HttpFailure
{
	HTTP_WENT_WELL,
	HTTP_NO_NAME,				/* the host's name has no address */
	HTTP_NO_CONNECTION,
	HTTP_NO_TLS,				/* certificates, versions of TLS */
	HTTP_TIMEOUT,
	HTTP_NOT_ALLOWED,			/* by address or port */
	HTTP_BROKEN					/* it ended half way, or anything else */
} HttpFailure;

/*
 * An answer, or the lack of one.  It has failed unless its status is a 2XX; if only the
 * body of one broke off there is a note.  Strings belong to the client but for the URL,
 * and a body has at most response_body_limit bytes.
 */
typedef struct HttpResult
{
	void	   *owner;			/* as given to http_start() */
	CallResult	call;
	HttpFailure failure;		/* of the exchange, whatever the status */
	bool		was_shared;		/* its connection can have many at once */
	bool		was_crowded;	/* nothing was sent, for its address had half
								 * of all requests already */
	bool		was_lost;		/* a kept connection died before a byte of an
								 * answer */
	int64		retry_after;	/* microseconds, 0: the answer asks for
								 * nothing */
} HttpResult;

/*
 * Starts the client of this process.  Raises an error if libcurl or the
 * descriptor can't be had.
 */
extern void http_open(void);

/* Ends it: requests that are under way are cut off.  Harmless if not open. */
extern void http_close(void);

/* The descriptor to wait for; readable when http_process() has work. */
extern int	http_descriptor(void);

/* Milliseconds until http_process() is to be called anyway; -1: not at all. */
extern long http_timeout(void);

/*
 * Starts a POST.  Failure is a result like any other and comes with the next
 * ones.  Raises only out-of-memory.
 */
extern void http_start(const HttpRequest *request);

/* Does what can be done without waiting. */
extern void http_process(void);

/*
 * Ends all requests under way as if their time were up, but for the last ones of their
 * dispatches and those whose names are being looked up, which nobody can stop.  Their
 * results come as others do.  Returns how many.
 */
extern int	http_give_up(void);

/*
 * Of a request under way, where it has begun to go to: its owner, and the address, valid
 * until the next call of any function here.  False if nothing is known that was not told.
 */
extern bool http_next_address(void **owner, const char **address);

/*
 * Takes the next result; false if there is none.  The strings in it are valid
 * until the next call of any function here.
 */
extern bool http_next_result(HttpResult *result);

/*
 * How many requests may be under way: max_in_flight, or less if the process
 * can't have so many descriptors, which is logged once.  What more are started
 * wait for a connection.
 */
extern int	http_limit(void);

/* The number of requests that have no taken result yet. */
extern int	http_in_flight(void);

#endif							/* WEBHOOK_HTTP_H */
