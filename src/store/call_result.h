/*-------------------------------------------------------------------------
 *
 * call_result.h
 *	  What became of a call: all that its row says.
 *
 * The HTTP client fills it, the dispatch has it until it is recorded, and the writer
 * takes it.  What is new in a row of calls is new here.
 *
 * IDENTIFICATION
 *	  src/store/call_result.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CALL_RESULT_H
#define WEBHOOK_CALL_RESULT_H

#include "datatype/timestamp.h"
#include "rules/address.h"

typedef struct CallResult
{
	TimestampTz started_at;		/* the worker's time, as the next one */
	TimestampTz finished_at;
	int64		duration;		/* microseconds, by a clock that isn't set */
	const char *url;			/* of the request */
	char		address[ADDRESS_TEXT_SIZE]; /* where it went to; empty:
											 * nowhere */
	int			status;			/* 0: no answer */
	const char *error;			/* why it has failed; NULL if it has not, ... */
	const char *note;			/* but if something was odd with it: what */
	const char *body;			/* its beginning, as it came; NULL: no answer */
	size_t		body_length;	/* bytes */
} CallResult;

/*
 * Replaces what belongs to the HTTP client by copies in this context: all strings but
 * the URL, which is the caller's already.  Raises no error: what there is no memory for is
 * left out.
 */
extern void call_result_keep(CallResult *call, MemoryContext context);

/* Frees the strings of one that was kept, or that has no more than its URL. */
extern void call_result_free(CallResult *call);

#endif							/* WEBHOOK_CALL_RESULT_H */
