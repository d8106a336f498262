/*-------------------------------------------------------------------------
 *
 * utility.c
 *	  Statements that workers must make room for.
 *
 * IDENTIFICATION
 *	  src/process/utility.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "process/utility.h"
#include "storage/shared.h"
#include "storage/wake.h"
#include "tcop/utility.h"
#include "utils/acl.h"

static ProcessUtility_hook_type prev_process_utility = NULL;
static Oid	held_database = InvalidOid;

/* The template of CREATE DATABASE. */
static const char *
template_name(const CreatedbStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return "template1";
}

/* Does ALTER DATABASE move its files? */
static bool
sets_tablespace(const AlterDatabaseStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		if (strcmp(((DefElem *) lfirst(cell))->defname, "tablespace") == 0)
			return true;
	}
	return false;
}

/* The name of the database that a statement wants for itself, or NULL. */
static const char *
wanted_database(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_CreatedbStmt:
			return template_name((CreatedbStmt *) statement);
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			if (sets_tablespace((AlterDatabaseStmt *) statement))
				return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		default:
			return NULL;
	}
}

/*
 * The database whose worker is to make room; InvalidOid for a statement that
 * will fail for lack of a privilege, which must not disturb anybody.
 */
static Oid
database_to_hold(Node *statement)
{
	const char *name = wanted_database(statement);
	Oid			database;

	if (name == NULL)
		return InvalidOid;
	database = get_database_oid(name, true);
	if (!OidIsValid(database) || database == MyDatabaseId)
		return InvalidOid;
	if (database_is_owned_by(database, GetUserId()) ||
		(IsA(statement, CreatedbStmt) && have_createdb_privilege()))
		return database;
	return InvalidOid;
}

/*
 * Ends the hold with the transaction: before that, whoever looks still sees the
 * database as it was.
 */
static void
at_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (!OidIsValid(held_database) ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	shared_release_database(held_database);
	held_database = InvalidOid;
}

static void
hold_until_transaction_end(Oid database)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
	held_database = database;
	shared_hold_database(database);
}

static bool
drops_extension(Node *statement)
{
	ObjectType	type;

	if (!IsA(statement, DropStmt))
		return false;
	type = ((DropStmt *) statement)->removeType;
	return type == OBJECT_EXTENSION || type == OBJECT_SCHEMA;
}

static void
process_utility(PlannedStmt *statement, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo parameters,
				QueryEnvironment *environment, DestReceiver *destination,
				QueryCompletion *completion)
{
	Node	   *node = statement->utilityStmt;
	Oid			database = InvalidOid;

	if (context == PROCESS_UTILITY_TOPLEVEL && !OidIsValid(held_database))
		database = database_to_hold(node);
	if (OidIsValid(database))
		hold_until_transaction_end(database);

	(prev_process_utility ? prev_process_utility : standard_ProcessUtility)
		(statement, query, read_only_tree, context, parameters, environment,
		 destination, completion);

	/* The worker looks whether the extension is still there. */
	if (drops_extension(node))
		wake_at_commit(WAKE_COMMANDS);
}

void
utility_install_hook(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
