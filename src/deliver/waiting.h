/*-------------------------------------------------------------------------
 *
 * waiting.h
 *	  Dispatches that wait in the table: fetched when they are due and their
 *	  host has room.
 *
 * The table is read in the order of next_attempt_at, from the place where the
 * last read ended, so that what lies behind it, dead or alive, costs nothing.
 * What is due for a host without room stays in the table; its webhook is then
 * marked as having a backlog, which is read on its own when there is room.
 *
 * A sweep looks for what nobody announced and for replays, webhook by webhook: it
 * costs what there are webhooks with waiting dispatches, not dispatches.
 *
 * IDENTIFICATION
 *	  src/deliver/waiting.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WAITING_H
#define WEBHOOK_WAITING_H

#include "deliver/dispatch.h"
#include "store/dispatch_rows.h"

/* Starts with a sweep. */
extern void waiting_open(void);

/*
 * Sweeps once more, also for dispatches whose webhook is gone or disabled:
 * somebody else has changed something.
 */
extern void waiting_look_again(void);

/* When waiting_fetch() has something to do; DT_NOEND for never. */
extern TimestampTz waiting_deadline(void);

/*
 * Fetches what is due and has room.  Returns false if the extension is gone.
 */
extern bool waiting_fetch(void);

/* Is there, or may there be, anything in the table that waits? */
extern bool waiting_has_rows(void);

/* A next_attempt_at for rows written now, which no read can have passed. */
extern TimestampTz waiting_write_time(void);

/*
 * Rows were written at this time.  Unless one is due, they are in the backlogs of
 * their webhooks, and need not be read to find that out.
 */
extern void waiting_wrote(TimestampTz time);

/* A row that is due at this time was written. */
extern void waiting_note_due(TimestampTz time);

/*
 * Adds the dispatch of a row, which belongs to this subscriber.  "event" belongs to
 * "batch"; both are NULL for one that will not be called.
 */
extern Dispatch *waiting_create_dispatch(const DueRow *row, Subscriber *subscriber,
										 Batch *batch, Event *event);

#endif							/* WEBHOOK_WAITING_H */
