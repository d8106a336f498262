/*-------------------------------------------------------------------------
 *
 * resource_state.h
 *	  Plans for writing rows: for resource.c and resource_types.c alone.
 *
 * IDENTIFICATION
 *	  src/store/resource_state.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RESOURCE_STATE_H
#define WEBHOOK_RESOURCE_STATE_H

#include "fmgr.h"
#include "store/json_values.h"
#include "store/resource.h"

/* Groups of settings that the output functions of some types depend on. */
#define SETTINGS_FORMAT 0x01
#define SETTINGS_NAMES 0x02
#define SETTINGS_MONEY 0x04
#define SETTINGS_ALL (SETTINGS_FORMAT | SETTINGS_NAMES | SETTINGS_MONEY)

/* How the values of a type are written. */
struct ValueType
{
	AppendValue append;
	int			settings;		/* groups to be pinned meanwhile */
	FmgrInfo   *output;			/* of append_output only */
	bool		is_varlena;		/* of append_output only */
	ResourceWriter *row;		/* of append_composite only */

	/* of append_array only: */
	ValueType  *element;
	int16		element_length;
	bool		element_by_value;
	char		element_align;
};

typedef struct ResourceColumn
{
	AttrNumber	attnum;
	int			key_length;
	char	   *key;			/* what precedes the value: ,"startedAt": */
	ValueType  *type;
} ResourceColumn;

struct ResourceWriter
{
	TupleDesc	desc;			/* of nested rows only */
	int			settings;		/* groups that the columns' types need */
	AttrNumber	last_attnum;	/* the last column of the row that counts */
	int			ncolumns;
	ResourceColumn columns[FLEXIBLE_ARRAY_MEMBER];
};

/* Hidden, so that two files see them and it costs no more than if one did. */
#pragma GCC visibility push(hidden)

/* The plan for values of a type; allocates in CurrentMemoryContext. */
extern ValueType *resource_value_type(Oid type, ResourceDependencies *dependencies);

/* The plan for rows of a type that are values. */
extern ResourceWriter *resource_nested_writer(Oid type, int32 typmod,
											  ResourceDependencies *dependencies);

/* Writes a row's columns, as far as there is room. */
extern void resource_append_row(const ResourceWriter *writer, const Datum *values,
								const bool *nulls, StringInfo out);

#pragma GCC visibility pop

#endif							/* WEBHOOK_RESOURCE_STATE_H */
