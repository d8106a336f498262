/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  A clock that nobody can set, and whether the one that can be was.
 *
 * IDENTIFICATION
 *	  src/server/clock.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "server/clock.h"
#include "utils/timestamp.h"

/* Time servers steer a clock by less than this between two looks. */
#define STEP USECS_PER_SEC

#ifdef CLOCK_BOOTTIME
#define STEADY_CLOCK CLOCK_BOOTTIME
#else
#define STEADY_CLOCK CLOCK_MONOTONIC
#endif

/* Where the library was not loaded at server start each process has its own. */
static ClockShared own;
static ClockShared *shared = NULL;

static int64
time_since_boot(void)
{
	struct timespec time;

	clock_gettime(STEADY_CLOCK, &time);
	return time.tv_sec * USECS_PER_SEC + time.tv_nsec / 1000;
}

void
clock_initialize(ClockShared *memory)
{
	memory->base = GetCurrentTimestamp() - time_since_boot();
	pg_atomic_init_u64(&memory->offset, 0);
	pg_atomic_init_u64(&memory->steady_since,
					   (uint64) (memory->base + time_since_boot()));
}

void
clock_attach(ClockShared *memory)
{
	shared = memory;
}

TimestampTz
clock_now(void)
{
	if (shared == NULL)
	{
		clock_initialize(&own);
		shared = &own;
	}
	return shared->base + time_since_boot();
}

void
clock_watch(void)
{
	TimestampTz now = clock_now();
	int64		offset = GetCurrentTimestamp() - now;
	int64		known = (int64) pg_atomic_read_u64(&shared->offset);

	if (offset > known + STEP || offset < known - STEP)
		pg_atomic_write_u64(&shared->steady_since, (uint64) now);
	pg_atomic_write_u64(&shared->offset, (uint64) offset);
}

int64
clock_steady_for(void)
{
	clock_watch();
	return clock_now() - (TimestampTz) pg_atomic_read_u64(&shared->steady_since);
}
