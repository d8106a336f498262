/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  When a failed call is made again.
 *
 * The n-th retry follows its predecessor after delay * 2^(n-1), give or take
 * the jitter, which keeps the retries of one outage from arriving together.
 * With the default settings (11 retries, 60 s) the last one comes
 * 60 s * (2^11 - 1), about 34 hours, after the first call.
 *
 * IDENTIFICATION
 *	  src/rules/schedule.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "rules/schedule.h"

/* Keeps delay * 2^n far from overflowing: a thousand years. */
#define LONGEST_DELAY ((double) INT64CONST(1000) * 365 * 86400 * 1000000)

static double
undisturbed_delay(const RetryPolicy *policy, int retry)
{
	return Min(ldexp((double) policy->delay, retry - 1), LONGEST_DELAY);
}

int64
retry_delay(const RetryPolicy *policy, int attempts, double random,
			int64 retry_after)
{
	double		delay;

	Assert(attempts >= 1);

	if (attempts > policy->max_retries)
		return -1;

	delay = undisturbed_delay(policy, attempts);
	delay += delay * policy->jitter * (2.0 * random - 1.0);

	if (retry_after > delay)
		delay = Max(delay, Min((double) retry_after,
							   undisturbed_delay(policy, policy->max_retries)));
	return (int64) delay;
}
