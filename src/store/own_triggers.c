/*-------------------------------------------------------------------------
 *
 * own_triggers.c
 *	  Statements that switch triggers of our tables.
 *
 * Whoever loads rows may have triggers disabled meanwhile, as "pg_restore --data-only
 * --disable-triggers" does.  What enables them again makes all of them fire for ordinary
 * sessions alone: those that replication needs would fire no more for it, and for everybody
 * else instead.  And nobody has counted the webhooks that were loaded.
 *
 * IDENTIFICATION
 *	  src/store/own_triggers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "store/day_table.h"
#include "store/own_triggers.h"
#include "store/webhook_counts.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

/* Those that fire otherwise than by default, as the SQL says it. */
static const struct
{
	const char *name;
	const char *fires;
}			special[] = {
	{"landed", "REPLICA"},
	{"arrived", "REPLICA"},
	{"counted_by_delete", "REPLICA"},
	{"counted_by_insert", "ALWAYS"},
	{"counted_by_update", "ALWAYS"},
	{"counted_by_truncate", "ALWAYS"},
	{"ended_by_update", "ALWAYS"},
	{"ended_by_delete", "ALWAYS"}
};

static ProcessUtility_hook_type prev_process_utility = NULL;

/* The table of ours of which it enables triggers, if it does. */
static Oid
enables_triggers_of(Node *statement)
{
	Oid			relation = InvalidOid;
	Oid			namespace;
	ListCell   *cell;

	if (!IsA(statement, AlterTableStmt))
		return InvalidOid;
	foreach(cell, castNode(AlterTableStmt, statement)->cmds)
	{
		AlterTableType type = lfirst_node(AlterTableCmd, cell)->subtype;

		if (type == AT_EnableTrig || type == AT_EnableTrigAll || type == AT_EnableTrigUser)
			relation = RangeVarGetRelid(castNode(AlterTableStmt, statement)->relation, NoLock, true);
	}
	if (!OidIsValid(relation))
		return InvalidOid;

	/*
	 * Where the first version had its tables there are none of these
	 * triggers.
	 */
	namespace = get_namespace_oid("webhook_events_internal", true);
	return OidIsValid(namespace) && namespace == day_table_namespace() &&
		namespace == get_rel_namespace(relation) ? relation : InvalidOid;
}

/* What puts one of its triggers right, unless it is not to be; palloc'd. */
static char *
statement_for(Oid relation, const FormData_pg_trigger *trigger)
{
	if (trigger->tgenabled != TRIGGER_FIRES_ON_ORIGIN)
		return NULL;
	for (int i = 0; i < (int) lengthof(special); i++)
	{
		if (strcmp(NameStr(trigger->tgname), special[i].name) == 0)
			return psprintf("ALTER TABLE webhook_events_internal.%s ENABLE %s TRIGGER %s",
							quote_identifier(get_rel_name(relation)), special[i].fires,
							special[i].name);
	}
	return NULL;
}

static List *
statements_for(Oid relation)
{
	List	   *statements = NIL;
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char	   *statement = statement_for(relation, (Form_pg_trigger) GETSTRUCT(tuple));

		if (statement != NULL)
			statements = lappend(statements, statement);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return statements;
}

static void
put_right(Oid relation)
{
	ListCell   *cell;

	CommandCounterIncrement();
	SPI_connect();
	foreach(cell, statements_for(relation))
	{
		if (SPI_execute(lfirst(cell), false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not run \"%s\"", (char *) lfirst(cell));
	}
	if (relation == get_relname_relid("webhooks", day_table_namespace()))
		webhook_counts_forget();
	SPI_finish();
}

static void
process_utility(PlannedStmt *statement, const char *query_string,
				bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo parameters, QueryEnvironment *environment,
				DestReceiver *destination, QueryCompletion *completion)
{
	Oid			relation = enables_triggers_of(statement->utilityStmt);

	(prev_process_utility ? prev_process_utility : standard_ProcessUtility)
		(statement, query_string, read_only_tree, context, parameters,
		 environment, destination, completion);
	if (OidIsValid(relation))
		put_right(relation);
}

void
own_triggers_install_hook(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
