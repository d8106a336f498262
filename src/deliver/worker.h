/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The process that delivers the events of one database.
 *
 * IDENTIFICATION
 *	  src/deliver/worker.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WORKER_H
#define WEBHOOK_WORKER_H

/* "arg" is the number of the slot in shared memory that it works for. */
extern PGDLLEXPORT void webhook_events_worker_main(Datum arg);

#endif							/* WEBHOOK_WORKER_H */
