/*-------------------------------------------------------------------------
 *
 * caller.h
 *	  Making the calls: from queued dispatches to requests, and from answers
 *	  to ended dispatches.
 *
 * No transaction is open here.
 *
 * IDENTIFICATION
 *	  src/deliver/caller.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CALLER_H
#define WEBHOOK_CALLER_H

#include "datatype/timestamp.h"

/* Starts with no calls; allocates in "context". */
extern void caller_open(MemoryContext context);

/*
 * Begins a turn, in which only so much is spent on big bodies, and nothing if much was
 * spent on reading as many bytes of events, unless the last turn has left one; and when
 * is the next turn to begin because of one that was left?
 */
extern void caller_begin_turn(size_t nread);
extern TimestampTz caller_deadline(void);

/*
 * Starts as many requests as the shares and the turn allow; those with big bodies only
 * if told so, for the others should not wait for these to be built.  But where the others
 * have left them no place they come as all do from the next turn on, until one had its chance.
 */
extern void caller_start_requests(bool with_big);

/* Takes the answers that came; true if there were any. */
extern bool caller_take_answers(void);

#endif							/* WEBHOOK_CALLER_H */
