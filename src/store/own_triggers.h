/*-------------------------------------------------------------------------
 *
 * own_triggers.h
 *	  Statements that switch triggers of our tables.
 *
 * IDENTIFICATION
 *	  src/store/own_triggers.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_OWN_TRIGGERS_H
#define WEBHOOK_OWN_TRIGGERS_H

/*
 * Has what fires for replicas do so again once ALTER TABLE has enabled triggers of one of
 * our tables; and webhooks counted anew, of which rows may have come meanwhile.
 */
extern void own_triggers_install_hook(void);

#endif							/* WEBHOOK_OWN_TRIGGERS_H */
