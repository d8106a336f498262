/*-------------------------------------------------------------------------
 *
 * installed.h
 *	  Do the library and the extension's SQL in this database fit?
 *
 * IDENTIFICATION
 *	  src/store/installed.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_INSTALLED_H
#define WEBHOOK_INSTALLED_H

/*
 * Is the extension, in this database, of the version of this library?  False
 * where it isn't there at all.  Needs a transaction.  What is recorded meanwhile
 * waits in the tables of the older version (see day_table_namespace()).
 */
extern bool installed_version_fits(void);

/* Raises ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE unless it is. */
extern void installed_check_version(void);

#endif							/* WEBHOOK_INSTALLED_H */
