/*-------------------------------------------------------------------------
 *
 * request.h
 *	  The HTTP request that takes an event to a webhook.
 *
 * IDENTIFICATION
 *	  src/store/request.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_REQUEST_H
#define WEBHOOK_REQUEST_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "rules/webhook.h"

/* The payload of a webhook that has no template of its own. */
extern const char *const request_default_payload;

/* What requests say they come from, unless their headers template says more. */
#define REQUEST_USER_AGENT "webhook_events/" EXTENSION_VERSION

typedef struct Request
{
	const char *url;			/* the webhook's own string */
	List	   *headers;		/* of Header (rules/headers.h), forced ones
								 * last */
	char	   *body;			/* UTF-8 */
	size_t		body_length;	/* bytes */
} Request;

/* Does a request to this webhook hold anything of the event's resource? */
extern bool request_uses_resource(const Webhook *webhook);

/*
 * Builds the request of a dispatch.  Texts of webhook and event are converted
 * from the server's encoding; the result is UTF-8 always.  "prefix" starts
 * the names of the forced headers, "limit" is the longest body in bytes, "now"
 * the time that globals show.  The body is written into "out", which is empty and whose
 * memory context is where it stays.
 *
 * Returns false and a palloc'd message in *error if the request can't be
 * built: the headers are wrong, or the body is too long.  Allocates in
 * CurrentMemoryContext; raises only out-of-memory and what conversion to
 * UTF-8 raises.
 */
extern bool request_build(const Webhook *webhook, const Event *event,
						  const char *dispatch_id, const char *prefix,
						  size_t limit, TimestampTz now, StringInfo out,
						  Request *request, char **error);

/*
 * The same in steps, each of which reads and writes about as many bytes as "budget" says.
 * Webhook, resource, dispatch_id and "out" must last until it is made, and so must
 * CurrentMemoryContext, in which request_go_on() is called as well.  *request is set when
 * it is made.  request_drop(), which raises nothing, frees what does not go with that memory
 * context of one that is not made, or of any.
 */
typedef struct RequestMaking RequestMaking;

typedef enum RequestResult
{
	REQUEST_MADE,
	REQUEST_GOES_ON,
	REQUEST_FAILED				/* *error says why */
} RequestResult;

extern RequestMaking *request_start(const Webhook *webhook, const Event *event,
									const char *dispatch_id, const char *prefix,
									size_t limit, TimestampTz now, StringInfo out,
									char **error);
extern RequestResult request_go_on(RequestMaking *making, size_t budget,
								   Request *request, char **error);
extern void request_drop(RequestMaking *making);

/*
 * The request's headers as they go over the wire: with those that libcurl adds
 * by itself.  A List of Header, palloc'd.
 */
extern List *request_wire_headers(const Request *request);

/*
 * Raises ERRCODE_INVALID_PARAMETER_VALUE if a headers template can't give an
 * object of strings with names and values that HTTP allows, whatever the event
 * is.  What depends on the event is judged with it.
 */
extern void request_check_headers(const Template *template);

#endif							/* WEBHOOK_REQUEST_H */
