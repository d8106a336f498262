/*-------------------------------------------------------------------------
 *
 * live.h
 *	  What a worker has under way, in shared memory for others to look at.
 *
 * Each worker has a place of its own: the requests that are under way, the hosts
 * that it met last, and what it has counted.  Only the worker writes there, and
 * waits for nobody: each entry has a version that is odd while the entry
 * changes, and whoever reads copies it again if it was or has become another.
 * Bounds are fixed when the server starts.  Without shared memory, or without
 * a place, all of it does nothing.
 *
 * IDENTIFICATION
 *	  src/server/live.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LIVE_H
#define WEBHOOK_LIVE_H

#include "datatype/timestamp.h"
#include "rules/ids.h"

/* A name of a host is at most 253 characters, and a port six. */
#define LIVE_NAME_SIZE 264

/* So many hosts are shown of each database, those that were met last. */
#define LIVE_HOSTS 256

/* Classes of durations: 2 for each factor of two, from 0.25 ms up. */
#define LIVE_DURATIONS 42

typedef struct LiveFlight
{
	Id			dispatch_id;
	Id			webhook_id;
	char		host[LIVE_NAME_SIZE];
	int			attempt;
	TimestampTz started_at;
} LiveFlight;

/* How a host stands. */
typedef struct LiveHostState
{
	int			in_flight;
	int			queued;
	int			silences;		/* requests in a row without an answer */
	TimestampTz rests_until;	/* 0: it does not rest */
	bool		is_probed;		/* one request at a time, till it answers */
	bool		is_slow;
	bool		is_congested;	/* what is new waits in the table */
	bool		waits_for_address;	/* that has all it may take */
	bool		waits_for_user; /* likewise */
} LiveHostState;

typedef struct LiveHost
{
	char		name[LIVE_NAME_SIZE];	/* "host:port"; "": free */
	LiveHostState state;
	TimestampTz behind_since;	/* something waits for room there; 0: nothing */
	uint64		calls;
	uint64		failures;
	uint32		durations[LIVE_DURATIONS];
} LiveHost;

/* Who has all that it may take, while more of it waits; so many are shown. */
#define LIVE_SHARES 16

typedef struct LiveShare
{
	char		name[LIVE_NAME_SIZE];	/* as much of it as fits */
	bool		is_user;		/* or else an address */
	int			in_flight;		/* then */
	TimestampTz since;			/* 0: free */
} LiveShare;

/* Asks for the memory; called in the postmaster while libraries are loaded. */
extern void live_request(void);

/*
 * For the worker.  live_attach() takes a place until the process ends;
 * live_start() says that nothing is under way.
 */
extern void live_attach(Oid database);
extern void live_start(void);

/* A request starts: returns its place, or -1; and ends. */
extern int	live_flight_started(const char *dispatch_id, const char *webhook_id,
								const char *host, int attempt,
								TimestampTz started_at);
extern void live_flight_ended(int place);

/*
 * Says how a host stands.  *place is the host's, -1 for none: it gets one then,
 * that of the host that was longest without news, whose *place becomes -1.
 */
extern void live_host_stands(const char *name, int *place,
							 const LiveHostState *state);

/* Counts a call to it; microseconds. */
extern void live_host_called(int place, bool succeeded, int64 duration);

/* The host is forgotten by the worker; what was counted stays to be seen. */
extern void live_host_forgotten(int place);

/* Shows a share that is full: returns its place, or -1; and that it is so no more. */
extern int	live_share_filled(const LiveShare *share);
extern void live_share_freed(int place);

/*
 * For others: copies of what is under way in a database, palloc'd; returns how
 * many.
 */
extern int	live_flights(Oid database, LiveFlight **flights);
extern int	live_hosts(Oid database, LiveHost **hosts);
extern int	live_shares(Oid database, LiveShare **shares);

/*
 * The duration, in milliseconds, below which this share of the calls remained;
 * negative if there were none.
 */
extern double live_percentile(const uint32 durations[LIVE_DURATIONS],
							  double share);

/*
 * What lets others look at few days' tables.  live_put_floor(): transactions
 * from "xid" on make no id older than "time", as long as ids_shared counts so
 * many below a floor.  live_set_oldest_active(): no
 * dispatch that waits has an id below this one, "" for nobody knows;
 * live_note_active() tells of one that may.
 */
extern void live_put_floor(uint64 xid, TimestampTz time, uint32 below_floor);
extern void live_set_oldest_active(const char *id);
extern void live_note_active(const char *id);

/*
 * No event of a transaction from "xid" on, and no dispatch that waits, has an id
 * below the one that is written here; "" if nobody knows.  For snapshots that were
 * taken before.
 */
extern void live_least_new_id(Oid database, uint64 xid, Id id);
extern void live_oldest_active(Oid database, Id id);

/*
 * What a worker can be behind with.  live_behind() tells whether it is, now, and how
 * much it has done in all; live_behind_since() since when, 0 if it is not, or if no
 * worker runs, and how much it had done then.
 */
typedef enum LiveQueue
{
	LIVE_ROUTING,				/* events whose webhooks nobody has looked for */
	LIVE_DELIVERY,				/* dispatches that are due and can't be called
								 * yet */
	N_LIVE_QUEUES
} LiveQueue;

extern void live_behind(LiveQueue queue, bool is_behind, uint64 done);
extern TimestampTz live_behind_since(Oid database, LiveQueue queue, uint64 *done);

/*
 * Counters of a place, for counters.c: the worker's own, NULL if it has none; and a
 * copy of a database's, false if no worker has one there.
 */
#define LIVE_COUNTERS 96
extern uint64 *live_counters(void);
extern bool live_copy_counters(Oid database, uint64 counters[LIVE_COUNTERS]);

#endif							/* WEBHOOK_LIVE_H */
