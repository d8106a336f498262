/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  A clock that nobody can set, and whether the one that can be was.
 *
 * IDENTIFICATION
 *	  src/server/clock.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CLOCK_H
#define WEBHOOK_CLOCK_H

#include "datatype/timestamp.h"
#include "port/atomics.h"

/* What processes share of it; shared.c has it in shared memory. */
typedef struct ClockShared
{
	int64		base;			/* of clock_now(): its time at the boot */
	pg_atomic_uint64 offset;	/* the wall clock's lead when it was seen last */
	pg_atomic_uint64 steady_since;	/* a clock_now() */
} ClockShared;

/* Sets up what is shared, and makes use of it. */
extern void clock_initialize(ClockShared *memory);
extern void clock_attach(ClockShared *memory);

/*
 * The time for deadlines: it runs evenly, also while the machine sleeps, and is
 * the same for all processes of the server.  It began with the wall clock's time,
 * from which it differs once that was set: it is never stored.
 */
extern TimestampTz clock_now(void);

/*
 * The time of the worker: clock_now() with an offset of its own, so that it is near
 * the wall clock's when it begins.  It is what the worker's deadlines are in, those in
 * tables as well, which goes on from worker to worker.
 */
extern TimestampTz clock_work_time(void);
extern void clock_set_work_offset(int64 offset);

/*
 * One of these times as the wall clock would have shown it, had it always been right.
 * What that shows is looked at by clock_look_at_wall() alone, once for many times.
 */
extern void clock_look_at_wall(void);
extern TimestampTz clock_to_wall(TimestampTz work_time);

/* Notes if the wall clock was set; to be called now and then. */
extern void clock_watch(void);

/* For how many microseconds the wall clock has not been set; looks first. */
extern int64 clock_steady_for(void);

#endif							/* WEBHOOK_CLOCK_H */
