/*-------------------------------------------------------------------------
 *
 * access.h
 *	  What a role may see and do: the only place that decides it.
 *
 * An access is bound to a role in the table "grants" and inherited as
 * privileges are.  Superusers and the extension's owner see and do all; a role
 * without any access nothing, whatever else it was granted.  The setting
 * webhook_events.user_id can only narrow that.
 *
 * IDENTIFICATION
 *	  src/store/access.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ACCESS_H
#define WEBHOOK_ACCESS_H

/* What a role asks for: what a reader may see, or all of a webhook. */
typedef enum AccessKind
{
	ACCESS_READ,
	ACCESS_MANAGE
} AccessKind;

/* In whose name a documented function runs; of access_enter(). */
typedef struct AccessFrame
{
	Oid			caller;
	Oid			owner;
} AccessFrame;

/*
 * From now on what runs as "owner" runs in the name of the role that is current
 * now.  Returns what access_leave() needs.  Raises nothing.
 */
extern AccessFrame access_enter(Oid owner);
extern void access_leave(AccessFrame frame);

/* The role in whose name this runs: current_user, also behind the door. */
extern Oid	access_caller(void);

/* Who a process was before access_become(). */
typedef struct AccessUser
{
	Oid			user;
	int			security_context;
	int			guc_level;
} AccessUser;

/*
 * What follows is evaluated as this role in a security-restricted operation,
 * with search_path = pg_catalog, pg_temp: for types, casts and functions that are
 * somebody else's.  An error needs no access_return().
 */
extern AccessUser access_become(Oid role);
extern void access_return(AccessUser user);

/*
 * Throws the error again that was caught in between, in the memory context.  Handlers of
 * PL/pgSQL catch all but what interrupts a statement or a failed assertion, which
 * somebody else's function or foreign table can raise as well: such an error
 * becomes one that they catch.
 */
extern void access_rethrow(MemoryContext context);

/* The owner of the extension's tables.  Raises an error if there are none. */
extern Oid	access_owner(void);

/* Is it everybody's rows that the role may see or manage? */
extern bool access_to_all(AccessKind kind);

/*
 * May the role that is current see rows of anybody?  For functions that views call,
 * which anybody may execute; within a documented function it is their owner.
 */
extern bool access_to_any(void);

/* May the role see or manage rows of this user?  NULL: rows of nobody. */
extern bool access_to(AccessKind kind, const char *user_id);

/*
 * The user whose rows the role may see or manage; NULL if there is none.  It is
 * valid until the next call.
 */
extern const char *access_user(AccessKind kind);

#endif							/* WEBHOOK_ACCESS_H */
