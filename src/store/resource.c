/*-------------------------------------------------------------------------
 *
 * resource.c
 *	  A row as the platform's API would show it, as JSON text.
 *
 * This runs in the platform's own transactions, once for every event, so a
 * writer is a plan: a key that is already JSON, and a function for the type,
 * per column.  The common types have theirs in json_write.c.  What the other
 * types' output functions print may depend on settings, which are pinned while
 * a row that has such a column is written.
 *
 * IDENTIFICATION
 *	  src/store/resource.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/arrayaccess.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "compat.h"
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

/*
 * NULL stands for what the session started with: the scale of an amount of
 * money is the database's lc_monetary, so no value is right everywhere.
 */
static const struct
{
	int			group;
	const char *name;
	const char *value;
}			pinned_settings[] =

{
	{SETTINGS_FORMAT, "DateStyle", "ISO, MDY"},
	{SETTINGS_FORMAT, "IntervalStyle", "iso_8601"},
	{SETTINGS_FORMAT, "TimeZone", "UTC"},
	{SETTINGS_FORMAT, "bytea_output", "hex"},
	{SETTINGS_FORMAT, "extra_float_digits", "1"},
	{SETTINGS_NAMES, "search_path", "pg_catalog"},
	{SETTINGS_MONEY, "lc_monetary", NULL}
};

/*-------------------------------------------------------------------------
 * Rows, arrays and all other types
 *-------------------------------------------------------------------------
 */

static void
append_row(const ResourceWriter *writer, const Datum *values,
		   const bool *nulls, StringInfo out)
{
	if (writer->ncolumns == 0)
		append_literal(out, "{");

	for (int i = 0; i < writer->ncolumns; i++)
	{
		const ResourceColumn *column = &writer->columns[i];
		int			index = AttrNumberGetAttrOffset(column->attnum);

		append_bytes(out, column->key, column->key_length);
		if (nulls[index])
			append_literal(out, "null");
		else
			column->type->append(column->type, values[index], out);
		if (too_long)
			return;
	}
	append_literal(out, "}");
}

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
	append_row(writer, values, nulls, out);

	pfree(nulls);
	pfree(values);
}

static void
append_composite(const ValueType *type, Datum value, StringInfo out)
{
	append_nested_row(type->row, DatumGetHeapTupleHeader(value), out);
}

static ResourceWriter *create_nested_writer(Oid type, int32 typmod,
											ResourceDependencies *dependencies);

/* An anonymous row: what it is made of, only the row itself can tell. */
static void
append_record(const ValueType *type pg_attribute_unused(), Datum value,
			  StringInfo out)
{
	HeapTupleHeader row = DatumGetHeapTupleHeader(value);

	ResourceDependencies unused = {NIL, NIL, NIL};

	append_nested_row(create_nested_writer(HeapTupleHeaderGetTypeId(row),
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

static ValueType *create_value_type(Oid type,
									ResourceDependencies *dependencies);

static void
prepare_array(ValueType *result, Oid element, ResourceDependencies *dependencies)
{
	result->append = append_array;
	result->element = create_value_type(element, dependencies);
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
	result->row = create_nested_writer(type, -1, dependencies);
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

static ValueType *
create_value_type(Oid type, ResourceDependencies *dependencies)
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

/*-------------------------------------------------------------------------
 * Keys
 *-------------------------------------------------------------------------
 */

/*
 * The name in camelCase: underscores between other characters go, and what
 * follows them gets its ASCII capital.  Those at the ends stay.
 */
static char *
camel_case(const char *name)
{
	char	   *result = palloc(strlen(name) + 1);
	char	   *at = result;

	while (*name == '_')
		*at++ = *name++;
	while (*name != '\0')
	{
		size_t		underscores = strspn(name, "_");

		if (underscores > 0 && name[underscores] != '\0')
		{
			name += underscores;
			*at++ = pg_ascii_toupper((unsigned char) *name++);
		}
		else
			*at++ = *name++;
	}
	*at = '\0';
	return result;
}

static bool
key_is_taken(const ResourceWriter *writer, const StringInfo key)
{
	for (int i = 0; i < writer->ncolumns; i++)
	{
		const ResourceColumn *column = &writer->columns[i];

		/* The first byte is the punctuation before the key. */
		if (column->key_length == key->len &&
			memcmp(column->key + 1, key->data + 1, key->len - 1) == 0)
			return true;
	}
	return false;
}

/* Gives the column this key, unless another one has it. */
static bool
try_key(ResourceWriter *writer, ResourceColumn *column, const char *name)
{
	StringInfoData key;
	bool		is_free;

	initStringInfo(&key);
	append_bytes(&key, column == writer->columns ? "{" : ",", 1);
	append_string(&key, name, strlen(name));
	append_literal(&key, ":");
	terminate(&key);

	is_free = !key_is_taken(writer, &key);
	if (is_free)
	{
		column->key = pnstrdup(key.data, key.len);
		column->key_length = key.len;
	}
	pfree(key.data);
	return is_free;
}

/*
 * Gives the column its name in camelCase as its key or, if another column has
 * that, its raw name.  A raw name can be taken as well, when it is camelCase
 * itself; then as many underscores follow it as are needed.
 */
static void
assign_key(ResourceWriter *writer, ResourceColumn *column, const char *name)
{
	char	   *camel = camel_case(name);
	StringInfoData raw;

	initStringInfo(&raw);
	appendStringInfoString(&raw, name);
	if (!try_key(writer, column, camel))
	{
		while (!try_key(writer, column, raw.data))
			appendStringInfoChar(&raw, '_');
	}
	pfree(raw.data);
	pfree(camel);
}

/*-------------------------------------------------------------------------
 * Writers
 *-------------------------------------------------------------------------
 */

/* A virtual column's value is nowhere in the row, so it is left out. */
static bool
is_left_out(Form_pg_attribute attribute, Bitmapset *excluded)
{
	return attribute->attisdropped ||
		attribute->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL ||
		bms_is_member(attribute->attnum, excluded);
}

ResourceWriter *
resource_writer_create(TupleDesc desc, AttrNumber id_attnum,
					   AttrNumber actor_id_attnum, Bitmapset *excluded,
					   ResourceDependencies *dependencies)
{
	ResourceWriter *writer;

	writer = palloc0(offsetof(ResourceWriter, columns) +
					 desc->natts * sizeof(ResourceColumn));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		ResourceColumn *column = &writer->columns[writer->ncolumns];

		if (is_left_out(attribute, excluded))
			continue;

		column->attnum = attribute->attnum;
		column->type = create_value_type(attribute->atttypid, dependencies);
		writer->settings |= column->type->settings;
		writer->last_attnum = attribute->attnum;
		writer->ncolumns++;
	}

	/* The two fixed keys come first, so that nothing else can take them. */
	for (int i = 0; i < writer->ncolumns; i++)
	{
		ResourceColumn *column = &writer->columns[i];

		if (column->attnum == id_attnum)
			(void) try_key(writer, column, "id");
		else if (column->attnum == actor_id_attnum)
			(void) try_key(writer, column, "actId");
	}
	for (int i = 0; i < writer->ncolumns; i++)
	{
		ResourceColumn *column = &writer->columns[i];
		int			index = AttrNumberGetAttrOffset(column->attnum);

		if (column->key == NULL)
			assign_key(writer, column,
					   NameStr(TupleDescAttr(desc, index)->attname));
	}
	return writer;
}

static ResourceWriter *
create_nested_writer(Oid type, int32 typmod,
					 ResourceDependencies *dependencies)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, typmod);
	ResourceWriter *writer;

	writer = resource_writer_create(desc, InvalidAttrNumber,
									InvalidAttrNumber, NULL, dependencies);
	writer->desc = desc;
	return writer;
}

/*
 * Makes the output functions independent of the session's settings, until
 * AtEOXact_GUC(true, level) or the end of the (sub)transaction.  Setting a
 * setting costs more than looking at it.
 */
static int
pin_settings(int groups)
{
	int			level = NewGUCNestLevel();

	for (size_t i = 0; i < lengthof(pinned_settings); i++)
	{
		const char *name = pinned_settings[i].name;
		const char *value = pinned_settings[i].value;

		if ((pinned_settings[i].group & groups) == 0)
			continue;
		if (value == NULL)
			value = GetConfigOptionResetString(name);
		if (strcmp(GetConfigOption(name, false, false), value) != 0)
			(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, 0, false);
	}
	return level;
}

/* Ends a row: was it short enough? */
static bool
end_row(StringInfo out)
{
	bool		fits = !too_long && (size_t) out->len <= limit;

	end_limit();
	if (!fits)
		resetStringInfo(out);
	terminate(out);
	return fits;
}

static void
begin_row(size_t max_length)
{
	limit = max_length;
	too_long = false;
}

bool
resource_write(ResourceWriter *writer, TupleTableSlot *slot, size_t max_length,
			   StringInfo out)
{
	int			level = 0;

	slot_getsomeattrs(slot, writer->last_attnum);

	if (writer->settings != 0)
		level = pin_settings(writer->settings);
	begin_row(max_length);
	append_row(writer, slot->tts_values, slot->tts_isnull, out);
	if (writer->settings != 0)
		AtEOXact_GUC(true, level);
	return end_row(out);
}

bool
resource_write_jsonb(Jsonb *jsonb, size_t max_length, StringInfo out)
{
	begin_row(max_length);
	append_jsonb_text(jsonb, out);
	return end_row(out);
}
