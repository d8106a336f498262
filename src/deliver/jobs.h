/*-------------------------------------------------------------------------
 *
 * jobs.h
 *	  What follows from results and can wait: disabling webhooks and retiring them.
 *
 * Each job has transactions of its own.  One that fails is tried again after a while,
 * and is in nobody's way; status() shows it meanwhile.
 *
 * IDENTIFICATION
 *	  src/deliver/jobs.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_JOBS_H
#define WEBHOOK_JOBS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* Starts with nothing to do; allocates in "context". */
extern void jobs_open(MemoryContext context);

/* The endpoint of a webhook, of the version that was modified then, has said that it is gone. */
extern void jobs_add_gone(const char *webhook_id, TimestampTz modified_at);

/* A dispatch that had waited for an ad-hoc webhook has ended. */
extern void jobs_add_ended_dispatch(const char *webhook_id);

/* Runs have ended: a list of EndedRun, which is taken over. */
extern void jobs_add_ended_runs(List *runs);

/*
 * Are there runs of which only memory knows that they have ended?  Then the marks behind
 * these ends must wait: what can't be seen to now is soon in a table.
 */
extern bool jobs_hold_marks(void);

/* The tables may hold webhooks whose runs have ended and that nobody has announced. */
extern void jobs_look_again(void);

/* There are new runs to check in their table. */
extern void jobs_check_runs(void);

/* A run was resurrected: its ends before that time are none. */
extern void jobs_forget_ended_run(const char *id, TimestampTz time);

/* When something is due: a job that has failed, or a look at the tables. */
extern TimestampTz jobs_deadline(void);

/*
 * Does what is due, with "all" also what is not.  Returns false if the extension is
 * gone.
 */
extern bool jobs_run(bool all);

#endif							/* WEBHOOK_JOBS_H */
