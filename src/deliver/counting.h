/*-------------------------------------------------------------------------
 *
 * counting.h
 *	  When webhooks that are new are counted, for lists of them.
 *
 * IDENTIFICATION
 *	  src/deliver/counting.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_COUNTING_H
#define WEBHOOK_COUNTING_H

#include "datatype/timestamp.h"

extern void counting_open(void);

/* When counting_work() has something to do. */
extern TimestampTz counting_deadline(void);

/*
 * Does a few milliseconds of it, in a transaction of its own.  Returns false if the
 * extension is gone; what has failed is tried again after a while.
 */
extern bool counting_work(void);

#endif							/* WEBHOOK_COUNTING_H */
