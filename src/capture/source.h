/*-------------------------------------------------------------------------
 *
 * source.h
 *	  Attached tables: which column means what, and how rows are read.
 *
 * The mapping is the argument of the triggers that attach() makes: JSON with
 * the names and numbers of columns.  So it is copied, dumped, restored and
 * dropped along with the table.
 *
 * IDENTIFICATION
 *	  src/capture/source.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SOURCE_H
#define WEBHOOK_SOURCE_H

#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "rules/event_type.h"
#include "utils/jsonb.h"
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

/* A mapping, in the numbers of the attached table's columns. */
typedef struct SourceMapping
{
	AttrNumber	columns[N_ROLES];	/* InvalidAttrNumber: there is none */
	Bitmapset  *excluded;
	char	   *function_schema;	/* of the resource function; NULL: none */
	char	   *function_name;
} SourceMapping;

/* Writes a mapping as a trigger's argument; palloc'd. */
extern char *source_mapping_write(const SourceMapping *mapping,
								  Relation relation);

/*
 * Reads it back for the attached table as it is now.  In the table for which
 * it was written numbers count before names, so that renamed columns are
 * found; in a restored one names do.  A column that is gone is
 * InvalidAttrNumber.  Raises an error if the text is not such an argument.
 */
extern SourceMapping *source_mapping_read(const char *argument,
										  Relation relation);

/* The function of a mapping for rows of this type; InvalidOid if it's gone. */
extern Oid	source_mapping_function(const SourceMapping *mapping,
									Oid row_type);

/* Is it run_changed() or build_changed()? */
extern bool source_is_trigger_function(Oid function);

/*
 * The trigger that attach() made on a table for an operation: "insert", which
 * every attached table has, "update" or "delete"; NULL if there is none.  It is
 * the relation's.
 */
extern const Trigger *source_find_trigger(Relation relation,
										  const char *operation);

/* The table that was attached, of a trigger or of one made for a partition. */
extern Oid	source_attached_relation(Oid trigger);

/* An attached table, or a partition of one, as the trigger functions see it. */
typedef struct Source Source;

/*
 * Finds what is known about a trigger's table.  Valid until the end of the
 * transaction.  Raises an error if a needed column is gone.
 */
extern Source *source_get(Relation relation, const Trigger *trigger,
						  SourceKind kind);

/*
 * The same of an attached table itself, by the trigger that attach() made.
 * Raises an error if it is not attached.
 */
extern Source *source_get_attached(Relation relation, SourceKind kind);

/* The number of a column in the table; InvalidAttrNumber: there is none. */
extern AttrNumber source_column(const Source *source, SourceRole role);

/* The attached table's oid. */
extern Oid	source_root(const Source *source);

/* A column's value as text, palloc'd; NULL for NULL or no such column. */
extern char *source_text(Source *source, TupleTableSlot *slot,
						 SourceRole role);

/*
 * The row as JSON text, palloc'd, of *length bytes; NULL if the table's own
 * resource function says so or is gone.  Raises what that function raises.
 */
extern char *source_resource(Source *source, TupleTableSlot *slot,
							 size_t *length);

#endif							/* WEBHOOK_SOURCE_H */
