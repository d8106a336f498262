/*-------------------------------------------------------------------------
 *
 * resource.c
 *	  A row as the platform's API would show it, as JSON text.
 *
 * This runs in the platform's own transactions, once for every event, so a
 * writer is a plan: a key that is already JSON, and a function for the type,
 * per column.  The common types are written straight from the tuple into the
 * buffer.  What the other types' output functions print may depend on
 * settings, which are pinned while a row that has such a column is written.
 *
 * Within this file the buffer is not kept terminated by a zero byte; the
 * public functions see to it at their end.
 *
 * IDENTIFICATION
 *	  src/store/resource.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/arrayaccess.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "compat.h"
#include "store/resource.h"

/* Room for a quoted date and time; years have up to ten digits and a sign. */
#define DATETIME_SIZE 64

/* Room for any integer or float with a sign, and quotes around it. */
#define NUMBER_SIZE 32

/* Groups of settings that the output functions of some types depend on. */
#define SETTINGS_FORMAT 0x01
#define SETTINGS_NAMES 0x02
#define SETTINGS_MONEY 0x04
#define SETTINGS_ALL (SETTINGS_FORMAT | SETTINGS_NAMES | SETTINGS_MONEY)

typedef struct ValueType ValueType;

typedef void (*AppendValue) (const ValueType *type, Datum value,
							 StringInfo out);

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

/*
 * What stands behind the backslash for the bytes that can't stand in a JSON
 * string as they are; 'u' is for \u00XX.  Bytes beyond ASCII can, because no
 * encoding of a server uses ASCII within its multibyte characters.
 */
static const char escapes[256] = {
	'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',
	'b', 't', 'n', 'u', 'f', 'r', 'u', 'u',
	'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',
	'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',
	['"'] = '"',
	['\\'] = '\\'
};

static const char hex_digits[] = "0123456789abcdef";

/*-------------------------------------------------------------------------
 * The buffer
 *-------------------------------------------------------------------------
 */

/*
 * How long a row may become, and whether it has become longer: what is written
 * then counts for nothing any more.  Out of a row there is only PostgreSQL's own
 * limit, which is an error.
 */
#define NO_LIMIT SIZE_MAX

static size_t limit = NO_LIMIT;
static bool too_long = false;

/* Whatever an error in a row has left behind does not count either. */
static inline void
end_limit(void)
{
	limit = NO_LIMIT;
	too_long = false;
}

/* May so many bytes follow?  If not, the row is too long. */
static bool
may_follow(StringInfo out, size_t size)
{
	if (size > limit || (size_t) out->len > limit - size)
		too_long = true;
	return !too_long;
}

/* Makes room for "size" bytes, unless the row is too long. */
static bool
make_room(StringInfo out, size_t size)
{
	if (!may_follow(out, size))
		return false;
	/* It takes an int, and refuses MaxAllocSize as it would more. */
	enlargeStringInfo(out, (int) Min(size, MaxAllocSize));
	return true;
}

/*
 * Makes room for a few bytes, less than any buffer has, and returns where they
 * go.
 */
static inline char *
reserve(StringInfo out, size_t size)
{
	if (unlikely(size >= (size_t) (out->maxlen - out->len)) &&
		!make_room(out, size))
		resetStringInfo(out);
	return out->data + out->len;
}

/* Ends what was written from reserve()'s result up to "end". */
static inline void
finish(StringInfo out, const char *end)
{
	out->len = end - out->data;
}

static inline void
append_bytes(StringInfo out, const char *data, size_t length)
{
	if (unlikely(length >= (size_t) (out->maxlen - out->len)) &&
		!make_room(out, length))
		return;
	memcpy(out->data + out->len, data, length);
	out->len += length;
}

#define append_literal(out, literal) \
	append_bytes((out), (literal), sizeof(literal) - 1)

static inline void
terminate(StringInfo out)
{
	out->data[out->len] = '\0';
}

/*
 * A value as it is in memory; NULL if it is so large that the row becomes too
 * long with "factor" bytes for each of it, which is seen before it is read.
 */
static struct varlena *
detoast(Datum value, size_t factor, StringInfo out)
{
	const struct varlena *stored = (struct varlena *) DatumGetPointer(value);

	if ((VARATT_IS_EXTERNAL(stored) || VARATT_IS_COMPRESSED(stored)) &&
		!may_follow(out, factor * (toast_raw_datum_size(value) - VARHDRSZ)))
		return NULL;
	return PG_DETOAST_DATUM_PACKED(value);
}

/*-------------------------------------------------------------------------
 * Strings
 *-------------------------------------------------------------------------
 */

static void
append_escape(StringInfo out, unsigned char byte)
{
	char		escape = escapes[byte];

	if (escape == 'u')
	{
		char		text[] = {'\\', 'u', '0', '0',
		hex_digits[byte >> 4], hex_digits[byte & 0x0f]};

		append_bytes(out, text, sizeof(text));
	}
	else
	{
		char		text[] = {'\\', escape};

		append_bytes(out, text, sizeof(text));
	}
}

static void
append_string(StringInfo out, const char *data, size_t length)
{
	const char *end = data + length;
	const char *run = data;

	if (!may_follow(out, length))
		return;
	append_literal(out, "\"");
	for (const char *at = data; at < end; at++)
	{
		if (likely(escapes[(unsigned char) *at] == 0))
			continue;
		append_bytes(out, run, at - run);
		append_escape(out, *at);
		run = at + 1;
	}
	append_bytes(out, run, end - run);
	append_literal(out, "\"");
}

void
json_append_string(StringInfo out, const char *data, size_t length)
{
	end_limit();
	append_string(out, data, length);
	terminate(out);
}

/* text, varchar, bpchar and whatever else is stored as its text */
static void
append_text(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	struct varlena *text = detoast(value, 1, out);

	if (text != NULL)
		append_string(out, VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text));
}

static void
append_name(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	const char *name = NameStr(*DatumGetName(value));

	append_string(out, name, strnlen(name, NAMEDATALEN));
}

/*
 * "char": a byte, which need not be a character of the server's encoding.
 * Written as \ooo if it is not ASCII, as charout does from PostgreSQL 16 on.
 */
static void
append_char(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	unsigned char byte = DatumGetChar(value);

	if (IS_HIGHBIT_SET(byte))
	{
		char		octal[] = {'\\', '0' + (byte >> 6),
		'0' + (byte >> 3 & 07), '0' + (byte & 07)};

		append_string(out, octal, sizeof(octal));
	}
	else
		append_string(out, (char *) &byte, byte == '\0' ? 0 : 1);
}

static void
append_uuid(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	const unsigned char *bytes = DatumGetUUIDP(value)->data;
	char	   *at = reserve(out, 2 * UUID_LEN + sizeof("\"----\""));

	*at++ = '"';
	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = hex_digits[bytes[i] >> 4];
		*at++ = hex_digits[bytes[i] & 0x0f];
	}
	*at++ = '"';
	finish(out, at);
}

static void
append_bytea(const ValueType *type pg_attribute_unused(), Datum value,
			 StringInfo out)
{
	struct varlena *bytes = detoast(value, 2, out);
	size_t		length;

	if (bytes == NULL)
		return;
	length = VARSIZE_ANY_EXHDR(bytes);
	append_literal(out, "\"\\\\x");
	if (!make_room(out, 2 * length))
		return;
	out->len += hex_encode(VARDATA_ANY(bytes), length, out->data + out->len);
	append_literal(out, "\"");
}

/*-------------------------------------------------------------------------
 * Booleans, numbers, JSON
 *-------------------------------------------------------------------------
 */

static void
append_bool(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	if (DatumGetBool(value))
		append_literal(out, "true");
	else
		append_literal(out, "false");
}

static void
append_int2(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	out->len += pg_ltoa(DatumGetInt16(value), reserve(out, NUMBER_SIZE));
}

static void
append_int4(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	out->len += pg_ltoa(DatumGetInt32(value), reserve(out, NUMBER_SIZE));
}

static void
append_int8(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	out->len += pg_lltoa(DatumGetInt64(value), reserve(out, NUMBER_SIZE));
}

static void
append_oid(const ValueType *type pg_attribute_unused(), Datum value,
		   StringInfo out)
{
	out->len += pg_ultoa_n(DatumGetObjectId(value), reserve(out, NUMBER_SIZE));
}

static void
append_float4(const ValueType *type pg_attribute_unused(), Datum value,
			  StringInfo out)
{
	float4		number = DatumGetFloat4(value);
	char		text[FLOAT_SHORTEST_DECIMAL_LEN];
	int			length = float_to_shortest_decimal_bufn(number, text);

	if (isfinite(number))
		append_bytes(out, text, length);
	else
		append_string(out, text, length);
}

static void
append_float8(const ValueType *type pg_attribute_unused(), Datum value,
			  StringInfo out)
{
	float8		number = DatumGetFloat8(value);
	char		text[DOUBLE_SHORTEST_DECIMAL_LEN];
	int			length = double_to_shortest_decimal_bufn(number, text);

	if (isfinite(number))
		append_bytes(out, text, length);
	else
		append_string(out, text, length);
}

static void
append_numeric(const ValueType *type pg_attribute_unused(), Datum value,
			   StringInfo out)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, value));
	size_t		length = strlen(text);

	/* "NaN", "Infinity" and "-Infinity" are the only ones with such an end. */
	if (isdigit((unsigned char) text[length - 1]))
		append_bytes(out, text, length);
	else
		append_string(out, text, length);
	pfree(text);
}

static void
append_json(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	struct varlena *json = detoast(value, 1, out);

	if (json != NULL)
		append_bytes(out, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
}

static void
append_jsonb_scalar(const JsonbValue *value, StringInfo out)
{
	switch (value->type)
	{
		case jbvNull:
			append_literal(out, "null");
			break;
		case jbvString:
			append_string(out, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			append_numeric(NULL, NumericGetDatum(value->val.numeric), out);
			break;
		case jbvBool:
			append_bool(NULL, BoolGetDatum(value->val.boolean), out);
			break;
		default:
			elog(ERROR, "unexpected type of jsonb value: %d", (int) value->type);
	}
}

/*
 * Just as jsonb's output function prints it, but bounded: a few bytes of jsonb
 * can be a number of a hundred thousand digits.
 */
static void
append_jsonb_text(Jsonb *jsonb, StringInfo out)
{
	JsonbIterator *iterator = JsonbIteratorInit(&jsonb->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		is_first = true;
	bool		is_scalar = false;

	while (!too_long &&
		   (token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		bool		starts = (token == WJB_BEGIN_ARRAY || token == WJB_BEGIN_OBJECT);

		if (!is_first && (starts || token == WJB_KEY || token == WJB_ELEM))
			append_literal(out, ", ");
		switch (token)
		{
			case WJB_BEGIN_ARRAY:
				is_scalar = value.val.array.rawScalar;
				if (!is_scalar)
					append_literal(out, "[");
				break;
			case WJB_BEGIN_OBJECT:
				append_literal(out, "{");
				break;
			case WJB_KEY:
				append_string(out, value.val.string.val, value.val.string.len);
				append_literal(out, ": ");
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				append_jsonb_scalar(&value, out);
				break;
			case WJB_END_ARRAY:
				if (!is_scalar)
					append_literal(out, "]");
				break;
			default:
				append_literal(out, "}");
		}
		is_first = starts || token == WJB_KEY;
	}
}

static void
append_jsonb(const ValueType *type pg_attribute_unused(), Datum value,
			 StringInfo out)
{
	append_jsonb_text(DatumGetJsonbP(value), out);
}

/*-------------------------------------------------------------------------
 * Dates and times
 *-------------------------------------------------------------------------
 */

static inline char *
put_two_digits(char *at, int number)
{
	at[0] = '0' + number / 10;
	at[1] = '0' + number % 10;
	return at + 2;
}

/*
 * Writes a day as JavaScript's toISOString() does: years before 0 (which is
 * 1 BC) and after 9999 have a sign and six digits.  The few years that dates
 * have beyond JavaScript's get as many digits as they need.
 */
static char *
put_day(char *at, int julian_day)
{
	int			year;
	int			month;
	int			day;

	j2date(julian_day, &year, &month, &day);
	if (year >= 0 && year <= 9999)
	{
		at = put_two_digits(at, year / 100);
		at = put_two_digits(at, year % 100);
	}
	else
	{
		*at++ = year < 0 ? '-' : '+';
		at = pg_ultostr_zeropad(at, abs(year), 6);
	}
	*at++ = '-';
	at = put_two_digits(at, month);
	*at++ = '-';
	return put_two_digits(at, day);
}

static char *
put_time_of_day(char *at, TimeOffset time)
{
	int			milliseconds = time / 1000 % 1000;

	at = put_two_digits(at, time / USECS_PER_HOUR);
	*at++ = ':';
	at = put_two_digits(at, time / USECS_PER_MINUTE % MINS_PER_HOUR);
	*at++ = ':';
	at = put_two_digits(at, time / USECS_PER_SEC % SECS_PER_MINUTE);
	*at++ = '.';
	*at++ = '0' + milliseconds / 100;
	return put_two_digits(at, milliseconds % 100);
}

/* Both kinds of timestamp: the one without time zone is taken as UTC. */
static void
append_timestamp(const ValueType *type pg_attribute_unused(), Datum value,
				 StringInfo out)
{
	Timestamp	timestamp = DatumGetTimestamp(value);
	TimeOffset	time = timestamp % USECS_PER_DAY;
	int			day = timestamp / USECS_PER_DAY;
	char	   *at;

	if (TIMESTAMP_IS_NOBEGIN(timestamp))
	{
		append_literal(out, "\"-infinity\"");
		return;
	}
	if (TIMESTAMP_IS_NOEND(timestamp))
	{
		append_literal(out, "\"infinity\"");
		return;
	}

	/* C's division rounds towards zero, a calendar downwards. */
	if (time < 0)
	{
		time += USECS_PER_DAY;
		day--;
	}

	at = reserve(out, DATETIME_SIZE);
	*at++ = '"';
	at = put_day(at, day + POSTGRES_EPOCH_JDATE);
	*at++ = 'T';
	at = put_time_of_day(at, time);
	*at++ = 'Z';
	*at++ = '"';
	finish(out, at);
}

void
json_append_timestamp(StringInfo out, TimestampTz time)
{
	end_limit();
	append_timestamp(NULL, TimestampTzGetDatum(time), out);
	terminate(out);
}

static void
append_date(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	DateADT		date = DatumGetDateADT(value);
	char	   *at;

	if (DATE_IS_NOBEGIN(date))
		append_literal(out, "\"-infinity\"");
	else if (DATE_IS_NOEND(date))
		append_literal(out, "\"infinity\"");
	else
	{
		at = reserve(out, DATETIME_SIZE);
		*at++ = '"';
		at = put_day(at, date + POSTGRES_EPOCH_JDATE);
		*at++ = '"';
		finish(out, at);
	}
}

static void
append_interval(const ValueType *type pg_attribute_unused(), Datum value,
				StringInfo out)
{
	Interval   *interval = DatumGetIntervalP(value);
	struct pg_itm fields;
	char		text[MAXDATELEN + 1];

	if (INTERVAL_IS_NOBEGIN(interval))
		append_literal(out, "\"-infinity\"");
	else if (INTERVAL_IS_NOEND(interval))
		append_literal(out, "\"infinity\"");
	else
	{
		interval2itm(*interval, &fields);
		EncodeInterval(&fields, INTSTYLE_ISO_8601, text);
		append_string(out, text, strlen(text));
	}
}

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
