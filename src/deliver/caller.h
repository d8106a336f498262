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

/* Starts with no calls; allocates in "context". */
extern void caller_open(MemoryContext context);

/* Starts as many requests as the shares allow. */
extern void caller_start_requests(void);

/* Takes the answers that came; true if there were any. */
extern bool caller_take_answers(void);

#endif							/* WEBHOOK_CALLER_H */
