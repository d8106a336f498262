/*-------------------------------------------------------------------------
 *
 * dispatch_order.h
 *	  Waiting dispatches that go out in order: those of one webhook and one
 *	  order_key are a lane, and stand in it by their events' ids.
 *
 * All of it runs between work_begin() and work_commit().
 *
 * IDENTIFICATION
 *	  src/store/dispatch_order.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DISPATCH_ORDER_H
#define WEBHOOK_DISPATCH_ORDER_H

#include "store/dispatch_rows.h"

/* Lanes, and a place in each, as parameters of statements. */
typedef struct LaneList
{
	int			count;
	ArrayParameter webhook_ids;
	ArrayParameter order_keys;
	ArrayParameter event_ids;
	ArrayParameter ids;
} LaneList;

/* Makes it empty. */
extern void lane_list_init(LaneList *list);

/* Adds a lane and the place behind this event and dispatch; empty: its start. */
extern void lane_list_add(LaneList *list, const char *webhook_id,
						  const char *order_key, const char *event_id,
						  const char *id);

/*
 * The first rows of each lane behind its place, at most so many of each, lane by
 * lane and in order.  Returns how many there are.  Uses the list up.
 */
extern int	lanes_find_first(LaneList *list, int limit, DueRow **rows);

/* Are there any lanes in the table? */
extern bool lanes_exist(void);

/*
 * The lanes behind this one, in order of key and webhook, at most "limit"; each is
 * added to the list, from its start.  Returns how many; the last one is copied to
 * "webhook_id" and, palloc'd, to "*order_key".
 */
extern int	lanes_find_next(Id webhook_id, char **order_key, int limit,
							LaneList *list);

/* Rows that hold others back longer than until this time, at most "limit". */
extern int	lanes_find_overdue(TimestampTz until, int limit, DueRow **rows);

/* When the first one does that holds until after this time; DT_NOEND for never. */
extern TimestampTz lanes_next_overdue(TimestampTz after);

/* Takes the key from rows (text[] of ids), the least and the greatest of which these are. */
extern void lanes_let_pass(Datum ids, const char *least, const char *greatest);

#endif							/* WEBHOOK_DISPATCH_ORDER_H */
