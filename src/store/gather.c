/*-------------------------------------------------------------------------
 *
 * gather.c
 *	  Lists from the rows of small tables and catalogs.
 *
 * IDENTIFICATION
 *	  src/store/gather.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "miscadmin.h"
#include "store/gather.h"
#include "utils/rel.h"

List *
gather_rows(Oid table, Snapshot snapshot,
			void (*add) (HeapTuple row, TupleDesc desc, List **list))
{
	List	   *list = NIL;
	Relation	relation = table_open(table, AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		add(row, RelationGetDescr(relation), &list);
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return list;
}
