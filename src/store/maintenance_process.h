/*-------------------------------------------------------------------------
 *
 * maintenance_process.h
 *	  What is done now and then: tables for the days to come, and an end of those
 *	  that are over.
 *
 * To drop the tables of a day can take seconds, of the file system's time, so a
 * process of its own does it, which ends when it has done its work.
 *
 * IDENTIFICATION
 *	  src/store/maintenance_process.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAINTENANCE_PROCESS_H
#define WEBHOOK_MAINTENANCE_PROCESS_H

/* "arg" is the number of a slot, see server/slots.h. */
extern PGDLLEXPORT void webhook_events_maintenance_main(Datum arg);

#endif							/* WEBHOOK_MAINTENANCE_PROCESS_H */
