/*-------------------------------------------------------------------------
 *
 * table_triggers.c
 *	  The triggers that attach() puts on a table and detach() takes off.
 *
 * IDENTIFICATION
 *	  src/sql/table_triggers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "sql/table_triggers.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"

/*
 * Runs a statement as if it had been written, so that extensions see it which spread
 * tables over others and have to do there what is done here.
 */
static void
run_utility(Node *node, const char *description)
{
	PlannedStmt *statement = makeNode(PlannedStmt);

	statement->commandType = CMD_UTILITY;
	statement->utilityStmt = node;
	statement->stmt_location = -1;
	ProcessUtility(statement, description, false, PROCESS_UTILITY_QUERY, NULL, NULL,
				   None_Receiver, NULL);
	CommandCounterIncrement();
}

static RangeVar *
range_of(Relation relation)
{
	return makeRangeVar(get_namespace_name(RelationGetNamespace(relation)),
						pstrdup(RelationGetRelationName(relation)), -1);
}

void
table_triggers_drop(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;
	RangeVar   *range = range_of(relation);
	List	   *names = NIL;
	ListCell   *cell;

	for (int i = 0; triggers && i < triggers->numtriggers; i++)
	{
		if (source_is_trigger_function(triggers->triggers[i].tgfoid))
			names = lappend(names, pstrdup(triggers->triggers[i].tgname));
	}
	foreach(cell, names)
	{
		DropStmt   *statement = makeNode(DropStmt);

		statement->removeType = OBJECT_TRIGGER;
		statement->objects = list_make1(list_make3(makeString(range->schemaname),
												   makeString(range->relname),
												   makeString(lfirst(cell))));
		statement->behavior = DROP_RESTRICT;
		run_utility((Node *) statement, "DROP TRIGGER");
	}
}

/* Do values of this column differ just if their texts do? */
static bool
is_exact(Form_pg_attribute column)
{
	Oid			type = column->atttypid;

	return type_is_enum(type) || type == NAMEOID ||
		((type == TEXTOID || type == VARCHAROID || type == BPCHAROID) &&
		 get_collation_isdeterministic(column->attcollation));
}

/* row.column, or its text if that is what has to be compared */
static Node *
make_comparable(const char *row, Form_pg_attribute column)
{
	ColumnRef  *reference = makeNode(ColumnRef);
	TypeCast   *cast = makeNode(TypeCast);
	CollateClause *collate = makeNode(CollateClause);

	reference->fields = list_make2(makeString(pstrdup(row)),
								   makeString(pstrdup(NameStr(column->attname))));
	reference->location = -1;
	if (is_exact(column))
		return (Node *) reference;
	cast->arg = (Node *) reference;
	cast->typeName = makeTypeNameFromOid(TEXTOID, -1);
	cast->location = -1;
	collate->arg = (Node *) cast;
	collate->collname = list_make2(makeString("pg_catalog"), makeString("C"));
	collate->location = -1;
	return (Node *) collate;
}

/* OLD.column IS DISTINCT FROM NEW.column */
static Node *
make_when(Relation relation, AttrNumber attnum)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), attnum - 1);

	return (Node *) makeA_Expr(AEXPR_DISTINCT,
							   list_make2(makeString("pg_catalog"), makeString("=")),
							   make_comparable("old", column),
							   make_comparable("new", column), -1);
}

static void
make_trigger(Relation relation, const char *name, int16 event, Node *when,
			 SourceKind kind, char *argument)
{
	CreateTrigStmt *statement = makeNode(CreateTrigStmt);

	statement->trigname = pstrdup(name);
	statement->relation = range_of(relation);
	statement->funcname = list_make2(makeString("webhook_events"),
									 makeString(kind == SOURCE_RUN ? "run_changed" : "build_changed"));
	statement->args = list_make1(makeString(argument));
	statement->row = true;
	statement->timing = TRIGGER_TYPE_AFTER;
	statement->events = event;
	statement->whenClause = when;
	run_utility((Node *) statement, "CREATE TRIGGER");
}

/*
 * The statements name the table, whose schema can have been renamed meanwhile: what
 * they made must be on the table whose owner was checked.
 */
static void
check_made(Oid relation)
{
	Relation	table = table_open(relation, NoLock);

	if (source_find_trigger(table, "insert") == NULL ||
		source_find_trigger(table, "update") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" was moved while it was attached",
						RelationGetRelationName(table))));
	table_close(table, NoLock);
}

void
table_triggers_make(Relation relation, SourceKind kind,
					const SourceMapping *mapping)
{
	char	   *argument = source_mapping_write(mapping, relation);

	table_triggers_drop(relation);
	make_trigger(relation, "webhook_events_insert", TRIGGER_TYPE_INSERT, NULL,
				 kind, argument);
	make_trigger(relation, "webhook_events_update", TRIGGER_TYPE_UPDATE,
				 make_when(relation, mapping->columns[ROLE_STATUS]), kind, argument);
	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		relation->rd_rel->relispartition)
		make_trigger(relation, "webhook_events_delete", TRIGGER_TYPE_DELETE, NULL,
					 kind, argument);
	check_made(RelationGetRelid(relation));
}

void
table_triggers_fire(Oid relation, char fires)
{
	static const char *const names[] = {
		"webhook_events_insert", "webhook_events_update", "webhook_events_delete"
	};
	bool		may_move = get_rel_relkind(relation) == RELKIND_PARTITIONED_TABLE ||
	get_rel_relispartition(relation);

	if (fires == TRIGGER_FIRES_ON_ORIGIN)
		return;
	for (int i = 0; i < (may_move ? 3 : 2); i++)
	{
		AlterTableStmt *statement = makeNode(AlterTableStmt);
		AlterTableCmd *command = makeNode(AlterTableCmd);

		command->subtype = fires == TRIGGER_FIRES_ALWAYS ? AT_EnableAlwaysTrig
			: AT_EnableReplicaTrig;
		command->name = pstrdup(names[i]);
		statement->relation = makeRangeVar(get_namespace_name(get_rel_namespace(relation)),
										   get_rel_name(relation), -1);
		statement->cmds = list_make1(command);
		statement->objtype = OBJECT_TABLE;
		run_utility((Node *) statement, "ALTER TABLE");
	}
}
