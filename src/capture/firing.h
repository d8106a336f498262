/*-------------------------------------------------------------------------
 *
 * firing.h
 *	  Updates of attached tables that leave the status alone.
 *
 * IDENTIFICATION
 *	  src/capture/firing.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_FIRING_H
#define WEBHOOK_FIRING_H

/*
 * Spares statements the UPDATE trigger of attached tables where it can't fire.
 * Without it the trigger's WHEN clause says so, row by row.
 */
extern void firing_install_hook(void);

#endif							/* WEBHOOK_FIRING_H */
