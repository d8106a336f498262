/*-------------------------------------------------------------------------
 *
 * recording.h
 *	  One transaction that writes down what became of dispatches.
 *
 * IDENTIFICATION
 *	  src/deliver/recording.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RECORDING_H
#define WEBHOOK_RECORDING_H

#include "deliver/dispatch.h"
#include "store/statement.h"

/* What is to be written of a dispatch. */
typedef struct Entry
{
	Dispatch   *dispatch;
	DispatchStatus status;
	TimestampTz next_attempt_at;
	bool		without_call;	/* it can't be written */
	bool		is_locked;		/* so nothing was written */
} Entry;

/* A transaction's work, on the next "count" of the entries. */
typedef struct Recording
{
	Entry	   *entries;
	int			count;
	bool		with_statistics;
	bool		with_mark;
	int			nmarked;		/* out: batches whose mark was written */
} Recording;

/*
 * Writes it all, or nothing; see work_run().  Nothing in memory changes but the
 * entries and what is said to come out.
 */
extern WorkResult recording_write(Recording *recording, WorkError *error);

/*
 * Writes that the worker has started, with its version, in a row as long as a page;
 * see work_run().
 */
extern WorkResult recording_prove(WorkError *error);

#endif							/* WEBHOOK_RECORDING_H */
