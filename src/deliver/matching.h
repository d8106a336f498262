/*-------------------------------------------------------------------------
 *
 * matching.h
 *	  Which webhooks get which events of a batch.
 *
 * IDENTIFICATION
 *	  src/deliver/matching.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MATCHING_H
#define WEBHOOK_MATCHING_H

#include "deliver/subscribers.h"

/*
 * Finds who may get which of these events, and calls "callback" for each pair
 * with what webhook_match() says of it, event by event.  Ends with the event
 * that brings the matches to "max_matches", which is positive; returns how many
 * of the events it got through.  That is none, and nothing was called, if more
 * webhooks could want them than are looked at in one turn.
 */
extern int	subscribers_match(Event **events, int nevents, int max_matches,
							  void (*callback) (Event *event,
												Subscriber *subscriber,
												MatchResult result,
												void *argument),
							  void *argument);

/*
 * The same for a slice of those who may get one event: some that stand behind
 * "position", an id, in the order of their ids.  "position" becomes that of the last;
 * returns whether there may be more.
 */
extern bool subscribers_match_slice(Event *event, Id position,
									void (*callback) (Event *event,
													  Subscriber *subscriber,
													  MatchResult result,
													  void *argument),
									void *argument);

#endif							/* WEBHOOK_MATCHING_H */
