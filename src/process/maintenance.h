/*-------------------------------------------------------------------------
 *
 * maintenance.h
 *	  What is done now and then: tables for the days to come, and an end of those
 *	  that are over.
 *
 * To drop the tables of a day can take seconds, of the file system's time, so a
 * process of its own does it: the worker starts one every hour, which ends when it
 * has done its work.
 *
 * IDENTIFICATION
 *	  src/process/maintenance.h
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

/* "arg" is the database's OID. */
extern PGDLLEXPORT void webhook_events_maintenance_main(Datum arg);

#endif							/* WEBHOOK_MAINTENANCE_H */
