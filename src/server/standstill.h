/*-------------------------------------------------------------------------
 *
 * standstill.h
 *	  A hand-shake between sessions that want no request to start, and the worker.
 *
 * What pause() writes down cannot be seen before it is committed, and the worker
 * looks when it has time.  So a session asks for a standstill, which lasts until its
 * transaction ends, and waits until the worker has answered.
 *
 * IDENTIFICATION
 *	  src/server/standstill.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_STANDSTILL_H
#define WEBHOOK_STANDSTILL_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/spin.h"

/* So many sessions can want one at once. */
#define MAX_STANDSTILLS 64

/* In shared memory, along with the rest. */
typedef struct StandstillShared
{
	pg_atomic_uint64 number;	/* of what was asked for or released so far */
	ConditionVariable answered;
	slock_t		mutex;			/* of what follows */
	struct
	{
		Oid			database;
		pid_t		owner;		/* the session's process; 0: free */
	}			sessions[MAX_STANDSTILLS];
} StandstillShared;

/* Sets up what is shared, and makes use of it. */
extern void standstill_initialize(StandstillShared *memory);
extern void standstill_attach(StandstillShared *memory);

/*
 * For sessions.  Asks for a standstill in this database, and waits until the worker
 * has answered: it starts no request any more, and all that it had in memory can be
 * seen in the tables.  Returns false if it has not within "timeout" milliseconds; the
 * standstill stands all the same.  Raises an error if too many sessions ask.
 *
 * standstill_release() ends those of this session; it raises nothing.
 */
extern bool standstill_request(int timeout);
extern void standstill_release(void);

/*
 * For the worker.  The number changes with each request and release: one that is read
 * before it looks whether a standstill is wanted is what it answers afterwards.
 */
extern uint64 standstill_number(void);
extern bool standstill_is_wanted(Oid database);
extern void standstill_answer(uint64 number);

#endif							/* WEBHOOK_STANDSTILL_H */
