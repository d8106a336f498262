/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  When a failed call is made again.
 *
 * IDENTIFICATION
 *	  src/rules/schedule.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SCHEDULE_H
#define WEBHOOK_SCHEDULE_H

/* A TEST dispatch is somebody waiting at a screen: few retries. */
#define TEST_MAX_RETRIES 3

typedef struct RetryPolicy
{
	int			max_retries;	/* calls after the first one */
	int64		delay;			/* microseconds before the first retry */
	double		jitter;			/* 0.25: up to 25 % earlier or later */
} RetryPolicy;

/*
 * How long after its end a failed call is followed by the next one, in
 * microseconds; -1 if it was the last.
 *
 * "attempts" counts the calls made so far, from 1; "random" is in [0, 1);
 * "retry_after" is what the answer's Retry-After asked for, in microseconds, 0
 * for nothing.  It is respected within the bounds of the schedule: it can only
 * put a retry off, and by no more than the schedule's longest delay.
 */
extern int64 retry_delay(const RetryPolicy *policy, int attempts,
						 double random, int64 retry_after);

#endif							/* WEBHOOK_SCHEDULE_H */
