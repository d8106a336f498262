/*-------------------------------------------------------------------------
 *
 * wal.c
 *	  What must be on disk, and when.
 *
 * IDENTIFICATION
 *	  src/server/wal.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "server/clock.h"
#include "server/shared.h"
#include "server/wal.h"
#include "utils/timestamp.h"

/* So long a commit waits to be flushed along with others, in microseconds. */
#define FLUSH_TIME 20000

/* How many asynchronous commits had ended when all was flushed; none at first. */
static uint64 flushed_number = PG_UINT64_MAX;

static XLogRecPtr flushed_commit = InvalidXLogRecPtr;
static TimestampTz flush_at = DT_NOEND;

/*
 * Right behind a page's header nothing was inserted yet, so nothing can be
 * flushed.
 */
static void
flush_inserted(void)
{
	XLogRecPtr	upto = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(upto, wal_segment_size) == SizeOfXLogLongPHD)
		upto -= SizeOfXLogLongPHD;
	else if (upto % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		upto -= SizeOfXLogShortPHD;
	XLogFlush(upto);
}

void
wal_flush_seen(void)
{
	uint64		number;
	bool		under_way = shared_async_commits(&number);

	if (!under_way && number == flushed_number)
		return;
	flush_inserted();
	flushed_number = number;
}

void
wal_note_commit(void)
{
	if (XactLastCommitEnd > flushed_commit && flush_at == DT_NOEND)
		flush_at = clock_work_time() + FLUSH_TIME;
}

TimestampTz
wal_deadline(void)
{
	return flush_at;
}

void
wal_flush_commits(void)
{
	if (flush_at == DT_NOEND)
		return;
	flushed_commit = XactLastCommitEnd;
	XLogFlush(flushed_commit);
	flush_at = DT_NOEND;
}
