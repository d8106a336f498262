/*-------------------------------------------------------------------------
 *
 * long_resources.h
 *	  Resources that were left in their table, read when a request needs them.
 *
 * One is in memory at a time, and it is read in slices, a turn for each, before the first of
 * its requests is made.
 *
 * IDENTIFICATION
 *	  src/deliver/long_resources.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LONG_RESOURCES_H
#define WEBHOOK_LONG_RESOURCES_H

#include "deliver/dispatch.h"

typedef enum LongResource
{
	LONG_RESOURCE_THERE,
	LONG_RESOURCE_READ,			/* a slice of it, now; come again in another
								 * turn */
	LONG_RESOURCE_LATER,		/* see long_resources_retry_at() */
	LONG_RESOURCE_GONE,			/* with its event, or it can never be read */
	LONG_RESOURCE_FAILED		/* it may be read some time */
} LongResource;

/* Starts with none; allocates in "context". */
extern void long_resources_open(MemoryContext context);

/* Forgets what is in memory. */
extern void long_resources_forget(void);

/* Begins a turn. */
extern void long_resources_begin_turn(void);

/* When one can be read again after a failure; 0: there was none. */
extern TimestampTz long_resources_retry_at(void);

/* When a turn should begin to forget the one that nobody has come for. */
extern TimestampTz long_resources_deadline(void);

/*
 * Does a dispatch, of an event and a webhook that are known, need a resource that was
 * left in its table?
 */
extern bool long_resource_is_needed(const Dispatch *dispatch);

/*
 * Sees to an event's resource, forgetting another one's, and reads about as many bytes as
 * "budget" says; if there will be none now *error says why, palloc'd.
 */
extern LongResource long_resource_get(const Event *event, size_t budget, char **error);

/* How often one was forgotten: if this is the same, what was there still is. */
extern uint64 long_resources_forgotten(void);

/* Puts it into an event, as long as no other is read; false if it is not there. */
extern bool long_resource_put(Event *event);

#endif							/* WEBHOOK_LONG_RESOURCES_H */
