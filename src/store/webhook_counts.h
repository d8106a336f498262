/*-------------------------------------------------------------------------
 *
 * webhook_counts.h
 *	  How many webhooks there are: counts that are kept for lists of them, so that
 *	  nobody counts a million and nobody who adds one waits for others.
 *
 * Webhooks up to a position, an id, have been counted: by user, by Actor, by task and by
 * what belongs to several of these (table webhook_counts).  Who lists them adds those
 * behind the position, which an index counts, for they are few.  A webhook that is added
 * there, as nearly all are, costs nothing but a look at the position.  What changes among
 * those that have been counted is logged (table webhook_counts_log).
 *
 * The worker moves the position.  It first announces where it will be: who adds or deletes
 * a webhook from then on logs that up to there.  Once all have ended who could not know
 * so, because they had locked the table before, it counts what lies between, and leaves
 * out what was logged of it meanwhile, for that it sees.
 *
 * IDENTIFICATION
 *	  src/store/webhook_counts.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WEBHOOK_COUNTS_H
#define WEBHOOK_WEBHOOK_COUNTS_H

#include "commands/trigger.h"
#include "rules/ids.h"

/* Up to which ids, inclusive, webhooks have been counted, and will be next. */
typedef struct WebhookCountsPosition
{
	int64		number;			/* 0: there is none yet, and nothing is up to
								 * "" */
	char	   *counted;
	char	   *announced;		/* not before counted */
} WebhookCountsPosition;

/*
 * The newest one that is committed, whatever snapshot the caller has, or that his own
 * transaction wrote.  In the current context.
 */
extern WebhookCountsPosition webhook_counts_position(void);

/*
 * Logs that webhooks were deleted, those of a statement whose transition table is called
 * "ended".  Within SPI, with the trigger's data registered.
 */
extern void webhook_counts_deleted(void);

/*
 * Has all webhooks counted anew.  Within SPI, by who has the table locked so that nobody
 * else writes to it, nor counts.
 */
extern void webhook_counts_forget(void);

typedef enum CountingResult
{
	COUNTING_DONE,				/* there is little that was not counted, or
								 * somebody has locked the table */
	COUNTING_WAITS,				/* for transactions that are under way */
	COUNTING_GOES_ON
} CountingResult;

/* The worker's next step, a few milliseconds; between work_begin() and work_commit(). */
extern CountingResult webhook_counts_step(void);

/* A worker starts: what it knew of transactions that it waits for is of an earlier one. */
extern void webhook_counts_open(void);

#endif							/* WEBHOOK_WEBHOOK_COUNTS_H */
