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

/* Starts with nothing to write; allocates in "context". */
extern void recorder_open(MemoryContext context);

/*
 * When there is something to be written: now, at a later time, or never
 * (DT_NOEND).  "idle" says that no answer is awaited, so nothing is gained by
 * waiting for more.
 */
extern TimestampTz recorder_deadline(bool idle);

/*
 * Writes all that ended, what has had no row for too long, and how far the
 * outbox is done with, and then does what follows from it.  What can't be written is
 * tried again; what can never be is set aside.  Returns false if the extension is
 * gone.
 */
extern bool recorder_flush(void);

/*
 * The same, for all that has no row, and all marks; and whether there is nothing left
 * of these.
 */
extern bool recorder_put_down(void);
extern bool recorder_has_put_down(void);

/*
 * Can nothing be written?  Then nothing must be sent.  recorder_prove() finds that out
 * before the first request, with a write; it returns false if the extension is
 * gone.
 */
extern bool recorder_is_blocked(void);
extern bool recorder_prove(void);

/* Is there anything left to be written? */
extern bool recorder_is_done(void);

/* Was this dispatch set aside, so that it must be left alone? */
extern bool recorder_has_set_aside(const char *id);

/* As recorder_flush(), with all that is done now and then; for the end. */
extern void recorder_finish(void);

#endif							/* WEBHOOK_RECORDER_H */
