/*-------------------------------------------------------------------------
 *
 * resource_types.c
 *	  How the values of a column's type are written as JSON.
 *
 * The common types have functions of their own in json_write.c; here are rows and
 * arrays, which are made of other types, and what all others print themselves.
 *
 * IDENTIFICATION
 *	  src/store/resource_types.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/json_values.h"
#include "store/resource.h"
#include "store/resource_state.h"
#include "utils/array.h"
#include "utils/arrayaccess.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/*-------------------------------------------------------------------------
 * Rows, arrays and all other types
 *-------------------------------------------------------------------------
 */

static void
append_nested_row(const ResourceWriter *writer, HeapTupleHeader row,
				  StringInfo out)
{
	HeapTupleData tuple;
	Datum	   *values;
	bool	   *nulls;

	check_stack_depth();

	values = palloc(writer->desc->natts * sizeof(Datum));
	nulls = palloc(writer->desc->natts * sizeof(bool));
	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	heap_deform_tuple(&tuple, writer->desc, values, nulls);
	resource_append_row(writer, values, nulls, out);

	pfree(nulls);
	pfree(values);
}

static void
append_composite(const ValueType *type, Datum value, StringInfo out)
{
	append_nested_row(type->row, DatumGetHeapTupleHeader(value), out);
}

/* An anonymous row: what it is made of, only the row itself can tell. */
static void
append_record(const ValueType *type pg_attribute_unused(), Datum value,
			  StringInfo out)
{
	HeapTupleHeader row = DatumGetHeapTupleHeader(value);

	ResourceDependencies unused = {NIL, NIL, NIL};

	append_nested_row(resource_nested_writer(HeapTupleHeaderGetTypeId(row),
											 HeapTupleHeaderGetTypMod(row),
											 &unused),
					  row, out);
}

/* Writes one dimension of an array, and so those below it. */
static void
append_dimension(const ValueType *type, const int *dimensions, int ndims,
				 array_iter *elements, int *position, StringInfo out)
{
	append_literal(out, "[");
	for (int i = 0; i < dimensions[0] && !too_long; i++)
	{
		Datum		value;
		bool		is_null;

		if (i > 0)
			append_literal(out, ",");
		if (ndims > 1)
		{
			append_dimension(type, dimensions + 1, ndims - 1,
							 elements, position, out);
			continue;
		}

		value = array_next(elements, &is_null, (*position)++,
						   type->element_length, type->element_by_value,
						   type->element_align);
		if (is_null)
			append_literal(out, "null");
		else
			type->element->append(type->element, value, out);
	}
	append_literal(out, "]");
}

static void
append_array(const ValueType *type, Datum value, StringInfo out)
{
	AnyArrayType *array = DatumGetAnyArrayP(value);
	array_iter	elements;
	int			position = 0;

	check_stack_depth();

	if (AARR_NDIM(array) == 0)
	{
		append_literal(out, "[]");
		return;
	}
	array_begin(&elements, array, type->element_length,
				type->element_by_value, type->element_align);
	append_dimension(type, AARR_DIMS(array), AARR_NDIM(array),
					 &elements, &position, out);
}

/* Any other type: what its output function prints. */
static void
append_output(const ValueType *type, Datum value, StringInfo out)
{
	char	   *text;

	if (type->is_varlena &&
		!may_follow(out, toast_raw_datum_size(value) - VARHDRSZ))
		return;
	text = OutputFunctionCall(type->output, value);
	append_string(out, text, strlen(text));
	pfree(text);
}

/*-------------------------------------------------------------------------
 * How a type is written
 *-------------------------------------------------------------------------
 */

static const struct
{
	Oid			type;
	AppendValue append;
}			known_types[] =

{
	{BOOLOID, append_bool},
	{BPCHAROID, append_text},
	{BYTEAOID, append_bytea},
	{CHAROID, append_char},
	{DATEOID, append_date},
	{FLOAT4OID, append_float4},
	{FLOAT8OID, append_float8},
	{INT2OID, append_int2},
	{INT4OID, append_int4},
	{INT8OID, append_int8},
	{INTERVALOID, append_interval},
	{JSONBOID, append_jsonb},
	{JSONOID, append_json},
	{NAMEOID, append_name},
	{NUMERICOID, append_numeric},
	{OIDOID, append_oid},
	{RECORDOID, append_record},
	{TEXTOID, append_text},
	{TIMESTAMPOID, append_timestamp},
	{TIMESTAMPTZOID, append_timestamp},
	{UUIDOID, append_uuid},
	{VARCHAROID, append_text}
};

/*
 * The groups of settings that what a type's output function prints may depend
 * on.  Types not known here may use any of the common ones.
 */
static int
settings_of_output(Oid type)
{
	switch (type)
	{
		case BITOID:
		case BOOLOID:
		case BPCHAROID:
		case CIDOID:
		case CIDROID:
		case INETOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case JSONBOID:
		case JSONOID:
		case JSONPATHOID:
		case MACADDR8OID:
		case MACADDROID:
		case NUMERICOID:
		case OIDOID:
		case PG_LSNOID:
		case TEXTOID:
		case TIDOID:
		case TIMEOID:
		case TSQUERYOID:
		case TSVECTOROID:
		case UUIDOID:
		case VARBITOID:
		case VARCHAROID:
		case XID8OID:
		case XIDOID:
		case XMLOID:
			return 0;
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGOPERATOROID:
		case REGOPEROID:
		case REGPROCEDUREOID:
		case REGPROCOID:
		case REGTYPEOID:
			return SETTINGS_NAMES;
		case MONEYOID:
			return SETTINGS_MONEY;
	}

	switch (get_typtype(type))
	{
		case TYPTYPE_DOMAIN:
			return settings_of_output(getBaseType(type));
		case TYPTYPE_ENUM:
			return 0;
		case TYPTYPE_MULTIRANGE:
			return settings_of_output(get_multirange_range(type));
		case TYPTYPE_RANGE:
			return settings_of_output(get_range_subtype(type));
		default:
			return SETTINGS_FORMAT;
	}
}

static void
prepare_output(ValueType *result, Oid type, ResourceDependencies *dependencies)
{
	Oid			function;

	result->append = append_output;
	result->settings = settings_of_output(type);
	result->output = palloc(sizeof(FmgrInfo));
	getTypeOutputInfo(type, &function, &result->is_varlena);
	fmgr_info_cxt(function, result->output, CurrentMemoryContext);
	dependencies->functions = lappend_oid(dependencies->functions, function);

	/* Types such as citext borrow text's output function under their name. */
	if (result->output->fn_addr == textout)
	{
		result->append = append_text;
		result->settings = 0;
	}
}

static void
prepare_array(ValueType *result, Oid element, ResourceDependencies *dependencies)
{
	result->append = append_array;
	result->element = resource_value_type(element, dependencies);
	result->settings = result->element->settings;
	get_typlenbyvalalign(element, &result->element_length,
						 &result->element_by_value, &result->element_align);
}

static void
prepare_composite(ValueType *result, Oid type,
				  ResourceDependencies *dependencies)
{
	result->append = append_composite;
	dependencies->relations = lappend_oid(dependencies->relations,
										  get_typ_typrelid(type));
	result->row = resource_nested_writer(type, -1, dependencies);
	result->settings = result->row->settings;
}

static AppendValue
find_known_type(Oid type)
{
	for (size_t i = 0; i < lengthof(known_types); i++)
	{
		if (known_types[i].type == type)
			return known_types[i].append;
	}
	return NULL;
}

ValueType *
resource_value_type(Oid type, ResourceDependencies *dependencies)
{
	ValueType  *result = palloc0(sizeof(ValueType));
	Oid			element;

	check_stack_depth();

	dependencies->types = lappend_oid(dependencies->types, type);
	type = getBaseType(type);
	dependencies->types = list_append_unique_oid(dependencies->types, type);
	element = get_element_type(type);

	result->append = find_known_type(type);
	if (type == RECORDOID)
		result->settings = SETTINGS_ALL;
	else if (result->append != NULL)
		result->settings = 0;
	else if (OidIsValid(element))
		prepare_array(result, element, dependencies);
	else if (type_is_rowtype(type))
		prepare_composite(result, type, dependencies);
	else
		prepare_output(result, type, dependencies);
	return result;
}
