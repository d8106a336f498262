/*-------------------------------------------------------------------------
 *
 * statistics.h
 *	  Webhooks' statistics: a log along with the results, added up in small
 *	  steps.
 *
 * All of it runs between work_begin() and work_commit().
 *
 * IDENTIFICATION
 *	  src/store/statistics.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_STATISTICS_H
#define WEBHOOK_STATISTICS_H

#include "store/dispatch_rows.h"

/* What a webhook's statistics gain: new dispatches, and the newest one. */
typedef struct StatsRow
{
	const char *webhook_id;
	int			dispatches;
	const char *last_dispatch_id;
	DispatchStatus last_status;
	TimestampTz last_finished_at;	/* 0 for NULL */
} StatsRow;

/* What is to be logged; allocated in CurrentMemoryContext. */
typedef struct StatsLog StatsLog;

/* One with nothing in it. */
extern StatsLog *stats_log_create(void);

/* Adds a webhook's gain, and writes what was added when it is enough for a row. */
extern void stats_log_add(StatsLog *log, const StatsRow *row);

/* Writes the rest. */
extern void stats_log_write(StatsLog *log);

/*
 * Writes the first statistics of webhooks that have none, not even logged ones.  Of one
 * that is gone meanwhile nothing is written.
 */
extern void stats_write_first(const StatsRow *rows, int count);

/* Begins to add up what was logged so far. */
extern void statistics_begin(void);

/* After an error: what was to be added up is still there. */
extern void statistics_recover(void);

/*
 * Adds up some of it, in a time that does not depend on how much there is.
 * Returns whether there may be more.  The gains of webhooks whose statistics
 * somebody has locked are logged anew, for the next time.
 */
extern bool statistics_add_up(void);

#endif							/* WEBHOOK_STATISTICS_H */
