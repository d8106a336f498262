/*-------------------------------------------------------------------------
 *
 * partition_keys.c
 *	  What partitioned tables' keys would have our owner call.
 *
 * IDENTIFICATION
 *	  src/sql/partition_keys.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_partitioned_table.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "sql/partition_keys.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

/* Could somebody who is no superuser have written this function? */
static bool
is_others_function(Oid function, void *others)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	if (superuser_arg(owner))
		return false;
	*(Oid *) others = function;
	return true;
}

static bool
calls_others_function(Node *node, void *function)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, is_others_function, function) ||
		expression_tree_walker(node, calls_others_function, function);
}

/* A function of somebody else's that a partitioned table's key calls; InvalidOid: none. */
static Oid
find_function_of_key(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(PARTRELID, ObjectIdGetDatum(relation));
	Oid			function = InvalidOid;
	bool		isnull;
	Datum		expressions;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	expressions = SysCacheGetAttr(PARTRELID, tuple, Anum_pg_partitioned_table_partexprs,
								  &isnull);
	if (!isnull)
		(void) calls_others_function(stringToNode(TextDatumGetCString(expressions)),
									 &function);
	ReleaseSysCache(tuple);
	return function;
}

void
partition_keys_check(Relation relation)
{
	ListCell   *cell;

	if (relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return;
	foreach(cell, find_all_inheritors(RelationGetRelid(relation), ShareRowExclusiveLock, NULL))
	{
		Oid			function = find_function_of_key(lfirst_oid(cell));

		if (OidIsValid(function))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("partition key of table \"%s\" calls function %s, which belongs to no superuser",
							get_rel_name(lfirst_oid(cell)), format_procedure(function)),
					 errdetail("Triggers are made by the extension's owner, with whose rights it could be called."),
					 errhint("Let a superuser own the function, or attach each of the partitions.")));
	}
}
