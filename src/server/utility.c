/*-------------------------------------------------------------------------
 *
 * utility.c
 *	  Statements that concern the workers.
 *
 * A database can't be dropped, copied, renamed or moved while anybody is
 * connected to it, so its worker is kept out until the transaction ends.  Only
 * who may run the statement can do that to it.
 *
 * A worker is woken by what drops its extension, and by COMMIT PREPARED: the
 * session that prepared the transaction could not know when to.
 *
 * IDENTIFICATION
 *	  src/server/utility.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "server/shared.h"
#include "server/slots.h"
#include "server/utility.h"
#include "server/wake.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

static ProcessUtility_hook_type prev_process_utility = NULL;

static bool holds_databases = false;

/*
 * Ends the holds with the transaction: before that, whoever looks still sees
 * the databases as they were.
 */
static void
at_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (holds_databases && (event == XACT_EVENT_COMMIT ||
							event == XACT_EVENT_ABORT ||
							event == XACT_EVENT_PREPARE))
	{
		holds_databases = false;
		shared_release_databases();
	}
}

static void
hold_database(Oid database)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
	holds_databases = true;
	shared_hold_database(database);
}

/* Holds a database that its owner is about to drop, rename or move. */
static void
hold_own(const char *name)
{
	Oid			database = get_database_oid(name, true);

	if (OidIsValid(database) && database != MyDatabaseId &&
		database_is_owned_by(database, GetUserId()))
		hold_database(database);
}

static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* PostgreSQL's own function for this is there for us in some minor versions only. */
static bool
may_create_databases(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool		may = superuser();

	if (HeapTupleIsValid(tuple))
	{
		may |= ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return may;
}

/* Holds a database that is about to be copied. */
static void
hold_template(List *options)
{
	const char *name = "template1";
	Oid			database;
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			name = defGetString(option);
	}
	database = get_database_oid(name, true);
	if (OidIsValid(database) && may_create_databases() &&
		(is_template(database) ||
		 database_is_owned_by(database, GetUserId())))
		hold_database(database);
}

/*
 * A database that moves to another tablespace has to be left; whether it may be
 * connected to, and is a template, says whether it is served.
 */
static void
alter_database(const AlterDatabaseStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		const char *option = lfirst_node(DefElem, cell)->defname;

		if (strcmp(option, "tablespace") == 0)
			hold_own(statement->dbname);
		else if (strcmp(option, "allow_connections") == 0 || strcmp(option, "is_template") == 0)
			list_databases_at_commit();
	}
}

/* The worker will look whether it did. */
static bool
may_drop_extension(const DropStmt *statement)
{
	return statement->removeType == OBJECT_EXTENSION ||
		statement->removeType == OBJECT_SCHEMA;
}

/*
 * Where an extension spreads a table over nodes, this is how one of them comes to
 * have events to deliver.
 */
static bool
makes_trigger(const CreateTrigStmt *statement)
{
	const char *function = strVal(llast(statement->funcname));

	return strcmp(function, "run_changed") == 0 || strcmp(function, "build_changed") == 0;
}

static void
make_way(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			hold_own(castNode(DropdbStmt, statement)->dbname);
			break;
		case T_CreatedbStmt:
			hold_template(castNode(CreatedbStmt, statement)->options);
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
				hold_own(castNode(RenameStmt, statement)->subname);
			break;
		case T_AlterDatabaseStmt:
			alter_database(castNode(AlterDatabaseStmt, statement));
			break;
		case T_DropStmt:
			if (may_drop_extension(castNode(DropStmt, statement)))
				wake_at_commit(WAKE_COMMANDS);
			break;
		case T_CreateTrigStmt:
			if (makes_trigger(castNode(CreateTrigStmt, statement)))
				wake_at_commit(WAKE_COMMANDS);
			break;
		case T_DropOwnedStmt:
			wake_at_commit(WAKE_COMMANDS);
			break;
		default:
			break;
	}
}

static bool
commits_prepared(Node *statement)
{
	return IsA(statement, TransactionStmt) &&
		castNode(TransactionStmt, statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

/* Events, commands or the extension itself can have become visible. */
static void
look_at_prepared(void)
{
	WorkerReport report;

	if (shared_report(MyDatabaseId, &report))
		wake_at_commit(WAKE_EVENTS | WAKE_COMMANDS);
	else if (OidIsValid(get_extension_oid("webhook_events", true)))
		announce_at_commit();
}

static void
process_utility(PlannedStmt *statement, const char *query_string,
				bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo parameters, QueryEnvironment *environment,
				DestReceiver *destination, QueryCompletion *completion)
{
	bool		was_prepared = commits_prepared(statement->utilityStmt);

	make_way(statement->utilityStmt);
	(prev_process_utility ? prev_process_utility : standard_ProcessUtility)
		(statement, query_string, read_only_tree, context, parameters,
		 environment, destination, completion);

	/* The statement can have been freed by now. */
	if (was_prepared)
		look_at_prepared();
}

void
utility_install_hook(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
