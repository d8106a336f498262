/*-------------------------------------------------------------------------
 *
 * retirement.h
 *	  Ad-hoc webhooks that retire, in their rows.
 *
 * Between work_begin() and work_commit().
 *
 * IDENTIFICATION
 *	  src/store/retirement.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RETIREMENT_H
#define WEBHOOK_RETIREMENT_H

#include "store/day_update.h"

/* What a row says of why it is disabled then. */
#define RETIREMENT_REASON "Its run has ended."

/*
 * In a statement: is "w" an ad-hoc webhook of the run "e"?  One of its user's, or of
 * nobody's: to another's it is as if there were no such run.
 */
#define IS_OF_RUN \
	" w.actor_run_id = e.run_id AND w.actor_run_id IS NOT NULL" \
	" AND (w.user_id IS NULL OR w.user_id = e.user_id) AND w.is_ad_hoc"

/*
 * Retires a webhook for which nothing waits, because its run ended at that time, in the
 * row that lies at this place.  Returns false, with nothing written, if that can't be
 * done here: the row is not there any more, or locked, or not one to retire.  "changes"
 * is of retirement_kind.
 */
extern bool retirement_write(DayUpdate *changes, const RowPlace *place,
							 const char *id, TimestampTz time);

/*
 * The same where something waits: only the end of the run is written.  Sets what the
 * webhook's version is then, and where its row lies once the transaction has committed.
 */
extern bool retirement_write_end(DayUpdate *changes, const RowPlace *place,
								 const char *id, TimestampTz time,
								 TimestampTz *version, RowPlace *written);

typedef enum RetirementResult
{
	RETIREMENT_DONE,
	RETIREMENT_NONE,			/* its run has not ended */
	RETIREMENT_UNKNOWN			/* it can't be done here */
} RetirementResult;

/* Retires a webhook whose run has ended, if it has, now that nothing waits any more. */
extern RetirementResult retirement_write_rest(DayUpdate *changes, const RowPlace *place,
											  const char *id);

extern const DayKind retirement_kind;

#endif							/* WEBHOOK_RETIREMENT_H */
