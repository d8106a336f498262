/*-------------------------------------------------------------------------
 *
 * mapping.c
 *	  Which column of an attached table means what, as its triggers say it.
 *
 * IDENTIFICATION
 *	  src/capture/mapping.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "capture/mapping.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

const char *const source_role_names[N_ROLES] = {
	"id", "actor_id", "actor_task_id", "user_id", "status"
};

/* A column as an argument names it. */
typedef struct NamedColumn
{
	char	   *name;			/* NULL: there is none */
	AttrNumber	number;			/* InvalidAttrNumber: it was dropped; one that
								 * gets its name is excluded as well */
} NamedColumn;

/* An argument, word by word. */
typedef struct Argument
{
	uint64		system;			/* the cluster in which it was written */
	Oid			database;
	Oid			relation;
	NamedColumn columns[N_ROLES];
	List	   *excluded;		/* of NamedColumn */
	char	   *function_schema;
	char	   *function_name;
	Oid			function;
} Argument;

/*
 * To and from text
 */

static void
append_column(StringInfo out, const NamedColumn *column)
{
	appendStringInfoChar(out, '[');
	escape_json(out, column->name);
	appendStringInfo(out, ", %d]", column->number);
}

static char *
write_argument(const Argument *argument)
{
	StringInfoData out;
	const char *separator = "";
	ListCell   *cell;

	initStringInfo(&out);
	appendStringInfo(&out, "{\"system\": \"" UINT64_FORMAT
					 "\", \"database\": %u, \"relation\": %u, \"columns\": {",
					 argument->system, argument->database, argument->relation);
	for (int role = 0; role < N_ROLES; role++)
	{
		if (argument->columns[role].name == NULL)
			continue;
		appendStringInfo(&out, "%s\"%s\": ", separator, source_role_names[role]);
		append_column(&out, &argument->columns[role]);
		separator = ", ";
	}
	appendStringInfoString(&out, "}, \"exclude\": [");
	separator = "";
	foreach(cell, argument->excluded)
	{
		appendStringInfoString(&out, separator);
		append_column(&out, lfirst(cell));
		separator = ", ";
	}
	appendStringInfoChar(&out, ']');
	if (argument->function_name)
	{
		appendStringInfoString(&out, ", \"resource\": [");
		escape_json(&out, argument->function_schema);
		appendStringInfoString(&out, ", ");
		escape_json(&out, argument->function_name);
		appendStringInfo(&out, ", %u]", argument->function);
	}
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* As it is written above: no name could have such quotes in it. */
bool
source_mapping_has_function(const char *argument)
{
	return strstr(argument, ", \"resource\": [") != NULL;
}

/*
 * Arguments need not be ours: whoever may name source_mapping() can call it with any.
 * What looks into an object or an array takes each for what it should be.
 */

/* A member of an object; NULL if there is none. */
static JsonbValue *
member(JsonbContainer *object, const char *key, JsonbValue *value)
{
	if (!JsonContainerIsObject(object))
		return NULL;
	return getKeyJsonValueFromContainer(object, key, (int) strlen(key), value);
}

/* The array that a value is; NULL if it is none. */
static JsonbContainer *
array_value(const JsonbValue *value)
{
	if (value == NULL || value->type != jbvBinary ||
		!JsonContainerIsArray(value->val.binary.data))
		return NULL;
	return value->val.binary.data;
}

static uint32
number_value(const JsonbValue *value)
{
	if (value == NULL || value->type != jbvNumeric)
		return 0;
	return (uint32) DatumGetInt64(DirectFunctionCall1(numeric_int8,
													  NumericGetDatum(value->val.numeric)));
}

static char *
string_value(const JsonbValue *value)
{
	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* Reads ["name", number]. */
static NamedColumn
read_column(const JsonbValue *pair)
{
	NamedColumn column = {NULL, InvalidAttrNumber};
	JsonbContainer *array = array_value(pair);

	if (array == NULL)
		return column;
	column.name = string_value(getIthJsonbValueFromContainer(array, 0));
	column.number =
		(AttrNumber) number_value(getIthJsonbValueFromContainer(array, 1));
	return column;
}

/* Reads an argument; NULL if it is something else. */
static Argument *
read_argument(const char *text)
{
	Argument   *argument = palloc0(sizeof(Argument));
	Jsonb	   *json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
														  CStringGetDatum(text)));
	JsonbValue	value;
	JsonbValue *columns;
	JsonbContainer *array;
	char	   *system;

	columns = member(&json->root, "columns", NULL);
	if (columns == NULL || columns->type != jbvBinary)
		return NULL;
	system = string_value(member(&json->root, "system", &value));
	argument->system = system ? strtou64(system, NULL, 10) : 0;
	argument->database = number_value(member(&json->root, "database", &value));
	argument->relation = number_value(member(&json->root, "relation", &value));
	for (int role = 0; role < N_ROLES; role++)
		argument->columns[role] =
			read_column(member(columns->val.binary.data,
							   source_role_names[role], &value));

	array = array_value(member(&json->root, "exclude", NULL));
	for (uint32 i = 0; array != NULL && i < JsonContainerSize(array); i++)
	{
		NamedColumn *column = palloc(sizeof(NamedColumn));

		*column = read_column(getIthJsonbValueFromContainer(array, i));
		if (column->name != NULL)
			argument->excluded = lappend(argument->excluded, column);
	}

	array = array_value(member(&json->root, "resource", NULL));
	if (array != NULL)
	{
		argument->function_schema = string_value(getIthJsonbValueFromContainer(array, 0));
		argument->function_name = string_value(getIthJsonbValueFromContainer(array, 1));
		argument->function = number_value(getIthJsonbValueFromContainer(array, 2));
	}
	return argument;
}

/*
 * Was it written in this database?  Then its oids and numbers mean something.  The
 * first version did not say in which cluster it wrote.
 */
static bool
is_from_here(const Argument *argument)
{
	return (argument->system == GetSystemIdentifier() || argument->system == 0) &&
		argument->database == MyDatabaseId;
}

char *
source_mapping_write(const SourceMapping *mapping, Relation relation)
{
	Argument	argument = {
		.system = GetSystemIdentifier(),
		.database = MyDatabaseId,
		.relation = RelationGetRelid(relation),
		.function_schema = mapping->function_schema,
		.function_name = mapping->function_name,
		.function = mapping->function
	};
	TupleDesc	desc = RelationGetDescr(relation);
	int			attnum = -1;

	for (int role = 0; role < N_ROLES; role++)
	{
		NamedColumn *column = &argument.columns[role];

		column->number = mapping->columns[role];
		if (column->number != InvalidAttrNumber)
			column->name = NameStr(TupleDescAttr(desc, column->number - 1)->attname);
	}
	while ((attnum = bms_next_member(mapping->excluded, attnum)) >= 0)
	{
		NamedColumn *column = palloc(sizeof(NamedColumn));

		column->number = (AttrNumber) attnum;
		column->name = NameStr(TupleDescAttr(desc, attnum - 1)->attname);
		argument.excluded = lappend(argument.excluded, column);
	}
	return write_argument(&argument);
}

/*
 * What it means now
 */

/* Finds a column by name; not one of the system's. */
static AttrNumber
find_column(Relation relation, const char *name)
{
	TupleDesc	desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
			return attribute->attnum;
	}
	return InvalidAttrNumber;
}

/*
 * What a column is called now; sets *was_dropped if it is known to be gone for
 * good.  The table that was attached is not opened: a writer to a partition must
 * not wait for who locks the parent.
 */
static const char *
current_name(const Argument *argument, const NamedColumn *column,
			 Relation relation, bool *was_dropped)
{
	HeapTuple	tuple;
	const char *name = column->name;

	*was_dropped = false;
	if (!is_from_here(argument) ||
		(argument->relation != RelationGetRelid(relation) &&
		 !relation->rd_rel->relispartition) ||
		(argument->system == 0 &&
		 find_column(relation, name) != InvalidAttrNumber))
		return name;
	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(argument->relation),
							Int16GetDatum(column->number));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_attribute attribute = (Form_pg_attribute) GETSTRUCT(tuple);

		*was_dropped = attribute->attisdropped;
		name = pstrdup(NameStr(attribute->attname));
		ReleaseSysCache(tuple);
	}
	return name;
}

static void
resolve_columns(SourceMapping *mapping, const Argument *argument,
				Relation relation)
{
	bool		was_dropped;
	ListCell   *cell;

	for (int role = 0; role < N_ROLES; role++)
	{
		const NamedColumn *column = &argument->columns[role];

		if (column->name == NULL)
			continue;
		mapping->columns[role] =
			find_column(relation, current_name(argument, column, relation,
											   &was_dropped));
		if (mapping->columns[role] == InvalidAttrNumber)
			mapping->gone = lappend(mapping->gone, column->name);
	}
	foreach(cell, argument->excluded)
	{
		const NamedColumn *column = lfirst(cell);
		const char *name = current_name(argument, column, relation, &was_dropped);
		AttrNumber	attnum = find_column(relation, was_dropped ? column->name : name);

		if (attnum != InvalidAttrNumber)
			mapping->excluded = bms_add_member(mapping->excluded, attnum);
		else if (!was_dropped && column->number != InvalidAttrNumber)
			mapping->lost = lappend(mapping->lost, column->name);
	}
}

/*
 * Can this function make the resource of rows of this type?  It takes one and
 * returns json or jsonb.
 */
static bool
source_function_fits(Oid function, Oid row_type)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		fits;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	fits = form->prokind == PROKIND_FUNCTION && !form->proretset &&
		form->pronargs == 1 && form->proargtypes.values[0] == row_type &&
		(form->prorettype == JSONOID || form->prorettype == JSONBOID);
	ReleaseSysCache(tuple);
	return fits;
}

/* Finds a function of this name for such rows, whoever asks. */
static Oid
find_function(const char *schema, const char *name, Oid row_type)
{
	Oid			namespace = get_namespace_oid(schema, true);

	if (!OidIsValid(namespace))
		return InvalidOid;
	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   CStringGetDatum(name),
						   PointerGetDatum(buildoidvector(&row_type, 1)),
						   ObjectIdGetDatum(namespace));
}

/* Fills in the name that a function has now. */
static bool
name_function(Argument *argument)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(argument->function));
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	argument->function_schema = get_namespace_name(form->pronamespace);
	argument->function_name = pstrdup(NameStr(form->proname));
	ReleaseSysCache(tuple);
	return argument->function_schema != NULL;
}

static void
resolve_function(SourceMapping *mapping, Argument *argument)
{
	Oid			row_type = get_rel_type_id(mapping->attached);

	if (argument->function_name == NULL)
		return;
	if (!is_from_here(argument) ||
		!source_function_fits(argument->function, row_type) ||
		!name_function(argument))
		argument->function = find_function(argument->function_schema,
										   argument->function_name, row_type);
	if (source_function_fits(argument->function, row_type))
		mapping->function = argument->function;
	mapping->function_schema = argument->function_schema;
	mapping->function_name = argument->function_name;
}

SourceMapping *
source_mapping_read(const char *text, Relation relation, Oid attached)
{
	SourceMapping *mapping = palloc0(sizeof(SourceMapping));
	Argument   *argument = read_argument(text);

	if (argument == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger of table \"%s\" has no mapping of columns",
						RelationGetRelationName(relation)),
				 errhint("Only attach() makes such triggers.")));
	mapping->attached = attached;
	mapping->is_elsewhere = !is_from_here(argument) || argument->relation != attached;
	if (is_from_here(argument) &&
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(argument->relation)))
		mapping->attached = argument->relation;
	resolve_columns(mapping, argument, relation);
	resolve_function(mapping, argument);
	return mapping;
}

/*
 * Changes that are followed
 */

static bool
follow(NamedColumn *column, const char *old_name, const char *new_name)
{
	if (column->name == NULL || strcmp(column->name, old_name) != 0)
		return false;
	column->name = unconstify(char *, new_name);
	return true;
}

/*
 * A mapped column that was dropped stays in the argument, so that its lack can
 * be told; of an excluded one only the name is left.
 */
char *
source_mapping_follow_column(const char *text, const char *old_name,
							 const char *new_name)
{
	Argument   *argument = read_argument(text);
	bool		changed = false;
	ListCell   *cell;

	if (argument == NULL)
		return NULL;
	for (int role = 0; role < N_ROLES && new_name != NULL; role++)
		changed |= follow(&argument->columns[role], old_name, new_name);
	foreach(cell, argument->excluded)
	{
		NamedColumn *column = lfirst(cell);

		if (new_name != NULL)
			changed |= follow(column, old_name, new_name);
		else if (column->number != InvalidAttrNumber &&
				 strcmp(column->name, old_name) == 0)
		{
			column->number = InvalidAttrNumber;
			changed = true;
		}
	}
	return changed ? write_argument(argument) : NULL;
}

/* What it means is written down again, in the numbers of the attached table. */
char *
source_mapping_modernise(const char *text, Relation relation)
{
	Argument   *argument = read_argument(text);
	bool		was_dropped;
	ListCell   *cell;

	if (argument == NULL || argument->system != 0 ||
		argument->database != MyDatabaseId)
		return NULL;
	for (int role = 0; role < N_ROLES; role++)
	{
		NamedColumn *column = &argument->columns[role];

		if (column->name != NULL)
			column->name = pstrdup(current_name(argument, column, relation,
												&was_dropped));
	}
	foreach(cell, argument->excluded)
	{
		NamedColumn *column = lfirst(cell);

		const char *name = current_name(argument, column, relation, &was_dropped);

		if (was_dropped)
			column->number = InvalidAttrNumber;
		else
			column->name = pstrdup(name);
	}
	argument->system = GetSystemIdentifier();
	return write_argument(argument);
}

char *
source_mapping_follow_function(const char *text)
{
	Argument   *argument = read_argument(text);
	const char *schema;
	const char *name;

	if (argument == NULL || argument->function_name == NULL ||
		!is_from_here(argument))
		return NULL;
	schema = argument->function_schema;
	name = argument->function_name;
	if (!name_function(argument) ||
		(strcmp(schema, argument->function_schema) == 0 &&
		 strcmp(name, argument->function_name) == 0))
		return NULL;
	return write_argument(argument);
}

/*
 * Triggers
 */

/*
 * By the symbol, which only a superuser can name: neither the name of a trigger
 * nor that of a function proves anything.  No library is loaded for it.
 */
bool
source_is_trigger_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		is_ours = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
	{
		bool		isnull;
		Datum		source = SysCacheGetAttr(PROCOID, tuple,
											 Anum_pg_proc_prosrc, &isnull);
		char	   *symbol = isnull ? NULL : TextDatumGetCString(source);

		is_ours = symbol !=NULL &&
					(strcmp(symbol, "webhook_events_run_changed") == 0 ||
					 strcmp(symbol, "webhook_events_build_changed") == 0);
	}
	ReleaseSysCache(tuple);
	return is_ours;
}

bool
source_is_trigger(const FormData_pg_trigger *trigger)
{
	return source_is_trigger_function(trigger->tgfoid);
}

static int16
operation_type(const char *operation)
{
	if (strcmp(operation, "insert") == 0)
		return TRIGGER_TYPE_INSERT;
	return strcmp(operation, "update") == 0 ? TRIGGER_TYPE_UPDATE
		: TRIGGER_TYPE_DELETE;
}

const Trigger *
source_find_trigger(Relation relation, const char *operation)
{
	int16		type = TRIGGER_TYPE_ROW | TRIGGER_TYPE_AFTER | operation_type(operation);

	for (int i = 0; relation->trigdesc && i < relation->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &relation->trigdesc->triggers[i];
		Oid			function = trigger->tgfoid;

		if (trigger->tgtype != type || trigger->tgnargs != 1 ||
			!source_is_trigger_function(function))
			continue;

		/* To look for that can have had the triggers read anew. */
		if (relation->trigdesc == NULL || i >= relation->trigdesc->numtriggers)
			break;
		trigger = &relation->trigdesc->triggers[i];
		if (trigger->tgtype == type && trigger->tgfoid == function)
			return trigger;
	}
	return NULL;
}
