/*-------------------------------------------------------------------------
 *
 * live_look.c
 *	  Looking at what workers have under way, in shared memory.
 *
 * IDENTIFICATION
 *	  src/server/live_look.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "server/live.h"
#include "server/live_state.h"

/* An entry that changes all the time is left out after so many tries. */
#define MAX_TRIES 1000

static LivePlace *
find_place(Oid database)
{
	if (live_area == NULL)
		return NULL;
	for (int i = 0; i < live_area->nplaces; i++)
	{
		if (pg_atomic_read_u32(&live_place_at(i)->database) == database)
			return live_place_at(i);
	}
	return NULL;
}

/* Copies an entry as it was at one moment; false if it never stands still. */
static bool
copy_entry(pg_atomic_uint32 *version, void *copy, const void *entry, Size size)
{
	for (int i = 0; i < MAX_TRIES; i++)
	{
		uint32		before = pg_atomic_read_u32(version);

		pg_read_barrier();
		if (before % 2 == 0)
		{
			memcpy(copy, entry, size);
			pg_read_barrier();
			if (pg_atomic_read_u32(version) == before)
				return true;
		}
		pg_spin_delay();
	}
	return false;
}

int
live_flights(Oid database, LiveFlight **flights)
{
	LivePlace  *place = find_place(database);
	int			count = 0;

	*flights = NULL;
	if (place == NULL)
		return 0;
	*flights = palloc(sizeof(LiveFlight) * live_area->nflights);
	for (int i = 0; i < live_area->nflights; i++)
	{
		FlightEntry *entry = &place->flights[i];
		FlightEntry copy;

		if (entry->is_used &&
			copy_entry(&entry->version, &copy, entry, sizeof(FlightEntry)) &&
			copy.is_used)
			(*flights)[count++] = copy.flight;
	}
	return count;
}

int
live_hosts(Oid database, LiveHost **hosts)
{
	LivePlace  *place = find_place(database);
	int			count = 0;

	*hosts = NULL;
	if (place == NULL)
		return 0;
	*hosts = palloc(sizeof(LiveHost) * LIVE_HOSTS);
	for (int i = 0; i < LIVE_HOSTS; i++)
	{
		HostEntry  *entry = &place->hosts[i];
		LiveHost   *copy = &(*hosts)[count];

		if (copy_entry(&entry->version, copy, &entry->host, sizeof(LiveHost)) &&
			copy->name[0] != '\0')
			count++;
	}
	return count;
}

int
live_shares(Oid database, LiveShare **shares)
{
	LivePlace  *place = find_place(database);
	int			count = 0;

	*shares = NULL;
	if (place == NULL)
		return 0;
	*shares = palloc(sizeof(LiveShare) * LIVE_SHARES);
	for (int i = 0; i < LIVE_SHARES; i++)
	{
		ShareEntry *entry = &place->shares[i];
		LiveShare  *copy = &(*shares)[count];

		if (copy_entry(&entry->version, copy, &entry->share, sizeof(LiveShare)) &&
			copy->since != 0)
			count++;
	}
	return count;
}

double
live_percentile(const uint32 durations[LIVE_DURATIONS], double share)
{
	uint64		total = 0;
	uint64		below = 0;
	double		wanted;

	for (int i = 0; i < LIVE_DURATIONS; i++)
		total += durations[i];
	if (total == 0)
		return -1;
	wanted = share * (double) total;
	for (int i = 0; i < LIVE_DURATIONS; i++)
	{
		double		upper = FIRST_DURATION * pow(2.0, i / 2.0);
		double		lower = i == 0 ? 0 : upper / sqrt(2.0);

		if (durations[i] > 0 && (double) (below + durations[i]) >= wanted)
			return (lower + (upper - lower) *
					(wanted - (double) below) / durations[i]) / 1000.0;
		below += durations[i];
	}
	return -1;
}

/* Copies what is known of a database's ids; false if nothing is. */
static bool
copy_bounds(Oid database, Bounds *bounds)
{
	LivePlace  *place = find_place(database);

	if (place == NULL || ids_shared == NULL ||
		!copy_entry(&place->bounds_version, bounds, &place->bounds, sizeof(Bounds)))
		return false;
	pg_read_barrier();
	return pg_atomic_read_u32(&ids_shared->below_floor) == bounds->below_floor;
}

void
live_least_new_id(Oid database, uint64 xid, Id id)
{
	Bounds		bounds;

	id[0] = '\0';
	if (!copy_bounds(database, &bounds))
		return;
	for (int i = bounds.nfloors; i-- > 0;)
	{
		if (bounds.floors[i].xid <= xid)
		{
			id_lower_bound(id, bounds.floors[i].time);
			return;
		}
	}
}

void
live_oldest_active(Oid database, Id id)
{
	Bounds		bounds;

	id[0] = '\0';
	if (copy_bounds(database, &bounds))
		strlcpy(id, bounds.oldest_active, sizeof(Id));
}

TimestampTz
live_behind_since(Oid database, LiveQueue queue, uint64 *done)
{
	LivePlace  *place = find_place(database);
	TimestampTz since;

	*done = 0;
	if (place == NULL)
		return 0;
	since = (TimestampTz) pg_atomic_read_u64(&place->behind_since[queue]);
	pg_read_barrier();
	*done = pg_atomic_read_u64(&place->behind_from[queue]);
	return since;
}

bool
live_copy_counters(Oid database, uint64 counters[LIVE_COUNTERS])
{
	LivePlace  *place = find_place(database);

	if (place == NULL)
		return false;
	memcpy(counters, place->counters, sizeof(place->counters));
	return true;
}
