/*-------------------------------------------------------------------------
 *
 * counters.h
 *	  What a worker counts of its work, kept over restarts.
 *
 * Counters only grow.  They lie in shared memory, where everybody can read them,
 * and are written down now and then along with results; what a crash of the
 * server takes is what was counted since.  stat_reset() notes how they stood,
 * so the worker need not know of it.
 *
 * IDENTIFICATION
 *	  src/store/counters.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_COUNTERS_H
#define WEBHOOK_COUNTERS_H

#include "postgres.h"

#include "store/statement.h"

/*
 * The places of counters in the array that is written and shown: new ones come
 * at the end, lest old rows tell something else.  stat_delivery knows them by
 * number.
 */
typedef enum Counter
{
	COUNTER_WORKER_STARTS,
	COUNTER_EVENTS,				/* routed */
	COUNTER_DISPATCHES,			/* made of them */
	COUNTER_CALLS,
	COUNTER_STATUS_1XX,			/* calls by the first digit of the status */
	COUNTER_STATUS_2XX,
	COUNTER_STATUS_3XX,
	COUNTER_STATUS_4XX,
	COUNTER_STATUS_5XX,
	COUNTER_NO_NAME,			/* calls without a whole answer, by why */
	COUNTER_NO_CONNECTION,
	COUNTER_NO_TLS,
	COUNTER_TIMEOUT,
	COUNTER_NOT_ALLOWED,
	COUNTER_BROKEN,
	COUNTER_RETRIES,			/* calls after a dispatch's first */
	COUNTER_SUCCEEDED,			/* dispatches that ended */
	COUNTER_GIVEN_UP,
	COUNTER_DISABLED,			/* webhooks, by us */
	COUNTER_BYTES_SENT,			/* of bodies */
	COUNTER_BYTES_RECEIVED,
	COUNTER_DELAY_SUM,			/* microseconds, of the histograms below */
	COUNTER_DURATION_SUM,
	COUNTER_PROBLEMS,			/* events of those routed that have one */
	COUNTER_CUT_SHORT,			/* calls given up for another database */
	COUNTER_LEFT_OUT,			/* events and dispatches that the log names */
	N_COUNTERS
} Counter;

/* Histograms follow the counters: classes by these upper bounds, and the rest. */
#define COUNTER_BOUNDS 18
#define COUNTER_CLASSES (COUNTER_BOUNDS + 1)
#define COUNTER_DELAYS N_COUNTERS
#define COUNTER_DURATIONS (COUNTER_DELAYS + COUNTER_CLASSES)
#define COUNTER_SIZE (COUNTER_DURATIONS + COUNTER_CLASSES)
extern const double counter_bounds[COUNTER_BOUNDS]; /* seconds */

/*
 * Goes on from what was written, in a transaction of its own.  If that fails it can be
 * tried again: what is counted meanwhile is added, and is not written before.
 */
extern WorkResult counters_open(void);

/* Adds to a counter of this worker; and how it stands, over restarts. */
extern void counters_add(Counter counter, uint64 count);
extern uint64 counters_get(Counter counter);

/* Counts the time, in microseconds, from an event to its first call. */
extern void counters_delay(int64 delay);

/* Counts how long a call took. */
extern void counters_duration(int64 duration);

/* Writes what there is, in the transaction under way. */
extern void counters_write(void);

/*
 * For others: what was counted for this database since stat_reset(), by the worker or, where
 * none runs, as it was written last.  The caller may read the extension's tables.
 */
extern void counters_report(uint64 report[COUNTER_SIZE]);

#endif							/* WEBHOOK_COUNTERS_H */
