/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The process that keeps a worker running in each database that has the
 *	  extension.
 *
 * IDENTIFICATION
 *	  src/server/launcher.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LAUNCHER_H
#define WEBHOOK_LAUNCHER_H

/* Registers the launcher; called while libraries are loaded at server start. */
extern void launcher_register(void);

/* Its process: PostgreSQL calls it by this name, with nothing.  Does not return. */
extern PGDLLEXPORT void webhook_events_launcher_main(Datum arg);

#endif							/* WEBHOOK_LAUNCHER_H */
