/*-------------------------------------------------------------------------
 *
 * reading.h
 *	  Reading a table of ours in the order of an index, without a statement.
 *
 * IDENTIFICATION
 *	  src/store/reading.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_READING_H
#define WEBHOOK_READING_H

#include "access/genam.h"
#include "access/skey.h"
#include "utils/rel.h"

typedef struct Reading
{
	Relation	index;			/* NULL: there is none, all rows are read */
	SysScanDesc scan;
} Reading;

/*
 * Opens the index that begins with these columns, the second of which may be
 * InvalidAttrNumber, partial or not.  NULL if an operator has dropped it.  The caller
 * closes it, once the reading has ended.
 */
extern Relation reading_open_index(Relation table, AttrNumber first, AttrNumber second,
								   bool is_partial);

/*
 * Reads what the active snapshot sees: by the index, in its order, the rows that meet
 * the keys; or without one all rows, in no order, so that the caller looks at each in
 * both cases.  A row is good until the next one is read.
 */
extern Reading reading_begin(Relation table, Relation index, int nkeys, ScanKey keys);
extern HeapTuple reading_next(Reading *reading, ScanDirection direction);
extern void reading_end(Reading *reading);

/*
 * A copy of the row with the greatest number in the first column, a bigint, of those that
 * the active snapshot sees; NULL if there is none.  Of old rows few are alive, but the dead
 * ones are as many as an old transaction has let become: so an index leads to the newest.
 */
extern HeapTuple reading_newest(Relation table);

#endif							/* WEBHOOK_READING_H */
