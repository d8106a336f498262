/*-------------------------------------------------------------------------
 *
 * source.h
 *	  Attached tables as the trigger functions see them: how rows are read.
 *
 * IDENTIFICATION
 *	  src/capture/source.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SOURCE_H
#define WEBHOOK_SOURCE_H

#include "capture/mapping.h"
#include "executor/tuptable.h"

/* An attached table, or a partition of one. */
typedef struct Source Source;

/*
 * Finds what is known about a table from the argument of a trigger of ours; all
 * of its triggers share it.  It stays until the next call, and over calls of
 * source_resource().  Locks no table but catalogs, and for a moment those whose
 * row types are types of columns.  Raises an error if the trigger has no mapping.
 */
extern Source *source_get(Relation relation, const Trigger *trigger);

/* The same by the INSERT trigger; raises an error if there is none. */
extern Source *source_get_attached(Relation relation);

/* The number of a column in the table; InvalidAttrNumber: there is none. */
extern AttrNumber source_column(const Source *source, SourceRole role);

/* The attached table's oid. */
extern Oid	source_attached(const Source *source);

/* Was its mapping written for another table, of which this one is a copy or a part? */
extern bool source_is_elsewhere(const Source *source);

/* Has any partition of it a BEFORE INSERT trigger, which can return no row? */
extern bool source_may_swallow(const Source *source);

/*
 * A column's value as text, without the padding of char(n); palloc'd; NULL for
 * NULL or no such column.
 */
extern char *source_text(Source *source, TupleTableSlot *slot,
						 SourceRole role);

/* Two problems in one text, either of them or both NULL for none; palloc'd if both are some. */
extern char *source_join_problems(const char *one, const char *other);

/*
 * The row as JSON text, palloc'd, of *length bytes; NULL if the table's own
 * resource function says so or it can't be made.  *problem says what is wrong
 * with it or with the mapping, NULL if nothing is.  Raises what the resource
 * function raises.
 */
extern char *source_resource(Source *source, TupleTableSlot *slot,
							 size_t *length, const char **problem);

#endif							/* WEBHOOK_SOURCE_H */
