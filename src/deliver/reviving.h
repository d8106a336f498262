/*-------------------------------------------------------------------------
 *
 * reviving.h
 *	  Ad-hoc webhooks of runs that were resurrected: they are enabled again.
 *
 * IDENTIFICATION
 *	  src/deliver/reviving.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_REVIVING_H
#define WEBHOOK_REVIVING_H

#include "rules/webhook.h"

/*
 * Enables the ad-hoc webhooks that had retired at the end of runs that these events
 * say were resurrected.  They get that event and those that follow in any case; those
 * that somebody has locked are left for later, with a row of runs_to_check.  Within
 * the transaction of the caller, which sees what was written.  An error of the
 * statements is logged, and undone alone.
 */
extern void reviving_enable(Event **events, int nevents);

#endif							/* WEBHOOK_REVIVING_H */
