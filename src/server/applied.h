/*-------------------------------------------------------------------------
 *
 * applied.h
 *	  What processes that apply a subscription have committed.
 *
 * IDENTIFICATION
 *	  src/server/applied.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_APPLIED_H
#define WEBHOOK_APPLIED_H

#include "datatype/timestamp.h"
#include "storage/spin.h"

/* So many subscriptions of a server are remembered. */
#define MAX_APPLIED 128

/* The last transaction of a subscription that was committed here. */
typedef struct Applied
{
	Oid			subscription;
	TimestampTz committed_at;	/* where it was written, by the clock there */
	TimestampTz applied_at;
} Applied;

/* In shared memory, along with the rest. */
typedef struct AppliedShared
{
	slock_t		mutex;
	Applied		entries[MAX_APPLIED];
} AppliedShared;

/* Sets up what is shared, and makes use of it. */
extern void applied_initialize(AppliedShared *memory);
extern void applied_attach(AppliedShared *memory);

/*
 * In the postmaster: lets the processes that it will start for subscriptions note their
 * commits.  These also wake the worker after COMMIT PREPARED, which is no statement there.
 */
extern void applied_watch(void);

/*
 * The last transaction of a subscription; false if none was committed since the server
 * has been started, or it is not remembered.
 */
extern bool applied_last(Oid subscription, Applied *last);

#endif							/* WEBHOOK_APPLIED_H */
