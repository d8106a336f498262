/*-------------------------------------------------------------------------
 *
 * triggers.h
 *	  The trigger functions of attached tables: from a write to its events.
 *
 * IDENTIFICATION
 *	  src/capture/triggers.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRIGGERS_H
#define WEBHOOK_TRIGGERS_H

/*
 * Makes the events of a statement be inserted together, at its end.  Without it,
 * as in statements that don't go through the executor (COPY, logical
 * replication), each is inserted at once.
 */
extern void triggers_install_hook(void);

#endif							/* WEBHOOK_TRIGGERS_H */
