/*-------------------------------------------------------------------------
 *
 * hosts.h
 *	  Each host's share: what is under way to it and what waits for it.
 *
 * A host is "host:port".  It has a queue of dispatches in memory and a list of
 * the webhooks whose further ones wait in the table.
 *
 * IDENTIFICATION
 *	  src/process/hosts.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_HOSTS_H
#define WEBHOOK_HOSTS_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"

typedef struct Host
{
	char	   *name;			/* hash key */
	int			references;
	int			in_flight;
	int			nqueued;
	dlist_head	queue;			/* Dispatch.queue_node, oldest first */
	int			nreserved;		/* room for dispatches on their way here */
	dlist_head	backlog;		/* Subscriber.backlog_node */
	bool		has_backlog;
	dlist_node	backlog_node;	/* in backlogged_hosts */
	bool		is_congested;	/* new dispatches go to the table at once */
	bool		is_slow;		/* its last answer was late, or is */
	int			fetch_size;		/* how many to fetch from the table at once */
	TimestampTz fetched_at;
	bool		is_ready;		/* has something queued and a share left */
	dlist_node	ready_node;
} Host;

/* Hosts for which dispatches wait in the table. */
extern dlist_head backlogged_hosts;

/* Starts with no hosts; allocates in "context". */
extern void hosts_open(MemoryContext context);

/* Finds a host, or makes it, and counts one more reference to it. */
extern Host *host_get(const char *name);

/* Takes a reference back; a host without any is forgotten. */
extern void host_release(Host *host);

/* Puts a node at the end of a host's queue, and takes one out again. */
extern void host_enqueue(Host *host, dlist_node *node);
extern void host_dequeue(Host *host, dlist_node *node);

/*
 * The next host, in turns, that has something queued and a share left; NULL if
 * there is none.  Hosts that answer late share one half of max_in_flight.
 */
extern Host *hosts_next_ready(void);

/* Counts a request to a host that starts or ended. */
extern void host_started(Host *host);
extern void host_ended(Host *host);

/* Notes whether a host answers late. */
extern void host_set_slow(Host *host, bool is_slow);

/* Adds a subscriber to those with a backlog, and takes one out again. */
extern void host_add_backlog(Host *host, dlist_node *node);
extern void host_drop_backlog(Host *host, dlist_node *node);

/* How many more requests to it than those queued could start now. */
extern int	host_room(const Host *host);

#endif							/* WEBHOOK_HOSTS_H */
