/*-------------------------------------------------------------------------
 *
 * audit_sums.c
 *	  How many dispatches webhooks should have and do have, for audit().
 *
 * Two aggregates, one over events and one over dispatches, which several processes can
 * work on.  For each webhook that got or should have got something they have the count of
 * the events and the sum of their ids' hashes: where these agree nothing is missing,
 * and nothing has to be looked at one by one, which a join of all or a hash table of
 * pairs would do.  On the way the first one notes which runs and builds have ended.
 *
 * IDENTIFICATION
 *	  src/sql/audit_sums.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "sql/audit_sums.h"
#include "sql/audit_wishes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(webhook_events_wanted_add);
PG_FUNCTION_INFO_V1(webhook_events_made_add);
PG_FUNCTION_INFO_V1(webhook_events_sums_combine);
PG_FUNCTION_INFO_V1(webhook_events_sums_write);
PG_FUNCTION_INFO_V1(webhook_events_sums_read);
PG_FUNCTION_INFO_V1(webhook_events_sums_differ);

/* What a webhook got, or should have got. */
typedef struct Sum
{
	uint64		webhook;		/* hash of its id */
	int64		count;
	uint64		hashes;			/* of the events' ids, added up */
	char		status;			/* of the place in the table */
} Sum;

#define SH_PREFIX sums
#define SH_ELEMENT_TYPE Sum
#define SH_KEY_TYPE uint64
#define SH_KEY webhook
#define SH_HASH_KEY(table, key) ((uint32) (key))
#define SH_EQUAL(table, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* What is written of a State: this, sums, and hashes of ends. */
typedef struct WrittenState
{
	int64		nsums;
	int64		nends;			/* -1: too many */
} WrittenState;

typedef struct WrittenSum
{
	uint64		webhook;
	int64		count;
	uint64		hashes;
} WrittenSum;

/* A span: from which id on, up to which one, from which one on ends count; then ids to leave out. */
#define SPAN_BOUNDS 3

typedef struct State
{
	MemoryContext context;
	sums_hash  *sums;
	Wishes	   *wishes;			/* NULL: it is about dispatches, or was read
								 * back */
	const char *lower;			/* ids from this one up to that one count */
	int			lower_length;
	const char *upper;
	int			upper_length;
	const char *ends_lower;		/* and of ends all from here on */
	int			ends_lower_length;
	int			nleft_out;		/* these don't, sorted */
	text	  **left_out;
	int64		nends;			/* -1: too many */
	int64		ends_room;
	uint64	   *ends;			/* audit_hash_end() of what has ended */
} State;

uint64
audit_hash_end(SourceKind kind, AuditEnd end, const char *id, int length)
{
	return hash_bytes_extended((const unsigned char *) id, length,
							   kind * N_AUDIT_ENDS + end + 1);
}

static int
compare_ids(const char *a, int a_length, const char *b, int b_length)
{
	int			result = memcmp(a, b, Min(a_length, b_length));

	return result != 0 ? result : a_length - b_length;
}

static int
compare_texts(const void *a, const void *b)
{
	const		text *first = *(text * const *) a;
	const		text *second = *(text * const *) b;

	return compare_ids(VARDATA_ANY(first), VARSIZE_ANY_EXHDR(first),
					   VARDATA_ANY(second), VARSIZE_ANY_EXHDR(second));
}

/* Reads a span: its bounds and the ids that it leaves out.  They are kept as they are. */
static void
read_span(State *state, ArrayType *span)
{
	Datum	   *elements;
	int			count;

	deconstruct_array(span, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	if (count < SPAN_BOUNDS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a span has %d bounds, not %d", SPAN_BOUNDS, count)));
	state->lower = TextDatumGetCString(elements[0]);
	state->lower_length = (int) strlen(state->lower);
	state->upper = TextDatumGetCString(elements[1]);
	state->upper_length = (int) strlen(state->upper);
	state->ends_lower = TextDatumGetCString(elements[2]);
	state->ends_lower_length = (int) strlen(state->ends_lower);
	state->left_out = palloc(sizeof(text *) * count);
	for (int i = SPAN_BOUNDS; i < count; i++)
		state->left_out[state->nleft_out++] = DatumGetTextPP(elements[i]);
	qsort(state->left_out, state->nleft_out, sizeof(text *), compare_texts);
}

static bool
is_in_span(const State *state, const text * id)
{
	const char *bytes = VARDATA_ANY(id);
	int			length = (int) VARSIZE_ANY_EXHDR(id);

	return compare_ids(bytes, length, state->lower, state->lower_length) >= 0 &&
		compare_ids(bytes, length, state->upper, state->upper_length) < 0 &&
		(state->nleft_out == 0 ||
		 bsearch(&id, state->left_out, state->nleft_out, sizeof(text *),
				 compare_texts) == NULL);
}

/* Is one of these arguments null?  No row has a null there. */
static bool
lacks_value(FunctionCallInfo fcinfo, int first, int last)
{
	for (int i = first; i <= last; i++)
	{
		if (PG_ARGISNULL(i))
			return true;
	}
	return false;
}

/* The state of an aggregate, made with its first row. */
static State *
state_argument(FunctionCallInfo fcinfo, int span)
{
	MemoryContext context;
	MemoryContext old_context;
	State	   *state;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "called outside of an aggregate");
	if (!PG_ARGISNULL(0))
		return (State *) PG_GETARG_POINTER(0);
	old_context = MemoryContextSwitchTo(context);
	state = palloc0(sizeof(State));
	state->context = context;
	if (span > 0 && PG_ARGISNULL(span))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a span must not be null")));
	if (span > 0)
		read_span(state, PG_GETARG_ARRAYTYPE_P_COPY(span));
	state->sums = sums_create(context, 256, NULL);
	MemoryContextSwitchTo(old_context);
	return state;
}

static void
add_sum(void *argument, uint64 webhook, int64 count, uint64 hashes)
{
	State	   *state = argument;
	bool		found;
	Sum		   *sum = sums_insert(state->sums, webhook, &found);

	if (!found)
		sum->count = sum->hashes = 0;
	sum->count += count;
	sum->hashes += hashes;
}

static void
add_end(State *state, uint64 hash)
{
	if (state->nends < 0)
		return;
	if (state->nends == AUDIT_MAX_ENDS)
	{
		pfree(state->ends);
		state->ends = NULL;
		state->nends = -1;
		return;
	}
	if (state->nends == state->ends_room)
	{
		state->ends_room = Max(2 * state->ends_room, 1024);
		state->ends = state->ends == NULL ?
			MemoryContextAlloc(state->context, sizeof(uint64) * state->ends_room) :
			repalloc(state->ends, sizeof(uint64) * state->ends_room);
	}
	state->ends[state->nends++] = hash;
}

/* Notes that a run or build has ended, if it has. */
static void
note_end(State *state, FunctionCallInfo fcinfo, EventType type)
{
	bool		is_build = type >= EVENT_BUILD_CREATED;
	int			end = type - (is_build ? EVENT_BUILD_SUCCEEDED : EVENT_RUN_SUCCEEDED);
	int			id_argument = is_build ? WANTED_ACTOR_BUILD_ID : WANTED_ACTOR_RUN_ID;
	text	   *event = PG_GETARG_TEXT_PP(WANTED_ID);
	text	   *id;

	if (end < 0 || end >= N_AUDIT_ENDS || PG_ARGISNULL(id_argument) ||
		compare_ids(VARDATA_ANY(event), (int) VARSIZE_ANY_EXHDR(event),
					state->ends_lower, state->ends_lower_length) < 0)
		return;
	id = PG_GETARG_TEXT_PP(id_argument);
	add_end(state, audit_hash_end(is_build ? SOURCE_BUILD : SOURCE_RUN, (AuditEnd) end,
								  VARDATA_ANY(id), (int) VARSIZE_ANY_EXHDR(id)));
}

/*
 * wanted_add(internal, span text[], id text, created_at timestamptz, xid xid8,
 * event_type event_type, user_id text, actor_id text, actor_task_id text,
 * actor_run_id text, actor_build_id text) RETURNS internal
 *
 * Adds a row of the outbox.
 */
Datum
webhook_events_wanted_add(PG_FUNCTION_ARGS)
{
	State	   *state = state_argument(fcinfo, WANTED_SPAN);
	EventType	type;

	if (state->wishes == NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(state->context);

		state->wishes = wishes_read();
		MemoryContextSwitchTo(old_context);
	}
	if (lacks_value(fcinfo, WANTED_ID, WANTED_EVENT_TYPE))
		PG_RETURN_POINTER(state);
	type = wishes_type(state->wishes, PG_GETARG_OID(WANTED_EVENT_TYPE));
	note_end(state, fcinfo, type);
	if (is_in_span(state, PG_GETARG_TEXT_PP(WANTED_ID)))
		wishes_ask(state->wishes, fcinfo, type);
	PG_RETURN_POINTER(state);
}

/*
 * made_add(internal, span text[], id text, event_id text, webhook_id text)
 * RETURNS internal
 *
 * Adds a dispatch.
 */
Datum
webhook_events_made_add(PG_FUNCTION_ARGS)
{
	State	   *state = state_argument(fcinfo, 1);

	if (!lacks_value(fcinfo, 2, 4) && is_in_span(state, PG_GETARG_TEXT_PP(2)))
		add_sum(state, wishes_hash_id(PG_GETARG_TEXT_PP(4)), 1,
				wishes_hash_id(PG_GETARG_TEXT_PP(3)));
	PG_RETURN_POINTER(state);
}

/* sums_combine(internal, internal) RETURNS internal */
Datum
webhook_events_sums_combine(PG_FUNCTION_ARGS)
{
	State	   *state;
	State	   *other;
	sums_iterator iterator;
	Sum		   *sum;

	if (PG_ARGISNULL(1))
	{
		if (PG_ARGISNULL(0))
			PG_RETURN_NULL();
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	}
	state = state_argument(fcinfo, 0);
	other = (State *) PG_GETARG_POINTER(1);
	if (other->wishes != NULL)
		wishes_take(other->wishes, add_sum, other);
	sums_start_iterate(other->sums, &iterator);
	while ((sum = sums_iterate(other->sums, &iterator)) != NULL)
		add_sum(state, sum->webhook, sum->count, sum->hashes);
	if (other->nends < 0)
		state->nends = -1;
	for (int64 i = 0; i < other->nends; i++)
		add_end(state, other->ends[i]);
	PG_RETURN_POINTER(state);
}

/* sums_write(internal) RETURNS bytea */
Datum
webhook_events_sums_write(PG_FUNCTION_ARGS)
{
	State	   *state = (State *) PG_GETARG_POINTER(0);
	WrittenState header;
	sums_iterator iterator;
	const Sum  *sum;
	bytea	   *result;
	char	   *place;
	Size		size;

	if (state->wishes != NULL)
		wishes_take(state->wishes, add_sum, state);
	header.nsums = state->sums->members;
	header.nends = state->nends;
	size = VARHDRSZ + sizeof(header) + sizeof(WrittenSum) * (Size) header.nsums +
		sizeof(uint64) * (Size) Max(header.nends, 0);
	result = palloc(size);
	SET_VARSIZE(result, size);
	place = VARDATA(result);
	memcpy(place, &header, sizeof(header));
	place += sizeof(header);
	sums_start_iterate(state->sums, &iterator);
	while ((sum = sums_iterate(state->sums, &iterator)) != NULL)
	{
		WrittenSum	written = {sum->webhook, sum->count, sum->hashes};

		memcpy(place, &written, sizeof(written));
		place += sizeof(written);
	}
	if (header.nends > 0)
		memcpy(place, state->ends, sizeof(uint64) * header.nends);
	PG_RETURN_BYTEA_P(result);
}

/* Raises ERRCODE_INVALID_PARAMETER_VALUE for what sums_write() has not written. */
static WrittenState
read_header(bytea *written)
{
	WrittenState header = {0, 0};
	int64		size = (int64) VARSIZE_ANY_EXHDR(written) - (int64) sizeof(header);

	if (size >= 0)
		memcpy(&header, VARDATA_ANY(written), sizeof(header));
	if (size < 0 || header.nsums < 0 || header.nsums > size / (int64) sizeof(WrittenSum) ||
		header.nends < -1 || header.nends > size / (int64) sizeof(uint64) ||
		size != header.nsums * (int64) sizeof(WrittenSum) +
		Max(header.nends, 0) * (int64) sizeof(uint64))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%d bytes are no sums", (int) VARSIZE_ANY_EXHDR(written))));
	return header;
}

static WrittenSum
read_sum(bytea *written, int64 number)
{
	WrittenSum	sum;

	memcpy(&sum, VARDATA_ANY(written) + sizeof(WrittenState) +
		   sizeof(WrittenSum) * number, sizeof(sum));
	return sum;
}

int64
audit_read_ends(bytea *written, const char **hashes)
{
	WrittenState header = read_header(written);

	*hashes = VARDATA_ANY(written) + sizeof(WrittenState) +
		sizeof(WrittenSum) * header.nsums;
	return header.nends;
}

/* Adds sums that were written, so many times. */
static void
add_written(State *state, bytea *written, int times)
{
	WrittenState header = read_header(written);

	for (int64 i = 0; i < header.nsums; i++)
	{
		WrittenSum	sum = read_sum(written, i);

		add_sum(state, sum.webhook, times * sum.count, times * sum.hashes);
	}
}

/* sums_read(bytea, internal) RETURNS internal */
Datum
webhook_events_sums_read(PG_FUNCTION_ARGS)
{
	State	   *state = palloc0(sizeof(State));
	bytea	   *written = PG_GETARG_BYTEA_PP(0);
	const char *ends;

	state->context = CurrentMemoryContext;
	state->sums = sums_create(CurrentMemoryContext, 256, NULL);
	add_written(state, written, 1);
	state->nends = audit_read_ends(written, &ends);
	if (state->nends > 0)
	{
		state->ends = palloc(sizeof(uint64) * state->nends);
		memcpy(state->ends, ends, sizeof(uint64) * state->nends);
	}
	PG_RETURN_POINTER(state);
}

/*
 * sums_differ(wanted bytea, made bytea, made_again bytea) RETURNS bigint[]
 *
 * Hashes of the ids of webhooks that should have got something and have got something
 * else, not counting what was made again.  NULL: none.
 */
Datum
webhook_events_sums_differ(PG_FUNCTION_ARGS)
{
	State		state = {.context = CurrentMemoryContext};
	ArrayBuildState *differ = NULL;
	const Sum  *sum;
	bytea	   *wanted;
	int64		nwanted;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state.sums = sums_create(CurrentMemoryContext, 256, NULL);
	for (int i = 1; i <= 2; i++)
	{
		if (!PG_ARGISNULL(i))
			add_written(&state, PG_GETARG_BYTEA_PP(i), i == 1 ? 1 : -1);
	}
	wanted = PG_GETARG_BYTEA_PP(0);
	nwanted = read_header(wanted).nsums;
	for (int64 i = 0; i < nwanted; i++)
	{
		WrittenSum	one = read_sum(wanted, i);

		sum = sums_lookup(state.sums, one.webhook);
		if (sum == NULL || sum->count != one.count || sum->hashes != one.hashes)
			differ = accumArrayResult(differ, Int64GetDatum((int64) one.webhook), false,
									  INT8OID, CurrentMemoryContext);
	}
	if (differ == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(makeArrayResult(differ, CurrentMemoryContext));
}
