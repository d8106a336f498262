/*-------------------------------------------------------------------------
 *
 * transfer.h
 *	  One exchange of the HTTP client: a handle of libcurl, and what is noted of
 *	  a request and its answer.
 *
 * IDENTIFICATION
 *	  src/deliver/transfer.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRANSFER_H
#define WEBHOOK_TRANSFER_H

#include <curl/curl.h>

#include "datatype/timestamp.h"
#include "deliver/http.h"
#include "lib/ilist.h"
#include "rules/address.h"

/* So long the heads of an answer, and what stands between chunks, may be. */
#define TRANSFER_MAX_HEAD (256 * 1024)

/* So many sockets that a request made are looked after one by one. */
#define TRANSFER_MAX_SOCKETS 8

typedef struct Transfer
{
	int			generation;		/* of the settings that the handle was made
								 * for */
	dlist_node	node;			/* in a list of http.c, or among the idle ones */
	CURL	   *handle;
	struct curl_slist *headers;
	void	   *owner;
	const char *url;			/* the owner's */
	TimestampTz started_at;
	TimestampTz finished_at;
	int64		duration;		/* microseconds */
	CURLcode	code;
	long		status;
	int64		retry_after;
	size_t		received;		/* bytes of the body */
	size_t		head;			/* bytes of all heads, and of trailers */
	bool		may_use_http2;
	bool		has_head;		/* of the final answer, to its end */
	bool		was_cut;		/* we stopped it, having read enough */
	bool		was_flooded;	/* ... of what is no body */
	bool		is_last;		/* nobody tries it again if it fails */
	bool		was_given_up;	/* we stopped it for another database */
	uint64		flood_base;		/* bytes that its socket had received then; 0:
								 * not asked yet */
	bool		was_refused;	/* because of "address x" or "port n" */
	char		refused[ADDRESS_TEXT_SIZE + 16];
	bool		lacks_descriptors;
	int			watch_error;	/* errno: its socket can't be listened to */
	bool		is_connecting;	/* it has a socket and no connection yet */
	curl_socket_t socket;		/* the last one that it listened to */
	int			nsockets;		/* that it made; the first ones are ... */
	curl_socket_t sockets[TRANSFER_MAX_SOCKETS];
	char		address[ADDRESS_TEXT_SIZE]; /* where to; empty: not known */
	bool		address_is_news;	/* nobody has asked for it since */
	bool		is_located;		/* it is in the list of those that have one */
	dlist_node	located_node;
	char		party[ADDRESS_TEXT_SIZE];	/* whose address that is */
	int			crowd;			/* so many to one party are one too many */
	bool		was_crowded;	/* it got no socket because of that */

	/* What libcurl may not do by itself: send it again. */
	bool		was_asked;		/* it may be sent, once */
	long		unsent;			/* bytes that count as sent before that */
	bool		may_repeat;		/* the server has said that it did nothing */
	bool		must_look;		/* whether a kept connection is still there */
	bool		is_alone;		/* it speaks no HTTP/2, whose peers may say
								 * something unasked */
	bool		was_stale;		/* its connection had died before it was sent */
	bool		saw_refusal;	/* a server of HTTP/2 has refused one, ever */
	bool		was_lost;		/* its connection died before an answer */

	size_t		kept;			/* bytes in body */
	char	   *body;			/* malloc'd, body_size bytes */
	size_t		body_size;
	char		error_buffer[CURL_ERROR_SIZE];
	char		error[CURL_ERROR_SIZE + 64];
} Transfer;

/* Have some made a socket and no connection yet? */
extern bool transfers_are_connecting(void);

/* Has one made a socket, so that its address may be news, since that was last forgotten? */
extern bool transfers_have_news(void);
extern void transfers_forget_news(void);

/*
 * Takes a transfer that isn't in use, made for the settings as they are now, with
 * nothing noted.  Raises only out-of-memory.  transfer_put() gives it back, and
 * transfer_free_idle() frees those that were.
 */
extern Transfer *transfer_get(void);
extern void transfer_put(Transfer *transfer);
extern void transfer_free(Transfer *transfer);
extern void transfer_free_idle(void);

/*
 * Says what is to be sent; see http_start().  Raises only out-of-memory, and has
 * given the transfer back then.
 */
extern void transfer_prepare(Transfer *transfer, const HttpRequest *request);

/*
 * Was nothing sent, because the connection that was to be used again had ended?
 * Then it is ready to be sent over a new one.
 */
extern bool transfer_try_anew(Transfer *transfer);

/* Does libcurl tell, by "refused by server", when a server of HTTP/2 refuses a request? */
extern bool transfer_tells_refusals(void);

/* Notes how it ended, in libcurl's words. */
extern void transfer_note_end(Transfer *transfer, CURLcode code);

/*
 * Has its answer become longer than any, by bytes that are not its body?  To be
 * asked while it reads.
 */
extern bool transfer_is_flooded(Transfer *transfer);

/* For transfer.c: what its handle calls; and whether it has a socket and no connection. */
extern void transfer_set_callbacks(Transfer *transfer);
extern void transfer_set_connecting(Transfer *transfer, bool is_connecting);

/* The result, whose strings belong to the transfer. */
extern void transfer_result(Transfer *transfer, HttpResult *result);

#endif							/* WEBHOOK_TRANSFER_H */
