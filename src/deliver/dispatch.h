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

#include "deliver/batches.h"
#include "deliver/subscribers.h"
#include "store/call_result.h"
#include "store/day_table.h"

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
	Share	   *user;			/* NULL without one */
	Batch	   *batch;			/* NULL once neither event nor row is wanted */
	Event	   *event;			/* NULL once the request was built */
	bool		has_row;
	RowPlace	place;			/* of the row, as far as known */
	bool		is_replay;		/* until its first call ended */
	bool		has_waited;		/* its row once said ACTIVE */
	bool		is_counted;		/* in its webhook's statistics */
	dlist_node	queue_node;		/* in host->queue, or among those that ended
								 * or were put off */
	dlist_node	rowless_node;	/* among those without a row, unless has_row */
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

/* Starts with none, and with no batches; allocates in "context". */
extern void dispatches_open(MemoryContext context);

/* How many are queued; and how many of these have a row. */
extern int	dispatches_queued(void);
extern int	dispatches_fetched(void);

/* How many ended, to be written with the next flush; and how many have no row. */
extern int	dispatches_ended(void);
extern int	dispatches_rowless(void);

/*
 * The one that ended next after this one, or was made next of those without a row;
 * of NULL the first; NULL after the last.
 */
extern Dispatch *dispatch_next_ended(const Dispatch *dispatch);
extern Dispatch *dispatch_next_rowless(const Dispatch *dispatch);

/* Finds one; NULL if it isn't in memory. */
extern Dispatch *dispatch_find(const char *id);

/*
 * Adds a dispatch.  "event" belongs to "batch"; both are NULL for one that
 * will not be called.  An error leaves none; and nothing that is done to one raises any,
 * so that none is left half way.
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
 * Ends it, whatever its state, with this status; "error" is copied, if there is memory
 * for it.  The caller sets what else is to be set.
 */
extern void dispatch_end(Dispatch *dispatch, DispatchStatus status,
						 const char *error);

/* Replaces the error of one that ended, by a copy. */
extern void dispatch_set_error(Dispatch *dispatch, const char *error);

/*
 * Takes it out of those that ended, because its row is locked; all that were put off
 * come back at the end.
 */
extern void dispatch_put_off(Dispatch *dispatch);
extern void dispatches_take_put_off(void);
extern bool dispatches_any_put_off(void);

/* It has a row now. */
extern void dispatch_got_row(Dispatch *dispatch);

/* Forgets all that are queued and have a row. */
extern void dispatches_forget_queued(void);

/* Forgets it: what matters is in its row. */
extern void dispatch_forget(Dispatch *dispatch);

#endif							/* WEBHOOK_DISPATCH_H */
