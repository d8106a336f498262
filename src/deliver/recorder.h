/*-------------------------------------------------------------------------
 *
 * recorder.h
 *	  Writing down what became of dispatches, many in one transaction.
 *
 * IDENTIFICATION
 *	  src/deliver/recorder.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RECORDER_H
#define WEBHOOK_RECORDER_H

#include "datatype/timestamp.h"

/* Starts with nothing to write. */
extern void recorder_open(void);

/*
 * When there is something to be written: now, at a later time, or never
 * (DT_NOEND).  "idle" says that no answer is awaited, so nothing is gained by
 * waiting for more.
 */
extern TimestampTz recorder_deadline(bool idle);

/*
 * Writes all that ended, what has had no row for too long, and how far the
 * outbox is done with, in one durable transaction.  Returns false if the
 * extension is gone.
 */
extern bool recorder_flush(void);

#endif							/* WEBHOOK_RECORDER_H */
