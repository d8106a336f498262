/*-------------------------------------------------------------------------
 *
 * outbox_rows.h
 *	  Events back from the outbox.
 *
 * IDENTIFICATION
 *	  src/store/outbox_rows.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_OUTBOX_ROWS_H
#define WEBHOOK_OUTBOX_ROWS_H

#include "rules/webhook.h"
#include "store/long_text.h"
#include "store/statement.h"
#include "utils/xid8.h"

/* What a statement selects from the outbox "o", for the functions below. */
#define OUTBOX_COLUMNS \
	"o.id, o.created_at, o.xid, o.event_type::text, o.user_id, o.actor_id," \
	" o.actor_task_id, o.actor_run_id, o.actor_build_id, o.webhook_id," \
	" o.resource, o.problem IS NOT NULL AS has_problem, o.next_xid"

/*
 * A resource that is longer than this is left in its table: it takes its time to be
 * read, and memory, and nobody may want it.
 */
#define OUTBOX_LONG_RESOURCE (256 * 1024)

/* Was an event's resource left there? */
static inline bool
outbox_left_resource(const Event *event)
{
	return event->resource == NULL && event->resource_length > 0;
}

/* A transaction's id, of type xid8. */
static inline uint64
datum_xid(Datum value)
{
	return U64FromFullTransactionId(DatumGetFullTransactionId(value));
}

/*
 * From a row of the statement that was run last: its event, allocated in "context" with
 * all that it points to, but not a long resource; its id, the whole of it read or not;
 * its transaction's id.
 */
extern Event *outbox_row_event(MemoryContext context, uint64 row);
extern void outbox_row_id(uint64 row, Id id);
extern uint64 outbox_row_xid(uint64 row);

/*
 * Finds events by their ids: events[i] is that of ids[i], allocated in
 * "context", or NULL if it is not there.  Stops when the resources that were read
 * exceed "max_bytes", and returns how many of the ids it got through, at least one.
 */
extern int	outbox_find(MemoryContext context, const char **ids, int nids,
						size_t max_bytes, Event **events);

/* Bytes of its resource that an event has in memory. */
static inline size_t
outbox_bytes_read(const Event *event)
{
	return event->resource ? event->resource_length : 0;
}

/*
 * Reads the resource of an event that was left in its table into "context", and sets it.
 * False if the event is not there any more.
 */
extern bool outbox_read_resource(MemoryContext context, Event *event);

/*
 * Reads more of the resource of the event with this id, as long_text_read() does, and sets
 * *is_all when that was the last of it; of SQL's NULL there are no data.  False if the event is
 * not there.
 */
extern bool outbox_read_more(const char *id, LongText *resource, size_t budget, bool *is_all);

#endif							/* WEBHOOK_OUTBOX_ROWS_H */
