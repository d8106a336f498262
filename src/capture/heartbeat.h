/*-------------------------------------------------------------------------
 *
 * heartbeat.h
 *	  Updates of attached tables that leave the status alone.
 *
 * IDENTIFICATION
 *	  src/capture/heartbeat.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_HEARTBEAT_H
#define WEBHOOK_HEARTBEAT_H

/*
 * Spares statements the UPDATE trigger of attached tables where it can't fire.
 * Without it the trigger's WHEN clause says so, row by row.
 */
extern void heartbeat_install_hook(void);

#endif							/* WEBHOOK_HEARTBEAT_H */
