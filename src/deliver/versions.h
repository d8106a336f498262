/*-------------------------------------------------------------------------
 *
 * versions.h
 *	  The versions of webhooks that are known: made from their rows, their
 *	  bytes counted, and in the order in which they were used.
 *
 * Long templates are left out until a call needs them, and have an order of their
 * own: however many dispatches are in memory, their webhooks' templates needn't be.
 *
 * IDENTIFICATION
 *	  src/deliver/versions.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_VERSIONS_H
#define WEBHOOK_VERSIONS_H

#include "deliver/subscribers.h"

/* Starts with none; allocates in "context". */
extern void versions_open(MemoryContext context);

/* Counts a subscriber that is new, without a version; and takes it out again. */
extern void version_enter(Subscriber *subscriber);
extern void version_forget(Subscriber *subscriber);

/* Notes that it is used now. */
extern void version_use(Subscriber *subscriber);

/*
 * Leaves one without a version out of what versions_excess() finds, since something
 * waits for it in the table, until version_use().
 */
extern void version_set_aside(Subscriber *subscriber);

/*
 * The one that was used longest ago, if all take more than webhook_memory; else
 * NULL.  version_drop() takes its version away.
 */
extern Subscriber *versions_excess(void);
extern void version_drop(Subscriber *subscriber);

/*
 * Makes the versions of these subscribers from their rows; what is wrong with one,
 * for example a URL whose network is not allowed any more, becomes the reason why
 * its dispatches fail.  "note" is called for each that got one, with the host of its URL or
 * NULL, to which it then has a reference: it raises no error, so that none is left half
 * way.  Between work_begin() and work_commit().
 */
extern void versions_make(Subscriber **subscribers, HeapTuple *rows,
						  TupleDesc desc, int count,
						  void (*note) (Subscriber *subscriber, Host *host,
										HeapTuple row, TupleDesc desc));

/* Has it all its templates?  It is about to use them. */
extern bool version_is_complete(Subscriber *subscriber);

/*
 * Reads its templates from its row, and lets go of others'.  Returns why it can't,
 * palloc'd, or NULL.  Between work_begin() and work_commit().
 */
extern char *version_complete(Subscriber *subscriber, HeapTuple row,
							  TupleDesc desc);

#endif							/* WEBHOOK_VERSIONS_H */
