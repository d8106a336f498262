/*-------------------------------------------------------------------------
 *
 * sweep.h
 *	  Looking for what nobody announced among the dispatches that wait in the table.
 *
 * A sweep goes through the webhooks for which some wait, in the order of their ids.
 *
 * IDENTIFICATION
 *	  src/deliver/sweep.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SWEEP_H
#define WEBHOOK_SWEEP_H

#include "datatype/timestamp.h"

/* Starts with no sweep under way. */
extern void sweep_open(void);

/* Begins one, or one more when that under way has ended. */
extern void sweep_start(void);

/* Are there webhooks that were not looked at; and can some be, now? */
extern bool sweep_is_under_way(void);
extern bool sweep_has_work(void);

/*
 * Looks at some webhooks: ends what can't be called, and notes backlogs and replays.
 * What is due before "read_to", up to which the whole table was read, is theirs to
 * read.  Between work_begin() and work_commit().
 */
extern void sweep_step(TimestampTz read_to);

#endif							/* WEBHOOK_SWEEP_H */
