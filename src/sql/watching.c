/*-------------------------------------------------------------------------
 *
 * watching.c
 *	  SQL functions that show what workers have under way and have counted.
 *
 * IDENTIFICATION
 *	  src/sql/watching.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "rules/url.h"
#include "server/live.h"
#include "server/settings.h"
#include "store/access.h"
#include "store/counters.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(webhook_events_live_flights);
PG_FUNCTION_INFO_V1(webhook_events_live_hosts);
PG_FUNCTION_INFO_V1(webhook_events_live_tally);
PG_FUNCTION_INFO_V1(webhook_events_tally_bounds);
PG_FUNCTION_INFO_V1(webhook_events_url_host);
PG_FUNCTION_INFO_V1(webhook_events_nearly);

/* The columns of live_flights(). */
enum
{
	FLIGHT_DISPATCH_ID,
	FLIGHT_WEBHOOK_ID,
	FLIGHT_HOST,
	FLIGHT_ATTEMPT,
	FLIGHT_STARTED_AT,
	N_FLIGHT
};

/* The columns of live_hosts(). */
enum
{
	HOST_NAME,
	HOST_IN_FLIGHT,
	HOST_QUEUED,
	HOST_SILENCES,
	HOST_RESTS_UNTIL,
	HOST_IS_PROBED,
	HOST_IS_SLOW,
	HOST_IS_CONGESTED,
	HOST_CALLS,
	HOST_FAILURES,
	HOST_P50,
	HOST_P95,
	HOST_BEHIND_SINCE,
	HOST_WAITS_FOR,
	N_HOST
};

/* live_flights() RETURNS SETOF record */
Datum
webhook_events_live_flights(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LiveFlight *flights;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	count = access_to_any() ? live_flights(MyDatabaseId, &flights) : 0;
	for (int i = 0; i < count; i++)
	{
		const LiveFlight *flight = &flights[i];
		bool		nulls[N_FLIGHT] = {false};
		Datum		values[N_FLIGHT] = {
			[FLIGHT_DISPATCH_ID] = CStringGetTextDatum(flight->dispatch_id),
			[FLIGHT_WEBHOOK_ID] = CStringGetTextDatum(flight->webhook_id),
			[FLIGHT_HOST] = CStringGetTextDatum(flight->host),
			[FLIGHT_ATTEMPT] = Int32GetDatum(flight->attempt),
			[FLIGHT_STARTED_AT] = TimestampTzGetDatum(flight->started_at)
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static Datum
percentile(const LiveHost *host, double share, bool *isnull)
{
	double		value = live_percentile(host->durations, share);

	*isnull = (value < 0);
	return Float8GetDatum(value);
}

/* live_hosts() RETURNS SETOF record */
Datum
webhook_events_live_hosts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LiveHost   *hosts;
	int			count;

	InitMaterializedSRF(fcinfo, 0);
	count = access_to_any() ? live_hosts(MyDatabaseId, &hosts) : 0;
	for (int i = 0; i < count; i++)
	{
		const LiveHost *host = &hosts[i];
		bool		nulls[N_HOST] = {false};
		Datum		values[N_HOST] = {
			[HOST_NAME] = CStringGetTextDatum(host->name),
			[HOST_IN_FLIGHT] = Int32GetDatum(host->state.in_flight),
			[HOST_QUEUED] = Int32GetDatum(host->state.queued),
			[HOST_SILENCES] = Int32GetDatum(host->state.silences),
			[HOST_RESTS_UNTIL] = TimestampTzGetDatum(host->state.rests_until),
			[HOST_IS_PROBED] = BoolGetDatum(host->state.is_probed),
			[HOST_IS_SLOW] = BoolGetDatum(host->state.is_slow),
			[HOST_IS_CONGESTED] = BoolGetDatum(host->state.is_congested),
			[HOST_CALLS] = Int64GetDatum((int64) host->calls),
			[HOST_FAILURES] = Int64GetDatum((int64) host->failures),
			[HOST_BEHIND_SINCE] = TimestampTzGetDatum(host->behind_since)
		};

		if (host->state.waits_for_address || host->state.waits_for_user)
			values[HOST_WAITS_FOR] =
				CStringGetTextDatum(host->state.waits_for_address ? "address" : "user");
		nulls[HOST_WAITS_FOR] = !host->state.waits_for_address && !host->state.waits_for_user;
		nulls[HOST_BEHIND_SINCE] = (host->behind_since == 0);
		nulls[HOST_RESTS_UNTIL] = (host->state.rests_until == 0);
		values[HOST_P50] = percentile(host, 0.5, &nulls[HOST_P50]);
		values[HOST_P95] = percentile(host, 0.95, &nulls[HOST_P95]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* live_tally() RETURNS bigint[]; NULL if no worker has something to show. */
Datum
webhook_events_live_tally(PG_FUNCTION_ARGS)
{
	uint64		counters[LIVE_COUNTERS];
	Datum		values[COUNTER_SIZE];

	(void) fcinfo;
	if (!live_copy_counters(MyDatabaseId, counters))
		PG_RETURN_NULL();
	for (int i = 0; i < COUNTER_SIZE; i++)
		values[i] = Int64GetDatum((int64) counters[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, COUNTER_SIZE, INT8OID,
										  sizeof(int64), FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}

/* tally_bounds() RETURNS double precision[] */
Datum
webhook_events_tally_bounds(PG_FUNCTION_ARGS)
{
	Datum		values[COUNTER_BOUNDS];

	(void) fcinfo;
	for (int i = 0; i < COUNTER_BOUNDS; i++)
		values[i] = Float8GetDatum(counter_bounds[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, COUNTER_BOUNDS, FLOAT8OID,
										  sizeof(float8), FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}

/* nearly(a text, b text) RETURNS boolean */
Datum
webhook_events_nearly(PG_FUNCTION_ARGS)
{
	text	   *one = PG_GETARG_TEXT_PP(0);
	text	   *other = PG_GETARG_TEXT_PP(1);
	int			one_length = (int) VARSIZE_ANY_EXHDR(one);
	int			other_length = (int) VARSIZE_ANY_EXHDR(other);

	if (one_length == other_length)
	{
		if (memcmp(VARDATA_ANY(one), VARDATA_ANY(other), one_length) == 0)
			PG_RETURN_BOOL(false);
		if (pg_strncasecmp(VARDATA_ANY(one), VARDATA_ANY(other), one_length) == 0)
			PG_RETURN_BOOL(true);
	}

	/* One letter of three is no mistake, but another id. */
	if (Min(one_length, other_length) < 4 || Max(one_length, other_length) > 255 ||
		abs(one_length - other_length) > MAX_MULTIBYTE_CHAR_LEN)
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(varstr_levenshtein_less_equal(VARDATA_ANY(one), one_length,
												 VARDATA_ANY(other), other_length,
												 1, 1, 1, 1, true) <= 1);
}

/* The URL that a query asked for last, and its host. */
typedef struct KnownUrl
{
	text	   *url;
	text	   *host;			/* NULL: it is not valid */
} KnownUrl;

/* url_host(url text) RETURNS text */
Datum
webhook_events_url_host(PG_FUNCTION_ARGS)
{
	text	   *argument = PG_GETARG_TEXT_PP(0);
	KnownUrl   *known = fcinfo->flinfo->fn_extra;
	MemoryContext old_context = CurrentMemoryContext;
	Url			url;
	char	   *error;

	if (known == NULL)
		known = fcinfo->flinfo->fn_extra =
			MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(KnownUrl));
	if (known->url == NULL ||
		VARSIZE_ANY(known->url) != VARSIZE_ANY(argument) ||
		memcmp(known->url, argument, VARSIZE_ANY(argument)) != 0)
	{
		char	   *string = text_to_cstring(argument);
		bool		is_valid = url_parse(string, &url, &error);

		if (known->url)
			pfree(known->url);
		if (known->host)
			pfree(known->host);
		MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		known->host = is_valid ? cstring_to_text(url.host) : NULL;
		known->url = (text *) palloc(VARSIZE_ANY(argument));
		memcpy(known->url, argument, VARSIZE_ANY(argument));
		MemoryContextSwitchTo(old_context);
	}
	if (known->host == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(known->host);
}
