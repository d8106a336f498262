/*-------------------------------------------------------------------------
 *
 * counting.c
 *	  When webhooks that are new are counted, for lists of them.
 *
 * IDENTIFICATION
 *	  src/deliver/counting.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/counting.h"
#include "deliver/trouble.h"
#include "server/clock.h"
#include "store/webhook_counts.h"

/* So soon is looked again after nothing was to be done, or who is waited for was not done. */
#define LOOK_TIME (INT64CONST(5) * USECS_PER_SEC)
#define AWAIT_TIME (INT64CONST(200) * USECS_PER_SEC / 1000)

/* Of the time from step to step, counting takes no more than one in so many. */
#define STEP_SHARE 4

static TimestampTz next_step_at;

/* The transaction: one step, after which *argument is when the next one is due. */
static void
take_step(void *argument)
{
	TimestampTz *next_at = argument;
	TimestampTz began_at = clock_work_time();
	CountingResult result = webhook_counts_step();
	TimestampTz now = clock_work_time();

	*next_at = result == COUNTING_DONE ? now + LOOK_TIME :
		result == COUNTING_WAITS ? now + AWAIT_TIME :
		now + (now - began_at) * (STEP_SHARE - 1);
}

void
counting_open(void)
{
	next_step_at = clock_work_time();
	webhook_counts_open();
}

TimestampTz
counting_deadline(void)
{
	return next_step_at;
}

bool
counting_work(void)
{
	WorkError	error;

	switch (work_run("counting webhooks", true, take_step, &next_step_at, &error))
	{
		case WORK_DONE:
			trouble_end(TROUBLE_COUNTING);
			break;
		case WORK_FAILED:
			trouble_note(TROUBLE_COUNTING, &error);
			next_step_at = clock_work_time() + LOOK_TIME;
			break;
		case WORK_GONE:
			return false;
	}
	return true;
}
