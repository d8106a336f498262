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

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "store/day_table.h"
#include "store/own_triggers.h"
#include "store/trigger_rows.h"
#include "store/webhook_counts.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
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

/* How a trigger is to fire, as the SQL says it; NULL: as by default. */
static const char *
fires_specially(const char *name)
{
	for (int i = 0; i < (int) lengthof(special); i++)
	{
		if (strcmp(name, special[i].name) == 0)
			return special[i].fires;
	}
	return NULL;
}

static bool
is_wrong(const FormData_pg_trigger *trigger)
{
	return trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN &&
		fires_specially(NameStr(trigger->tgname)) != NULL;
}

static void
put_right(Oid relation)
{
	ListCell   *cell;

	CommandCounterIncrement();
	SPI_connect();
	foreach(cell, trigger_rows(relation, is_wrong))
	{
		const char *name = NameStr(trigger_form(lfirst(cell))->tgname);
		char	   *statement = psprintf("ALTER TABLE webhook_events_internal.%s ENABLE %s TRIGGER %s",
										 quote_identifier(get_rel_name(relation)),
										 fires_specially(name), name);

		if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not run \"%s\"", statement);
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
