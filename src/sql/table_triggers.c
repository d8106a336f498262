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
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "sql/table_triggers.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

/*
 * Citus refuses triggers on distributed tables, with no more than a word, unless it is
 * told that they are wanted.
 */
static void
hint_at_setting(void *argument pg_attribute_unused())
{
	const char *value = GetConfigOption("citus.enable_unsafe_triggers", true, false);

	if (value != NULL && strcmp(value, "off") == 0 &&
		geterrcode() == ERRCODE_INTERNAL_ERROR)
		errhint("If the table is distributed: SET citus.enable_unsafe_triggers = on, and attach it again.");
}

/*
 * Runs one statement as if it had been written, and with its text: extensions that spread
 * tables over others have to see it and to do there what is done here.
 */
static void
run_statement(const char *statement)
{
	ErrorContextCallback callback = {
		.callback = hint_at_setting, .previous = error_context_stack
	};
	int			result;

	SPI_connect();
	error_context_stack = &callback;
	result = SPI_execute(statement, false, 0);
	error_context_stack = callback.previous;
	if (result != SPI_OK_UTILITY)
		elog(ERROR, "could not run \"%s\": %s", statement,
			 SPI_result_code_string(result));
	SPI_finish();
}

static const char *
name_of(Oid relation)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
									  get_rel_name(relation));
}

void
table_triggers_drop(Relation relation)
{
	const char *table = name_of(RelationGetRelid(relation));
	List	   *names = NIL;
	ListCell   *cell;

	/*
	 * The list can be read anew when a function is looked at, the same
	 * triggers in it.
	 */
	for (int i = 0; relation->trigdesc && i < relation->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &relation->trigdesc->triggers[i];
		char	   *name = pstrdup(trigger->tgname);

		if (source_is_trigger_function(trigger->tgfoid))
			names = lappend(names, name);
	}
	foreach(cell, names)
		run_statement(psprintf("DROP TRIGGER %s ON %s",
							   quote_identifier(lfirst(cell)), table));
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

/*
 * row.column, or its text if that is what has to be compared.  An enum under the name of a
 * domain has no comparison, and its text can be what the cast of somebody else says.
 */
static char *
make_comparable(const char *row, Form_pg_attribute column)
{
	const char *name = quote_identifier(NameStr(column->attname));
	Oid			type = getBaseType(column->atttypid);

	if (is_exact(column))
		return psprintf("%s.%s", row, name);
	if (type_is_enum(type))
		return psprintf("(%s.%s)::%s", row, name,
						format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY));
	return psprintf("(%s.%s)::pg_catalog.text COLLATE pg_catalog.\"C\"", row, name);
}

/* Our functions have a search_path in which this is pg_catalog's comparison. */
static char *
make_when(Relation relation, AttrNumber attnum)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(relation), attnum - 1);

	return psprintf(" WHEN (%s IS DISTINCT FROM %s)",
					make_comparable("old", column), make_comparable("new", column));
}

static void
make_trigger(Relation relation, const char *operation, const char *when,
			 SourceKind kind, const char *argument)
{
	run_statement(psprintf("CREATE TRIGGER webhook_events_%s AFTER %s ON %s FOR EACH ROW%s"
						   " EXECUTE FUNCTION webhook_events.%s(%s)",
						   operation, operation, name_of(RelationGetRelid(relation)), when,
						   kind == SOURCE_RUN ? "run_changed" : "build_changed",
						   quote_literal_cstr(argument)));
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
	make_trigger(relation, "insert", "", kind, argument);
	make_trigger(relation, "update", make_when(relation, mapping->columns[ROLE_STATUS]),
				 kind, argument);
	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		relation->rd_rel->relispartition)
		make_trigger(relation, "delete", "", kind, argument);
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
		run_statement(psprintf("ALTER TABLE %s ENABLE %s TRIGGER %s", name_of(relation),
							   fires == TRIGGER_FIRES_ALWAYS ? "ALWAYS" : "REPLICA",
							   names[i]));
}
