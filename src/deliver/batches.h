/*-------------------------------------------------------------------------
 *
 * batches.h
 *	  Events that were read together, and how far the outbox is done with them.
 *
 * IDENTIFICATION
 *	  src/deliver/batches.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_BATCHES_H
#define WEBHOOK_BATCHES_H

#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "rules/webhook.h"
#include "store/cursor.h"

typedef struct Batch
{
	MemoryContext context;		/* of the events; NULL when freed */
	int			nusers;			/* its maker, and dispatches that need their
								 * event */
	CursorMark *mark;			/* NULL if the events were routed before */
	int			nwithout_row;	/* dispatches that have no row yet; and who
								 * holds it */
	int			ngetting_row;	/* of those, in the transaction under way */
	bool		is_held;		/* by who makes more of it */
	List	   *ended_runs;		/* of EndedRun: those whose ad-hoc webhooks
								 * retire when the batch is done */
	dlist_node	node;			/* in those that were routed */
} Batch;

/* A run that has ended, for one of its ad-hoc webhooks. */
typedef struct EndedRun
{
	TimestampTz time;			/* of the event that said so */
	char	   *id;
	char	   *user;			/* whose run it is; NULL: nobody's */
	Id			webhook;
} EndedRun;

/* Starts with none; allocates in "context". */
extern void batches_open(MemoryContext context);

/* Bytes of events in memory. */
extern Size batches_event_bytes(void);

/*
 * A batch without dispatches.  Its events stay at least until its maker calls
 * batch_release().  With a mark it joins those that were routed.
 */
extern Batch *batch_create(void);

/*
 * The same of what lies in this context.  An error leaves that where it is: the
 * transaction's.
 */
extern Batch *batch_of(MemoryContext context);

/*
 * A batch of the events with these ids; see outbox_find().  An error leaves nothing
 * behind.  Its maker calls batches_release_loaded(), which after an error that came before is
 * to be called as well, and else does nothing.
 */
extern Batch *batch_load(const char **ids, int nids, Size max_bytes, Event **events,
						 int *nloaded);
extern void batch_set_mark(Batch *batch, CursorMark *mark);
extern void batch_release(Batch *batch);
extern void batches_release_loaded(void);

/* A dispatch has no row yet; or has got it. */
extern void batch_lacks_row(Batch *batch);
extern void batch_got_row(Batch *batch);

/*
 * Of the batches whose mark is not written the one that was routed next after this
 * one; of NULL the oldest; NULL after the last.
 */
extern Batch *batch_next(const Batch *batch);

/*
 * Keeps a batch's events, and its mark and those behind it from being written,
 * while dispatches are still to be made of it.
 */
extern void batch_hold(Batch *batch);
extern void batch_let_go(Batch *batch);

/* Takes and frees the marks from the first batch on that is held. */
extern void batches_drop_held_marks(void);

/* Notes that by this event its run has ended, for one of its ad-hoc webhooks. */
extern void batch_add_ended_run(Batch *batch, const Event *event, const char *webhook);

/*
 * Forgets the ends of the run that by this event was resurrected, of those before it; in
 * a list of EndedRun, or in all batches.
 */
extern List *ended_runs_forget(List *runs, const Event *event);
extern void batches_forget_ended_run(const Event *event);

/* Takes the mark, to be freed, and the batch out of those that were routed. */
extern CursorMark *batch_take_mark(Batch *batch);

#endif							/* WEBHOOK_BATCHES_H */
