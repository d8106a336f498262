/*-------------------------------------------------------------------------
 *
 * live_state.h
 *	  What workers have under way, as it lies in shared memory: for live.c, which
 *	  writes it, and live_look.c, which reads it, alone.
 *
 * IDENTIFICATION
 *	  src/server/live_state.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LIVE_STATE_H
#define WEBHOOK_LIVE_STATE_H

#include "port/atomics.h"
#include "server/live.h"

/* So many floors under ids are known. */
#define MAX_FLOORS 64

/* Microseconds that the first class of durations ends with. */
#define FIRST_DURATION 250.0

typedef struct FlightEntry
{
	pg_atomic_uint32 version;
	bool		is_used;
	LiveFlight	flight;
} FlightEntry;

typedef struct HostEntry
{
	pg_atomic_uint32 version;
	LiveHost	host;
} HostEntry;

typedef struct ShareEntry
{
	pg_atomic_uint32 version;
	LiveShare	share;
} ShareEntry;

/* Transactions from "xid" on make no id that is older than "time". */
typedef struct Floor
{
	uint64		xid;
	TimestampTz time;
} Floor;

typedef struct Bounds
{
	uint32		below_floor;	/* ids_shared's count for which all holds */
	int			nfloors;
	Floor		floors[MAX_FLOORS]; /* oldest first */
	Id			oldest_active;
} Bounds;

/* A worker's place; its flights come behind it. */
typedef struct LivePlace
{
	pg_atomic_uint32 is_taken;
	pg_atomic_uint32 database;	/* InvalidOid: no worker has it */
	uint64		counters[LIVE_COUNTERS];
	pg_atomic_uint32 bounds_version;
	Bounds		bounds;
	pg_atomic_uint64 behind_since[N_LIVE_QUEUES];	/* TimestampTz; 0: it is
													 * not */
	pg_atomic_uint64 behind_from[N_LIVE_QUEUES];	/* what was done by then */
	ShareEntry	shares[LIVE_SHARES];
	HostEntry	hosts[LIVE_HOSTS];
	FlightEntry flights[FLEXIBLE_ARRAY_MEMBER];
} LivePlace;

typedef struct LiveArea
{
	int			nplaces;
	int			nflights;		/* of each place */
} LiveArea;

/* Hidden, so that two files see them and it costs no more than if one did. */
#pragma GCC visibility push(hidden)

/* NULL without shared memory. */
extern LiveArea *live_area;

/* The place with this number, from 0 to nplaces - 1. */
extern LivePlace *live_place_at(int number);

#pragma GCC visibility pop

#endif							/* WEBHOOK_LIVE_STATE_H */
