/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Rows that are not new, though they are inserted.
 *
 * A whole dump makes triggers after it has loaded the rows.  If the schema was
 * restored on its own the triggers are there already.  What pg_dump writes and
 * pg_restore runs starts with the same settings in all supported versions, of which
 * two together are those of nobody else: bodies of functions are not checked,
 * and search_path is empty.  The name of the application says nothing: a script is
 * run by psql.
 *
 * A subscription copies the rows that a table has in a process of its own, in
 * which later the changes follow that were made meanwhile.
 *
 * Citus makes tables of its own, shards, of one that is distributed, gives them its
 * triggers and copies its rows, all in one transaction on each node.
 *
 * TimescaleDB does so on one server, if it is to take over a table that has rows:
 * copies them into chunks and empties the table, in which from then on nothing is ever
 * inserted.
 *
 * IDENTIFICATION
 *	  src/capture/load.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "capture/load.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_subscription_rel.h"
#include "replication/worker_internal.h"
#include "storage/bufmgr.h"
#include "utils/guc.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

static bool
is_restoring(void)
{
	return !check_function_bodies && namespace_search_path != NULL &&
		namespace_search_path[0] == '\0';
}

static bool
is_initial_copy(void)
{
	return MyLogicalRepWorker != NULL &&
		OidIsValid(MyLogicalRepWorker->relid) &&
		MyLogicalRepWorker->relstate == SUBREL_STATE_DATASYNC;
}

static bool
is_new(Oid oid)
{
	Relation	relation = RelationIdGetRelation(oid);
	bool		result = false;

	if (RelationIsValid(relation))
	{
		result = (relation->rd_createSubid != InvalidSubTransactionId);
		RelationClose(relation);
	}
	return result;
}

bool
load_is_distribution(Relation relation)
{
	Oid			root = RelationGetRelid(relation);

	/* Most tables are older, and most servers have no such setting. */
	if (relation->rd_createSubid == InvalidSubTransactionId ||
		GetConfigOption("citus.enable_unsafe_triggers", true, false) == NULL)
		return false;
	if (relation->rd_rel->relispartition)
		root = llast_oid(get_partition_ancestors(root));
	return is_new(root);
}

/* Has a table itself a row that anybody can see by now? */
static bool
has_rows(Relation relation)
{
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	bool		found;

	if (RelationGetNumberOfBlocks(relation) == 0)
		return false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	slot = table_slot_create(relation, NULL);
	scan = table_beginscan_strat(relation, snapshot, 0, NULL, true, false);
	found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	return found;
}

/* The answer holds for a command: rows of which nobody sees any are looked through once. */
static bool
had_rows(Oid oid)
{
	static Oid	looked_at = InvalidOid;
	static TransactionId transaction = InvalidTransactionId;
	static CommandId command = InvalidCommandId;
	static bool result = false;
	Relation	relation;

	if (looked_at == oid && transaction == GetTopTransactionIdIfAny() &&
		command == GetCurrentCommandId(false))
		return result;
	relation = try_table_open(oid, AccessShareLock);
	if (relation == NULL)
		return false;
	result = relation->rd_rel->relkind == RELKIND_RELATION && has_rows(relation);
	table_close(relation, NoLock);
	looked_at = oid;
	transaction = GetTopTransactionIdIfAny();
	command = GetCurrentCommandId(false);
	return result;
}

bool
load_is_migration(Relation relation, Oid attached)
{
	return relation->rd_createSubid != InvalidSubTransactionId &&
		GetConfigOption("timescaledb.license", true, false) != NULL &&
		has_superclass(RelationGetRelid(relation)) &&
		get_partition_parent(RelationGetRelid(relation), true) == attached &&
		had_rows(attached);
}

bool
load_is_copy(Relation relation)
{
	static bool was_told = false;

	if (is_initial_copy())
		return true;
	if (!is_restoring())
		return false;
	if (!was_told)
		ereport(WARNING,
				(errmsg("rows that are restored to table \"%s\" raise no events",
						RelationGetRelationName(relation)),
				 errdetail("The session has the settings of a dump: check_function_bodies is off and search_path is empty.")));
	was_told = true;
	return true;
}
