/*-------------------------------------------------------------------------
 *
 * making.h
 *	  The request that is being made of a long resource, a slice in each turn.
 *
 * To read such a resource, fill in the template and sign the body takes as long as
 * hundreds of small requests, which should not have to wait.  One is made at a time; the
 * others wait for it.  What there is of it goes when nobody has come for it for a while,
 * and is begun anew when the resource or its webhook's version is another one.
 *
 * IDENTIFICATION
 *	  src/deliver/making.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAKING_H
#define WEBHOOK_MAKING_H

#include "deliver/dispatch.h"
#include "store/request.h"

typedef enum MakingResult
{
	MAKING_DONE,				/* making_take() gives it */
	MAKING_GOES_ON,				/* in another turn */
	MAKING_LATER,				/* not before making_next_at() */
	MAKING_FAILED,				/* there can be none */
	MAKING_POSTPONED			/* there can be none now */
} MakingResult;

/* Starts with none; allocates in "context", and bodies in "bodies". */
extern void making_open(MemoryContext context, MemoryContext bodies);

/* Forgets what there is, and the resource. */
extern void making_forget(void);

/* Begins a turn; and when should one begin to forget what nobody has come for? */
extern void making_begin_turn(void);
extern TimestampTz making_deadline(void);

/*
 * Reads and writes about as many bytes as "budget" says for the request of a queued
 * dispatch, of a webhook that is there; if there is none now *error says why, palloc'd.
 * Not between work_begin() and work_commit().
 */
extern MakingResult making_go_on(Dispatch *dispatch, size_t budget, char **error);
extern TimestampTz making_next_at(void);

/* The queued dispatch that one is being made for; NULL if there is none. */
extern Dispatch *making_dispatch(void);

/*
 * Takes the request of this dispatch and its body, which is the caller's then; the rest
 * lasts until the next one is begun.  False if there is none that fits it now.
 */
extern bool making_take(Dispatch *dispatch, Request *request, char **body);

#endif							/* WEBHOOK_MAKING_H */
