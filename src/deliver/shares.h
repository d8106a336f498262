/*-------------------------------------------------------------------------
 *
 * shares.h
 *	  How much of the room for requests one address or one user may take.
 *
 * A host is a name and a port, and anybody can have many of both.  So what is
 * under way is counted for the address behind them as well, and for the user
 * whose webhooks they are.
 *
 * IDENTIFICATION
 *	  src/deliver/shares.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SHARES_H
#define WEBHOOK_SHARES_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"

typedef struct Share
{
	char	   *name;			/* hash key */
	HTAB	   *table;			/* that it is in */
	int			references;
	int			in_flight;
	int			nqueued;		/* of a user */
	dlist_head	waiting;		/* Host.ready_node: hosts that could go on but
								 * for it */
	TimestampTz full_since;		/* that there were such hosts, but for moments */
	TimestampTz full_until;
	int			live_place;		/* where that is shown; -1: nowhere */
} Share;

/*
 * A hash table whose entries begin with a pointer to their name, which is the
 * key; it lives in "context", and so should the names.
 */
extern HTAB *name_table_create(const char *what, Size entry_size,
							   MemoryContext context);

/* Starts with none; allocates in "context". */
extern void shares_open(MemoryContext context);

/*
 * Finds the share of an address, as text, or of a user; or makes it.  Counts one
 * more reference, which share_release() takes back.
 */
extern Share *share_of_address(const char *address);
extern Share *share_of_user(const char *user_id);
extern void share_release(Share *share);

/* Lets others see whether hosts wait for a share, of which the list has just changed. */
extern void share_show(Share *share);

/*
 * May one more request go to it?  Of "limit" requests one address gets no more
 * than half, and if the host in question answers late, no more than an eighth or
 * what two hosts may have.
 */
extern bool address_has_room(const Share *address, int limit, bool is_slow);

/*
 * May one more request of this user start?  No more than half of all while others
 * wait, of whom there are "nqueued" dispatches, his included; and never the last
 * eighth, so that they find room when they come.
 */
extern bool user_has_room(const Share *user, int limit, int nqueued);

#endif							/* WEBHOOK_SHARES_H */
