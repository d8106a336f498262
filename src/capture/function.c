/*-------------------------------------------------------------------------
 *
 * function.c
 *	  Resource functions: what a platform makes of its rows itself.
 *
 * IDENTIFICATION
 *	  src/capture/function.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/tupconvert.h"
#include "capture/function.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "server/settings.h"
#include "store/resource.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* A row must fit into memory whole to be an argument. */
#define MAX_ROW_BYTES (MaxAllocSize / 2)

struct ResourceFunction
{
	const char *name;
	Oid			attached;		/* whose rows it takes */
	Oid			oid;			/* InvalidOid: it is gone, or takes other rows */
	bool		returns_jsonb;
	Oid			row_type;		/* of its argument */
	TupleConversionMap *map;	/* to that; NULL: rows are such already */
};

/* The columns of a table, which is not opened. */
static TupleDesc
describe_rows(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Form_pg_class form;
	TupleDesc	desc;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	form = (Form_pg_class) GETSTRUCT(tuple);
	desc = CreateTemplateTupleDesc(form->relnatts);
	ReleaseSysCache(tuple);
	for (int i = 0; i < desc->natts; i++)
	{
		tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relation),
								Int16GetDatum(i + 1));
		if (!HeapTupleIsValid(tuple))
			return NULL;
		memcpy(TupleDescAttr(desc, i), GETSTRUCT(tuple), ATTRIBUTE_FIXED_PART_SIZE);
		populate_compact_attribute(desc, i);
		ReleaseSysCache(tuple);
	}
	return desc;
}

/* Has each column of "wanted" its like in "given"? */
static bool
can_be_converted(TupleDesc given, TupleDesc wanted)
{
	for (int i = 0; i < wanted->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(wanted, i);
		bool		found = attribute->attisdropped;

		for (int j = 0; j < given->natts && !found; j++)
		{
			Form_pg_attribute other = TupleDescAttr(given, j);

			found = !other->attisdropped &&
				strcmp(NameStr(attribute->attname), NameStr(other->attname)) == 0 &&
				attribute->atttypid == other->atttypid &&
				attribute->atttypmod == other->atttypmod;
		}
		if (!found)
			return false;
	}
	return true;
}

ResourceFunction *
resource_function_create(const SourceMapping *mapping, Relation relation)
{
	ResourceFunction *function = palloc0(sizeof(ResourceFunction));
	TupleDesc	given = CreateTupleDescCopy(RelationGetDescr(relation));

	function->name = quote_qualified_identifier(mapping->function_schema,
												mapping->function_name);
	function->attached = mapping->attached;
	if (!OidIsValid(mapping->function))
		return function;
	if (mapping->attached != RelationGetRelid(relation))
	{
		TupleDesc	wanted = describe_rows(mapping->attached);

		if (wanted == NULL || !can_be_converted(given, wanted))
			return function;
		function->map = convert_tuples_by_name(given, wanted);
	}
	function->row_type = get_rel_type_id(mapping->attached);
	function->returns_jsonb = get_func_rettype(mapping->function) == JSONBOID;
	function->oid = mapping->function;
	return function;
}

char *
resource_too_long(void)
{
	return psprintf("resource is longer than resource_limit, %d bytes",
					setting_resource_limit);
}

/* May the attached table's owner have it called? */
static bool
owner_may_execute(const ResourceFunction *function)
{
	HeapTuple	tuple = SearchSysCache1(RELOID,
										ObjectIdGetDatum(function->attached));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return function_is_executable_by(function->oid, owner);
}

/* Is it too large for memory? */
static bool
is_too_large(HeapTuple tuple, TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	size_t		size = tuple->t_len;

	if (!HeapTupleHasExternal(tuple))
		return false;
	slot_getallattrs(slot);
	for (int i = 0; i < desc->natts; i++)
	{
		if (!slot->tts_isnull[i] && TupleDescAttr(desc, i)->attlen == -1 &&
			!TupleDescAttr(desc, i)->attisdropped)
			size += toast_raw_datum_size(slot->tts_values[i]);
	}
	return size > MAX_ROW_BYTES;
}

/*
 * A row as a value of its type.  The function looks the type up as well, and so
 * opens the attached table if that isn't known in the session yet.
 */
static Datum
row_value(HeapTuple tuple, Oid row_type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(row_type, -1);
	Datum		value = heap_copy_tuple_as_datum(tuple, desc);

	ReleaseTupleDesc(desc);
	return value;
}

/* Its result as text; NULL if it is too long. */
static char *
result_text(const ResourceFunction *function, Datum result, size_t *length)
{
	StringInfoData out;
	struct varlena *json;

	if (function->returns_jsonb)
	{
		initStringInfo(&out);
		if (!resource_write_jsonb(DatumGetJsonbP(result), setting_resource_limit,
								  &out))
			return NULL;
		*length = out.len;
		return out.data;
	}
	json = PG_DETOAST_DATUM_PACKED(result);
	*length = VARSIZE_ANY_EXHDR(json);
	if (*length > (size_t) setting_resource_limit)
		return NULL;
	return text_to_cstring((text *) json);
}

char *
resource_function_call(const ResourceFunction *function, TupleTableSlot *slot,
					   size_t *length, const char **problem)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	info;
	bool		should_free;
	HeapTuple	tuple;
	Datum		result;
	char	   *text;

	if (!OidIsValid(function->oid))
	{
		*problem = psprintf("resource function %s is gone", function->name);
		return NULL;
	}
	if (!owner_may_execute(function))
	{
		*problem = psprintf("the table's owner may not execute resource function %s",
							function->name);
		return NULL;
	}
	tuple = ExecFetchSlotHeapTuple(slot, true, &should_free);
	if (is_too_large(tuple, slot))
	{
		*problem = psprintf("row is too large for resource function %s",
							function->name);
		return NULL;
	}
	if (function->map != NULL)
		tuple = execute_attr_map_tuple(tuple, function->map);
	fmgr_info(function->oid, &info);
	InitFunctionCallInfoData(*fcinfo, &info, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = row_value(tuple, function->row_type);
	fcinfo->args[0].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		return NULL;
	text = result_text(function, result, length);
	if (text == NULL)
		*problem = resource_too_long();
	return text;
}
