/*-------------------------------------------------------------------------
 *
 * cursor.h
 *	  Reading the outbox: every committed event once, whatever the order in
 *	  which transactions commit.
 *
 * A window is what one snapshot sees and an earlier one did not.  Windows
 * follow each other without a gap; within one, events come in the order of
 * (xid, id).  A place in a window is a mark, and the marks that were written
 * down are the rows of the table cursors.
 *
 * All of it runs between work_begin() and work_commit().
 *
 * IDENTIFICATION
 *	  src/store/cursor.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CURSOR_H
#define WEBHOOK_CURSOR_H

#include "rules/webhook.h"
#include "store/statement.h"

/* How far the outbox was read. */
typedef struct CursorMark CursorMark;

/* Forgets what is in memory; the next read starts at the last written mark. */
extern void cursor_reset(void);

/*
 * Reads on: at most "limit" events, and no more once their resources exceed
 * "max_bytes".  events[] has room for "limit"; the events and all they point
 * to are allocated in "context".  Returns how many there are; 0 means that
 * nothing is left for now.  A worker that ended before its marks were written
 * may have routed them already.
 */
extern int	cursor_read(MemoryContext context, int limit, size_t max_bytes,
						Event **events);

/*
 * Has all been taken that was committed before the reset?  What an earlier worker
 * had read is among that.
 */
extern bool cursor_has_caught_up(void);

/* How many windows were opened since the reset; and is the last one done? */
extern int	cursor_windows(void);
extern bool cursor_window_is_done(void);

/*
 * Can there be nothing to read?  Needs no transaction.  False when some
 * transaction of any database has begun to write since the last read.
 */
extern bool cursor_is_at_end(void);

/*
 * Takes the first "count", at least one, of the events that were read last: the
 * next read starts behind them.  Returns the mark of that place, to be freed
 * with cursor_mark_free().
 */
extern CursorMark *cursor_take(Event **events, int count);

/*
 * The next transaction in the window, behind that of the last event that was taken;
 * PG_UINT64_MAX if there is none, 0 if that is not known.
 */
extern uint64 cursor_next_xid(void);

/*
 * Moves on behind the next event without reading more of it than its id, which may be
 * the only thing that can be read.  NULL if there is none.
 */
extern CursorMark *cursor_skip(Id id);

/* Writes a mark down: all before it is done. */
extern void cursor_write(const CursorMark *mark);

/* Frees a mark; harmless for NULL. */
extern void cursor_mark_free(CursorMark *mark);

#endif							/* WEBHOOK_CURSOR_H */
