/*-------------------------------------------------------------------------
 *
 * attach.c
 *	  Putting the triggers on a platform's tables, and taking them off.
 *
 * The caller must own the table.  The triggers themselves are made by the
 * extension's owner, so that nobody else needs a right on their functions.
 *
 * IDENTIFICATION
 *	  src/sql/attach.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "capture/source.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "store/access.h"
#include "store/day_table.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(webhook_events_attach);
PG_FUNCTION_INFO_V1(webhook_events_detach);
PG_FUNCTION_INFO_V1(webhook_events_source_mapping);

/* Names under which a column is looked for when nobody names it. */
#define MAX_USUAL_NAMES 5

static const char *const usual_names[N_ROLES][MAX_USUAL_NAMES] = {
	[ROLE_ID] = {"id"},
	[ROLE_ACTOR_ID] = {"actor_id", "act_id", "actorId", "actId"},
	[ROLE_ACTOR_TASK_ID] = {"actor_task_id", "task_id", "actorTaskId", "taskId"},
	[ROLE_USER_ID] = {"user_id", "userId"},
	[ROLE_STATUS] = {"status"}
};

static bool
is_attached(Oid oid)
{
	Relation	relation = table_open(oid, AccessShareLock);
	bool		found = source_find_trigger(relation, "insert") != NULL;

	table_close(relation, AccessShareLock);
	return found;
}

/*
 * Locks a table and checks that the caller may attach it.
 */
static Relation
open_table(Oid oid)
{
	Relation	relation = relation_open(oid, ShareRowExclusiveLock);
	char		relkind = relation->rd_rel->relkind;
	const char *name = RelationGetRelationName(relation);

	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name)));
	if (!relation_is_owned_by(oid, access_caller()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, name);
	if (IsCatalogRelation(relation) ||
		RelationGetNamespace(relation) == day_table_namespace())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("system table \"%s\" can't be attached", name)));
	if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("temporary table \"%s\" can't be attached", name)));
	return relation;
}

/* A partition gets its triggers from the table that was attached. */
static void
check_not_attached_above(Relation relation)
{
	ListCell   *cell;

	if (!relation->rd_rel->relispartition)
		return;
	foreach(cell, get_partition_ancestors(RelationGetRelid(relation)))
	{
		if (is_attached(lfirst_oid(cell)))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s\" is a partition of attached table \"%s\"",
							RelationGetRelationName(relation),
							get_rel_name(lfirst_oid(cell)))));
	}
}

static SourceKind
read_kind(const char *kind, Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	bool		run;
	bool		build;

	if (kind != NULL)
	{
		if (strcmp(kind, "run") == 0)
			return SOURCE_RUN;
		if (strcmp(kind, "build") == 0)
			return SOURCE_BUILD;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("kind \"%s\" is neither \"run\" nor \"build\"", kind)));
	}
	run = strstr(name, "run") != NULL;
	build = strstr(name, "build") != NULL;
	if (run == build)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("name of table \"%s\" does not tell whether it holds runs or builds",
						name),
				 errhint("Say kind => 'run' or kind => 'build'.")));
	return run ? SOURCE_RUN : SOURCE_BUILD;
}

static AttrNumber
find_column(Relation relation, const char *name)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(relation), name);

	if (attnum <= InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\" does not exist",
						name, RelationGetRelationName(relation))));
	return attnum;
}

static AttrNumber
find_usual_column(Relation relation, SourceRole role)
{
	for (int i = 0; i < MAX_USUAL_NAMES && usual_names[role][i]; i++)
	{
		AttrNumber	attnum = get_attnum(RelationGetRelid(relation),
										usual_names[role][i]);

		if (attnum > InvalidAttrNumber)
			return attnum;
	}
	return InvalidAttrNumber;
}

static bool
is_optional(SourceRole role)
{
	return role == ROLE_ACTOR_TASK_ID || role == ROLE_USER_ID;
}

/* Refuses what is no role: a misspelt one would be ignored. */
static void
check_roles(Jsonb *columns)
{
	JsonbIterator *iterator;
	JsonbValue	value;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(columns))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("columns must be a JSON object")));
	iterator = JsonbIteratorInit(&columns->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		bool		known = false;

		if (token != WJB_KEY)
			continue;
		for (int role = 0; role < N_ROLES; role++)
		{
			if ((int) strlen(source_role_names[role]) == value.val.string.len &&
				memcmp(source_role_names[role], value.val.string.val,
					   value.val.string.len) == 0)
				known = true;
		}
		if (!known)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("columns can't map \"%.*s\"",
							value.val.string.len, value.val.string.val),
					 errdetail("It maps id, actor_id, actor_task_id, user_id and status.")));
	}
}

/* The column of a role: the one that "columns" names, or one of usual name. */
static AttrNumber
map_column(Relation relation, SourceRole role, Jsonb *columns)
{
	const char *role_name = source_role_names[role];
	JsonbValue	value;
	AttrNumber	attnum;

	if (getKeyJsonValueFromContainer(&columns->root, role_name,
									 (int) strlen(role_name), &value) != NULL)
	{
		if (value.type == jbvString)
			return find_column(relation, pnstrdup(value.val.string.val,
												  value.val.string.len));
		if (value.type != jbvNull || !is_optional(role))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" in columns must be the name of a column",
							role_name)));
		return InvalidAttrNumber;
	}
	attnum = find_usual_column(relation, role);
	if (attnum == InvalidAttrNumber && !is_optional(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"%s\" has no column for \"%s\"",
						RelationGetRelationName(relation), role_name),
				 errhint("Name it: columns => '{\"%s\": \"your_column\"}'.",
						 role_name)));
	return attnum;
}

static Bitmapset *
read_exclude(Relation relation, ArrayType *exclude)
{
	Bitmapset  *excluded = NULL;
	Datum	   *names;
	bool	   *nulls;
	int			count;

	deconstruct_array(exclude, TEXTOID, -1, false, TYPALIGN_INT,
					  &names, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("exclude holds a null")));
		excluded = bms_add_member(excluded,
								  find_column(relation,
											  TextDatumGetCString(names[i])));
	}
	return excluded;
}

/* Checks the resource function, and notes its name. */
static void
read_function(Relation relation, Oid function, SourceMapping *mapping)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->prokind != PROKIND_FUNCTION || form->proretset ||
		form->pronargs != 1 ||
		form->proargtypes.values[0] != relation->rd_rel->reltype ||
		(form->prorettype != JSONOID && form->prorettype != JSONBOID))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s can't make the resource",
						format_procedure(function)),
				 errdetail("It must take one row of table \"%s\" and return json or jsonb.",
						   RelationGetRelationName(relation))));
	mapping->function_schema = get_namespace_name(form->pronamespace);
	mapping->function_name = pstrdup(NameStr(form->proname));
	ReleaseSysCache(tuple);
}

/*
 * Runs statements as the extension's owner, with a search_path of our own.
 */
static void
run_as_owner(const char *statements)
{
	HeapTuple	tuple;
	Oid			owner;
	Oid			user;
	int			security_context;
	int			result;

	tuple = SearchSysCache1(RELOID,
							ObjectIdGetDatum(get_relname_relid("outbox",
															   day_table_namespace())));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "table webhook_events_internal.outbox does not exist");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);

	GetUserIdAndSecContext(&user, &security_context);
	SetUserIdAndSecContext(owner, security_context | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	result = SPI_execute(statements, false, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statements,
			 SPI_result_code_string(result));
	SPI_finish();
	SetUserIdAndSecContext(user, security_context);
}

static const char *
qualified_name(Relation relation)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
									  RelationGetRelationName(relation));
}

static void
append_drop(StringInfo out, Relation relation)
{
	static const char *const operations[] = {"insert", "update", "delete"};

	for (size_t i = 0; i < lengthof(operations); i++)
	{
		if (source_find_trigger(relation, operations[i]) != NULL)
			appendStringInfo(out, "DROP TRIGGER webhook_events_%s ON %s;\n",
							 operations[i], qualified_name(relation));
	}
}

static void
append_create(StringInfo out, Relation relation, const char *operation,
			  const char *condition, SourceKind kind, const char *argument)
{
	appendStringInfo(out,
					 "CREATE TRIGGER webhook_events_%s AFTER %s ON %s FOR EACH ROW %s"
					 " EXECUTE FUNCTION webhook_events.%s(%s);\n",
					 operation, operation, qualified_name(relation), condition,
					 kind == SOURCE_RUN ? "run_changed" : "build_changed",
					 argument);
}

static void
make_triggers(Relation relation, SourceKind kind, const SourceMapping *mapping)
{
	const char *argument =
	quote_literal_cstr(source_mapping_write(mapping, relation));
	const char *status =
	quote_identifier(get_attname(RelationGetRelid(relation),
								 mapping->columns[ROLE_STATUS], false));
	StringInfoData statements;

	initStringInfo(&statements);
	append_drop(&statements, relation);
	append_create(&statements, relation, "insert", "", kind, argument);
	append_create(&statements, relation, "update",
				  psprintf("WHEN (OLD.%s IS DISTINCT FROM NEW.%s)", status, status),
				  kind, argument);
	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		relation->rd_rel->relispartition)
		append_create(&statements, relation, "delete", "", kind, argument);
	appendStringInfoString(&statements,
						   "SELECT webhook_events_internal.claim_outbox();\n"
						   "SELECT webhook_events_internal.create_days(today, today + 3)"
						   " FROM (SELECT (pg_catalog.now() AT TIME ZONE 'UTC')"
						   "::pg_catalog.date) AS t (today)");
	run_as_owner(statements.data);
}

/*
 * attach(relation regclass, kind text, columns jsonb, exclude text[],
 *		  resource regprocedure) RETURNS void
 */
Datum
webhook_events_attach(PG_FUNCTION_ARGS)
{
	SourceMapping mapping = {{0}, NULL, NULL, NULL};
	Relation	relation;
	SourceKind	kind;
	Jsonb	   *columns;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("relation, columns and exclude of attach() must not be null")));
	relation = open_table(PG_GETARG_OID(0));
	check_not_attached_above(relation);
	kind = read_kind(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)),
					 relation);
	columns = PG_GETARG_JSONB_P(2);
	check_roles(columns);
	for (int role = 0; role < N_ROLES; role++)
	{
		if (role != ROLE_ACTOR_TASK_ID || kind == SOURCE_RUN)
			mapping.columns[role] = map_column(relation, role, columns);
	}
	mapping.excluded = read_exclude(relation, PG_GETARG_ARRAYTYPE_P(3));
	if (!PG_ARGISNULL(4))
		read_function(relation, PG_GETARG_OID(4), &mapping);
	make_triggers(relation, kind, &mapping);
	relation_close(relation, NoLock);
	PG_RETURN_VOID();
}

/* detach(relation regclass) RETURNS void */
Datum
webhook_events_detach(PG_FUNCTION_ARGS)
{
	Relation	relation = open_table(PG_GETARG_OID(0));
	StringInfoData statements;

	check_not_attached_above(relation);
	if (source_find_trigger(relation, "insert") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not attached",
						RelationGetRelationName(relation))));
	initStringInfo(&statements);
	append_drop(&statements, relation);
	run_as_owner(statements.data);
	relation_close(relation, NoLock);
	PG_RETURN_VOID();
}

static JsonbValue *
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = (int) strlen(text);
	return pushJsonbValue(state, token, &value);
}

/*
 * source_mapping(relation oid, arguments bytea) RETURNS jsonb
 *
 * The columns that a mapping stands for now: {"columns": {role: name},
 * "exclude": [name]}.
 */
Datum
webhook_events_source_mapping(PG_FUNCTION_ARGS)
{
	Relation	relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
	char	   *argument = text_to_cstring(PG_GETARG_BYTEA_PP(1));
	SourceMapping *mapping = source_mapping_read(argument, relation);
	JsonbParseState *state = NULL;
	JsonbValue *result;
	int			attnum = -1;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_string(&state, WJB_KEY, "columns");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int role = 0; role < N_ROLES; role++)
	{
		if (mapping->columns[role] == InvalidAttrNumber)
			continue;
		push_string(&state, WJB_KEY, source_role_names[role]);
		push_string(&state, WJB_VALUE,
					get_attname(RelationGetRelid(relation),
								mapping->columns[role], false));
	}
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	push_string(&state, WJB_KEY, "exclude");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	while ((attnum = bms_next_member(mapping->excluded, attnum)) >= 0)
		push_string(&state, WJB_ELEM,
					get_attname(RelationGetRelid(relation), attnum, false));
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	if (mapping->function_name)
	{
		push_string(&state, WJB_KEY, "resource");
		push_string(&state, WJB_VALUE,
					quote_qualified_identifier(mapping->function_schema,
											   mapping->function_name));
	}
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	relation_close(relation, AccessShareLock);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(result));
}
