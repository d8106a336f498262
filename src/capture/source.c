/*-------------------------------------------------------------------------
 *
 * source.c
 *	  Attached tables: which column means what, and how rows are read.
 *
 * IDENTIFICATION
 *	  src/capture/source.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupconvert.h"
#include "capture/source.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "store/relation_cache.h"
#include "store/resource.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

const char *const source_role_names[N_ROLES] = {
	"id", "actor_id", "actor_task_id", "user_id", "status"
};

struct Source
{
	CachedRelation cached;
	Oid			trigger;
	MemoryContext context;		/* of all that follows */
	Oid			root;
	AttrNumber	columns[N_ROLES];
	FmgrInfo	output[N_ROLES];
	bool		is_text[N_ROLES];
	ResourceWriter *writer;		/* NULL if there is a resource function */
	bool		has_function;
	Oid			function_oid;	/* InvalidOid: it is gone */
	FmgrInfo	function;
	Oid			function_type;	/* of its result */
	TupleConversionMap *to_root;	/* of a partition's rows, or NULL */
	TupleDesc	root_desc;		/* of the rows that the function takes */
};

static HTAB *sources = NULL;

/*
 * Mappings as text
 */

static const char *
column_name(Relation relation, AttrNumber attnum)
{
	return NameStr(TupleDescAttr(RelationGetDescr(relation), attnum - 1)->attname);
}

static void
append_column(StringInfo out, Relation relation, AttrNumber attnum)
{
	const char *name = column_name(relation, attnum);

	appendStringInfoChar(out, '[');
	escape_json(out, name);
	appendStringInfo(out, ", %d]", attnum);
}

char *
source_mapping_write(const SourceMapping *mapping, Relation relation)
{
	StringInfoData out;
	const char *separator = "";
	int			attnum = -1;

	initStringInfo(&out);
	appendStringInfo(&out, "{\"database\": %u, \"relation\": %u, \"columns\": {",
					 MyDatabaseId, RelationGetRelid(relation));
	for (int role = 0; role < N_ROLES; role++)
	{
		if (mapping->columns[role] == InvalidAttrNumber)
			continue;
		appendStringInfo(&out, "%s\"%s\": ", separator, source_role_names[role]);
		append_column(&out, relation, mapping->columns[role]);
		separator = ", ";
	}
	appendStringInfoString(&out, "}, \"exclude\": [");
	separator = "";
	while ((attnum = bms_next_member(mapping->excluded, attnum)) >= 0)
	{
		appendStringInfoString(&out, separator);
		append_column(&out, relation, (AttrNumber) attnum);
		separator = ", ";
	}
	appendStringInfoChar(&out, ']');
	if (mapping->function_name)
	{
		appendStringInfoString(&out, ", \"resource\": [");
		escape_json(&out, mapping->function_schema);
		appendStringInfoString(&out, ", ");
		escape_json(&out, mapping->function_name);
		appendStringInfoChar(&out, ']');
	}
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* A member of an object or an element of an array; NULL if there is none. */
static JsonbValue *
member(JsonbContainer *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, key, (int) strlen(key), value);
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

/* Is there a column of this number that was not dropped? */
static bool
is_column(Relation relation, int attnum)
{
	TupleDesc	desc = RelationGetDescr(relation);

	return attnum > 0 && attnum <= desc->natts &&
		!TupleDescAttr(desc, attnum - 1)->attisdropped;
}

/* Finds the column of ["name", number]. */
static AttrNumber
read_column(const JsonbValue *pair, Relation relation, bool same_relation)
{
	JsonbContainer *array;
	char	   *name;
	int			by_number;
	AttrNumber	by_name;

	if (pair == NULL || pair->type != jbvBinary)
		return InvalidAttrNumber;
	array = pair->val.binary.data;
	name = string_value(getIthJsonbValueFromContainer(array, 0));
	by_number = (int) number_value(getIthJsonbValueFromContainer(array, 1));
	if (!is_column(relation, by_number))
		by_number = InvalidAttrNumber;
	by_name = name ? get_attnum(RelationGetRelid(relation), name) : InvalidAttrNumber;
	if (by_name < 0)
		by_name = InvalidAttrNumber;

	if (by_name == InvalidAttrNumber ||
		(same_relation && by_number != InvalidAttrNumber))
		return (AttrNumber) by_number;
	return by_name;
}

SourceMapping *
source_mapping_read(const char *argument, Relation relation)
{
	SourceMapping *mapping = palloc0(sizeof(SourceMapping));
	Jsonb	   *json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
														  CStringGetDatum(argument)));
	JsonbValue	value;
	JsonbValue *columns;
	JsonbValue *list;
	bool		same_relation;

	same_relation =
		number_value(member(&json->root, "database", &value)) == MyDatabaseId &&
		number_value(member(&json->root, "relation", &value)) ==
		RelationGetRelid(relation);

	columns = JB_ROOT_IS_OBJECT(json) ?
		member(&json->root, "columns", NULL) : NULL;
	if (columns == NULL || columns->type != jbvBinary)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger of table \"%s\" has no mapping of columns",
						RelationGetRelationName(relation)),
				 errhint("Only attach() makes such triggers.")));
	for (int role = 0; role < N_ROLES; role++)
		mapping->columns[role] =
			read_column(member(columns->val.binary.data,
							   source_role_names[role], &value),
						relation, same_relation);

	list = member(&json->root, "exclude", NULL);
	if (list != NULL && list->type == jbvBinary)
	{
		JsonbContainer *array = list->val.binary.data;

		for (uint32 i = 0; i < JsonContainerSize(array); i++)
		{
			AttrNumber	attnum = read_column(getIthJsonbValueFromContainer(array, i),
											 relation, same_relation);

			if (attnum != InvalidAttrNumber)
				mapping->excluded = bms_add_member(mapping->excluded, attnum);
		}
	}

	list = member(&json->root, "resource", NULL);
	if (list != NULL && list->type == jbvBinary)
	{
		JsonbContainer *array = list->val.binary.data;

		mapping->function_schema = string_value(getIthJsonbValueFromContainer(array, 0));
		mapping->function_name = string_value(getIthJsonbValueFromContainer(array, 1));
	}
	return mapping;
}

Oid
source_mapping_function(const SourceMapping *mapping, Oid row_type)
{
	List	   *name;

	if (mapping->function_name == NULL)
		return InvalidOid;
	name = list_make2(makeString(mapping->function_schema),
					  makeString(mapping->function_name));
	return LookupFuncName(name, 1, &row_type, true);
}

Oid
source_attached_relation(Oid trigger)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	Oid			relation = InvalidOid;

	while (OidIsValid(trigger))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(trigger));
		scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
		{
			Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

			relation = form->tgrelid;
			trigger = form->tgparentid;
		}
		else
			trigger = InvalidOid;
		systable_endscan(scan);
	}
	table_close(catalog, AccessShareLock);
	return relation;
}

/*
 * The cache
 */

/* A type or a function changed; which tables it concerns is not known. */
static void
invalidate_all(Datum cache, int cache_id pg_attribute_unused(),
			   uint32 hash_value pg_attribute_unused())
{
	relation_cache_invalidate(cache, InvalidOid);
}

static void
create_cache(void)
{
	sources = relation_cache_create("webhook_events sources", sizeof(Source));
	CacheRegisterSyscacheCallback(TYPEOID, invalidate_all,
								  PointerGetDatum(sources));
	CacheRegisterSyscacheCallback(PROCOID, invalidate_all,
								  PointerGetDatum(sources));
}

static void
report_missing(Relation relation, SourceRole role)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("table \"%s\" has no column for \"%s\" any more",
					RelationGetRelationName(relation), source_role_names[role]),
			 errhint("Attach the table again, with columns => '{\"%s\": \"the_column\"}'.",
					 source_role_names[role])));
}

/* Translates a column of the attached table to one of its partition. */
static AttrNumber
partition_column(Relation root, Relation relation, AttrNumber attnum)
{
	if (attnum == InvalidAttrNumber || root == relation)
		return attnum;
	return get_attnum(RelationGetRelid(relation),
					  column_name(root, attnum));
}

static Bitmapset *
partition_columns(Relation root, Relation relation, Bitmapset *columns)
{
	Bitmapset  *result = NULL;
	int			attnum = -1;

	while ((attnum = bms_next_member(columns, attnum)) >= 0)
		result = bms_add_member(result,
								partition_column(root, relation, (AttrNumber) attnum));
	return result;
}

static void
prepare_columns(Source *source, Relation root, Relation relation,
				const SourceMapping *mapping, SourceKind kind)
{
	for (int role = 0; role < N_ROLES; role++)
	{
		AttrNumber	attnum = partition_column(root, relation, mapping->columns[role]);
		Oid			type;
		Oid			output;
		bool		is_varlena;

		source->columns[role] = attnum;
		if (role == ROLE_ACTOR_TASK_ID && kind == SOURCE_BUILD)
			source->columns[role] = InvalidAttrNumber;
		if (attnum == InvalidAttrNumber)
		{
			if (role == ROLE_ID || role == ROLE_STATUS || role == ROLE_ACTOR_ID)
				report_missing(relation, role);
			continue;
		}
		type = TupleDescAttr(RelationGetDescr(relation), attnum - 1)->atttypid;
		getTypeOutputInfo(type, &output, &is_varlena);
		fmgr_info(output, &source->output[role]);
		source->is_text[role] = (type == TEXTOID || type == VARCHAROID);
	}
}

static void
prepare_function(Source *source, Relation root, Relation relation,
				 const SourceMapping *mapping)
{
	source->function_oid = source_mapping_function(mapping,
												   root->rd_rel->reltype);
	if (!OidIsValid(source->function_oid))
	{
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("resource function \"%s\" of table \"%s\" does not exist",
						mapping->function_name, RelationGetRelationName(root)),
				 errdetail("Events are recorded without a resource."),
				 errhint("Attach the table again.")));
		return;
	}
	fmgr_info(source->function_oid, &source->function);
	source->function_type = get_func_rettype(source->function_oid);
	source->root_desc = CreateTupleDescCopy(RelationGetDescr(root));
	source->root_desc->tdtypeid = root->rd_rel->reltype;
	source->root_desc->tdtypmod = -1;
	if (root != relation)
		source->to_root =
			convert_tuples_by_name(CreateTupleDescCopy(RelationGetDescr(relation)),
								   source->root_desc);
}

/* Looks up everything about a source; in its own context. */
static void
build(Source *source, Relation relation, const Trigger *trigger,
	  SourceKind kind)
{
	Relation	root = relation;
	SourceMapping *mapping;

	if (trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" of table \"%s\" has no mapping of columns",
						trigger->tgname, RelationGetRelationName(relation)),
				 errhint("Only attach() makes such triggers.")));
	source->root = RelationGetRelid(relation);
	if (relation->rd_rel->relispartition)
		source->root = source_attached_relation(trigger->tgoid);
	if (source->root != RelationGetRelid(relation))
		root = table_open(source->root, AccessShareLock);

	mapping = source_mapping_read(trigger->tgargs[0], root);
	prepare_columns(source, root, relation, mapping, kind);
	source->has_function = (mapping->function_name != NULL);
	if (source->has_function)
		prepare_function(source, root, relation, mapping);
	else
		source->writer =
			resource_writer_create(RelationGetDescr(relation),
								   source->columns[ROLE_ID],
								   source->columns[ROLE_ACTOR_ID],
								   partition_columns(root, relation,
													 mapping->excluded));
	if (root != relation)
		table_close(root, AccessShareLock);
}

/*
 * An entry that is no longer valid can still be in use further up the stack,
 * by a resource function that changes tables itself.  So its memory goes with
 * the transaction.
 */
Source *
source_get(Relation relation, const Trigger *trigger, SourceKind kind)
{
	Oid			key = RelationGetRelid(relation);
	MemoryContext old_context;
	Source	   *source;
	Source		fresh;
	bool		found;

	if (sources == NULL)
		create_cache();
	source = hash_search(sources, &key, HASH_FIND, NULL);
	if (source != NULL && source->cached.is_valid && source->trigger == trigger->tgoid)
		return source;

	memset(&fresh, 0, sizeof(Source));
	fresh.cached.relation = key;
	fresh.trigger = trigger->tgoid;
	fresh.cached.is_valid = true;
	fresh.context = AllocSetContextCreate(CurrentMemoryContext,
										  "webhook_events source",
										  ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(fresh.context);
	build(&fresh, relation, trigger, kind);
	MemoryContextSwitchTo(old_context);

	source = hash_search(sources, &key, HASH_ENTER, &found);
	if (found)
		MemoryContextSetParent(source->context, TopTransactionContext);
	MemoryContextSetParent(fresh.context, TopMemoryContext);
	*source = fresh;
	return source;
}

/* A name is no proof of what a trigger is; only its function is. */
bool
source_is_trigger_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	result = form->prolang == ClanguageId &&
		form->pronamespace == get_namespace_oid("webhook_events", true) &&
		(strcmp(NameStr(form->proname), "run_changed") == 0 ||
		 strcmp(NameStr(form->proname), "build_changed") == 0);
	ReleaseSysCache(tuple);
	return result;
}

const Trigger *
source_find_trigger(Relation relation, const char *operation)
{
	int16		type = TRIGGER_TYPE_ROW | TRIGGER_TYPE_AFTER |
	(strcmp(operation, "insert") == 0 ? TRIGGER_TYPE_INSERT :
	 strcmp(operation, "update") == 0 ? TRIGGER_TYPE_UPDATE : TRIGGER_TYPE_DELETE);

	for (int i = 0; relation->trigdesc && i < relation->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &relation->trigdesc->triggers[i];

		if (trigger->tgtype == type && trigger->tgnargs == 1 &&
			source_is_trigger_function(trigger->tgfoid))
			return trigger;
	}
	return NULL;
}

Source *
source_get_attached(Relation relation, SourceKind kind)
{
	const Trigger *trigger = source_find_trigger(relation, "insert");

	if (trigger == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not attached",
						RelationGetRelationName(relation))));
	return source_get(relation, trigger, kind);
}

AttrNumber
source_column(const Source *source, SourceRole role)
{
	return source->columns[role];
}

Oid
source_root(const Source *source)
{
	return source->root;
}

char *
source_text(Source *source, TupleTableSlot *slot, SourceRole role)
{
	bool		isnull;
	Datum		value;

	if (source->columns[role] == InvalidAttrNumber)
		return NULL;
	value = slot_getattr(slot, source->columns[role], &isnull);
	if (isnull)
		return NULL;
	if (source->is_text[role])
		return TextDatumGetCString(value);
	return OutputFunctionCall(&source->output[role], value);
}

/* Calls the table's own function with the row as the attached table has it. */
static char *
call_function(Source *source, TupleTableSlot *slot, size_t *length)
{
	LOCAL_FCINFO(fcinfo, 1);
	bool		should_free;
	HeapTuple	tuple;
	Datum		result;
	char	   *json;

	if (!OidIsValid(source->function_oid))
		return NULL;
	tuple = ExecFetchSlotHeapTuple(slot, true, &should_free);
	if (source->to_root != NULL)
		tuple = execute_attr_map_tuple(tuple, source->to_root);
	InitFunctionCallInfoData(*fcinfo, &source->function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = heap_copy_tuple_as_datum(tuple, source->root_desc);
	fcinfo->args[0].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		return NULL;
	if (source->function_type == JSONBOID)
	{
		Jsonb	   *jsonb = DatumGetJsonbP(result);

		json = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	}
	else
		json = TextDatumGetCString(result);
	*length = strlen(json);
	return json;
}

char *
source_resource(Source *source, TupleTableSlot *slot, size_t *length)
{
	StringInfoData out;

	if (source->has_function)
		return call_function(source, slot, length);
	initStringInfo(&out);
	resource_write(source->writer, slot, &out);
	*length = out.len;
	return out.data;
}
