/*-------------------------------------------------------------------------
 *
 * utility.h
 *	  Statements that concern the workers.
 *
 * IDENTIFICATION
 *	  src/server/utility.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_UTILITY_H
#define WEBHOOK_UTILITY_H

/*
 * Makes DROP DATABASE, CREATE DATABASE (of its template), and the forms of
 * ALTER DATABASE that need a database without sessions, stop its worker first.
 * It comes back when the transaction is over.  Makes DROP EXTENSION and COMMIT
 * PREPARED wake the worker.  Called when the library is loaded at server start.
 */
extern void utility_install_hook(void);

#endif							/* WEBHOOK_UTILITY_H */
