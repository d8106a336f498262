/*-------------------------------------------------------------------------
 *
 * json_values.h
 *	  What json_write.c and resource.c share: the buffer, and how values of
 *	  common types are written.
 *
 * Within these two files the buffer is not kept terminated by a zero byte; the
 * public functions see to it at their end.
 *
 * IDENTIFICATION
 *	  src/store/json_values.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_JSON_VALUES_H
#define WEBHOOK_JSON_VALUES_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* Hidden, so that two files see them and it costs no more than if one did. */
#pragma GCC visibility push(hidden)

/*
 * How long a row may become, and whether it has become longer: what is written
 * then counts for nothing any more.  Out of a row there is only PostgreSQL's own
 * limit, which is an error.
 */
#define NO_LIMIT SIZE_MAX

extern size_t limit;
extern bool too_long;

/* Whatever an error in a row has left behind does not count either. */
static inline void
end_limit(void)
{
	limit = NO_LIMIT;
	too_long = false;
}

/* May so many bytes follow?  If not, the row is too long. */
extern bool may_follow(StringInfo out, size_t size);

/* Makes room for "size" bytes, unless the row is too long. */
extern bool make_room(StringInfo out, size_t size);

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

/* json_append_string(), in a row. */
extern void append_string(StringInfo out, const char *data, size_t length);

/* Just as jsonb's output function prints it, but bounded. */
extern void append_jsonb_text(Jsonb *jsonb, StringInfo out);

typedef struct ValueType ValueType;

typedef void (*AppendValue) (const ValueType *type, Datum value,
							 StringInfo out);

/* These don't look at "type". */
extern void append_text(const ValueType *type, Datum value, StringInfo out);
extern void append_name(const ValueType *type, Datum value, StringInfo out);
extern void append_char(const ValueType *type, Datum value, StringInfo out);
extern void append_uuid(const ValueType *type, Datum value, StringInfo out);
extern void append_bytea(const ValueType *type, Datum value, StringInfo out);
extern void append_bool(const ValueType *type, Datum value, StringInfo out);
extern void append_int2(const ValueType *type, Datum value, StringInfo out);
extern void append_int4(const ValueType *type, Datum value, StringInfo out);
extern void append_int8(const ValueType *type, Datum value, StringInfo out);
extern void append_oid(const ValueType *type, Datum value, StringInfo out);
extern void append_float4(const ValueType *type, Datum value, StringInfo out);
extern void append_float8(const ValueType *type, Datum value, StringInfo out);
extern void append_numeric(const ValueType *type, Datum value, StringInfo out);
extern void append_json(const ValueType *type, Datum value, StringInfo out);
extern void append_jsonb(const ValueType *type, Datum value, StringInfo out);
extern void append_timestamp(const ValueType *type, Datum value, StringInfo out);
extern void append_date(const ValueType *type, Datum value, StringInfo out);
extern void append_interval(const ValueType *type, Datum value, StringInfo out);

#pragma GCC visibility pop

#endif							/* WEBHOOK_JSON_VALUES_H */
