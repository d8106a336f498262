/*-------------------------------------------------------------------------
 *
 * faults.h
 *	  What is wrong with the platform's side: tables, settings, accesses.
 *
 * IDENTIFICATION
 *	  src/sql/faults.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_FAULTS_H
#define WEBHOOK_FAULTS_H

#include "nodes/pg_list.h"

/*
 * Lists of strings, in order, NIL if all is well; palloc'd.  They are found by
 * catalog look-ups alone and wait for no lock on a table.
 */

/* What attach() has put on tables and is not in force any more. */
extern List *faults_of_tables(void);

/*
 * Who raises no events because of the configuration, ALTER DATABASE or ALTER ROLE: emit is
 * off, or session_replication_role is replica and there are triggers that don't fire then.
 */
extern List *faults_emit_off(void);

/*
 * Roles that may query what an access opens and have none, as in a restored dump,
 * which has privileges but no accesses: they see nothing.
 */
extern List *faults_lost_accesses(void);

/* text[]; (Datum) 0 for NIL. */
extern Datum faults_array(List *faults);

#endif							/* WEBHOOK_FAULTS_H */
