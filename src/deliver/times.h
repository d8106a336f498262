/*-------------------------------------------------------------------------
 *
 * times.h
 *	  What the worker's time is, from worker to worker.
 *
 * IDENTIFICATION
 *	  src/deliver/times.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TIMES_H
#define WEBHOOK_TIMES_H

#include "datatype/timestamp.h"

/*
 * Sets clock_work_time(), before anything in memory has a time: it goes on from the
 * last worker's, or from the one that was written down, if the wall clock is behind
 * that.  If nothing waits in the table it is the wall clock's.  Returns false if the
 * extension is gone.
 */
extern bool times_open(void);

/* Is it so far from the wall clock's that it should be set again, if it can? */
extern bool times_differ(void);

/*
 * Writes it down, in a transaction of its own, which may fail without harm.  While
 * something waits that is due at times_deadline().  Returns as above.
 */
extern TimestampTz times_deadline(void);
extern bool times_write(void);

#endif							/* WEBHOOK_TIMES_H */
