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

/* Starts with nothing to do; allocates in "context". */
extern void jobs_open(MemoryContext context);

/* The endpoint of a webhook, of the version that was modified then, has said that it is gone. */
extern void jobs_add_gone(const char *webhook_id, TimestampTz modified_at);

/* When something is due: a job that has failed, or a look at the tables. */
extern TimestampTz jobs_deadline(void);

/*
 * Does what is due, with "all" also what is not.  Returns false if the extension is
 * gone.
 */
extern bool jobs_run(bool all);

#endif							/* WEBHOOK_JOBS_H */
