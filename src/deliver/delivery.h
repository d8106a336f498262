/*-------------------------------------------------------------------------
 *
 * delivery.h
 *	  The engine of a worker: routing, calling and recording in turns.
 *
 * IDENTIFICATION
 *	  src/deliver/delivery.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DELIVERY_H
#define WEBHOOK_DELIVERY_H

#include "datatype/timestamp.h"

/*
 * Starts with nothing in memory.  Raises an error if the HTTP client can't be
 * had.
 */
extern void delivery_open(void);
extern bool delivery_is_open(void);

/*
 * Does all that can be done without waiting, in short transactions of its own.
 * "wake" holds what the worker was woken for (WAKE_*).  Without "may_send" no
 * call is started; what is under way comes to its end and is recorded.
 *
 * Returns after how many milliseconds at the latest it wants to be called
 * again, -1 if the extension is gone.  Raises errors of the database.
 */
extern long delivery_run(uint32 wake, bool may_send);

/* After delivery_run() without may_send: is all but what is under way in the tables? */
extern bool delivery_has_put_down(void);

/*
 * When there is something to send, as a clock_work_time() that can have passed;
 * DT_NOEND if nothing is known of.
 */
extern TimestampTz delivery_next_work(void);

/* Is nothing under way and nothing left to be recorded? */
extern bool delivery_is_quiet(void);

/* Records what was answered until now, if open, then closes.  Raises as above. */
extern void delivery_finish(void);

/* Cuts off what is under way, and forgets everything. */
extern void delivery_close(void);

#endif							/* WEBHOOK_DELIVERY_H */
