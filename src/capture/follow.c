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
 * Which columns a statement changes, PostgreSQL tells, table by table: those of a parent
 * need not be those of its children, and there are many ways to one, by a type or
 * by what a column depends on.
 *
 * IDENTIFICATION
 *	  src/capture/follow.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "capture/follow.h"
#include "capture/mapping.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "store/access.h"
#include "store/trigger_rows.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* What changes in arguments. */
typedef enum ChangeKind
{
	CHANGE_COLUMN,				/* one is renamed or dropped */
	CHANGE_FUNCTIONS,			/* functions or schemas are renamed */
	CHANGE_VERSION				/* arguments of the first one are made anew */
} ChangeKind;

typedef struct Change
{
	ChangeKind	kind;
	Oid			relation;		/* whose column */
	AttrNumber	column;
	char	   *old_name;
	char	   *new_name;		/* NULL: it is dropped */
} Change;

static ProcessUtility_hook_type prev_process_utility = NULL;
static object_access_hook_type prev_object_access = NULL;

/* Columns that the innermost statement has changed: Change, with their old names. */
static List *changes = NIL;
static MemoryContext changes_context = NULL;	/* NULL: nobody asks */

static char *
rewrite(const char *argument, Oid relation, const Change *change)
{
	Relation	table;
	char	   *result;

	switch (change->kind)
	{
		case CHANGE_COLUMN:
			return source_mapping_follow_column(argument, change->old_name,
												change->new_name);
		case CHANGE_FUNCTIONS:
			return source_mapping_follow_function(argument);
		case CHANGE_VERSION:
			table = table_open(relation, AccessShareLock);
			result = source_mapping_modernise(argument, table);
			table_close(table, NoLock);
			return result;
	}
	pg_unreachable();
}

static void
follow_trigger(Relation catalog, HeapTuple tuple, const Change *change)
{
	Form_pg_trigger form = trigger_form(tuple);
	Datum		values[Natts_pg_trigger] = {0};
	bool		nulls[Natts_pg_trigger] = {0};
	bool		replaces[Natts_pg_trigger] = {0};
	char	   *argument;

	argument = rewrite(text_to_cstring(trigger_arguments(tuple)), form->tgrelid, change);
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

static bool
has_mapping(const FormData_pg_trigger *trigger)
{
	return trigger->tgnargs == 1 && source_is_trigger(trigger);
}

/* Not one that came from a parent. */
static bool
is_own(const FormData_pg_trigger *trigger)
{
	return !OidIsValid(trigger->tgparentid) && source_is_trigger(trigger);
}

/* Follows a change in the triggers of a relation, or of all. */
static void
follow_triggers(Oid relation, const Change *change)
{
	Relation	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	ListCell   *cell;

	foreach(cell, trigger_rows(relation, has_mapping))
		follow_trigger(catalog, lfirst(cell), change);
	table_close(catalog, RowExclusiveLock);
}

static bool
is_attached(Oid relation)
{
	return trigger_rows(relation, is_own) != NIL;
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
look_at_alter_table(const AlterTableStmt *statement)
{
	Oid			relation = RangeVarGetRelid(statement->relation, NoLock, true);
	ListCell   *cell;

	foreach(cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->subtype == AT_AttachPartition)
			check_partition(relation, castNode(PartitionCmd, command->def));
	}
}

static bool
renames_functions(ObjectType type)
{
	return type == OBJECT_FUNCTION || type == OBJECT_ROUTINE || type == OBJECT_SCHEMA;
}

/* Does it rename functions or schemas? */
static bool
changes_functions(const Node *statement)
{
	if (IsA(statement, RenameStmt))
		return renames_functions(((const RenameStmt *) statement)->renameType);
	return IsA(statement, AlterObjectSchemaStmt) &&
		renames_functions(((const AlterObjectSchemaStmt *) statement)->objectType);
}

/* Can it rename columns or drop them, be it as what depends on something else? */
static bool
changes_columns(const Node *statement)
{
	return IsA(statement, AlterTableStmt) || IsA(statement, RenameStmt) ||
		IsA(statement, DropStmt) || IsA(statement, DropOwnedStmt);
}

/* What a column is called, as far as this command has not changed it; palloc'd. */
static char *
column_name(Oid relation, AttrNumber column)
{
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relation),
										Int16GetDatum(column));
	char	   *name = NULL;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	if (!((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
		name = pstrdup(NameStr(((Form_pg_attribute) GETSTRUCT(tuple))->attname));
	ReleaseSysCache(tuple);
	return name;
}

static Oid
owner_of(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/* Is there another trigger of the same argument on a table of the same owner? */
static bool
is_copy_of_another(HeapTuple row)
{
	const FormData_pg_trigger *form = trigger_form(row);
	Datum		arguments = PointerGetDatum(trigger_arguments(row));
	Oid			owner = owner_of(form->tgrelid);
	ListCell   *cell;

	foreach(cell, triggers_calling(form->tgfoid))
	{
		HeapTuple	other = lfirst_oid(cell) == form->oid ? NULL : trigger_row(lfirst_oid(cell), NULL);

		if (HeapTupleIsValid(other) && owner_of(trigger_form(other)->tgrelid) == owner &&
			DatumGetBool(DirectFunctionCall2(byteaeq, arguments,
											 PointerGetDatum(trigger_arguments(other)))))
			return true;
	}
	return false;
}

/*
 * Who owns a partitioned table that is attached may execute the function of its triggers,
 * since PostgreSQL wants that of who makes partitions.  What a trigger tells its function
 * is for attach() to say: one that others make must be a copy, as extensions make them that
 * spread tables over others.
 */
static void
check_new_trigger(Oid oid)
{
	HeapTuple	row = trigger_row(oid, SnapshotSelf);

	if (HeapTupleIsValid(row) && is_own(trigger_form(row)) &&
		!has_privs_of_role(GetUserId(), access_owner()) && !is_copy_of_another(row))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION,
					   get_func_name(trigger_form(row)->tgfoid));
}

static void
object_access(ObjectAccessType access, Oid class, Oid object, int part, void *argument)
{
	MemoryContext old_context;
	Change	   *change;
	char	   *name;

	if (prev_object_access)
		prev_object_access(access, class, object, part, argument);
	if (access == OAT_POST_CREATE && class == TriggerRelationId && !superuser())
		check_new_trigger(object);
	if (changes_context == NULL || class != RelationRelationId || part <= 0 ||
		(access != OAT_DROP && access != OAT_POST_ALTER) || trigger_rows(object, source_is_trigger) == NIL)
		return;
	old_context = MemoryContextSwitchTo(changes_context);
	name = column_name(object, (AttrNumber) part);
	if (name != NULL)
	{
		change = palloc0(sizeof(Change));
		change->kind = CHANGE_COLUMN;
		change->relation = object;
		change->column = (AttrNumber) part;
		change->old_name = name;
		changes = lappend(changes, change);
	}
	MemoryContextSwitchTo(old_context);
}

/* Follows the columns that a statement has changed. */
static void
follow_columns(List *changed)
{
	ListCell   *cell;

	if (changed == NIL)
		return;
	CommandCounterIncrement();
	foreach(cell, changed)
	{
		Change	   *change = lfirst(cell);

		change->new_name = column_name(change->relation, change->column);
		if (change->new_name == NULL || strcmp(change->new_name, change->old_name) != 0)
			follow_triggers(change->relation, change);
	}
}

static void
follow_all(ChangeKind kind)
{
	Change		change = {.kind = kind};

	CommandCounterIncrement();
	follow_triggers(InvalidOid, &change);
}

static void
process_next(PlannedStmt *statement, const char *query_string,
			 bool read_only_tree, ProcessUtilityContext context,
			 ParamListInfo parameters, QueryEnvironment *environment,
			 DestReceiver *destination, QueryCompletion *completion)
{
	(prev_process_utility ? prev_process_utility : standard_ProcessUtility)
		(statement, query_string, read_only_tree, context, parameters,
		 environment, destination, completion);
}

static void
process_utility(PlannedStmt *statement, const char *query_string,
				bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo parameters, QueryEnvironment *environment,
				DestReceiver *destination, QueryCompletion *completion)
{
	Node	   *parsed = statement->utilityStmt;
	List	   *outer_changes = changes;
	MemoryContext outer_context = changes_context;
	volatile bool of_functions = changes_functions(parsed);
	List	   *changed;

	if ((!changes_columns(parsed) && !of_functions) ||
		!OidIsValid(get_namespace_oid("webhook_events", true)))
	{
		process_next(statement, query_string, read_only_tree, context, parameters,
					 environment, destination, completion);
		return;
	}
	if (IsA(parsed, AlterTableStmt))
		look_at_alter_table(castNode(AlterTableStmt, parsed));
	changes = NIL;
	changes_context = CurrentMemoryContext;
	PG_TRY();
	{
		process_next(statement, query_string, read_only_tree, context, parameters,
					 environment, destination, completion);
	}
	PG_FINALLY();
	{
		changed = changes;
		changes = outer_changes;
		changes_context = outer_context;
	}
	PG_END_TRY();
	follow_columns(changed);
	if (of_functions)
		follow_all(CHANGE_FUNCTIONS);
}

void
follow_version(void)
{
	follow_all(CHANGE_VERSION);
}

void
follow_install_hook(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
}
