/*-------------------------------------------------------------------------
 *
 * outbox.h
 *	  Adding events to the outbox, in the transaction that raises them.
 *
 * IDENTIFICATION
 *	  src/capture/outbox.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_OUTBOX_H
#define WEBHOOK_OUTBOX_H

#include "rules/event_type.h"
#include "rules/ids.h"
#include "utils/resowner.h"

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
	const char *problem;		/* why there is no resource, or not all of it */
} OutboxEvent;

/*
 * Adds one event; its id is copied to "id".  The row becomes visible and the
 * worker is woken when the transaction commits.  In a statement that was begun
 * it is inserted by outbox_flush_statement(), or before.
 *
 * Scratch memory comes from CurrentMemoryContext and is left to its reset.
 * Raises an error if the extension's tables are not there, or what writing a
 * row raises.
 */
extern void outbox_insert(const OutboxEvent *event, Id id);

/*
 * Is this the run whose CREATED event this transaction has added last, and not undone?
 * Nobody else can have ended it then.
 */
extern bool outbox_has_made_run(const char *run_id);

/* Events of one statement, which are gathered; private, on the caller's stack. */
typedef struct OutboxStatement
{
	struct OutboxStatement *outer;
	SubTransactionId subtransaction;
	ResourceOwner owner;
	struct DayRows *rows;		/* NULL while there are none */
} OutboxStatement;

/*
 * Gathers events from here on, those of a statement inside another one apart,
 * and none of a subtransaction that starts now, which can be rolled back alone, or
 * of a cursor's query, whose end is not that of the statement.  outbox_flush_statement() inserts them; outbox_end_statement() must
 * follow in any case, after an error too, and forgets what was not inserted.
 */
extern void outbox_begin_statement(OutboxStatement *statement);
extern void outbox_flush_statement(void);
extern void outbox_end_statement(void);

/* Are we at the end of a statement?  COPY has none. */
extern bool outbox_is_in_statement(void);

#endif							/* WEBHOOK_OUTBOX_H */
