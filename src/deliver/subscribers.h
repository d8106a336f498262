/*-------------------------------------------------------------------------
 *
 * subscribers.h
 *	  The webhooks that the worker has met, compiled, and which of them get an
 *	  event.
 *
 * Between work_begin() and work_commit(), if the table is read.
 *
 * IDENTIFICATION
 *	  src/deliver/subscribers.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SUBSCRIBERS_H
#define WEBHOOK_SUBSCRIBERS_H

#include "deliver/hosts.h"
#include "rules/webhook.h"
#include "store/day_table.h"
#include "store/dispatch_rows.h"

typedef struct Subscriber
{
	Id			id;				/* hash key */
	bool		exists;			/* the row was there when last looked for */
	uint64		look_up;		/* the last one that found it */
	Webhook    *webhook;		/* as last seen; NULL if never, or not valid */
	char	   *error;			/* why it is not valid, else NULL */
	TimestampTz modified_at;	/* the version that webhook or error is of */
	RowPlace	place;			/* of that version */
	MemoryContext context;		/* of webhook and error; NULL if never seen,
								 * or forgotten for want of memory */
	MemoryContext templates;	/* of those that were left out at first */
	uint64		change;			/* the last one that webhook has come or gone
								 * with, or its templates: no other one's */
	size_t		bytes;			/* of all that, and this */
	dlist_node	use_node;		/* in the order in which they were used */
	bool		is_bare;		/* it has no version, and is in a list of such */
	dlist_node	templates_node; /* the same, of those with templates */
	bool		was_seen;		/* at any time */
	Host	   *host;			/* NULL without a webhook */
	int			ended_epoch;	/* nothing of an earlier one waits */
	int			references;		/* by dispatches in memory */
	uint64		filed_in;		/* the last batch it was a candidate in */

	/* Dispatches in the table that are due and not in memory. */
	bool		has_backlog;
	DuePosition backlog_position;	/* behind the last one that was fetched */
	dlist_node	backlog_node;	/* in host->backlog */

	/* Since when its calls fail, 0 if they don't; and as it is written. */
	TimestampTz failing_since;
	TimestampTz known_failing_since;
	dlist_node	failing_node;	/* in a list if these differ */
	bool		failing_has_no_row; /* to be written in, when last tried */

	/* Calls that max_rate, 0 for no limit, allows, as of that time. */
	double		max_rate;
	double		tokens;
	TimestampTz tokens_at;

	/* What the transaction under way has written of its dispatches. */
	bool		has_stats;
	int			new_dispatches;
	Id			last_dispatch_id;
	DispatchStatus last_status;
	TimestampTz last_finished_at;

	/* Made since the worker started: then what is known of it is all. */
	bool		is_known;
	bool		is_uncounted;	/* and no dispatch of it was counted */
	int			nwaiting;		/* so many of its dispatches wait in the table */
	uint64		created_xid;	/* 0 if it was made elsewhere */

	/* May dispatches that go out in order wait in the table? */
	bool		has_lane_rows;

	/* Replays in the table that were not fetched. */
	bool		has_replays;
	ReplayPosition replay_position;
	dlist_node	replay_node;	/* in those that have some */
} Subscriber;

/* Starts with none; allocates in "context". */
extern void subscribers_open(MemoryContext context);

/* Ends that, before the context is deleted. */
extern void subscribers_close(void);

/*
 * Brings the subscribers with these ids (text[]) up to date; those that are
 * not known become known, existing or not.
 */
extern void subscribers_refresh(Datum ids);

/*
 * Looks up the webhooks that a reading statement finds, rows of (id, modified_at), and
 * sets *found to the list of them as they are now, in the same order.  False, with
 * nothing looked up, if there are more than "limit", 0 for none.  Between work_begin()
 * and work_commit().
 */
extern bool subscribers_load(Statement *statement, Datum *values, const bool *nulls,
							 uint64 limit, List **found);

/*
 * Makes sure that a subscriber that gets something has its templates; *error says
 * why that can't be, and *passes whether it may be possible later.  Not between
 * work_begin() and work_commit().
 */
extern bool subscriber_complete(Subscriber *subscriber, char **error, bool *passes);

/*
 * Notes that more of its dispatches wait in the table, or less; and whether none does, as
 * far as the worker has written them: false if that is not known.
 */
extern void subscriber_count_waiting(Subscriber *subscriber, int change);
extern bool subscriber_is_idle(const Subscriber *subscriber);

/* Finds one that is known; NULL if it isn't. */
extern Subscriber *subscriber_find(const char *id);

/*
 * How many calls its max_rate allows now, at most "wanted"; if there are none,
 * *next_at is lowered to when there is one.  subscriber_take_token() uses one.
 */
extern int	subscriber_allowed_calls(Subscriber *subscriber, int wanted,
									 TimestampTz now, TimestampTz *next_at);
extern void subscriber_take_token(Subscriber *subscriber);

/*
 * Why it gets no event of this type any more, by a dispatch that was made in this
 * epoch of its, to be shown to people; NULL if it does.
 */
extern const char *subscriber_refusal(const Subscriber *subscriber,
									  EventType event_type, int epoch);

/*
 * Notes that dispatches that are due at "time" or later wait in the table.  The
 * subscriber has a host: without one nothing of it waits for room.
 */
extern void subscriber_add_backlog(Subscriber *subscriber, TimestampTz time);
extern void subscriber_end_backlog(Subscriber *subscriber);

/* Notes that replays wait in the table, at this position or behind it. */
extern void subscriber_add_replays(Subscriber *subscriber, const char *position);
extern void subscriber_end_replays(Subscriber *subscriber);

/* The first of those that have replays, NULL if none has; puts one behind all. */
extern Subscriber *subscribers_first_replaying(void);
extern void subscriber_to_end_of_replaying(Subscriber *subscriber);

/* Notes since when its calls fail, 0 for not; and what is written of that. */
extern void subscriber_set_failing(Subscriber *subscriber, TimestampTz since);
extern void subscriber_knows_failing(Subscriber *subscriber, TimestampTz since);

/*
 * Some whose failing_since is not written yet, in turns; returns how many.  They
 * stay so until subscriber_knows_failing().
 */
extern int	subscribers_take_failing(ArrayParameter *ids, ArrayParameter *times,
									 int limit);

/* Lets all that fail have begun at this time. */
extern void subscribers_forgive(TimestampTz time);

#endif							/* WEBHOOK_SUBSCRIBERS_H */
