/*-------------------------------------------------------------------------
 *
 * slices.h
 *	  Events that more webhooks could want than are dealt with in one turn.
 *
 * Such an event is matched slice by slice, in the order of webhooks' ids, while
 * others are routed.  Its batch is held meanwhile, so that no mark behind it is
 * written: after a crash it begins anew, and what has a row by then is left out.
 * Only what goes out in order must not pass it: whoever gets a later event gets
 * this one at once, before its slice.
 *
 * IDENTIFICATION
 *	  src/deliver/slices.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SLICES_H
#define WEBHOOK_SLICES_H

#include "deliver/dispatch.h"

/* An event in slices. */
typedef struct Slicing
{
	Event	   *event;			/* the batch's only one */
	Batch	   *batch;
	Id			position;		/* webhooks up to here have had their turn ... */
	HTAB	   *early;			/* ... and so have these; NULL: none */
	int			failures;		/* of slices because of what is in them */
	bool		holds_lanes;	/* no lane goes on that had to wait before it */
	dlist_node	node;			/* in the order in which it is their turn */
} Slicing;

/* Starts with none; allocates in "context". */
extern void slices_open(MemoryContext context);

/* Is any event in slices now? */
extern bool slices_exist(void);

/* Must what waits for the router go on waiting, whatever it has read? */
extern bool slices_hold_lanes(void);

/*
 * Begins with an event, which is copied into a batch of its own; that is to get the
 * event's mark, and is held until slices_end().
 */
extern Slicing *slices_begin(const Event *event, bool holds_lanes);
extern void slices_end(Slicing *slicing);

/* Whose turn it is: there is one. */
extern Slicing *slices_next(void);

/* A slice is done, up to this webhook: other users' events come first now. */
extern void slices_advance(Slicing *slicing, const char *position);

/* Has this webhook had its turn?  And: it has, before its slice. */
extern bool slicing_is_done(const Slicing *slicing, const char *webhook_id);
extern void slicing_note_early(Slicing *slicing, const char *webhook_id);

/*
 * Calls "callback" for each subscriber in one of whose lanes in memory this event
 * has a place: what is there may have waited for it.  Between work_begin() and
 * work_commit().
 */
extern void slicing_join_lanes(Slicing *slicing,
							   void (*callback) (Slicing *slicing,
												 Subscriber *subscriber,
												 void *argument),
							   void *argument);

/*
 * Calls "callback" for each that is still to come to a subscriber that gets "event"
 * in order, and is to stand in line with it.
 */
extern void slices_overtaken(Subscriber *subscriber, const Event *event,
							 void (*callback) (Slicing *slicing,
											   Subscriber *subscriber,
											   void *argument),
							 void *argument);

/*
 * Gives all of them up, and the marks from the first of them on: they are read
 * again.
 */
extern void slices_drop(void);

#endif							/* WEBHOOK_SLICES_H */
