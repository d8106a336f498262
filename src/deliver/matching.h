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
 * of the events it got through.
 */
extern int	subscribers_match(Event **events, int nevents, int max_matches,
							  void (*callback) (Event *event,
												Subscriber *subscriber,
												MatchResult result,
												void *argument),
							  void *argument);

#endif							/* WEBHOOK_MATCHING_H */
