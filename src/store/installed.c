/*-------------------------------------------------------------------------
 *
 * installed.c
 *	  Do the library and the extension's SQL in this database fit?
 *
 * After an upgrade of the package the library is newer than the tables until
 * somebody runs ALTER EXTENSION.
 *
 * IDENTIFICATION
 *	  src/store/installed.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "store/installed.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

bool
installed_version_fits(void)
{
	Relation	catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		fits = false;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("webhook_events"));
	scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion,
										   RelationGetDescr(catalog), &isnull);

		fits = !isnull &&
			strcmp(TextDatumGetCString(version), EXTENSION_VERSION) == 0;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return fits;
}

void
installed_check_version(void)
{
	if (!installed_version_fits())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"webhook_events\" is not of version %s as its library is",
						EXTENSION_VERSION),
				 errhint("Run ALTER EXTENSION webhook_events UPDATE.")));
}
