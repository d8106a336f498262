/*-------------------------------------------------------------------------
 *
 * queues.h
 *	  What waits: events to be routed, dispatches to be delivered.
 *
 * For sessions that ask.  It is counted by index, without a statement that would
 * have to be planned, and only in tables of days that can hold some.
 *
 * IDENTIFICATION
 *	  src/store/queues.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_QUEUES_H
#define WEBHOOK_QUEUES_H

#include "datatype/timestamp.h"

/* So many of each are counted. */
#define QUEUES_MOST 100000

/* Times are DT_NOEND where there is nothing. */
typedef struct QueueReport
{
	int64		events;			/* not routed yet */
	TimestampTz oldest_event_at;
	int64		dispatches;		/* ACTIVE ones */
	TimestampTz oldest_due_at;
	TimestampTz oldest_dispatch_at; /* when the one that waits longest was
									 * made */
	int64		held_webhooks;	/* of which something waits for its turn */
	int64		held_dispatches;	/* that wait for it */
	TimestampTz held_since;		/* when the oldest of them was made */
	int64		failing_webhooks;	/* up to 10,000 */
} QueueReport;

/*
 * Counts what the active snapshot sees.  The caller may read the extension's tables
 * and has found that they are there.
 */
extern void queues_report(QueueReport *report);

#endif							/* WEBHOOK_QUEUES_H */
