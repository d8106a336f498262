/*-------------------------------------------------------------------------
 *
 * ids.c
 *	  Identifiers: 17 letters and digits that sort by time of creation.
 *
 * The eight characters after the time hold 47 bits.  In a new id these are the
 * number of its maker, 26 bits, and 21 random ones.  A maker's times only advance, so
 * makers of different numbers, which a counter in shared memory gives out, can never
 * make the same id, whatever the clock does.  A backend whose clock was set back
 * becomes another maker, lest it wait until its last time has come again; not before
 * the end of its transaction, whose ids are in order.  The counter starts anywhere,
 * and the random bits are for servers that live in the same time: another one's
 * ids, or this one's before a restart.
 *
 * IDENTIFICATION
 *	  src/rules/ids.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "rules/ids.h"
#include "utils/timestamp.h"

#define ID_TAIL_BITS 47
#define ID_RANDOM_BITS 21
#define ID_MAKER_MASK ((UINT64CONST(1) << (ID_TAIL_BITS - ID_RANDOM_BITS)) - 1)

/* 2020-01-01 00:00 UTC as a TimestampTz: 20 years, 5 of them leap years. */
#define ID_EPOCH (INT64CONST(7305) * USECS_PER_DAY)

/* The last time that nine digits can hold, in the year 2449. */
#define ID_MAX_TIME (INT64CONST(13537086546263551))

/* Times that are less behind the last one come from no clock that was set. */
#define SET_BACK USECS_PER_SEC

static const char digits[] =
"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

IdsShared  *ids_shared = NULL;

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
	int64		value = time < ID_EPOCH ? 0 : time - ID_EPOCH;	/* -infinity as well */

	encode(out, Min(value, ID_MAX_TIME), ID_TIME_LENGTH);
}

static uint32
new_maker(void)
{
	if (ids_shared == NULL)
		return pg_prng_uint32(&pg_global_prng_state);
	return pg_atomic_fetch_add_u32(&ids_shared->next_maker, 1);
}

/* Tells those who count on the floor that there is an id below it. */
static void
note_below_floor(void)
{
	pg_atomic_fetch_add_u32(&ids_shared->below_floor, 1);
}

/* The time of a new id: later than that of this maker's last one. */
static TimestampTz
next_time(uint32 *maker)
{
	static uint32 my_maker;
	static TimestampTz last_time = 0;
	static TimestampTz transaction = 0;
	TimestampTz now = GetCurrentTimestamp();

	now = Min(Max(now, ID_EPOCH), ID_EPOCH + ID_MAX_TIME);
	if (last_time == 0 ||
		(now < last_time - SET_BACK &&
		 transaction != GetCurrentTransactionStartTimestamp()))
	{
		my_maker = new_maker();
		last_time = now;
	}
	else
		last_time = Max(now, last_time + 1);
	transaction = GetCurrentTransactionStartTimestamp();
	*maker = my_maker;
	return last_time;
}

void
id_make(Id id, TimestampTz *created_at)
{
	uint32		maker;
	TimestampTz time = next_time(&maker);
	uint64		tail;

	if (ids_shared != NULL &&
		time < (TimestampTz) pg_atomic_read_u64(&ids_shared->floor))
		note_below_floor();

	tail = ((uint64) maker & ID_MAKER_MASK) << ID_RANDOM_BITS;
	tail |= pg_prng_uint64(&pg_global_prng_state) >> (64 - ID_RANDOM_BITS);

	encode_time(id, time);
	encode(id + ID_TIME_LENGTH, tail, ID_LENGTH - ID_TIME_LENGTH);
	id[ID_LENGTH] = '\0';
	*created_at = time;
}

void
ids_put_floor(TimestampTz time)
{
	uint64		floor = pg_atomic_read_u64(&ids_shared->floor);

	do
	{
		if (time < (TimestampTz) floor)
			note_below_floor();
	} while (!pg_atomic_compare_exchange_u64(&ids_shared->floor, &floor,
											 (uint64) time));
}

void
ids_note_foreign(const char *id, int length)
{
	TimestampTz time;

	if (ids_shared != NULL &&
		(!id_time(id, length, &time) ||
		 time < (TimestampTz) pg_atomic_read_u64(&ids_shared->floor)))
		note_below_floor();
}

void
id_make_dispatch(Id id, const char *event_id, const char *webhook_id)
{
	TimestampTz time;
	uint64		hash;

	hash = hash_bytes_extended((const unsigned char *) event_id,
							   strlen(event_id), 0);
	hash = hash_bytes_extended((const unsigned char *) webhook_id,
							   strlen(webhook_id), hash);

	if (id_time(event_id, (int) strlen(event_id), &time))
		memcpy(id, event_id, ID_TIME_LENGTH);
	else
		memset(id, digits[0], ID_TIME_LENGTH);
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

/* The place of a character in digits[], or -1. */
static inline int
digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'Z')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 36;
	return -1;
}

bool
id_time(const char *id, int length, TimestampTz *time)
{
	uint64		value = 0;

	if (length != ID_LENGTH)
		return false;
	for (int i = 0; i < length; i++)
	{
		int			digit = digit_value(id[i]);

		if (digit < 0)
			return false;
		if (i < ID_TIME_LENGTH)
			value = value * 62 + digit;
	}
	*time = (TimestampTz) value + ID_EPOCH;
	return true;
}

TimestampTz
id_time_of(const char *id, int length)
{
	TimestampTz time;

	if (!id_time(id, length, &time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%.*s\" is not an id", length, id),
				 errdetail("An id has %d letters and digits.", ID_LENGTH)));
	return time;
}
