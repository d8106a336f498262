/*-------------------------------------------------------------------------
 *
 * dispatch.h
 *	  The dispatches that the worker has in memory, and where each one stands.
 *
 *	 QUEUED -> CALLING -> ENDED -> (written, forgotten)
 *	 QUEUED -> ENDED				no call was possible
 *	 QUEUED -> (written as waiting, forgotten)
 *
 * A dispatch that was routed has no row at first.  It gets one when it ended,
 * or when it has not for a while; then it can be found again after a crash.
 *
 * IDENTIFICATION
 *	  src/deliver/dispatch.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DISPATCH_H
#define WEBHOOK_DISPATCH_H

#include "deliver/subscribers.h"
#include "store/call_result.h"
#include "store/cursor.h"
#include "store/day_table.h"

/* Events that were read together, and how far the outbox is done with them. */
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
	dlist_node	node;			/* in routed batches, oldest first */
} Batch;

/* A run that has ended, for one of its ad-hoc webhooks. */
typedef struct EndedRun
{
	TimestampTz time;			/* of the event that said so */
	char	   *id;
	Id			webhook;
} EndedRun;

typedef enum DispatchStage
{
	STAGE_QUEUED,
	STAGE_CALLING,
	STAGE_ENDED
} DispatchStage;

/* Where a dispatch stands in its lane. */
typedef enum LanePlace
{
	LANE_NONE,					/* it is in none, or has left it */
	LANE_HEAD,					/* its turn */
	LANE_WAITING,				/* behind the head */
	LANE_LEAVING				/* on its way to the table, to wait there */
} LanePlace;

typedef struct Lane Lane;

typedef struct Dispatch
{
	Id			id;				/* hash key */
	Id			event_id;
	EventType	event_type;
	TimestampTz since;			/* in memory; of a routed one, created_at */
	int			attempts;		/* calls that ended */
	DispatchStage stage;
	Subscriber *subscriber;
	Host	   *host;			/* NULL unless queued there or calling */
	Share	   *user;			/* likewise, and without a user */
	Batch	   *batch;			/* NULL once neither event nor row is wanted */
	Event	   *event;			/* NULL once the request was built */
	bool		has_row;
	RowPlace	place;			/* of the row, as far as known */
	bool		is_replay;		/* until its first call ended */
	bool		has_waited;		/* its row once said ACTIVE */
	bool		is_counted;		/* in its webhook's statistics */
	dlist_node	queue_node;		/* in host->queue or ended_dispatches, or put
								 * off by the recorder */
	dlist_node	rowless_node;	/* in rowless_dispatches, unless has_row */
	Lane	   *lane;			/* NULL: it goes out in no order */
	LanePlace	lane_place;
	dlist_node	lane_node;		/* behind the head */
	int			epoch;			/* its webhook's when it was made */
	TimestampTz holds_until;	/* of a head that is called again; 0: it isn't */
	bool		is_passed;		/* it has held others back for too long */
	char	   *body;			/* of the request, while calling */
	size_t		body_length;
	int			live_place;		/* where it is shown, while calling; or -1 */

	/* What became of it, when ENDED. */
	DispatchStatus status;
	TimestampTz ended_at;
	TimestampTz next_attempt_at;	/* if ACTIVE */
	const char *error;			/* palloc'd, NULL if there is none */
	bool		was_called;		/* the rest is about the call */
	TimestampTz called_version; /* its webhook's modified_at then */
	CallResult	call;			/* its own; of one that is under way, the URL */
} Dispatch;

/* Those that ended, in order; written with the next flush. */
extern dlist_head ended_dispatches;
extern int	nended_dispatches;

/* Those without a row, oldest first. */
extern dlist_head rowless_dispatches;
extern int	nrowless_dispatches;

/* Routed batches whose mark is not written, oldest first. */
extern dlist_head routed_batches;

/* How many are queued that have a row. */
extern int	nfetched_dispatches;

/* How many are queued at all. */
extern int	nqueued_dispatches;

/* Bytes of events in memory. */
extern Size dispatch_event_bytes(void);

/* Starts with none; allocates in "context". */
extern void dispatches_open(MemoryContext context);

/*
 * A batch without dispatches.  Its events stay at least until its maker calls
 * batch_release().  With a mark it joins routed_batches.
 */
extern Batch *batch_create(void);

/*
 * A batch of the events with these ids; see outbox_find().  An error leaves nothing
 * behind.
 */
extern Batch *batch_load(const char **ids, int nids, Size max_bytes, Event **events,
						 int *nloaded);
extern void batch_set_mark(Batch *batch, CursorMark *mark);
extern void batch_release(Batch *batch);

/*
 * Keeps a batch's events, and its mark and those behind it from being written,
 * while dispatches are still to be made of it.
 */
extern void batch_hold(Batch *batch);
extern void batch_let_go(Batch *batch);

/* Takes and frees the marks from the first batch on that is held. */
extern void batches_drop_held_marks(void);

/*
 * Notes that a run has ended, if one of the batches does not know of a later
 * end; or that it was resurrected, after all ends before that time.
 */
extern void batch_add_ended_run(Batch *batch, const char *id, TimestampTz time,
								const char *webhook);
extern void batches_forget_ended_run(const char *id, TimestampTz time);

/* Takes the mark, and the batch out of routed_batches. */
extern CursorMark *batch_take_mark(Batch *batch);

/* Finds one; NULL if it isn't in memory. */
extern Dispatch *dispatch_find(const char *id);

/*
 * Adds a dispatch.  "event" belongs to "batch"; both are NULL for one that
 * will not be called.
 */
extern Dispatch *dispatch_create(const char *id, const char *event_id,
								 EventType event_type, Subscriber *subscriber,
								 Batch *batch, Event *event, bool has_row,
								 bool is_replay);

/* Puts it into its host's queue. */
extern void dispatch_enqueue(Dispatch *dispatch);

/*
 * The same, or sends it to the table at once if its host is behind already or its
 * webhook's rate is used up.
 */
extern void dispatch_submit(Dispatch *dispatch);

/* Takes it out of the queue and into CALLING; the event stays. */
extern void dispatch_start(Dispatch *dispatch);

/* Lets go of the event, once the request was built. */
extern void dispatch_release_event(Dispatch *dispatch);

/*
 * Ends it, whatever its state, with this status; "error" is copied.  The
 * caller sets what else is to be set.
 */
extern void dispatch_end(Dispatch *dispatch, DispatchStatus status,
						 const char *error);

/* Replaces the error of one that ended, by a copy. */
extern void dispatch_set_error(Dispatch *dispatch, const char *error);

/* It has a row now. */
extern void dispatch_got_row(Dispatch *dispatch);

/* Forgets all that are queued and have a row. */
extern void dispatches_forget_queued(void);

/* Forgets it: what matters is in its row. */
extern void dispatch_forget(Dispatch *dispatch);

#endif							/* WEBHOOK_DISPATCH_H */
