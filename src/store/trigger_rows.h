/*-------------------------------------------------------------------------
 *
 * trigger_rows.h
 *	  Rows of pg_trigger.
 *
 * All are copies in the memory of the caller, with the place where the row lies.
 *
 * IDENTIFICATION
 *	  src/store/trigger_rows.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRIGGER_ROWS_H
#define WEBHOOK_TRIGGER_ROWS_H

#include "access/htup_details.h"
#include "catalog/pg_trigger.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

static inline Form_pg_trigger
trigger_form(HeapTuple row)
{
	return (Form_pg_trigger) GETSTRUCT(row);
}

/* One trigger, as a snapshot has it, or as it is now if that is NULL; NULL if there is none. */
extern HeapTuple trigger_row(Oid trigger, Snapshot snapshot);

/* Those of a table, or of all tables for InvalidOid, that are wanted: HeapTuple. */
extern List *trigger_rows(Oid relation, bool (*is_wanted) (const FormData_pg_trigger *form));

/* The triggers that call a function, by what depends on that: OIDs. */
extern List *triggers_calling(Oid function);

/* Its arguments as they are stored, a zero byte after each; palloc'd, or part of the row. */
extern bytea *trigger_arguments(HeapTuple row);

#endif							/* WEBHOOK_TRIGGER_ROWS_H */
