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
