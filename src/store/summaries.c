/*-------------------------------------------------------------------------
 *
 * summaries.c
 *	  Which ranges of a table's pages a BRIN index has a summary of.
 *
 * A BRIN index has nothing to do for a row in a range that has none, and new rows are
 * nearly all behind those that have one.  To be told of each of them costs it
 * thousands of instructions: it is opened and locked, its first page is read and then
 * that of its map.  Here the one page that matters is looked at where it was
 * the last time, without a lock on the index or on the page: all that we want of it are numbers
 * that are read at once.
 *
 * That is safe because who makes a summary says so in the map first and reads the table then,
 * under locks of pages.  A row that is in the table before we look at the map, in which
 * there is nothing, is seen by that reading.  An index can be moved to another file without a lock on
 * its table, by ALTER INDEX ... SET TABLESPACE.  It is told to everybody before the other
 * file can be written; so if we hear of nothing between the row and the look, all
 * summaries in the other file are begun after the row, too.
 *
 * IDENTIFICATION
 *	  src/store/summaries.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/brin.h"
#include "access/brin_page.h"
#include "access/genam.h"
#include "catalog/pg_am.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/bufmgr.h"
#include "store/relation_cache.h"
#include "store/summaries.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/rel.h"

/* A page, and in which buffer it was. */
typedef struct Seen
{
	BlockNumber block;
	Buffer		buffer;			/* InvalidBuffer: not known */
} Seen;

struct Summaries
{
	CachedRelation cached;
	FileLocator file;
	bool		wants_all;		/* it isn't a BRIN index, or one that
								 * summarizes itself, or one that is being
								 * made and may have no pages yet */
	BlockNumber range_pages;
	BlockNumber last_map;		/* the map's last page; it never gets shorter */
	Seen		meta;
	Seen		map;
};

static HTAB *known = NULL;

/* Pins a page of the index. */
static Buffer
read_page(Summaries *summaries, Seen *seen, BlockNumber block)
{
	Buffer		buffer = seen->buffer;
	Relation	index;

	if (seen->block != block || !BufferIsValid(buffer) ||
		!ReadRecentBuffer(summaries->file, MAIN_FORKNUM, block, buffer))
	{
		index = index_open(summaries->cached.relation, RowExclusiveLock);
		buffer = ReadBuffer(index, block);
		index_close(index, NoLock);
		*seen = (Seen)
		{
			.block = block, .buffer = buffer
		};
	}
	return buffer;
}

static void
read_meta(Summaries *summaries)
{
	Buffer		buffer = read_page(summaries, &summaries->meta, BRIN_METAPAGE_BLKNO);
	BrinMetaPageData *meta = (BrinMetaPageData *) PageGetContents(BufferGetPage(buffer));

	summaries->range_pages = meta->pagesPerRange;
	summaries->last_map = meta->lastRevmapPage;
	ReleaseBuffer(buffer);
}

/* Finds out anew what may have changed with the index. */
static void
learn(Summaries *summaries)
{
	Relation	index = index_open(summaries->cached.relation, RowExclusiveLock);

	summaries->file = relation_file(index);
	summaries->meta.buffer = InvalidBuffer;
	summaries->map.buffer = InvalidBuffer;
	summaries->wants_all = index->rd_rel->relam != BRIN_AM_OID ||
		BrinGetAutoSummarize(index) || !index->rd_index->indisready;
	if (!summaries->wants_all)
		read_meta(summaries);
	summaries->cached.is_valid = true;
	index_close(index, NoLock);
}

Summaries *
summaries_of(Oid index)
{
	Summaries  *summaries;
	bool		found;

	if (known == NULL)
		known = relation_cache_create("webhook_events BRIN indexes", sizeof(Summaries));
	summaries = hash_search(known, &index, HASH_ENTER, &found);
	if (!found)
		summaries->cached.is_valid = false;
	if (!summaries->cached.is_valid)
		learn(summaries);
	return summaries->wants_all ? NULL : summaries;
}

void
summaries_look(void)
{
	AcceptInvalidationMessages();
	pg_memory_barrier();
}

bool
summaries_have(Summaries *summaries, BlockNumber block)
{
	BlockNumber range;
	BlockNumber page;
	Buffer		buffer;
	RevmapContents *map;
	bool		has;

	if (!summaries->cached.is_valid)
		learn(summaries);
	if (summaries->wants_all)
		return true;
	range = block / summaries->range_pages;
	page = range / REVMAP_PAGE_MAXITEMS + 1;
	if (page > summaries->last_map)
		read_meta(summaries);
	if (page > summaries->last_map)
		return false;
	buffer = read_page(summaries, &summaries->map, page);
	map = (RevmapContents *) PageGetContents(BufferGetPage(buffer));
	has = ItemPointerIsValid(&map->rm_tids[range % REVMAP_PAGE_MAXITEMS]);
	ReleaseBuffer(buffer);
	return has;
}

PG_FUNCTION_INFO_V1(webhook_events_summarize);

/*
 * summarize(index regclass, pages bigint) RETURNS bigint
 *
 * Has a BRIN index summarize ranges that have no summary yet, among the first pages of its
 * table; returns how many.
 */
Datum
webhook_events_summarize(PG_FUNCTION_ARGS)
{
	Oid			index = PG_GETARG_OID(0);
	int64		pages = Min(PG_GETARG_INT64(1), MaxBlockNumber);
	Summaries  *summaries = summaries_of(index);
	int64		done = 0;

	for (int64 block = 0; summaries != NULL && block + summaries->range_pages <= pages;
		 block += summaries->range_pages)
	{
		CHECK_FOR_INTERRUPTS();
		if (!summaries_have(summaries, (BlockNumber) block))
			done += DatumGetInt32(DirectFunctionCall2(brin_summarize_range,
													  ObjectIdGetDatum(index),
													  Int64GetDatum(block)));
	}
	PG_RETURN_INT64(done);
}
