/*-------------------------------------------------------------------------
 *
 * subscriptions.h
 *	  What becomes of the subscriptions of a database, as status() tells it.
 *
 * IDENTIFICATION
 *	  src/sql/subscriptions.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SUBSCRIPTIONS_H
#define WEBHOOK_SUBSCRIPTIONS_H

#include "nodes/pg_list.h"

/* How a subscription is. */
typedef enum SubscriptionState
{
	SUBSCRIPTION_APPLYING,
	SUBSCRIPTION_COPYING,		/* tables' rows of before are not all there */
	SUBSCRIPTION_DOWN,			/* its process does not run, or an error has
								 * disabled it */
	SUBSCRIPTION_DISABLED
} SubscriptionState;

typedef struct SubscriptionReport
{
	Oid			oid;
	char	   *name;
	SubscriptionState state;
	bool		has_committed;	/* since the server has been started */
	TimestampTz committed_at;	/* of the last transaction, where it was
								 * written */
	int64		lag;			/* until it was committed here, or for how
								 * long what is being applied has been; in ms */
} SubscriptionReport;

/* SubscriptionReports of this database, by name; palloc'd. */
extern List *subscriptions_report(void);

/*
 * The names of those to which a day of the outbox is a table by itself: later days are
 * unknown to them, and what comes of these is dropped without a word.
 */
extern List *subscriptions_of_days(void);

/* The names of those that are down, for a text[]. */
extern List *subscriptions_down(List *reports);

/* jsonb of all of them; (Datum) 0 if there are none. */
extern Datum subscriptions_json(List *reports);

#endif							/* WEBHOOK_SUBSCRIPTIONS_H */
