/*-------------------------------------------------------------------------
 *
 * tally.h
 *	  What webhooks have got: counted while results are written, and added up
 *	  now and then, a little at a time.
 *
 * IDENTIFICATION
 *	  src/deliver/tally.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TALLY_H
#define WEBHOOK_TALLY_H

#include "deliver/dispatch.h"

/* Starts with nothing counted; allocates in "context". */
extern void tally_open(MemoryContext context);

/*
 * Counts what is to be written of a dispatch.  What was counted is logged in the
 * transaction that writes it, and forgotten when that was committed.
 */
extern void tally_count(Dispatch *dispatch, DispatchStatus status);
extern bool tally_is_empty(void);
extern void tally_write(void);
extern void tally_written(void);

/* Lets the next round begin at once, or goes on with the one that is under way. */
extern void tally_hurry(void);

/* When tally_work() has something to do; DT_NOEND: nothing. */
extern TimestampTz tally_deadline(void);

/*
 * Does a few milliseconds of what is due, in a transaction of its own, so that
 * neither results nor a shutdown wait for the rest.  Returns false if the
 * extension is gone; what has failed is tried again after a while.
 */
extern bool tally_work(void);

#endif							/* WEBHOOK_TALLY_H */
