/*-------------------------------------------------------------------------
 *
 * firing.h
 *	  When the triggers of attached tables fire, statement by statement.
 *
 * IDENTIFICATION
 *	  src/capture/firing.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_FIRING_H
#define WEBHOOK_FIRING_H

/*
 * Has our triggers fire before others of the same row, and spares statements the UPDATE
 * trigger of attached tables where it can't fire.  Without it names say which comes
 * first, and the trigger's WHEN clause, row by row, where there is nothing to do.
 */
extern void firing_install_hook(void);

#endif							/* WEBHOOK_FIRING_H */
