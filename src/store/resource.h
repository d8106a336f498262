/*-------------------------------------------------------------------------
 *
 * resource.h
 *	  A row as the platform's API would show it, as JSON text.
 *
 * Everything about the row's type is looked up once, in a ResourceWriter; a
 * row then costs little more than its bytes.  The text never depends on the
 * session's settings (TimeZone, DateStyle, bytea_output, ...).
 *
 * IDENTIFICATION
 *	  src/store/resource.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RESOURCE_H
#define WEBHOOK_RESOURCE_H

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef struct ResourceWriter ResourceWriter;

/* What a writer was made from: lists of OIDs. */
typedef struct ResourceDependencies
{
	List	   *relations;		/* whose rows are values */
	List	   *types;
	List	   *functions;
} ResourceDependencies;

/*
 * Prepares writing rows of "desc".  The key of the column id_attnum is "id",
 * that of actor_id_attnum is "actId" (which is what the API calls it; pass
 * InvalidAttrNumber for none), every other key is the column's name in
 * camelCase.  Of two columns with the same key the later one has its raw name.
 * "excluded" holds the attribute numbers of columns to leave out; dropped ones
 * and virtual generated ones, whose values the row does not hold, are left out
 * as well.
 *
 * Allocates in CurrentMemoryContext, which must live as long as the writer; the
 * caller throws the writer away when the relation changes or any of what is added
 * to "dependencies".
 * Raises an error only if a type is missing from the catalogs or can't be
 * written out.
 */
extern ResourceWriter *resource_writer_create(TupleDesc desc,
											  AttrNumber id_attnum,
											  AttrNumber actor_id_attnum,
											  Bitmapset *excluded,
											  ResourceDependencies *dependencies);

/*
 * Writes the row in "slot" to "out", which is empty, as one JSON object; false, and
 * nothing is written, if it would be longer than max_length bytes, which must be well
 * below 1 GB.  A value that is too large is not even read.  Scratch memory comes
 * from CurrentMemoryContext and is left to its next reset.  Raises what the output
 * functions of unusual types raise.
 */
extern bool resource_write(ResourceWriter *writer, TupleTableSlot *slot,
						   size_t max_length, StringInfo out);

/* The same for a jsonb value. */
extern bool resource_write_jsonb(Jsonb *jsonb, size_t max_length,
								 StringInfo out);

#endif							/* WEBHOOK_RESOURCE_H */
