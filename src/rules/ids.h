/*-------------------------------------------------------------------------
 *
 * ids.h
 *	  Identifiers: 17 letters and digits that sort by time of creation.
 *
 * An id is nine digits in base 62 for its time, in microseconds since
 * 2020-01-01 00:00 UTC, and eight for what tells it from others of the same
 * microsecond.  Compared byte by byte (COLLATE "C"), ids sort by time, and
 * those of one transaction in the order in which they were made.  A clock that
 * was set back shows in new ids, but makes none twice.
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
 * What the makers of ids share.  It lies in shared memory where there is any; NULL
 * means that there is none.
 */
typedef struct IdsShared
{
	pg_atomic_uint32 next_maker;
	pg_atomic_uint64 floor;		/* a TimestampTz, see below */
	pg_atomic_uint32 below_floor;	/* how many were made there */
} IdsShared;

extern IdsShared *ids_shared;

/*
 * Puts a floor under new ids: who makes one that is older than this time, because
 * its clock was set back, counts that in below_floor before it makes use of the id.
 * As long as the count stays no transaction that begins afterwards has an id
 * below.  A lower floor than the last one counts as well.
 */
extern void ids_put_floor(TimestampTz time);

/* Counts an id that was made elsewhere, if it is below the floor or none of ours. */
extern void ids_note_foreign(const char *id, int length);

/*
 * Makes a new id; *created_at is set to the time in it, which is the clock's, but
 * within the years that an id can hold.
 */
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

/* The same, but raises an error. */
extern TimestampTz id_time_of(const char *id, int length);

#endif							/* WEBHOOK_IDS_H */
