/*-------------------------------------------------------------------------
 *
 * signing.c
 *	  SQL functions about secrets and signatures.
 *
 * IDENTIFICATION
 *	  src/sql/signing.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "rules/signature.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(webhook_events_new_secret);
PG_FUNCTION_INFO_V1(webhook_events_verify_signature);

/* new_secret() RETURNS text */
Datum
webhook_events_new_secret(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_TEXT_P(cstring_to_text(secret_make()));
}

/*
 * The value of a header, whatever the case of its name, palloc'd; NULL if there
 * is none.
 */
static char *
find_header(Jsonb *headers, const char *name)
{
	JsonbIterator *iterator = JsonbIteratorInit(&headers->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		found = false;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			found = (value.val.string.len == (int) strlen(name) &&
					 pg_strncasecmp(value.val.string.val, name, strlen(name)) == 0);
		else if (token == WJB_VALUE && found && value.type == jbvString)
			return pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && found && value.type == jbvNumeric)
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value.val.numeric)));
	}
	return NULL;
}

/* Reads a time in seconds since 1970; false if it is not one. */
static bool
read_timestamp(const char *text, int64 *timestamp)
{
	char	   *end;

	if (*text < '0' || *text > '9' || strlen(text) > 12)
		return false;
	*timestamp = strtoll(text, &end, 10);
	return *end == '\0';
}

/* No time is within less than nothing. */
static void
check_tolerance(Interval *tolerance)
{
	Interval	none = {0, 0, 0};

	if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(tolerance),
										 IntervalPGetDatum(&none))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tolerance %s of a signature is negative",
						DatumGetCString(DirectFunctionCall1(interval_out,
															IntervalPGetDatum(tolerance))))));
}

static bool
is_recent(int64 timestamp, Interval *tolerance)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz time = time_t_to_timestamptz((pg_time_t) timestamp);
	Datum		difference = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(Max(now, time)),
												 TimestampTzGetDatum(Min(now, time)));

	return DatumGetBool(DirectFunctionCall2(interval_le, difference,
											IntervalPGetDatum(tolerance)));
}

/*
 * verify_signature(secrets text[], headers jsonb, body text, tolerance interval)
 * RETURNS boolean
 */
Datum
webhook_events_verify_signature(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"secrets", "headers", "body", "tolerance"};
	ArrayType  *secrets;
	Jsonb	   *headers;
	text	   *body;
	char	   *id;
	char	   *time;
	char	   *signatures;
	char	   *utf8;
	size_t		length;
	SecretKey  *keys;
	int64		timestamp;
	bool		verified = false;
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a signature can't be verified: %s is null", names[i])));
	}
	check_tolerance(PG_GETARG_INTERVAL_P(3));
	secrets = PG_GETARG_ARRAYTYPE_P(0);
	headers = PG_GETARG_JSONB_P(1);
	body = PG_GETARG_TEXT_PP(2);
	id = find_header(headers, "webhook-id");
	time = find_header(headers, "webhook-timestamp");
	signatures = find_header(headers, "webhook-signature");
	utf8 = pg_server_to_any(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), PG_UTF8);
	length = (utf8 == VARDATA_ANY(body)) ? VARSIZE_ANY_EXHDR(body) : strlen(utf8);
	deconstruct_array(secrets, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  &count);
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no secret to verify a signature with")));
	keys = palloc(sizeof(SecretKey) * count);
	for (int i = 0; i < count; i++)
	{
		char	   *error = "secret is null";

		CHECK_FOR_INTERRUPTS();
		if (nulls[i] ||
			!secret_decode(TextDatumGetCString(elements[i]), 1, &keys[i], &error))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s", error)));
	}

	if (id == NULL || time == NULL || signatures == NULL ||
		!read_timestamp(time, &timestamp) ||
		!is_recent(timestamp, PG_GETARG_INTERVAL_P(3)))
		PG_RETURN_BOOL(false);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		verified |= signature_verify(&keys[i], id, timestamp, utf8, length, signatures);
	}
	PG_RETURN_BOOL(verified);
}
