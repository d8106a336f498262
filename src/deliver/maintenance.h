/*-------------------------------------------------------------------------
 *
 * maintenance.h
 *	  The worker's side of maintenance: starting the process that does it, and
 *	  ending it along with the worker.
 *
 * IDENTIFICATION
 *	  src/deliver/maintenance.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAINTENANCE_H
#define WEBHOOK_MAINTENANCE_H

#include "datatype/timestamp.h"

/* When maintenance_start() has something to do. */
extern TimestampTz maintenance_deadline(void);

/*
 * Starts the process if it is time to.  Without a free background worker slot,
 * which is logged once, it is tried again after a minute.
 */
extern void maintenance_start(void);

/* Ends the process, if there is one, and waits until it is gone. */
extern void maintenance_stop(void);

#endif							/* WEBHOOK_MAINTENANCE_H */
