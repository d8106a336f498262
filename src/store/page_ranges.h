/*-------------------------------------------------------------------------
 *
 * page_ranges.h
 *	  What BRIN indexes know of ranges of a table's pages.
 *
 * IDENTIFICATION
 *	  src/store/page_ranges.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PAGE_RANGES_H
#define WEBHOOK_PAGE_RANGES_H

#include "storage/block.h"
#include "utils/snapshot.h"

/* A BRIN index that is read. */
typedef struct PageRanges PageRanges;

/* What a range of pages has of a column of text. */
typedef enum RangeContents
{
	RANGE_UNKNOWN,				/* anything: it has no summary */
	RANGE_EMPTY,				/* no value */
	RANGE_BOUNDED				/* only values between bounds */
} RangeContents;

/*
 * Opens an index until page_ranges_close() or the end of the transaction, in the current memory
 * context.  Others may write meanwhile: what "snapshot" sees of pages that the table had before is
 * never left out.
 */
extern PageRanges *page_ranges_open(Oid index, Snapshot snapshot);
extern void page_ranges_close(PageRanges *ranges);

/* How many pages a range has. */
extern BlockNumber page_ranges_size(const PageRanges *ranges);

/*
 * What the range of a block has in a column of the index, numbered from 1, that has a minimum
 * and a maximum.  These are copied into the current memory context if there are any.
 */
extern RangeContents page_ranges_bounds(PageRanges *ranges, int column, BlockNumber block,
										Datum *least, Datum *greatest);

/* Could the range of a block have this text in a column that has Bloom filters? */
extern bool page_ranges_may_have(PageRanges *ranges, int column, BlockNumber block,
								 Datum value);

#endif							/* WEBHOOK_PAGE_RANGES_H */
