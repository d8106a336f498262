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

extern const DayKind retirement_kind;

#endif							/* WEBHOOK_RETIREMENT_H */
