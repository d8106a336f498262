/*-------------------------------------------------------------------------
 *
 * health.h
 *	  Webhooks whose calls keep failing, and an end to that.
 *
 * IDENTIFICATION
 *	  src/deliver/health.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_HEALTH_H
#define WEBHOOK_HEALTH_H

#include "deliver/subscribers.h"

/* Starts without a memory of calls. */
extern void health_open(void);

/* Notes how a call ended. */
extern void health_note(Subscriber *subscriber, bool succeeded, TimestampTz time);

/*
 * Writes down since when webhooks fail, and disables those for which that is
 * longer ago than the setting disable_after: some of them, in a few milliseconds.
 * Returns whether there may be more.  Between work_begin() and work_commit(), when
 * statistics have been added up.
 */
extern bool health_write(TimestampTz now);

#endif							/* WEBHOOK_HEALTH_H */
