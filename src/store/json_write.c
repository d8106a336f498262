/*-------------------------------------------------------------------------
 *
 * json_write.c
 *	  Strings, numbers, times and the other values of common types, as JSON text.
 *
 * This runs in the platform's own transactions, once for every value of a row,
 * which is written straight from the tuple into the buffer.
 *
 * IDENTIFICATION
 *	  src/store/json_write.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "access/detoast.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

#include "compat.h"
#include "store/json_values.h"
#include "store/json_write.h"

/* Room for a quoted date and time; years have up to ten digits and a sign. */
#define DATETIME_SIZE 64

/* Room for any integer or float with a sign, and quotes around it. */
#define NUMBER_SIZE 32

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

size_t		limit = NO_LIMIT;
bool		too_long = false;

bool
may_follow(StringInfo out, size_t size)
{
	if (size > limit || (size_t) out->len > limit - size)
		too_long = true;
	return !too_long;
}

bool
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

/* Eight bytes, each of which is this one. */
#define EIGHT(byte) (UINT64CONST(0x0101010101010101) * (byte))

/*
 * Where the first byte is that can't stand in a JSON string as it is, or "end".
 * Eight at a time: what is subtracted from a byte that is less takes its highest bit
 * along, and from bytes behind that one, which by then don't matter.
 */
static const char *
find_escape(const char *at, const char *end)
{
	while (end - at >= (ptrdiff_t) sizeof(uint64))
	{
		uint64		bytes;
		uint64		quotes;
		uint64		backslashes;

		memcpy(&bytes, at, sizeof(bytes));
		quotes = bytes ^ EIGHT('"');
		backslashes = bytes ^ EIGHT('\\');
		if ((((bytes - EIGHT(0x20)) & ~bytes) |
			 ((quotes - EIGHT(1)) & ~quotes) |
			 ((backslashes - EIGHT(1)) & ~backslashes)) & EIGHT(0x80))
			break;
		at += sizeof(bytes);
	}
	while (at < end && likely(escapes[(unsigned char) *at] == 0))
		at++;
	return at;
}

void
append_string(StringInfo out, const char *data, size_t length)
{
	const char *end = data + length;
	const char *run = data;

	if (unlikely(length + 2 >= (size_t) (out->maxlen - out->len)) &&
		!make_room(out, length + 2))
		return;
	append_literal(out, "\"");
	for (const char *at = find_escape(run, end); at < end;
		 at = find_escape(run, end))
	{
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
void
append_text(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	struct varlena *text = detoast(value, 1, out);

	if (text != NULL)
		append_string(out, VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text));
}

void
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
void
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

void
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

void
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

void
append_bool(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	if (DatumGetBool(value))
		append_literal(out, "true");
	else
		append_literal(out, "false");
}

void
append_int2(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	out->len += pg_ltoa(DatumGetInt16(value), reserve(out, NUMBER_SIZE));
}

void
append_int4(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	out->len += pg_ltoa(DatumGetInt32(value), reserve(out, NUMBER_SIZE));
}

void
append_int8(const ValueType *type pg_attribute_unused(), Datum value,
			StringInfo out)
{
	out->len += pg_lltoa(DatumGetInt64(value), reserve(out, NUMBER_SIZE));
}

void
append_oid(const ValueType *type pg_attribute_unused(), Datum value,
		   StringInfo out)
{
	out->len += pg_ultoa_n(DatumGetObjectId(value), reserve(out, NUMBER_SIZE));
}

void
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

void
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

void
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

void
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
void
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

void
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
void
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

void
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

void
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
