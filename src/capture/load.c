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
 * IDENTIFICATION
 *	  src/capture/load.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "capture/load.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_subscription_rel.h"
#include "replication/worker_internal.h"
#include "utils/guc.h"
#include "utils/relcache.h"

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
