/*-------------------------------------------------------------------------
 *
 * databases.h
 *	  Which databases get a slot, for a worker of their own: for the launcher.
 *
 * IDENTIFICATION
 *	  src/server/databases.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DATABASES_H
#define WEBHOOK_DATABASES_H

/* Forgets which databases lack the extension; called before the others, when a launcher starts. */
extern void databases_forget_absent(void);

/*
 * Takes the slots of databases that turned out not to have the extension.  Returns
 * whether one has got it meanwhile, and needs another slot.
 */
extern bool databases_retire_absent(void);

/*
 * Gives each database that may be worked for a slot, but for those that lack the extension,
 * and takes it from all others.  Called outside a transaction; runs one of its own.
 */
extern void databases_assign_slots(void);

#endif							/* WEBHOOK_DATABASES_H */
