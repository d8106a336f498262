/*-------------------------------------------------------------------------
 *
 * run_checks.h
 *	  Runs that ended, or were resurrected, without a word to their ad-hoc webhooks.
 *
 * Who defines such a webhook apart from its run notes that in a table, and so does the
 * router when somebody has locked one.
 *
 * IDENTIFICATION
 *	  src/deliver/run_checks.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RUN_CHECKS_H
#define WEBHOOK_RUN_CHECKS_H

#include "rules/ids.h"

/*
 * Looks in the attached tables how it stands with some of these runs, behind a position in
 * the table, which is moved on, and retires or enables their webhooks.  Whether the ends of
 * runs were routed already is all the same.  Sets *is_full if there may be more behind
 * them, and *nmade to how many dispatches were made for webhooks that came late, of which
 * look_back_done() is to be told.  Returns false if some must be looked at again later:
 * webhooks or attached tables are locked.  Part of a transaction.
 */
extern bool run_checks_work(Id position, bool *is_full, int *nmade);

#endif							/* WEBHOOK_RUN_CHECKS_H */
