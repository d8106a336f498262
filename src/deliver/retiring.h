/*-------------------------------------------------------------------------
 *
 * retiring.h
 *	  Ad-hoc webhooks whose runs have ended: they retire once nothing waits for
 *	  them.
 *
 * IDENTIFICATION
 *	  src/deliver/retiring.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RETIRING_H
#define WEBHOOK_RETIRING_H

#include "nodes/pg_list.h"
#include "rules/webhook.h"
#include "store/statement.h"

/* Starts with nothing to do; allocates in "context". */
extern void retiring_open(MemoryContext context);

/* A dispatch that had waited for an ad-hoc webhook has ended. */
extern void retiring_add_dispatch(const char *webhook_id);

/* Runs have ended: a list of EndedRun, which is taken over. */
extern void retiring_add_runs(List *runs);

/*
 * Are there runs of which only memory knows that they have ended?  Then the marks behind
 * these ends must wait: what can't be seen to now is soon in a table.
 */
extern bool retiring_holds_marks(void);

/* The tables may hold webhooks whose runs have ended and that nobody has announced. */
extern void retiring_look_again(void);

/* There are new runs to check in their table. */
extern void retiring_check_runs(void);

/* By this event a run was resurrected: its ends before that are none. */
extern void retiring_forget_run(const Event *event);

/* When the tables are to be looked at; DT_NOEND: not. */
extern TimestampTz retiring_deadline(void);

/*
 * The job: is there anything to do, the transaction, and what follows when it was
 * committed, or failed.
 */
extern bool retiring_is_wanted(TimestampTz now);
extern void retiring_work(void *argument);
extern TimestampTz retiring_done(TimestampTz now);
extern WorkResult retiring_failed(TimestampTz now);

#endif							/* WEBHOOK_RETIRING_H */
