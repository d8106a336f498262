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

/* Starts with nothing counted. */
extern void tally_open(void);

/*
 * Counts what is written of a dispatch, and logs what was counted, both in the
 * transaction that writes it.
 */
extern void tally_count(Dispatch *dispatch, const DispatchRow *row);
extern void tally_write(void);

/* Lets the next round begin at once, or goes on with the one that is under way. */
extern void tally_hurry(void);

/* When tally_work() has something to do; DT_NOEND: nothing. */
extern TimestampTz tally_deadline(void);

/*
 * Does a few milliseconds of what is due, in a transaction of its own, so that
 * neither results nor a shutdown wait for the rest.  Returns false if the
 * extension is gone.
 */
extern bool tally_work(void);

#endif							/* WEBHOOK_TALLY_H */
