/*-------------------------------------------------------------------------
 *
 * ids.c
 *	  Identifiers: 17 letters and digits that sort by time of creation.
 *
 * The eight characters after the time hold 47 bits.  In a new id these are the
 * number of the backend, which makes ids of concurrent backends differ
 * whatever the random numbers say, and 29 random bits for everything that
 * number does not cover: clocks that are set back, servers that are promoted.
 * Within a backend the time always advances, by at least a microsecond.
 *
 * IDENTIFICATION
 *	  src/rules/ids.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "compat.h"
#include "miscadmin.h"
#include "rules/ids.h"
#include "utils/timestamp.h"

#define ID_TAIL_BITS 47
#define ID_RANDOM_BITS 29

/* 2020-01-01 00:00 UTC as a TimestampTz: 20 years, 5 of them leap years. */
#define ID_EPOCH (INT64CONST(7305) * USECS_PER_DAY)

/* The last time that nine digits can hold, in the year 2449. */
#define ID_MAX_TIME (INT64CONST(13537086546263551))

static const char digits[] =
"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pg_atomic_uint64 *ids_floor = NULL;

static void
encode(char *out, uint64 value, int length)
{
	for (int i = length - 1; i >= 0; i--)
	{
		out[i] = digits[value % 62];
		value /= 62;
	}
}

static void
encode_time(char *out, TimestampTz time)
{
	int64		value = time - ID_EPOCH;

	encode(out, Min(Max(value, 0), ID_MAX_TIME), ID_TIME_LENGTH);
}

void
id_make(Id id, TimestampTz *created_at)
{
	static TimestampTz last_time = 0;
	TimestampTz now = GetCurrentTimestamp();
	uint64		tail;

	if (ids_floor != NULL)
		now = Max(now, (TimestampTz) pg_atomic_read_u64(ids_floor));
	now = Max(now, last_time + 1);
	last_time = now;

	tail = (uint64) MyBackendNumber << ID_RANDOM_BITS;
	tail |= pg_prng_uint64(&pg_global_prng_state) >> (64 - ID_RANDOM_BITS);
	tail &= (UINT64CONST(1) << ID_TAIL_BITS) - 1;

	encode_time(id, now);
	encode(id + ID_TIME_LENGTH, tail, ID_LENGTH - ID_TIME_LENGTH);
	id[ID_LENGTH] = '\0';
	*created_at = now;
}

void
id_make_dispatch(Id id, const char *event_id, const char *webhook_id)
{
	uint64		hash;

	hash = hash_bytes_extended((const unsigned char *) event_id,
							   strlen(event_id), 0);
	hash = hash_bytes_extended((const unsigned char *) webhook_id,
							   strlen(webhook_id), hash);

	memcpy(id, event_id, ID_TIME_LENGTH);
	encode(id + ID_TIME_LENGTH, hash >> (64 - ID_TAIL_BITS),
		   ID_LENGTH - ID_TIME_LENGTH);
	id[ID_LENGTH] = '\0';
}

void
id_lower_bound(Id id, TimestampTz time)
{
	encode_time(id, time);
	id[ID_TIME_LENGTH] = '\0';
}

bool
id_time(const char *id, int length, TimestampTz *time)
{
	uint64		value = 0;

	if (length != ID_LENGTH)
		return false;
	for (int i = 0; i < length; i++)
	{
		const char *digit = id[i] ? strchr(digits, id[i]) : NULL;

		if (digit == NULL)
			return false;
		if (i < ID_TIME_LENGTH)
			value = value * 62 + (digit - digits);
	}
	*time = (TimestampTz) value + ID_EPOCH;
	return true;
}
