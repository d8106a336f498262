/*-------------------------------------------------------------------------
 *
 * audit_wishes.h
 *	  Who should get which events, for audit(): webhooks found by their conditions.
 *
 * IDENTIFICATION
 *	  src/sql/audit_wishes.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_AUDIT_WISHES_H
#define WEBHOOK_AUDIT_WISHES_H

#include "fmgr.h"
#include "rules/event_type.h"

/* The arguments of wanted_add(). */
enum
{
	WANTED_STATE,
	WANTED_SPAN,
	WANTED_ID,
	WANTED_CREATED_AT,
	WANTED_XID,
	WANTED_EVENT_TYPE,
	WANTED_USER_ID,
	WANTED_ACTOR_ID,
	WANTED_ACTOR_TASK_ID,
	WANTED_ACTOR_RUN_ID,
	WANTED_ACTOR_BUILD_ID
};

/* Enabled webhooks, and what each of them should have got. */
typedef struct Wishes Wishes;

/* Reads them by the active snapshot, in CurrentMemoryContext.  Raises what reading a table can. */
extern Wishes *wishes_read(void);

/* The type of an event by the value of SQL's enum; raises an error if it is none. */
extern EventType wishes_type(const Wishes *wishes, Oid label);

/* Counts the event in these arguments, of this type, for all who should have got it. */
extern void wishes_ask(Wishes *wishes, FunctionCallInfo fcinfo, EventType type);

/*
 * Hands over what was counted: for each webhook the hash of its id, how many events, and the
 * sum of the hashes of their ids; and begins anew.
 */
extern void wishes_take(Wishes *wishes, void (*take) (void *argument, uint64 webhook,
													  int64 count, uint64 hashes),
						void *argument);

/* The hash of an id as it is counted. */
extern uint64 wishes_hash_id(const text * id);

#endif							/* WEBHOOK_AUDIT_WISHES_H */
