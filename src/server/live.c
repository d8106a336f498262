/*-------------------------------------------------------------------------
 *
 * live.c
 *	  What a worker has under way, in shared memory for others to look at.
 *
 * IDENTIFICATION
 *	  src/server/live.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "server/live.h"
#include "server/live_state.h"
#include "server/settings.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So many requests can be shown of each database. */
#define MIN_FLIGHTS 64
#define MAX_FLIGHTS 2048

LiveArea   *live_area = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* In the worker: its place, and what it knows of it. */
typedef struct KnownHost
{
	char		name[LIVE_NAME_SIZE];	/* hash key */
	int			number;
} KnownHost;

typedef struct HostOwner
{
	int		   *place;			/* of the host that has this entry, or NULL */
	dlist_node	node;			/* in host_order */
} HostOwner;

static LivePlace *my_place = NULL;
static HTAB *known_hosts;
static HostOwner host_owners[LIVE_HOSTS];
static dlist_head host_order;	/* longest without news first */
static int *free_flights;
static int	nfree_flights = 0;

static int
flights_wanted(void)
{
	return Min(Max(setting_max_in_flight, MIN_FLIGHTS), MAX_FLIGHTS);
}

static Size
place_size(int nflights)
{
	return MAXALIGN(add_size(offsetof(LivePlace, flights),
							 mul_size(nflights, sizeof(FlightEntry))));
}

static Size
area_size(void)
{
	return add_size(MAXALIGN(sizeof(LiveArea)),
					mul_size(max_worker_processes, place_size(flights_wanted())));
}

LivePlace *
live_place_at(int number)
{
	return (LivePlace *) ((char *) live_area + MAXALIGN(sizeof(LiveArea)) +
						  number * place_size(live_area->nflights));
}

static void
request_hook(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(area_size());
}

static void
initialize(void)
{
	memset(live_area, 0, area_size());
	live_area->nplaces = max_worker_processes;
	live_area->nflights = flights_wanted();
	for (int i = 0; i < live_area->nplaces; i++)
	{
		LivePlace  *place = live_place_at(i);

		pg_atomic_init_u32(&place->is_taken, 0);
		pg_atomic_init_u32(&place->database, InvalidOid);
		pg_atomic_init_u32(&place->bounds_version, 0);
		for (int queue = 0; queue < N_LIVE_QUEUES; queue++)
		{
			pg_atomic_init_u64(&place->behind_since[queue], 0);
			pg_atomic_init_u64(&place->behind_from[queue], 0);
		}
		for (int share = 0; share < LIVE_SHARES; share++)
			pg_atomic_init_u32(&place->shares[share].version, 0);
		for (int host = 0; host < LIVE_HOSTS; host++)
			pg_atomic_init_u32(&place->hosts[host].version, 0);
		for (int flight = 0; flight < live_area->nflights; flight++)
			pg_atomic_init_u32(&place->flights[flight].version, 0);
	}
}

static void
startup_hook(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	live_area = ShmemInitStruct("webhook_events live", area_size(), &found);
	if (!found)
		initialize();
	LWLockRelease(AddinShmemInitLock);
}

void
live_request(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_hook;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_hook;
}

/*
 * Writing
 */

/* An entry is changed between these two. */
static inline void
begin_change(pg_atomic_uint32 *version)
{
	pg_atomic_write_u32(version, pg_atomic_read_u32(version) + 1);
	pg_write_barrier();
}

static inline void
end_change(pg_atomic_uint32 *version)
{
	pg_write_barrier();
	pg_atomic_write_u32(version, pg_atomic_read_u32(version) + 1);
}

static void
detach(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	pg_atomic_write_u32(&my_place->database, InvalidOid);
	pg_write_barrier();
	pg_atomic_write_u32(&my_place->is_taken, 0);
	my_place = NULL;
}

/* There are as many places as there can be workers at once. */
static LivePlace *
take_place(void)
{
	for (int i = 0; i < live_area->nplaces; i++)
	{
		LivePlace  *place = live_place_at(i);
		uint32		is_taken = 0;

		if (pg_atomic_compare_exchange_u32(&place->is_taken, &is_taken, 1))
			return place;
	}
	return NULL;
}

void
live_attach(Oid database)
{
	HASHCTL		control = {
		.keysize = LIVE_NAME_SIZE,
		.entrysize = sizeof(KnownHost),
		.hcxt = TopMemoryContext
	};

	if (live_area != NULL)
		my_place = take_place();
	if (my_place == NULL)
		return;
	known_hosts = hash_create("webhook_events live hosts", LIVE_HOSTS, &control,
							  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	dlist_init(&host_order);
	for (int i = 0; i < LIVE_HOSTS; i++)
	{
		HostEntry  *entry = &my_place->hosts[i];

		begin_change(&entry->version);
		memset(&entry->host, 0, sizeof(LiveHost));
		end_change(&entry->version);
		dlist_push_tail(&host_order, &host_owners[i].node);
	}
	free_flights = MemoryContextAlloc(TopMemoryContext,
									  sizeof(int) * live_area->nflights);
	memset(my_place->counters, 0, sizeof(my_place->counters));
	begin_change(&my_place->bounds_version);
	memset(&my_place->bounds, 0, sizeof(Bounds));
	end_change(&my_place->bounds_version);
	live_start();
	before_shmem_exit(detach, 0);
	pg_write_barrier();
	pg_atomic_write_u32(&my_place->database, database);
}

void
live_start(void)
{
	if (my_place == NULL)
		return;
	for (int i = 0; i < LIVE_HOSTS; i++)
	{
		live_host_forgotten(i);
		host_owners[i].place = NULL;
	}
	for (int i = 0; i < LIVE_SHARES; i++)
		live_share_freed(i);
	for (int i = 0; i < N_LIVE_QUEUES; i++)
		live_behind(i, false, 0);
	nfree_flights = 0;
	for (int i = live_area->nflights; i-- > 0;)
	{
		FlightEntry *entry = &my_place->flights[i];

		begin_change(&entry->version);
		entry->is_used = false;
		end_change(&entry->version);
		free_flights[nfree_flights++] = i;
	}
}

int
live_flight_started(const char *dispatch_id, const char *webhook_id,
					const char *host, int attempt, TimestampTz started_at)
{
	FlightEntry *entry;
	int			place;

	if (nfree_flights == 0)
		return -1;
	place = free_flights[--nfree_flights];
	entry = &my_place->flights[place];
	begin_change(&entry->version);
	strlcpy(entry->flight.dispatch_id, dispatch_id, sizeof(Id));
	strlcpy(entry->flight.webhook_id, webhook_id, sizeof(Id));
	strlcpy(entry->flight.host, host, LIVE_NAME_SIZE);
	entry->flight.attempt = attempt;
	entry->flight.started_at = started_at;
	entry->is_used = true;
	end_change(&entry->version);
	return place;
}

void
live_flight_ended(int place)
{
	FlightEntry *entry;

	if (place < 0 || my_place == NULL)
		return;
	entry = &my_place->flights[place];
	begin_change(&entry->version);
	entry->is_used = false;
	end_change(&entry->version);
	free_flights[nfree_flights++] = place;
}

/* Gives a host the entry that it had, or the one that is longest without news. */
static int
take_host_entry(const char *name, int *place)
{
	char		key[LIVE_NAME_SIZE];
	KnownHost  *known;
	HostEntry  *entry;
	HostOwner  *owner;
	bool		found;
	int			number;

	strlcpy(key, name, sizeof(key));
	known = hash_search(known_hosts, key, HASH_FIND, NULL);
	if (known != NULL)
		number = known->number;
	else
		number = (int) (dlist_container(HostOwner, node,
										dlist_head_node(&host_order)) - host_owners);
	owner = &host_owners[number];
	entry = &my_place->hosts[number];
	if (owner->place != NULL)
		*owner->place = -1;
	owner->place = place;
	if (known != NULL)
		return number;

	if (entry->host.name[0] != '\0')
		hash_search(known_hosts, entry->host.name, HASH_REMOVE, NULL);
	known = hash_search(known_hosts, key, HASH_ENTER, &found);
	known->number = number;
	begin_change(&entry->version);
	memset(&entry->host, 0, sizeof(LiveHost));
	strlcpy(entry->host.name, key, LIVE_NAME_SIZE);
	end_change(&entry->version);
	return number;
}

void
live_host_stands(const char *name, int *place, const LiveHostState *state)
{
	HostEntry  *entry;

	if (my_place == NULL)
		return;
	if (*place < 0)
		*place = take_host_entry(name, place);
	entry = &my_place->hosts[*place];
	begin_change(&entry->version);
	entry->host.state = *state;
	if (state->queued == 0 && !state->is_congested)
		entry->host.behind_since = 0;
	else if (entry->host.behind_since == 0)
		entry->host.behind_since = GetCurrentTimestamp();
	end_change(&entry->version);
	dlist_delete(&host_owners[*place].node);
	dlist_push_tail(&host_order, &host_owners[*place].node);
}

/* The class of a duration. */
static int
duration_class(int64 duration)
{
	double		halves;

	if (duration <= FIRST_DURATION)
		return 0;
	halves = ceil(2.0 * log2((double) duration / FIRST_DURATION));
	return Min((int) halves, LIVE_DURATIONS - 1);
}

void
live_host_called(int place, bool succeeded, int64 duration)
{
	HostEntry  *entry;

	if (place < 0 || my_place == NULL)
		return;
	entry = &my_place->hosts[place];
	begin_change(&entry->version);
	entry->host.calls++;
	entry->host.failures += !succeeded;
	entry->host.durations[duration_class(duration)]++;
	end_change(&entry->version);
}

void
live_host_forgotten(int place)
{
	HostEntry  *entry;

	if (place < 0 || my_place == NULL)
		return;
	host_owners[place].place = NULL;
	entry = &my_place->hosts[place];
	begin_change(&entry->version);
	memset(&entry->host.state, 0, sizeof(LiveHostState));
	entry->host.behind_since = 0;
	end_change(&entry->version);
}

int
live_share_filled(const LiveShare *share)
{
	for (int i = 0; my_place != NULL && i < LIVE_SHARES; i++)
	{
		ShareEntry *entry = &my_place->shares[i];

		if (entry->share.since != 0)
			continue;
		begin_change(&entry->version);
		entry->share = *share;
		end_change(&entry->version);
		return i;
	}
	return -1;
}

void
live_share_freed(int place)
{
	ShareEntry *entry;

	if (place < 0 || my_place == NULL)
		return;
	entry = &my_place->shares[place];
	begin_change(&entry->version);
	entry->share.since = 0;
	end_change(&entry->version);
}

void
live_put_floor(uint64 xid, TimestampTz time, uint32 below_floor)
{
	Bounds	   *bounds;

	if (my_place == NULL)
		return;
	bounds = &my_place->bounds;
	begin_change(&my_place->bounds_version);
	if (below_floor != bounds->below_floor)
	{
		bounds->nfloors = 0;
		bounds->oldest_active[0] = '\0';
	}
	bounds->below_floor = below_floor;
	if (bounds->nfloors == MAX_FLOORS)
		memmove(bounds->floors, bounds->floors + 1,
				--bounds->nfloors * sizeof(Floor));
	bounds->floors[bounds->nfloors].xid = xid;
	bounds->floors[bounds->nfloors++].time = time;
	end_change(&my_place->bounds_version);
}

void
live_set_oldest_active(const char *id)
{
	if (my_place == NULL)
		return;
	begin_change(&my_place->bounds_version);
	strlcpy(my_place->bounds.oldest_active, id, sizeof(Id));
	end_change(&my_place->bounds_version);
}

void
live_note_active(const char *id)
{
	if (my_place != NULL && strcmp(id, my_place->bounds.oldest_active) < 0)
		live_set_oldest_active("");
}

void
live_behind(LiveQueue queue, bool is_behind, uint64 done)
{
	pg_atomic_uint64 *since;

	if (my_place == NULL)
		return;
	since = &my_place->behind_since[queue];
	if (is_behind == (pg_atomic_read_u64(since) != 0))
		return;
	pg_atomic_write_u64(&my_place->behind_from[queue], done);
	pg_write_barrier();
	pg_atomic_write_u64(since, is_behind ? (uint64) GetCurrentTimestamp() : 0);
}

uint64 *
live_counters(void)
{
	return my_place == NULL ? NULL : my_place->counters;
}
