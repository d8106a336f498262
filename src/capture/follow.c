/*-------------------------------------------------------------------------
 *
 * follow.c
 *	  Statements that change what attached tables look like.
 *
 * A mapping is the argument of triggers, which PostgreSQL does not read: so it is
 * rewritten here, in the transaction that renames.  In a session that has not
 * loaded the library nothing is; then numbers tell in the same database, and in
 * a copy the name is gone, which is said.
 *
 * IDENTIFICATION
 *	  src/capture/follow.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "capture/follow.h"
#include "capture/mapping.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* What a statement changes that is of interest here. */
typedef struct Change
{
	bool		of_functions;	/* names of functions or of schemas */
	bool		of_version;		/* arguments of the first one are made anew */
	Oid			relation;		/* whose columns; InvalidOid: of none */
	List	   *old_names;
	char	   *new_name;		/* NULL: they are dropped */
} Change;

static ProcessUtility_hook_type prev_process_utility = NULL;

static char *
rewrite(const char *argument, Oid relation, const Change *change)
{
	char	   *result = NULL;
	ListCell   *cell;

	if (change->of_version)
	{
		Relation	table = table_open(relation, AccessShareLock);

		result = source_mapping_modernise(argument, table);
		table_close(table, NoLock);
		return result;
	}

	if (change->of_functions)
		return source_mapping_follow_function(argument);
	foreach(cell, change->old_names)
	{
		char	   *changed = source_mapping_follow_column(result ? result : argument,
														   lfirst(cell),
														   change->new_name);

		if (changed != NULL)
			result = changed;
	}
	return result;
}

static void
follow_trigger(Relation catalog, HeapTuple tuple, const Change *change)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	Datum		values[Natts_pg_trigger] = {0};
	bool		nulls[Natts_pg_trigger] = {0};
	bool		replaces[Natts_pg_trigger] = {0};
	bool		isnull;
	Datum		arguments;
	char	   *argument;

	if (form->tgnargs != 1 || !source_is_trigger_function(form->tgfoid))
		return;
	arguments = heap_getattr(tuple, Anum_pg_trigger_tgargs,
							 RelationGetDescr(catalog), &isnull);
	if (isnull)
		return;
	argument = rewrite(TextDatumGetCString(arguments), form->tgrelid, change);
	if (argument == NULL)
		return;

	/* The arguments end in a zero each. */
	values[Anum_pg_trigger_tgargs - 1] =
		PointerGetDatum(cstring_to_text_with_len(argument, (int) strlen(argument) + 1));
	replaces[Anum_pg_trigger_tgargs - 1] = true;
	tuple = heap_modify_tuple(tuple, RelationGetDescr(catalog), values, nulls,
							  replaces);
	CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
	CacheInvalidateRelcacheByRelid(form->tgrelid);
}

/* Follows a change in the triggers of a relation, or of all. */
static void
follow_triggers(Oid relation, const Change *change)
{
	Relation	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId,
							  OidIsValid(relation), NULL,
							  OidIsValid(relation) ? 1 : 0, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		follow_trigger(catalog, tuple, change);
	systable_endscan(scan);
	table_close(catalog, RowExclusiveLock);
}

/* Has this table triggers of ours that it did not get from a parent? */
static bool
is_attached(Oid relation)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		found = !OidIsValid(form->tgparentid) &&
			source_is_trigger_function(form->tgfoid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* An attached parent gives its partitions triggers of its own. */
static void
check_partition(Oid parent, const PartitionCmd *command)
{
	Oid			partition = RangeVarGetRelid(command->name, NoLock, true);

	if (OidIsValid(parent) && OidIsValid(partition) &&
		is_attached(partition) && is_attached(parent))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" can't become a partition of \"%s\" because both are attached",
						get_rel_name(partition), get_rel_name(parent)),
				 errhint("Detach it first: SELECT webhook_events.detach('%s').",
						 quote_identifier(get_rel_name(partition)))));
}

static void
look_at_alter_table(const AlterTableStmt *statement, Change *change)
{
	Oid			relation = RangeVarGetRelid(statement->relation, NoLock, true);
	ListCell   *cell;

	foreach(cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->subtype == AT_AttachPartition)
			check_partition(relation, castNode(PartitionCmd, command->def));
		if (command->subtype != AT_DropColumn)
			continue;
		change->relation = relation;
		change->old_names = lappend(change->old_names, pstrdup(command->name));
	}
}

static void
look_at_rename(const RenameStmt *statement, Change *change)
{
	switch (statement->renameType)
	{
		case OBJECT_COLUMN:
			change->relation = RangeVarGetRelid(statement->relation, NoLock, true);
			change->old_names = list_make1(pstrdup(statement->subname));
			change->new_name = pstrdup(statement->newname);
			break;
		case OBJECT_FUNCTION:
		case OBJECT_ROUTINE:
		case OBJECT_SCHEMA:
			change->of_functions = true;
			break;
		default:
			break;
	}
}

/* Looks at a statement before it is run: it can be freed by that. */
static Change
look_at(Node *statement)
{
	Change		change = {.of_functions = false};

	if (IsA(statement, AlterTableStmt))
		look_at_alter_table(castNode(AlterTableStmt, statement), &change);
	else if (IsA(statement, RenameStmt))
		look_at_rename(castNode(RenameStmt, statement), &change);
	else if (IsA(statement, AlterObjectSchemaStmt))
		change.of_functions =
			castNode(AlterObjectSchemaStmt, statement)->objectType == OBJECT_FUNCTION ||
			castNode(AlterObjectSchemaStmt, statement)->objectType == OBJECT_ROUTINE;
	return change;
}

static void
follow(const Change *change)
{
	ListCell   *cell;

	CommandCounterIncrement();
	if (change->of_functions || change->of_version)
		follow_triggers(InvalidOid, change);
	else
	{
		/* Partitions have it in their own triggers' arguments. */
		foreach(cell, find_all_inheritors(change->relation, NoLock, NULL))
			follow_triggers(lfirst_oid(cell), change);
	}
}

static void
process_utility(PlannedStmt *statement, const char *query_string,
				bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo parameters, QueryEnvironment *environment,
				DestReceiver *destination, QueryCompletion *completion)
{
	Node	   *parsed = statement->utilityStmt;
	Change		change = {.of_functions = false};

	if ((IsA(parsed, AlterTableStmt) || IsA(parsed, RenameStmt) ||
		 IsA(parsed, AlterObjectSchemaStmt)) &&
		OidIsValid(get_namespace_oid("webhook_events", true)))
		change = look_at(parsed);
	(prev_process_utility ? prev_process_utility : standard_ProcessUtility)
		(statement, query_string, read_only_tree, context, parameters,
		 environment, destination, completion);
	if (change.of_functions || OidIsValid(change.relation))
		follow(&change);
}

void
follow_version(void)
{
	Change		change = {.of_version = true};

	follow(&change);
}

void
follow_install_hook(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
