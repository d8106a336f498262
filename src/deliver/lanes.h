/*-------------------------------------------------------------------------
 *
 * lanes.h
 *	  Dispatches that go out one after the other.
 *
 * A lane is what shares a webhook and an order key: the dispatches of one run or
 * build, or all of the webhook.  They stand in it by their events' ids.  One at
 * a time is its head, and is called.  Of those behind it few are in memory; the
 * rest waits in the table, and whatever is in memory stands before all of that.
 *
 * A lane is in memory only as long as one of its dispatches is.  One whose head
 * waits for a retry, or for room, lies in the table altogether: its head comes
 * back when it is due, and brings the lane along.  Rows behind a head are due
 * never, until it is their turn.
 *
 * IDENTIFICATION
 *	  src/deliver/lanes.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LANES_H
#define WEBHOOK_LANES_H

#include "deliver/dispatch.h"

/* Starts with none, and with a look at all that lie in the table. */
extern void lanes_open(MemoryContext context);

/*
 * Announces that a dispatch will join a lane; and, when all were announced, looks
 * which of these lanes have rows in the table.  Between work_begin() and
 * work_commit().
 */
extern void lane_expect(Subscriber *subscriber, const char *order_key);
extern void lanes_look(void);

/* Finds a lane that was announced. */
extern Lane *lane_find(const Subscriber *subscriber, const char *order_key);

/*
 * Puts a dispatch that was routed into its lane; raises no error.  True if it
 * is the head and can be submitted; otherwise it waits there.  With "held_until",
 * else 0, others that stand before it may have to be routed: nothing of the lane
 * starts until lanes_release() was told of that xid.
 */
extern bool lane_join(Dispatch *dispatch, Lane *lane, uint64 held_until);

/*
 * Calls "callback" for each lane in memory.  And do all lanes wait, in memory or not,
 * because too many do to tell which?
 */
extern void lanes_each(void (*callback) (Subscriber *subscriber, const char *order_key,
										 void *argument),
					   void *argument);
extern bool lanes_are_all_held(void);

/*
 * The router has read all of its window that lies below this xid; or all of it.
 * Nothing of this is heeded from lanes_router_rewound() on until it has caught up.
 */
extern void lanes_release(uint64 xid);
extern void lanes_window_done(void);
extern void lanes_router_rewound(void);

/* What dispatch_end() and dispatch_forget() tell of a dispatch in a lane. */
extern void lane_ended(Dispatch *dispatch);
extern void lane_forget(Dispatch *dispatch);

/* Of one in a lane: does it wait behind the head?  And its lane's key. */
extern bool lane_waits(const Dispatch *dispatch);
extern const char *lane_key(const Dispatch *dispatch);

/*
 * A row that has a key is due.  True if others of its lane are in memory, or may be
 * still to be routed: then it stays where it is, and its turn will come.
 */
extern bool lane_is_busy(const DueRow *row);

/*
 * Otherwise its lane is to be read.  With "admitted" its head, which need not be
 * this row, may be called, and counts in its host's nreserved until then.
 */
extern void lane_call_up(const DueRow *row, Subscriber *subscriber, bool admitted);

/* Reads lanes that were called up; their webhooks were refreshed. */
extern void lanes_read(void);

/*
 * Looks for lanes whose head is gone, once the router has caught up.  A worker that
 * crashed may have written rows of events whose predecessors it had in memory alone;
 * so none is taken from the table before all that it may have read has been routed.
 */
extern void lanes_look_again(void);
extern void lanes_router_caught_up(void);

/*
 * After an error: what was being read is to be read again, and what was expected is
 * expected anew.  What had been admitted is so no more, and its host's nreserved not
 * ours to mend.
 */
extern void lanes_recover(void);

/*
 * When lanes_run() has something to do; and what that is: to read on in lanes, to
 * let pass what was held back for too long.  It returns false if the extension
 * is gone.
 */
extern TimestampTz lanes_deadline(void);
extern bool lanes_run(void);

#endif							/* WEBHOOK_LANES_H */
