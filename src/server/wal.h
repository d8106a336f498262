/*-------------------------------------------------------------------------
 *
 * wal.h
 *	  What must be on disk, and when.
 *
 * The worker commits asynchronously and flushes many of its commits at once, a
 * little later: if the server crashes in between, what they recorded is done
 * again, which "at least once" allows.  Nothing, however, is sent before the
 * transaction that raised it is on disk.
 *
 * IDENTIFICATION
 *	  src/server/wal.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WAL_H
#define WEBHOOK_WAL_H

#include "datatype/timestamp.h"

/*
 * Makes sure that all that the snapshots of this process have seen of other
 * sessions is on disk.  A transaction that commits synchronously is before it
 * can be seen; so this costs nothing unless one did asynchronously.
 */
extern void wal_flush_seen(void);

/* Notes a commit of this process. */
extern void wal_note_commit(void);

/* When the commits noted are to be flushed, DT_NOEND if all are. */
extern TimestampTz wal_deadline(void);

/* Flushes the commits noted. */
extern void wal_flush_commits(void);

#endif							/* WEBHOOK_WAL_H */
