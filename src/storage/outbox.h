/*-------------------------------------------------------------------------
 *
 * outbox.h
 *	  Adding events to the outbox, in the transaction that raises them.
 *
 * IDENTIFICATION
 *	  src/storage/outbox.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_OUTBOX_H
#define WEBHOOK_OUTBOX_H

#include "rules/event_type.h"
#include "rules/ids.h"

/* A new event; texts are in the server's encoding, NULL for SQL's NULL. */
typedef struct OutboxEvent
{
	EventType	type;
	const char *user_id;
	const char *actor_id;
	const char *actor_task_id;
	const char *actor_run_id;
	const char *actor_build_id;
	const char *old_status;
	const char *new_status;
	const char *webhook_id;
	const char *resource;
	size_t		resource_length;
} OutboxEvent;

/*
 * Adds one event; its id is copied to "id".  The row becomes visible and the
 * worker is woken when the transaction commits.
 *
 * Scratch memory comes from CurrentMemoryContext and is left to its reset.
 * Raises an error if the extension's tables are not there, or what writing a
 * row raises.
 */
extern void outbox_insert(const OutboxEvent *event, Id id);

/* The outbox's own namespace, or InvalidOid where the extension is not. */
extern Oid	outbox_namespace(void);

#endif							/* WEBHOOK_OUTBOX_H */
