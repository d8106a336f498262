/*-------------------------------------------------------------------------
 *
 * look_back.h
 *	  What runs raised before their ad-hoc webhooks arrived by replication.
 *
 * A webhook that another server has defined in the transaction that makes its run, as a
 * coordinator of Citus does, arrives here when the first events of the run may have been
 * routed.
 *
 * IDENTIFICATION
 *	  src/deliver/look_back.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LOOK_BACK_H
#define WEBHOOK_LOOK_BACK_H

/*
 * Makes the dispatches that such webhooks of these runs (text[]) should have had by now:
 * rows that are due, of events of the last hour.  Those that are there or in memory are
 * left out.  Returns how many were made.  A part of a transaction; raises what statements
 * raise.
 */
extern int	look_back(Datum run_ids);

/* So many were committed. */
extern void look_back_done(int nmade);

#endif							/* WEBHOOK_LOOK_BACK_H */
