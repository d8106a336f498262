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

/* What is less is the time between looks at both clocks. */
#define JITTER 1000

static int64 work_offset = 0;
static int64 lead = 0;			/* of the work time before the wall clock */

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

TimestampTz
clock_work_time(void)
{
	return clock_now() + work_offset;
}

void
clock_set_work_offset(int64 offset)
{
	work_offset = offset;
}

void
clock_look_at_wall(void)
{
	int64		lead_now = clock_work_time() - GetCurrentTimestamp();

	if (lead_now > lead + JITTER || lead_now < lead - JITTER)
		lead = lead_now;
}

TimestampTz
clock_to_wall(TimestampTz work_time)
{
	return work_time - lead;
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
