/*
 * clock.c
 *	  A clock that tests set, to be preloaded by a server: TEST_CLOCK names a file of
 *	  two 64-bit numbers, the microseconds that are added to the time of day and to
 *	  the time since boot.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t none[2] = {0, 0};
static const volatile int64_t *added = none;
static int	(*real_clock_gettime) (clockid_t, struct timespec *);

static __attribute__((constructor)) void
open_clock(void)
{
	const char *name = getenv("TEST_CLOCK");
	int			file = name ? open(name, O_RDONLY) : -1;
	void	   *map = MAP_FAILED;

	real_clock_gettime = (int (*) (clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	if (file >= 0)
		map = mmap(NULL, sizeof(none), PROT_READ, MAP_SHARED, file, 0);
	if (map != MAP_FAILED)
		added = map;
}

int
clock_gettime(clockid_t id, struct timespec *result)
{
	int			status;
	int64_t		more = id == CLOCK_REALTIME ? added[0] : id == CLOCK_BOOTTIME ? added[1] : 0;

	if (real_clock_gettime == NULL)
		open_clock();
	status = real_clock_gettime(id, result);
	if (status != 0 || more == 0)
		return status;
	more += result->tv_nsec / 1000;
	result->tv_nsec %= 1000;
	result->tv_sec += more / 1000000;
	more %= 1000000;
	if (more < 0)
	{
		more += 1000000;
		result->tv_sec--;
	}
	result->tv_nsec += more * 1000;
	return 0;
}

int
gettimeofday(struct timeval *restrict result, void *restrict zone)
{
	struct timespec now;

	(void) zone;
	clock_gettime(CLOCK_REALTIME, &now);
	result->tv_sec = now.tv_sec;
	result->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}
