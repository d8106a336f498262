/*-------------------------------------------------------------------------
 *
 * attach.c
 *	  Putting the triggers on a platform's tables, and taking them off.
 *
 * The caller must own the table.  The triggers themselves are made by the
 * extension's owner, as whom this runs, so that nobody else needs a right on their
 * functions.
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
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "sql/definition.h"
#include "sql/partition_keys.h"
#include "sql/table_triggers.h"
#include "sql/words.h"
#include "storage/lmgr.h"
#include "store/access.h"
#include "store/day_table.h"
#include "store/installed.h"
#include "store/trigger_rows.h"
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

static void
check_owner(Oid oid)
{
	const char *name = get_rel_name(oid);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", oid)));
	if (!relation_is_owned_by(oid, access_caller()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, name);
}

/*
 * Locks a table and checks that the caller may attach it.  Who may not must not
 * wait for the lock, nor have others wait.
 */
static Relation
open_table(Oid oid)
{
	Relation	relation;
	char		relkind;
	const char *name;

	installed_check_version();
	check_owner(oid);
	relation = relation_open(oid, ShareRowExclusiveLock);
	/* It can have been given away while we waited. */
	check_owner(oid);
	relkind = relation->rd_rel->relkind;
	name = RelationGetRelationName(relation);

	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name)));
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

/* Nor are there two sets of them on a partition. */
static void
check_not_attached_below(Relation relation)
{
	ListCell   *cell;

	if (relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return;
	foreach(cell, find_all_inheritors(RelationGetRelid(relation), NoLock, NULL))
	{
		Relation	partition = table_open(lfirst_oid(cell), AccessShareLock);
		const Trigger *trigger = source_find_trigger(partition, "insert");

		if (lfirst_oid(cell) != RelationGetRelid(relation) && trigger != NULL &&
			!trigger->tgisclone)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("partition \"%s\" of table \"%s\" is attached itself",
							RelationGetRelationName(partition),
							RelationGetRelationName(relation)),
					 errhint("Detach it first: SELECT webhook_events.detach('%s').",
							 quote_identifier(RelationGetRelationName(partition)))));
		table_close(partition, AccessShareLock);
	}
}

/*
 * Triggers of a table see nothing of the rows of those that inherit from it.  TimescaleDB
 * gives them to these as well.
 */
static void
tell_of_children(Relation relation)
{
	List	   *children = relation->rd_rel->relkind == RELKIND_RELATION ?
	find_inheritance_children(RelationGetRelid(relation), NoLock) : NIL;
	ListCell   *cell;

	foreach(cell, children)
	{
		const char *name = get_rel_name(lfirst_oid(cell));

		if (name == NULL || trigger_rows(lfirst_oid(cell), source_is_trigger) != NIL)
			continue;
		ereport(WARNING,
				(errmsg("rows of table \"%s\", which inherits from \"%s\", raise no events by this",
						name, RelationGetRelationName(relation)),
				 errhint("Attach each of the tables that inherit from it.")));
		break;
	}
}

/* A trigger does not see the value of a generated column that is not stored. */
static void
check_is_stored(Relation relation, AttrNumber attnum)
{
	Form_pg_attribute attribute;

	if (attnum == InvalidAttrNumber)
		return;
	attribute = TupleDescAttr(RelationGetDescr(relation), attnum - 1);
	if (attribute->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of table \"%s\" is generated and not stored",
						NameStr(attribute->attname), RelationGetRelationName(relation)),
				 errdetail("Triggers don't see its value."),
				 errhint("Make it GENERATED ... STORED, or name another one in columns.")));
}

/*
 * A status is a text: refuses types that are none, since nothing would ever be
 * raised for them.
 */
static void
check_status_type(Relation relation, AttrNumber attnum)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), attnum - 1);
	Oid			type = getBaseType(attribute->atttypid);
	char		category;
	bool		preferred;

	get_type_category_preferred(type, &category, &preferred);
	if (category != TYPCATEGORY_STRING && category != TYPCATEGORY_ENUM)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" has type %s, which can't hold a status",
						NameStr(attribute->attname), RelationGetRelationName(relation),
						format_type_be(attribute->atttypid)),
				 errhint("A status is text, varchar, char(n), citext, an enum or a domain over one of them.")));
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
	TupleDesc	desc = RelationGetDescr(relation);
	const char **words;
	int			count = 0;

	if (attnum > InvalidAttrNumber)
		return attnum;
	words = palloc(sizeof(char *) * (desc->natts + 1));
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			words[count++] = NameStr(TupleDescAttr(desc, i)->attname);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of table \"%s\" does not exist",
					name, RelationGetRelationName(relation)),
			 count == 0 ? 0 : errhint("%s", words_hint(name, words, count, "columns"))));
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
	JsonbValue	value = definition_value(columns);
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(columns))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("columns must be a JSON object, not %s", definition_found(&value))));
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
		{
			char	   *word = pnstrdup(value.val.string.val, value.val.string.len);

			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("columns can't map \"%s\"", word),
					 errhint("%s", words_hint(word, source_role_names, N_ROLES,
											  "columns that are mapped"))));
		}
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
	if (!function_is_executable_by(function, relation->rd_rel->relowner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner of table \"%s\" may not execute function %s",
						RelationGetRelationName(relation), format_procedure(function))));
	mapping->function = function;
	mapping->function_schema = get_namespace_name(form->pronamespace);
	mapping->function_name = pstrdup(NameStr(form->proname));
	ReleaseSysCache(tuple);
}

/* Runs a statement without a result. */
static void
run(const char *statement)
{
	int			result;

	SPI_connect();
	result = SPI_execute(statement, false, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statement,
			 SPI_result_code_string(result));
	SPI_finish();
}

/*
 * Where the triggers fire: also for rows that replication writes, if that is wanted
 * or, without a word about it, was so before.
 */
static char
fires_where(Relation relation, bool is_said, bool on_replica)
{
	const Trigger *trigger = source_find_trigger(relation, "insert");

	if (is_said)
		return on_replica ? TRIGGER_FIRES_ALWAYS : TRIGGER_FIRES_ON_ORIGIN;
	if (trigger != NULL && trigger->tgenabled != TRIGGER_DISABLED)
		return trigger->tgenabled;
	return TRIGGER_FIRES_ON_ORIGIN;
}

/* Notes that this table is to raise events, or that it is not. */
static void
note_attached(Relation relation, SourceKind kind)
{
	run(psprintf("INSERT INTO webhook_events_internal.attached"
				 " (schema_name, table_name, kind) VALUES (%s, %s, %s)"
				 " ON CONFLICT (schema_name, table_name) DO UPDATE SET kind = EXCLUDED.kind",
				 quote_literal_cstr(get_namespace_name(RelationGetNamespace(relation))),
				 quote_literal_cstr(RelationGetRelationName(relation)),
				 kind == SOURCE_RUN ? "'run'" : "'build'"));
}

static bool
forget_attached(Relation relation)
{
	bool		found;

	SPI_connect();
	SPI_execute(psprintf("DELETE FROM webhook_events_internal.attached"
						 " WHERE schema_name = %s AND table_name = %s",
						 quote_literal_cstr(get_namespace_name(RelationGetNamespace(relation))),
						 quote_literal_cstr(RelationGetRelationName(relation))),
				false, 0);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

/* The first table that is attached makes the database the one of its events. */
static void
prepare_log(void)
{
	run("SELECT webhook_events_internal.begin_log()");
}

/*
 * attach(relation regclass, kind text, columns jsonb, exclude text[],
 *		  resource regprocedure, on_replica boolean) RETURNS void
 */
Datum
webhook_events_attach(PG_FUNCTION_ARGS)
{
	SourceMapping mapping = {.function_name = NULL};
	char		fires;
	Relation	relation;
	SourceKind	kind;
	Jsonb	   *columns;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("relation, columns and exclude of attach() must not be null")));
	relation = open_table(PG_GETARG_OID(0));
	check_not_attached_above(relation);
	check_not_attached_below(relation);
	partition_keys_check(relation);
	kind = read_kind(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)),
					 relation);
	columns = PG_GETARG_JSONB_P(2);
	check_roles(columns);
	for (int role = 0; role < N_ROLES; role++)
	{
		if (role != ROLE_ACTOR_TASK_ID || kind == SOURCE_RUN)
			mapping.columns[role] = map_column(relation, role, columns);
		check_is_stored(relation, mapping.columns[role]);
	}
	check_status_type(relation, mapping.columns[ROLE_STATUS]);
	mapping.excluded = read_exclude(relation, PG_GETARG_ARRAYTYPE_P(3));
	if (!PG_ARGISNULL(4))
		read_function(relation, PG_GETARG_OID(4), &mapping);
	fires = fires_where(relation, !PG_ARGISNULL(5),
						!PG_ARGISNULL(5) && PG_GETARG_BOOL(5));
	table_triggers_make(relation, kind, &mapping);
	note_attached(relation, kind);
	run(psprintf("SELECT webhook_events_internal.grant_triggers(%u)",
				 RelationGetRelid(relation)));
	prepare_log();
	tell_of_children(relation);
	relation_close(relation, NoLock);
	table_triggers_fire(PG_GETARG_OID(0), fires);
	PG_RETURN_VOID();
}

/* detach(relation regclass) RETURNS void */
Datum
webhook_events_detach(PG_FUNCTION_ARGS)
{
	Relation	relation;
	bool		was_noted;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the table to be detached is null")));
	relation = open_table(PG_GETARG_OID(0));
	check_not_attached_above(relation);
	was_noted = forget_attached(relation);
	if (!was_noted && source_find_trigger(relation, "insert") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not attached",
						RelationGetRelationName(relation))));
	table_triggers_drop(relation);
	relation_close(relation, NoLock);
	PG_RETURN_VOID();
}
