/*-------------------------------------------------------------------------
 *
 * page_ranges.c
 *	  What BRIN indexes know of ranges of a table's pages.
 *
 * PostgreSQL asks a BRIN index about all ranges at once, and has then read all of it.  Who knows
 * which ranges matter, and when there is enough, asks for one after the other.
 *
 * IDENTIFICATION
 *	  src/store/page_ranges.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/brin.h"
#include "access/brin_internal.h"
#include "access/brin_revmap.h"
#include "access/brin_tuple.h"
#include "access/genam.h"
#include "access/skey.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "storage/bufmgr.h"
#include "store/page_ranges.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

struct PageRanges
{
	MemoryContext context;		/* of what is read of one range */
	Relation	index;
	Snapshot	snapshot;
	BrinDesc   *desc;
	BrinRevmap *map;
	BlockNumber size;
	Buffer		buffer;			/* the page that was read last */
	BrinMemTuple *summary;
};

PageRanges *
page_ranges_open(Oid index, Snapshot snapshot)
{
	PageRanges *ranges = palloc0(sizeof(PageRanges));

	ranges->context = AllocSetContextCreate(CurrentMemoryContext,
											"webhook_events page range",
											ALLOCSET_SMALL_SIZES);
	ranges->index = index_open(index, AccessShareLock);
	ranges->snapshot = snapshot;
	ranges->desc = brin_build_desc(ranges->index);
	ranges->map = open_revmap(ranges->index, &ranges->size, snapshot);
	ranges->buffer = InvalidBuffer;
	ranges->summary = brin_new_memtuple(ranges->desc);
	return ranges;
}

void
page_ranges_close(PageRanges *ranges)
{
	if (BufferIsValid(ranges->buffer))
		ReleaseBuffer(ranges->buffer);
	brinRevmapTerminate(ranges->map);
	brin_free_desc(ranges->desc);
	index_close(ranges->index, AccessShareLock);
	MemoryContextDelete(ranges->context);
	pfree(ranges);
}

BlockNumber
page_ranges_size(const PageRanges *ranges)
{
	return ranges->size;
}

/* The summary of a block's range, until the next call; NULL if it has none. */
static BrinMemTuple *
read_summary(PageRanges *ranges, BlockNumber block)
{
	MemoryContext old_context;
	BrinTuple  *tuple;
	OffsetNumber offset;
	Size		size;

	MemoryContextReset(ranges->context);
	old_context = MemoryContextSwitchTo(ranges->context);
	tuple = read_range(ranges->map, block - block % ranges->size, &ranges->buffer, &offset, &size,
					   ranges->snapshot);
	if (tuple != NULL)
	{
		Size		copied = 0;

		tuple = brin_copy_tuple(tuple, size, NULL, &copied);
		LockBuffer(ranges->buffer, BUFFER_LOCK_UNLOCK);
		ranges->summary = brin_deform_tuple(ranges->desc, tuple, ranges->summary);
	}
	MemoryContextSwitchTo(old_context);
	return tuple == NULL || ranges->summary->bt_placeholder ? NULL : ranges->summary;
}

/* A column of a summary; NULL if it has no values. */
static BrinValues *
values_of(BrinMemTuple *summary, int column)
{
	BrinValues *values = &summary->bt_columns[column - 1];

	return summary->bt_empty_range || values->bv_allnulls ? NULL : values;
}

RangeContents
page_ranges_bounds(PageRanges *ranges, int column, BlockNumber block, Datum *least,
				   Datum *greatest)
{
	BrinMemTuple *summary = read_summary(ranges, block);
	BrinValues *values;

	if (summary == NULL)
		return RANGE_UNKNOWN;
	values = values_of(summary, column);
	if (values == NULL)
		return RANGE_EMPTY;
	*least = datumCopy(values->bv_values[0], false, -1);
	*greatest = datumCopy(values->bv_values[1], false, -1);
	return RANGE_BOUNDED;
}

bool
page_ranges_may_have(PageRanges *ranges, int column, BlockNumber block, Datum value)
{
	BrinMemTuple *summary = read_summary(ranges, block);
	BrinValues *values;
	Oid			collation = ranges->index->rd_indcollation[column - 1];
	ScanKeyData key;
	ScanKey		keys[1] = {&key};
	MemoryContext old_context;
	bool		may_have;

	if (summary == NULL)
		return true;
	values = values_of(summary, column);
	if (values == NULL)
		return false;
	ScanKeyEntryInitialize(&key, 0, (AttrNumber) column, 1, TEXTOID, collation, F_TEXTEQ, value);
	old_context = MemoryContextSwitchTo(ranges->context);
	may_have = DatumGetBool(FunctionCall4Coll(index_getprocinfo(ranges->index, (AttrNumber) column,
																BRIN_PROCNUM_CONSISTENT),
											  collation, PointerGetDatum(ranges->desc),
											  PointerGetDatum(values), PointerGetDatum(keys),
											  Int32GetDatum(1)));
	MemoryContextSwitchTo(old_context);
	return may_have;
}
