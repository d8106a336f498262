/*-------------------------------------------------------------------------
 *
 * ids.h
 *	  Identifiers: 17 letters and digits that sort by time of creation.
 *
 * An id is nine digits in base 62 for its time, in microseconds since
 * 2020-01-01 00:00 UTC, and eight for what tells it from others of the same
 * microsecond.  Compared byte by byte (COLLATE "C"), ids sort by time, and
 * those of one backend in the order in which they were made.
 *
 * IDENTIFICATION
 *	  src/rules/ids.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_IDS_H
#define WEBHOOK_IDS_H

#include "datatype/timestamp.h"
#include "port/atomics.h"

#define ID_LENGTH 17
#define ID_TIME_LENGTH 9

/* An id, or the time part of one, with its terminating zero. */
typedef char Id[ID_LENGTH + 1];

/*
 * No backend makes an id that is older than this time (microseconds, as
 * TimestampTz), whatever its clock says.  It lies in shared memory where there
 * is any; NULL means no floor.
 */
extern pg_atomic_uint64 *ids_floor;

/* Makes a new id; *created_at is set to the time in it. */
extern void id_make(Id id, TimestampTz *created_at);

/*
 * Makes the id of the dispatch of an event to a webhook.  It has the event's
 * time and is always the same for the same two arguments, so that a dispatch
 * that was lost in a crash before it was written comes back as itself.
 */
extern void id_make_dispatch(Id id, const char *event_id,
							 const char *webhook_id);

/* Writes the least id of this time: ID_TIME_LENGTH characters. */
extern void id_lower_bound(Id id, TimestampTz time);

/* The time in an id; false if the text is no id. */
extern bool id_time(const char *id, int length, TimestampTz *time);

#endif							/* WEBHOOK_IDS_H */
