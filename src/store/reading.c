/*-------------------------------------------------------------------------
 *
 * reading.c
 *	  Reading a table of ours in the order of an index, without a statement.
 *
 * IDENTIFICATION
 *	  src/store/reading.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_am.h"
#include "miscadmin.h"
#include "store/reading.h"
#include "utils/snapmgr.h"

Relation
reading_open_index(Relation table, AttrNumber first, AttrNumber second, bool is_partial)
{
	List	   *oids = RelationGetIndexList(table);
	Relation	found = NULL;
	ListCell   *cell;

	foreach(cell, oids)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (index->rd_rel->relam == BTREE_AM_OID && form->indisvalid &&
			form->indkey.values[0] == first &&
			(second == InvalidAttrNumber ||
			 (form->indnkeyatts > 1 && form->indkey.values[1] == second)) &&
			!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) == is_partial)
		{
			found = index;
			break;
		}
		index_close(index, AccessShareLock);
	}
	list_free(oids);
	return found;
}

Reading
reading_begin(Relation table, Relation index, int nkeys, ScanKey keys)
{
	Reading		reading = {.index = index};

	reading.scan = index != NULL ?
		systable_beginscan_ordered(table, index, GetActiveSnapshot(), nkeys, keys) :
		systable_beginscan(table, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	return reading;
}

HeapTuple
reading_next(Reading *reading, ScanDirection direction)
{
	CHECK_FOR_INTERRUPTS();
	return reading->index != NULL ?
		systable_getnext_ordered(reading->scan, direction) :
		systable_getnext(reading->scan);
}

void
reading_end(Reading *reading)
{
	if (reading->index != NULL)
		systable_endscan_ordered(reading->scan);
	else
		systable_endscan(reading->scan);
}

HeapTuple
reading_newest(Relation table)
{
	Relation	index = reading_open_index(table, 1, InvalidAttrNumber, false);
	Reading		reading = reading_begin(table, index, 0, NULL);
	int64		greatest = PG_INT64_MIN;
	HeapTuple	newest = NULL;
	HeapTuple	row;

	while (HeapTupleIsValid(row = reading_next(&reading, BackwardScanDirection)))
	{
		bool		isnull;
		int64		number = DatumGetInt64(heap_getattr(row, 1, RelationGetDescr(table), &isnull));

		if (number <= greatest)
			continue;
		greatest = number;
		newest = heap_copytuple(row);
		if (index != NULL)
			break;
	}
	reading_end(&reading);
	if (index != NULL)
		index_close(index, AccessShareLock);
	return newest;
}
