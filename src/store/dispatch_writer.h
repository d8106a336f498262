/*-------------------------------------------------------------------------
 *
 * dispatch_writer.h
 *	  The tables dispatches and calls, written in batches.
 *
 * All of it runs between work_begin() and work_commit().
 *
 * IDENTIFICATION
 *	  src/store/dispatch_writer.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DISPATCH_WRITER_H
#define WEBHOOK_DISPATCH_WRITER_H

#include "store/call_result.h"
#include "store/dispatch_rows.h"

/* A row of dispatches; times are 0 and strings NULL for SQL's NULL. */
typedef struct DispatchRow
{
	const char *id;
	const char *event_id;
	const char *webhook_id;
	const char *user_id;
	EventType	event_type;
	DispatchStatus status;
	TimestampTz created_at;
	TimestampTz finished_at;
	int			attempts;
	TimestampTz next_attempt_at;
	const char *error_message;
	const char *order_key;		/* of an inserted row */
	TimestampTz holds_until;	/* 0 of a changed row leaves it */
	int			epoch;			/* of an inserted row */
	const CallResult *call;		/* its last one, if its row is written as
								 * well; NULL: it had none, or that is not
								 * known */
	bool		is_passed;		/* of a changed row: has no order_key any more */
	RowPlace   *place;			/* of an inserted row, set when that is done;
								 * of a changed one, where it was seen; or
								 * NULL */
} DispatchRow;

/* Rows to be written together; allocated in CurrentMemoryContext. */
typedef struct DispatchWriter DispatchWriter;

/* One with no rows; and adds the row of a new dispatch to it. */
extern DispatchWriter *dispatch_writer_create(void);
extern void dispatch_writer_insert(DispatchWriter *writer,
								   const DispatchRow *row);

/* What became of a row that was to be changed. */
typedef enum RowFate
{
	ROW_WRITTEN,
	ROW_LOCKED,					/* by somebody, so it was left alone */
	ROW_ELSEWHERE				/* not where it was seen, or not ACTIVE any
								 * more */
} RowFate;

/*
 * Of a row that is ACTIVE, changes status, times, attempts and error, and the order as
 * said.  Rows that are elsewhere are looked for, and written where they can be,
 * by dispatch_writer_find_locked(), to be called after all updates: it returns the ids
 * (char *) of those that are locked.  What nobody finds ACTIVE was ended by others; if it is
 * FAILED with fewer attempts they did not know of this call: then a success or the last failure is
 * written, and of a call that was to be made again only that it was made.
 */
extern RowFate dispatch_writer_update(DispatchWriter *writer,
									  const DispatchRow *row);
extern List *dispatch_writer_find_locked(DispatchWriter *writer);

/* Adds the row of a dispatch's call of this number; in a transaction. */
extern void dispatch_writer_call(DispatchWriter *writer, const char *dispatch_id,
								 int attempt, const CallResult *call);

/* Writes what was added, and ends the writer.  In a transaction; raises what writing rows raises. */
extern void dispatch_writer_execute(DispatchWriter *writer);

#endif							/* WEBHOOK_DISPATCH_WRITER_H */
