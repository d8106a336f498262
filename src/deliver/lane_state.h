/*-------------------------------------------------------------------------
 *
 * lane_state.h
 *	  Lanes in memory: for lanes.c and lane_rows.c alone.
 *
 * IDENTIFICATION
 *	  src/deliver/lane_state.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LANE_STATE_H
#define WEBHOOK_LANE_STATE_H

#include "deliver/dispatch.h"
#include "lib/ilist.h"

/* So many wait in memory behind the head of a lane, and in all of them. */
#define MAX_WAITING 16
#define MAX_WAITING_IN_ALL 512

struct Lane
{
	char	   *name;			/* hash key: webhook's id, then the order key */
	Subscriber *subscriber;		/* one of its references is ours */
	int			ndispatches;	/* that know this lane */
	Dispatch   *head;			/* NULL: there is none in memory */
	dlist_head	waiting;		/* Dispatch.lane_node: behind the head */
	int			nwaiting;
	int			nleaving;		/* on their way to the table */
	bool		has_rows;		/* there may be some that are not in memory */
	bool		is_suspect;		/* it had rows before the router had caught up */
	bool		rests;			/* its first row will be due by itself */
	Id			first_event_id; /* of that row */
	bool		is_listed;		/* in lanes_to_read */
	bool		is_admitted;	/* and its head may be called at once */
	dlist_node	list_node;
	bool		is_held;		/* in held_lanes: nothing starts, ... */
	uint64		held_until;		/* ... until the cursor has come so far */
	dlist_node	held_node;

	/* Rows up to here are in memory, or done. */
	Id			event_id;
	Id			id;

	/* While it is being read. */
	int			nread;
	bool		is_found;		/* a row that can be called or ended */
	bool		is_cut;			/* no more of it can be taken now */
};

/* Hidden, so that two files see them and it costs no more than if one did. */
#pragma GCC visibility push(hidden)

extern MemoryContext lanes_context;
extern dlist_head lanes_to_read;
extern int	nwaiting_in_all;

/* Has all been routed that an earlier worker may have read? */
extern bool router_caught_up;

/* Too many lanes are held to know which: all are. */
extern bool all_are_held;

/* When a head, or a row, will have held others back for too long. */
extern TimestampTz next_overdue_at;

/* A part of lanes_open(). */
extern void lane_rows_open(void);

/* Finds a lane; NULL if it is not in memory. */
extern Lane *find(const char *webhook_id, const char *order_key);

/* Forgets a lane that nothing in memory needs. */
extern void release(Lane *lane);

/* The lane is to be read, unless it is held: then it will be. */
extern void list_lane(Lane *lane);

/* Those up to this one need not be read. */
extern void read_to(Lane *lane, const char *event_id, const char *id);

/* There is a row in the table, and it must not be passed over. */
extern void note_row(Lane *lane, const char *event_id);

/* Puts a dispatch in its place among those that wait behind the head. */
extern void wait_in(Lane *lane, Dispatch *dispatch);

/* Rows were due, and left alone, while it was not known what stands before them. */
extern void look_at_passed_rows(void);

/* Are others of this row's lane in memory?  Then it must not be passed over. */
extern bool lane_has_others(const DueRow *row);

/* The head is gone: whose turn is it? */
extern void advance(Lane *lane);

#pragma GCC visibility pop

#endif							/* WEBHOOK_LANE_STATE_H */
