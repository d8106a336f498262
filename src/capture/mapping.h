/*-------------------------------------------------------------------------
 *
 * mapping.h
 *	  Which column of an attached table means what, as its triggers say it.
 *
 * The mapping is the argument of the triggers that attach() makes: JSON with
 * names of columns.  So it is copied, dumped, restored and dropped along with
 * the table.  Beside each name stands the column's number, and once the cluster,
 * the database and the table in which that number means this column.
 *
 * IDENTIFICATION
 *	  src/capture/mapping.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAPPING_H
#define WEBHOOK_MAPPING_H

#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "rules/event_type.h"
#include "utils/rel.h"

/* What columns are used for. */
typedef enum SourceRole
{
	ROLE_ID,
	ROLE_ACTOR_ID,
	ROLE_ACTOR_TASK_ID,
	ROLE_USER_ID,
	ROLE_STATUS
} SourceRole;

#define N_ROLES (ROLE_STATUS + 1)

/* "id", "actor_id" and so on, by role. */
extern const char *const source_role_names[N_ROLES];

/* A mapping, in the numbers of a table's columns. */
typedef struct SourceMapping
{
	AttrNumber	columns[N_ROLES];	/* InvalidAttrNumber: there is none */
	Bitmapset  *excluded;
	char	   *function_schema;	/* of the resource function; NULL: none */
	char	   *function_name;
	Oid			function;		/* InvalidOid: it is gone */

	/* Of one that was read: */
	Oid			attached;		/* the table that was attached */
	bool		is_elsewhere;	/* it was written for another table: of a
								 * dump, or of what is spread over tables */
	List	   *gone;			/* names of mapped columns that are not there */
	List	   *lost;			/* the same of excluded ones: what must not be
								 * shown may be there under any other name */
} SourceMapping;

/* Writes the mapping of an attached table as a trigger's argument; palloc'd. */
extern char *source_mapping_write(const SourceMapping *mapping, Relation relation);

/*
 * Reads the argument of a trigger of "relation": the table that was attached, a
 * partition or a copy of it; palloc'd.  "attached" says which one was, if the
 * argument was written elsewhere.  In the cluster and the database in which it
 * was written, numbers tell how that table's columns are called today; anywhere
 * else names count, and nothing else does.  Locks no table but catalogs.  Raises
 * an error if the text is no such argument.
 */
extern SourceMapping *source_mapping_read(const char *argument, Relation relation,
										  Oid attached);

/* Does an argument name a resource function?  Reads no JSON and raises nothing. */
extern bool source_mapping_has_function(const char *argument);

/*
 * The argument as it reads after a column was renamed, or dropped if new_name is
 * NULL, or after functions and schemas were renamed; NULL if it stays as it is.
 */
extern char *source_mapping_follow_column(const char *argument, const char *old_name,
										  const char *new_name);
extern char *source_mapping_follow_function(const char *argument);

/*
 * The same for an argument of the first version, which counted numbers alone as
 * soon as database and table had the same oids; NULL for any other.
 */
extern char *source_mapping_modernise(const char *argument, Relation relation);

/* Is this one of our trigger functions? */
extern bool source_is_trigger_function(Oid function);

/* Does this row of pg_trigger call one? */
extern bool source_is_trigger(const FormData_pg_trigger *trigger);

/*
 * The trigger of ours on a table, whatever its name, for an operation: "insert",
 * which every attached table has, "update" or "delete"; NULL if there is none.  It
 * is the relation's.
 */
extern const Trigger *source_find_trigger(Relation relation,
										  const char *operation);

#endif							/* WEBHOOK_MAPPING_H */
