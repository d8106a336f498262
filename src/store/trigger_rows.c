/*-------------------------------------------------------------------------
 *
 * trigger_rows.c
 *	  Rows of pg_trigger, by trigger, table and function.
 *
 * IDENTIFICATION
 *	  src/store/trigger_rows.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "store/trigger_rows.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

HeapTuple
trigger_row(Oid trigger, Snapshot snapshot)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, snapshot, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
		row = heap_copytuple(row);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return row;
}

List *
trigger_rows(Oid relation, bool (*is_wanted) (const FormData_pg_trigger *form))
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	bool		is_one = OidIsValid(relation);
	List	   *rows = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, is_one, NULL, is_one ? 1 : 0,
							  &key);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		if (is_wanted(trigger_form(row)))
			rows = lappend(rows, heap_copytuple(row));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return rows;
}

List *
triggers_calling(Oid function)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	List	   *triggers = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ProcedureRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(function));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(row);

		CHECK_FOR_INTERRUPTS();
		if (form->classid == TriggerRelationId)
			triggers = lappend_oid(triggers, form->objid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return triggers;
}

bytea *
trigger_arguments(HeapTuple row)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	bool		isnull;
	Datum		arguments = heap_getattr(row, Anum_pg_trigger_tgargs,
										 RelationGetDescr(catalog), &isnull);

	table_close(catalog, AccessShareLock);
	return DatumGetByteaPP(arguments);
}
