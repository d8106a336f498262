/*-------------------------------------------------------------------------
 *
 * router.h
 *	  From the outbox to dispatches: which webhooks get the new events.
 *
 * IDENTIFICATION
 *	  src/deliver/router.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ROUTER_H
#define WEBHOOK_ROUTER_H

#include "datatype/timestamp.h"

/* Starts as if there could be new events. */
extern void router_open(void);

/* There may be new events. */
extern void router_look_again(void);

/* Others have written rows of dispatches of events that may still be to be routed. */
extern void router_expect_rows(void);

/* Could router_route() do something now? */
extern bool router_has_work(void);

/* When it is to be tried again after an error; DT_NOEND if there was none. */
extern TimestampTz router_deadline(void);

/*
 * Routes a batch of events that were not routed yet, once they are durable.
 * Returns false if the extension is gone.  After an error it goes back to the last
 * written mark; an event that can't be read or matched is left out.
 */
extern bool router_route(void);

/*
 * For a hold: goes on with what is in slices, or gives it up if that can't be; it is
 * routed anew then.  Returns false if the extension is gone.
 */
extern bool router_put_down(void);

#endif							/* WEBHOOK_ROUTER_H */
