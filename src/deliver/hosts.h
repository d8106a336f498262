/*-------------------------------------------------------------------------
 *
 * hosts.h
 *	  Each host's share: what is under way to it and what waits for it.
 *
 * A host is "host:port".  It has queues of dispatches in memory, one for those
 * that replay past events and come after all others, and a list of the webhooks
 * whose further ones wait in the table.
 *
 * A host that has not answered many times in a row rests: it gets one request at a
 * time, with growing pauses between, until it answers.
 *
 * IDENTIFICATION
 *	  src/deliver/hosts.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_HOSTS_H
#define WEBHOOK_HOSTS_H

#include "datatype/timestamp.h"
#include "deliver/shares.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"

typedef struct Host
{
	char	   *name;			/* hash key */
	int			references;
	int			in_flight;		/* all, replays too */
	int			nqueued;
	dlist_head	queue;			/* Dispatch.queue_node, oldest first */
	int			replays_in_flight;
	int			nreplays;		/* queued */
	dlist_head	replays;		/* the queue of replays */
	int			nreserved;		/* room for dispatches on their way here */
	dlist_head	backlog;		/* Subscriber.backlog_node */
	bool		has_backlog;
	TimestampTz limited_until;	/* the rates of its webhooks forbid it to be
								 * read */
	dlist_node	backlog_node;	/* in those that have one */
	bool		is_congested;	/* new dispatches go to the table at once */
	bool		is_slow;		/* its last answer was late, or is */
	int			silences;		/* requests in a row without an answer */
	bool		rest_is_logged;
	TimestampTz logged_at;		/* when that or its end was */
	int64		rest_time;		/* microseconds of the last rest, 0 after an
								 * answer */
	TimestampTz rests_until;	/* 0: it doesn't rest */
	pairingheap_node rest_node; /* in the hosts that rest */
	int			fetch_size;		/* how many to fetch from the table at once */
	TimestampTz fetched_at;
	Share	   *address;		/* of the address behind it */
	dlist_head *ready_list;		/* if it has something queued and a share
								 * left, else NULL; of those that can start,
								 * or that wait for an address or a user */
	dlist_node	ready_node;
	int			live_place;		/* where it is shown; -1: nowhere */
	bool		shares_connections; /* many requests at once go over one */
	int			generation;		/* of such connections */
	TimestampTz generation_since;	/* its first request; 0: none yet */
} Host;

/* Starts with no hosts; allocates in "context". */
extern void hosts_open(MemoryContext context);

/* Finds a host, or makes it, and counts one more reference to it. */
extern Host *host_get(const char *name);

/* Counts one more of one that somebody has a reference to. */
extern void host_keep(Host *host);

/* Takes a reference back; a host without any is forgotten. */
extern void host_release(Host *host);

/* Puts a node at the end of one of a host's queues, and takes one out again. */
extern void host_enqueue(Host *host, dlist_node *node, bool is_replay);
extern void host_dequeue(Host *host, dlist_node *node, bool is_replay);

/* The queue of a host whose turn it is; it is not empty. */
extern dlist_head *host_line(Host *host);

/*
 * The next host, in turns, that has something queued and a share left; NULL if
 * there is none.  Hosts that answer late share one half of max_in_flight, and
 * replays one quarter; of a host's share replays take no more than half.
 */
extern Host *hosts_next_ready(void);

/*
 * Nothing in a host's line can start because of this user, who has something
 * there: it waits for him.  It is asked again when its line changes, or when
 * hosts_user_ended() says that a request of his did.
 */
extern void host_wait_for_user(Host *host, Share *user);
extern void hosts_user_ended(Share *user);

/* Notes where requests to a host really go to; not for what a proxy does. */
extern void host_set_address(Host *host, const char *address);

/*
 * Which generation of connections a request to it that starts now belongs to.  One that
 * requests share is never idle while there are more of them, and libcurl looks at the age
 * of those alone that are.
 */
extern int	host_generation(Host *host, TimestampTz now);

/* Counts a request to a host that starts or ended. */
extern void host_started(Host *host, bool is_replay);
extern void host_ended(Host *host, bool is_replay);

/* Notes whether a host answers late. */
extern void host_set_slow(Host *host, bool is_slow);

/*
 * Notes whether a request to it was answered at all, and with success; and how
 * long it took, in microseconds.  Before host_ended().
 */
extern void host_note_answer(Host *host, bool answered, bool succeeded,
							 int64 duration, TimestampTz now);

/* Ends rests that are over; and when the next one is, DT_NOEND for never. */
extern void hosts_end_rests(TimestampTz now);
extern TimestampTz hosts_deadline(void);

/* Adds a subscriber to those with a backlog, and takes one out again. */
extern void host_add_backlog(Host *host, dlist_node *node);
extern void host_drop_backlog(Host *host, dlist_node *node);

/* The first of the hosts with a backlog, NULL if there is none; puts one behind all. */
extern Host *hosts_first_backlogged(void);
extern void host_to_end_of_backlogged(Host *host);

/* How many more requests to it than those queued could start now. */
extern int	host_room(const Host *host);

/* Nothing is on its way to any host any more. */
extern void hosts_end_reservations(void);

/* Has it little left of the replays that were queued? */
extern bool host_wants_replays(const Host *host);

#endif							/* WEBHOOK_HOSTS_H */
