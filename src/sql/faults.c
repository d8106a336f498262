/*-------------------------------------------------------------------------
 *
 * faults.c
 *	  What is wrong with the platform's side: tables, settings, accesses.
 *
 * IDENTIFICATION
 *	  src/sql/faults.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "capture/mapping.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "server/shared.h"
#include "sql/faults.h"
#include "sql/sources.h"
#include "sql/subscriptions.h"
#include "store/day_table.h"
#include "store/gather.h"
#include "store/trigger_rows.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(webhook_events_broken_tables);
PG_FUNCTION_INFO_V1(webhook_events_emit_off);
PG_FUNCTION_INFO_V1(webhook_events_lost_accesses);

/* A trigger of ours that was found. */
typedef struct FoundTrigger
{
	Oid			relation;
	int16		type;
	bool		is_disabled;
	bool		is_for_origin;	/* and fires for no replica */
	bool		is_for_replicas;	/* and fires for nobody else */
	bool		is_root;		/* and not made for a partition */
	char	   *name;
	char	   *argument;
} FoundTrigger;

/* All triggers that call one of our trigger functions. */
static void
find_triggers_of(const char *function, List **found)
{
	oidvector  *none = buildoidvector(NULL, 0);
	Oid			namespace = get_namespace_oid("webhook_events", true);
	ListCell   *cell;

	foreach(cell, triggers_calling(GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
												   CStringGetDatum(function),
												   PointerGetDatum(none),
												   ObjectIdGetDatum(namespace))))
	{
		HeapTuple	row = trigger_row(lfirst_oid(cell), NULL);
		FoundTrigger *trigger;
		const FormData_pg_trigger *form;

		if (!HeapTupleIsValid(row) || trigger_form(row)->tgnargs != 1)
			continue;
		form = trigger_form(row);
		trigger = palloc(sizeof(FoundTrigger));
		trigger->relation = form->tgrelid;
		trigger->type = form->tgtype;
		trigger->is_disabled = (form->tgenabled == TRIGGER_DISABLED);
		trigger->is_for_origin = (form->tgenabled == TRIGGER_FIRES_ON_ORIGIN);
		trigger->is_for_replicas = (form->tgenabled == TRIGGER_FIRES_ON_REPLICA);
		trigger->is_root = !OidIsValid(form->tgparentid);
		trigger->name = pstrdup(NameStr(form->tgname));
		trigger->argument = text_to_cstring(trigger_arguments(row));
		*found = lappend(*found, trigger);
	}
}

static Oid
inner_table(const char *name)
{
	return get_relname_relid(name, day_table_namespace());
}

/* A table that is meant to raise events, by its name, if it is there. */
static void
add_attached(HeapTuple row, TupleDesc desc, List **relations)
{
	bool		isnull;
	Name		schema = DatumGetName(heap_getattr(row, 1, desc, &isnull));
	Name		name = DatumGetName(heap_getattr(row, 2, desc, &isnull));
	Oid			namespace = get_namespace_oid(NameStr(*schema), true);
	Oid			relation = OidIsValid(namespace) ?
	get_relname_relid(NameStr(*name), namespace) : InvalidOid;
	char		kind = OidIsValid(relation) ? get_rel_relkind(relation) : '\0';

	if (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE)
		*relations = lappend_oid(*relations, relation);
}

/* NULL if the table was dropped meanwhile. */
static char *
relation_name(Oid relation)
{
	char	   *name = get_rel_name(relation);

	return name == NULL ? NULL :
		quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), name);
}

/* Looks for a trigger for one operation. */
static const FoundTrigger *
trigger_for(List *triggers, Oid relation, int16 operation)
{
	ListCell   *cell;

	foreach(cell, triggers)
	{
		const FoundTrigger *trigger = lfirst(cell);

		if (trigger->relation == relation &&
			(operation == 0 ||
			 trigger->type == (TRIGGER_TYPE_ROW | TRIGGER_TYPE_AFTER | operation)))
			return trigger;
	}
	return NULL;
}

/* What triggers a table that is a source lacks. */
static List *
missing_triggers(List *problems, List *triggers, Oid relation)
{
	static const struct
	{
		const char *name;
		int16		operation;
	}			wanted[] = {
		{"INSERT", TRIGGER_TYPE_INSERT}, {"UPDATE", TRIGGER_TYPE_UPDATE},
		{"DELETE", TRIGGER_TYPE_DELETE}
	};
	char	   *name = relation_name(relation);
	bool		can_move = get_rel_relkind(relation) == RELKIND_PARTITIONED_TABLE ||
	get_rel_relispartition(relation);

	if (name == NULL)
		return problems;
	if (trigger_for(triggers, relation, 0) == NULL)
		return lappend(problems, psprintf("%s: no trigger raises its events any more", name));
	for (int i = 0; i < (int) lengthof(wanted); i++)
	{
		if ((wanted[i].operation != TRIGGER_TYPE_DELETE || can_move) &&
			trigger_for(triggers, relation, wanted[i].operation) == NULL)
			problems = lappend(problems, psprintf("%s: trigger for %s is missing", name,
												  wanted[i].name));
	}
	return problems;
}

/* A table's triggers see nothing of the rows of those that inherit from it. */
static List *
unattached_children(List *problems, List *triggers, Oid relation)
{
	List	   *children = get_rel_relkind(relation) == RELKIND_RELATION ?
	find_inheritance_children(relation, NoLock) : NIL;
	ListCell   *cell;

	foreach(cell, children)
	{
		char	   *name = relation_name(lfirst_oid(cell));

		if (name != NULL && trigger_for(triggers, lfirst_oid(cell), 0) == NULL)
			problems = lappend(problems,
							   psprintf("%s: inherits from an attached table and is not attached, so its rows raise no events",
										name));
	}
	return problems;
}

/* What a mapping names and is gone.  Of a table that somebody has locked nobody can tell. */
static List *
gone_columns(List *problems, const FoundTrigger *trigger)
{
	Relation	relation = source_open_soon(trigger->relation);
	char	   *name = relation_name(trigger->relation);
	ListCell   *cell;

	if (relation == NULL)
		return problems;
	foreach(cell, source_gone(source_mapping_read(trigger->argument, relation,
												  trigger->relation)))
		problems = lappend(problems, psprintf("%s: %s", name, (char *) lfirst(cell)));
	relation_close(relation, AccessShareLock);
	return problems;
}

static int
compare_strings(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

List *
faults_of_tables(void)
{
	List	   *problems = NIL;
	List	   *triggers = NIL;
	List	   *sources = gather_rows(inner_table("attached"), GetActiveSnapshot(), add_attached);
	bool		is_fed = subscriptions_report() != NIL;
	ListCell   *cell;

	find_triggers_of("run_changed", &triggers);
	find_triggers_of("build_changed", &triggers);
	foreach(cell, triggers)
	{
		const FoundTrigger *trigger = lfirst(cell);

		if (trigger->is_root)
			sources = list_append_unique_oid(sources, trigger->relation);
	}
	foreach(cell, sources)
	{
		problems = missing_triggers(problems, triggers, lfirst_oid(cell));
		problems = unattached_children(problems, triggers, lfirst_oid(cell));
	}
	foreach(cell, triggers)
	{
		const FoundTrigger *trigger = lfirst(cell);
		char	   *name = relation_name(trigger->relation);

		if (name != NULL && trigger->is_disabled)
			problems = lappend(problems, psprintf("%s: trigger %s is disabled", name,
												  trigger->name));
		if (name != NULL && trigger->is_for_replicas && !is_fed)
			problems = lappend(problems, psprintf("%s: trigger %s fires for replicas only, and there is no subscription",
												  name, trigger->name));
		if (trigger->is_root &&
			trigger->type == (TRIGGER_TYPE_ROW | TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT))
			problems = gone_columns(problems, trigger);
	}
	foreach(cell, subscriptions_of_days())
		problems = lappend(problems,
						   psprintf("subscription %s: the outbox is published without publish_via_partition_root, so the events of later days are missing",
									quote_identifier(lfirst(cell))));
	list_sort(problems, compare_strings);
	return problems;
}

/* Does a setting as "name=value" have this name?  Returns its value, or NULL. */
static const char *
value_of(const char *setting, const char *name)
{
	size_t		length = strlen(name);

	return pg_strncasecmp(setting, name, length) == 0 && setting[length] == '=' ?
		setting + length + 1 : NULL;
}

/* What of these settings keeps triggers from raising events: bits, as the configuration's. */
static uint32
silenced_by(ArrayType *settings)
{
	Datum	   *elements;
	int			count;
	bool		value;
	uint32		silenced = 0;

	deconstruct_array(settings, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		char	   *setting = TextDatumGetCString(elements[i]);
		const char *text;

		if ((text = value_of(setting, "webhook_events.emit")) != NULL &&
			parse_bool(text, &value) && !value)
			silenced |= SILENCED_EMIT;
		if ((text = value_of(setting, "session_replication_role")) != NULL &&
			pg_strcasecmp(text, "replica") == 0)
			silenced |= SILENCED_REPLICA;
	}
	return silenced;
}

/* The names of what is wrong with rows of a catalog, sorted. */
static List *
faults_of_catalog(Oid oid, void (*add) (HeapTuple row, TupleDesc desc, List **names))
{
	List	   *names = gather_rows(oid, NULL, add);

	list_sort(names, compare_strings);
	return names;
}

/* Of settings for a database or a role: what they keep from raising events, and for whom. */
static uint32
silenced_for(HeapTuple row, TupleDesc desc, char **name)
{
	Form_pg_db_role_setting form = (Form_pg_db_role_setting) GETSTRUCT(row);
	StringInfoData text;
	bool		isnull;
	Datum		settings = heap_getattr(row, Anum_pg_db_role_setting_setconfig, desc,
										&isnull);
	char	   *role;

	if (isnull || (form->setdatabase != MyDatabaseId && OidIsValid(form->setdatabase)))
		return 0;
	role = GetUserNameFromId(form->setrole, true);
	initStringInfo(&text);
	if (OidIsValid(form->setdatabase))
		appendStringInfo(&text, "database %s",
						 quote_identifier(get_database_name(MyDatabaseId)));
	if (role != NULL)
		appendStringInfo(&text, "%srole %s", text.len > 0 ? ", " : "",
						 quote_identifier(role));
	*name = text.len > 0 ? text.data : pstrdup("all roles");
	return silenced_by(DatumGetArrayTypeP(settings));
}

static void
add_emit_off(HeapTuple row, TupleDesc desc, List **names)
{
	char	   *name;

	if (silenced_for(row, desc, &name) & SILENCED_EMIT)
		*names = lappend(*names, name);
}

static void
add_replica(HeapTuple row, TupleDesc desc, List **names)
{
	char	   *name;

	if (silenced_for(row, desc, &name) & SILENCED_REPLICA)
		*names = lappend(*names, psprintf("%s (session_replication_role)", name));
}

/* Is there a trigger of ours that fires for no replica? */
static bool
any_for_origin(void)
{
	List	   *triggers = NIL;
	ListCell   *cell;

	find_triggers_of("run_changed", &triggers);
	find_triggers_of("build_changed", &triggers);
	foreach(cell, triggers)
	{
		if (((const FoundTrigger *) lfirst(cell))->is_for_origin)
			return true;
	}
	return false;
}

List *
faults_emit_off(void)
{
	uint32		silenced = shared_silenced();
	List	   *names = faults_of_catalog(DbRoleSettingRelationId, add_emit_off);
	List	   *replicas = faults_of_catalog(DbRoleSettingRelationId, add_replica);

	if (silenced & SILENCED_REPLICA)
		replicas = lappend(replicas, pstrdup("all databases (session_replication_role)"));
	if (replicas != NIL && any_for_origin())
		names = list_concat(names, replicas);
	if (silenced & SILENCED_EMIT)
		names = lappend(names, pstrdup("all databases"));
	list_sort(names, compare_strings);
	return names;
}

/* The role of a row of "grants". */
static void
add_role(HeapTuple row, TupleDesc desc, List **roles)
{
	bool		isnull;

	*roles = lappend_oid(*roles, DatumGetObjectId(heap_getattr(row, 1, desc, &isnull)));
}

/* As accesses count: a member's are those of the roles that it is a member of. */
static bool
has_access(Oid role, List *roles)
{
	ListCell   *cell;

	foreach(cell, roles)
	{
		if (has_privs_of_role(role, lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* Adds those who may query a relation and have no access. */
static void
add_without_access(Oid relation, List *roles, List **names)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Acl		   *privileges;
	Datum		value;
	Oid			owner;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	value = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	privileges = isnull ? NULL : DatumGetAclPCopy(value);
	ReleaseSysCache(tuple);
	for (int i = 0; privileges != NULL && i < ACL_NUM(privileges); i++)
	{
		const AclItem *item = &ACL_DAT(privileges)[i];
		char	   *name = OidIsValid(item->ai_grantee) ?
		GetUserNameFromId(item->ai_grantee, true) : NULL;

		if (name == NULL || (ACLITEM_GET_PRIVS(*item) & ACL_SELECT) == 0 ||
			has_privs_of_role(item->ai_grantee, owner) ||
			has_access(item->ai_grantee, roles))
			continue;
		*names = lappend(*names, name);
	}
}

/* Whoever sees events may query their view; who dumps, the table. */
List *
faults_lost_accesses(void)
{
	List	   *names = NIL;
	List	   *roles = gather_rows(inner_table("grants"), GetActiveSnapshot(), add_role);
	Oid			outside = get_namespace_oid("webhook_events", false);

	add_without_access(get_relname_relid("events", outside), roles, &names);
	add_without_access(inner_table("outbox"), roles, &names);
	list_sort(names, compare_strings);
	return names;
}

Datum
faults_array(List *faults)
{
	ArrayBuildState *state = NULL;
	ListCell   *cell;

	foreach(cell, faults)
		state = accumArrayResult(state, CStringGetTextDatum(lfirst(cell)), false,
								 TEXTOID, CurrentMemoryContext);
	return state == NULL ? (Datum) 0 : makeArrayResult(state, CurrentMemoryContext);
}

/* Returns faults from a function, or NULL if there are none. */
static Datum
return_faults(FunctionCallInfo fcinfo, List *faults)
{
	if (faults == NIL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(faults_array(faults));
}

/* broken_tables() RETURNS text[]; NULL if there are none. */
Datum
webhook_events_broken_tables(PG_FUNCTION_ARGS)
{
	return return_faults(fcinfo, faults_of_tables());
}

/* emit_off() RETURNS text[]; NULL if it is nobody. */
Datum
webhook_events_emit_off(PG_FUNCTION_ARGS)
{
	return return_faults(fcinfo, faults_emit_off());
}

/* lost_accesses() RETURNS text[]; NULL if nobody has lost one. */
Datum
webhook_events_lost_accesses(PG_FUNCTION_ARGS)
{
	return return_faults(fcinfo, faults_lost_accesses());
}
