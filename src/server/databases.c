/*-------------------------------------------------------------------------
 *
 * databases.c
 *	  Which databases get a slot, for a worker of their own.
 *
 * Only a worker can see whether its database has the extension, so each
 * database gets one at first.  Those without are remembered, until CREATE
 * EXTENSION announces itself.
 *
 * IDENTIFICATION
 *	  src/server/databases.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "server/databases.h"
#include "server/settings.h"
#include "server/shared.h"
#include "server/slots.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

static HTAB *absent;			/* databases that lack the extension */

void
databases_forget_absent(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(Oid),
		.hcxt = TopMemoryContext
	};

	if (absent)
		hash_destroy(absent);
	absent = hash_create("webhook_events absent", 32, &control,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Takes what CREATE EXTENSION announced. */
static void
take_announced(void)
{
	Oid			announced[MAX_ANNOUNCED];
	int			count;

	if (shared_take_announced(announced, &count))
		databases_forget_absent();
	for (int i = 0; i < count; i++)
		hash_search(absent, &announced[i], HASH_REMOVE, NULL);
}

static bool
has_name(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/*
 * Logs names in webhook_events.databases that are no database's, when they are news.  Who is
 * connected to no database can scan the catalog, and not always use its indexes.
 */
static void
log_unknown_databases(List *databases)
{
	static char *told = NULL;
	StringInfoData unknown;
	ListCell   *cell;

	initStringInfo(&unknown);
	foreach(cell, settings_database_names())
	{
		const char *name = lfirst(cell);

		if (strcmp(name, "*") != 0 && !has_name(databases, name))
			appendStringInfo(&unknown, "%s\"%s\"", unknown.len > 0 ? ", " : "", name);
	}
	if (unknown.len > 0 && (told == NULL || strcmp(told, unknown.data) != 0))
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_DATABASE),
				 errmsg("there is no database %s, which webhook_events.databases names",
						unknown.data)));
	if (told != NULL)
		pfree(told);
	told = MemoryContextStrdup(TopMemoryContext, unknown.data);
}

/* The databases that could have the extension and may be worked for. */
static List *
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	List	   *names = NIL;
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old_context;

		names = lappend(names, pstrdup(NameStr(form->datname)));
		if (form->datistemplate || !form->datallowconn ||
			form->datconnlimit == DATCONNLIMIT_INVALID_DB ||
			!settings_name_database(NameStr(form->datname)))
			continue;
		old_context = MemoryContextSwitchTo(context);
		databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(old_context);
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	log_unknown_databases(names);
	CommitTransactionCommand();

	/*
	 * Up to PostgreSQL 16 that leaves us in TopMemoryContext, which nobody
	 * resets.
	 */
	MemoryContextSwitchTo(context);
	return databases;
}

bool
databases_retire_absent(void)
{
	bool		again = false;

	for (int i = 0; i < shared_slot_count(); i++)
	{
		Oid			database;
		TimestampTz next_start_at;

		if (shared_slot_state(i, &database, &next_start_at) != SLOT_ABSENT)
			continue;
		if (shared_slot_announced(i))
			again = true;
		else
			hash_search(absent, &database, HASH_ENTER, NULL);
		shared_slot_retire(i);
	}
	return again;
}

void
databases_assign_slots(void)
{
	static bool shortage_is_logged = false;
	List	   *databases;
	List	   *assigned = NIL;
	ListCell   *cell;

	take_announced();
	databases = list_databases();
	for (int i = 0; i < shared_slot_count(); i++)
	{
		Oid			database;
		TimestampTz next_start_at;
		SlotState	state = shared_slot_state(i, &database, &next_start_at);

		if (state == SLOT_FREE)
			continue;
		if (!list_member_oid(databases, database))
			shared_slot_retire(i);
		else
		{
			shared_slot_keep(i);
			assigned = lappend_oid(assigned, database);
		}
	}
	foreach(cell, databases)
	{
		Oid			database = lfirst_oid(cell);

		if (!list_member_oid(assigned, database) &&
			hash_search(absent, &database, HASH_FIND, NULL) == NULL &&
			shared_slot_allocate(database) < 0 && !shortage_is_logged)
		{
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("webhook_events can't deliver for more than %d databases",
							shared_slot_count()),
					 errhint("Name those that need it in webhook_events.databases.")));
			shortage_is_logged = true;
		}
	}
}
