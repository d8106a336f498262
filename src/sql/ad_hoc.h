/*-------------------------------------------------------------------------
 *
 * ad_hoc.h
 *	  Ad-hoc webhooks that are defined apart from their runs.
 *
 * IDENTIFICATION
 *	  src/sql/ad_hoc.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_AD_HOC_H
#define WEBHOOK_AD_HOC_H

/*
 * Has the worker look, after the commit, whether this run has ended, unless this
 * transaction has made it.  Nothing is noted where nothing is attached, as on a platform
 * whose events another server raises: no worker would ever look.
 */
extern void ad_hoc_check_run(const char *run_id);

/*
 * Do rows that replication writes raise events here?  Then a run and the webhook that was made
 * with it arrive together.
 */
extern bool ad_hoc_runs_arrive(void);

#endif							/* WEBHOOK_AD_HOC_H */
