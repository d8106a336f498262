/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking the worker when the current transaction commits.
 *
 * IDENTIFICATION
 *	  src/server/wake.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WAKE_H
#define WEBHOOK_WAKE_H

/*
 * Wakes this database's worker at commit, with these bits (WAKE_* in
 * server/shared.h).  A rollback forgets it; so does PREPARE TRANSACTION: whoever
 * commits what was prepared wakes the worker then.  A rollback to a savepoint can
 * leave a wake-up for nothing.
 */
extern void wake_at_commit(uint32 wake);

/*
 * Has the worker start no request until the transaction ends, also by PREPARE
 * TRANSACTION; see standstill_request().
 */
extern bool stand_still_until_end(int timeout);

/* Tells the launcher, at commit, that this database has the extension. */
extern void announce_at_commit(void);

/* Has the launcher list the databases, at commit: one may be to be served, or not any more. */
extern void list_databases_at_commit(void);

#endif							/* WEBHOOK_WAKE_H */
