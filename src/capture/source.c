/*-------------------------------------------------------------------------
 *
 * source.c
 *	  Attached tables as the trigger functions see them: how rows are read.
 *
 * What is known of a table is kept until something changes of which it was made:
 * the table itself, the types of its columns and the tables and types below
 * these, or a function.
 *
 * IDENTIFICATION
 *	  src/capture/source.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "capture/function.h"
#include "capture/source.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "server/settings.h"
#include "store/relation_cache.h"
#include "store/resource.h"
#include "store/trigger_rows.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* How a column's value becomes text. */
typedef enum TextForm
{
	FORM_OUTPUT,				/* by its type's output function */
	FORM_TEXT,					/* it is its text */
	FORM_PADDED					/* it is its text, padded with blanks */
} TextForm;

/* Hash values of entries in system caches. */
typedef struct Hashes
{
	int			count;
	uint32	   *values;
} Hashes;

struct Source
{
	bool		is_valid;
	int			users;			/* calls of functions further up the stack */
	MemoryContext context;		/* of this and all that follows */
	Oid			relation;
	Oid			attached;
	bool		is_elsewhere;	/* its mapping was written for another table */
	AttrNumber	columns[N_ROLES];
	TextForm	forms[N_ROLES];
	FmgrInfo	output[N_ROLES];
	ResourceWriter *writer;		/* NULL: there is a function, or no resource */
	ResourceFunction *function; /* NULL: there is none */
	const char *problem;		/* with the mapping; NULL: none */

	/* What it was made from. */
	List	   *relations;
	Hashes		types;
	Hashes		functions;
	bool		any_function;	/* one that is missing may be made */
};

typedef struct SourceEntry
{
	Oid			relation;		/* hash key */
	Source	   *source;
} SourceEntry;

static HTAB *sources = NULL;
static uint64 changes = 0;		/* so many were told until now */

/*
 * What changes
 */

static bool
holds(const Hashes *hashes, uint32 value)
{
	for (int i = 0; i < hashes->count; i++)
	{
		if (hashes->values[i] == value)
			return true;
	}
	return false;
}

static void
relation_changed(Datum arg pg_attribute_unused(), Oid relation)
{
	HASH_SEQ_STATUS scan;
	SourceEntry *entry;

	changes++;
	hash_seq_init(&scan, sources);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!OidIsValid(relation) || entry->relation == relation ||
			list_member_oid(entry->source->relations, relation))
			entry->source->is_valid = false;
	}
}

static void
object_changed(Datum arg pg_attribute_unused(), int cache_id, uint32 hash_value)
{
	HASH_SEQ_STATUS scan;
	SourceEntry *entry;

	changes++;
	hash_seq_init(&scan, sources);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		Source	   *source = entry->source;

		if (hash_value == 0 ||
			(cache_id == TYPEOID && holds(&source->types, hash_value)) ||
			(cache_id == PROCOID && (source->any_function ||
									 holds(&source->functions, hash_value))) ||
			(cache_id == NAMESPACEOID && source->function != NULL))
			source->is_valid = false;
	}
}

static void
create_cache(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(SourceEntry)
	};

	sources = hash_create("webhook_events sources", 16, &control,
						  HASH_ELEM | HASH_BLOBS);
	relation_watch(relation_changed, 0);
	CacheRegisterSyscacheCallback(TYPEOID, object_changed, 0);
	CacheRegisterSyscacheCallback(PROCOID, object_changed, 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, object_changed, 0);
}

static Hashes
hash_oids(int cache_id, const List *oids)
{
	Hashes		hashes = {0, palloc(sizeof(uint32) * (list_length(oids) + 1))};
	ListCell   *cell;

	foreach(cell, oids)
		hashes.values[hashes.count++] =
		GetSysCacheHashValue1(cache_id, ObjectIdGetDatum(lfirst_oid(cell)));
	return hashes;
}

/*
 * Making one
 */

/* The table that was attached, of a trigger or of one made for a partition. */
static Oid
attached_relation(Oid trigger)
{
	Oid			relation = InvalidOid;

	while (OidIsValid(trigger))
	{
		HeapTuple	row = trigger_row(trigger, NULL);

		if (!HeapTupleIsValid(row))
			break;
		relation = trigger_form(row)->tgrelid;
		trigger = trigger_form(row)->tgparentid;
	}
	return relation;
}

static void
prepare_columns(Source *source, Relation relation, const SourceMapping *mapping,
				ResourceDependencies *dependencies)
{
	for (int role = 0; role < N_ROLES; role++)
	{
		AttrNumber	attnum = mapping->columns[role];
		Oid			type;
		Oid			output;
		bool		is_varlena;

		source->columns[role] = attnum;
		if (attnum == InvalidAttrNumber)
			continue;
		type = TupleDescAttr(RelationGetDescr(relation), attnum - 1)->atttypid;
		dependencies->types = lappend_oid(dependencies->types, type);
		type = getBaseType(type);
		if (type == TEXTOID || type == VARCHAROID)
			source->forms[role] = FORM_TEXT;
		else if (type == BPCHAROID)
			source->forms[role] = FORM_PADDED;
		getTypeOutputInfo(type, &output, &is_varlena);
		fmgr_info_cxt(output, &source->output[role], source->context);
		dependencies->functions = lappend_oid(dependencies->functions, output);
	}
}

static void
append_names(StringInfo out, const char *what, const List *names)
{
	ListCell   *cell;

	foreach(cell, names)
		appendStringInfo(out, "%s%s \"%s\" is gone", out->len > 0 ? "; " : "",
						 what, (const char *) lfirst(cell));
}

/*
 * Looks up everything about a source, in its own context.  A resource is withheld
 * where the column that must not be shown can't be told from the others.
 */
static void
build_source(Source *source, Relation relation, const Trigger *trigger)
{
	ResourceDependencies dependencies = {NIL, NIL, NIL};
	Oid			attached = RelationGetRelid(relation);
	SourceMapping *mapping;
	char	   *argument;
	StringInfoData problem;

	if (trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" of table \"%s\" has no mapping of columns",
						trigger->tgname, RelationGetRelationName(relation)),
				 errhint("Only attach() makes such triggers.")));

	/*
	 * Of the trigger nothing is left if it is the relation's, once catalogs
	 * are read.
	 */
	argument = pstrdup(trigger->tgargs[0]);
	if (relation->rd_rel->relispartition)
		attached = attached_relation(trigger->tgoid);
	mapping = source_mapping_read(argument, relation, attached);
	source->relation = RelationGetRelid(relation);
	source->attached = mapping->attached;
	source->is_elsewhere = mapping->is_elsewhere;

	initStringInfo(&problem);
	append_names(&problem, "column", mapping->gone);
	append_names(&problem, "excluded column", mapping->lost);
	prepare_columns(source, relation, mapping, &dependencies);
	if (mapping->function_name != NULL)
	{
		source->function = resource_function_create(mapping, relation);
		source->any_function = !OidIsValid(mapping->function);
		dependencies.functions = lappend_oid(dependencies.functions,
											 mapping->function);
	}
	else if (mapping->lost == NIL)
		source->writer = resource_writer_create(RelationGetDescr(relation),
												source->columns[ROLE_ID],
												source->columns[ROLE_ACTOR_ID],
												mapping->excluded,
												&dependencies);
	source->problem = problem.len > 0 ? problem.data : NULL;
	source->relations = lappend_oid(dependencies.relations, source->attached);
	source->types = hash_oids(TYPEOID, dependencies.types);
	source->functions = hash_oids(PROCOID, dependencies.functions);
}

/*
 * Forgets what is no longer valid, unless a resource function that was called with
 * it has changed tables itself and so brought us here.
 */
static void
forget_invalid(void)
{
	HASH_SEQ_STATUS scan;
	SourceEntry *entry;

	hash_seq_init(&scan, sources);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		Source	   *source = entry->source;

		if (source->is_valid)
			continue;
		(void) hash_search(sources, &entry->relation, HASH_REMOVE, NULL);
		if (source->users == 0)
			MemoryContextDelete(source->context);
	}
}

Source *
source_get(Relation relation, const Trigger *trigger)
{
	Oid			key = RelationGetRelid(relation);
	MemoryContext context;
	MemoryContext old_context;
	SourceEntry *entry;
	Source	   *source;
	uint64		changes_before;
	bool		found;

	if (sources == NULL)
		create_cache();
	entry = hash_search(sources, &key, HASH_FIND, NULL);
	if (entry != NULL && entry->source->is_valid)
		return entry->source;

	forget_invalid();
	context = AllocSetContextCreate(CurrentMemoryContext, "webhook_events source",
									ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(context);
	source = palloc0(sizeof(Source));
	source->context = context;
	changes_before = changes;
	build_source(source, relation, trigger);
	/* What changed meanwhile may have been read before: next time again. */
	source->is_valid = (changes == changes_before);
	MemoryContextSwitchTo(old_context);

	entry = hash_search(sources, &key, HASH_ENTER, &found);
	MemoryContextSetParent(context, TopMemoryContext);
	entry->source = source;
	return source;
}

Source *
source_get_attached(Relation relation)
{
	const Trigger *trigger = source_find_trigger(relation, "insert");

	if (trigger == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not attached",
						RelationGetRelationName(relation))));
	return source_get(relation, trigger);
}

/*
 * Reading rows
 */

AttrNumber
source_column(const Source *source, SourceRole role)
{
	return source->columns[role];
}

Oid
source_attached(const Source *source)
{
	return source->attached;
}

bool
source_is_elsewhere(const Source *source)
{
	return source->is_elsewhere;
}

static bool
is_before_insert(const FormData_pg_trigger *trigger)
{
	return TRIGGER_TYPE_MATCHES(trigger->tgtype, TRIGGER_TYPE_ROW, TRIGGER_TYPE_BEFORE,
								TRIGGER_TYPE_INSERT);
}

bool
source_may_swallow(const Source *source)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(source->attached, NoLock, NULL))
	{
		if (trigger_rows(lfirst_oid(cell), is_before_insert) != NIL)
			return true;
	}
	return false;
}

char *
source_text(Source *source, TupleTableSlot *slot, SourceRole role)
{
	bool		isnull;
	Datum		value;
	char	   *result;

	if (source->columns[role] == InvalidAttrNumber)
		return NULL;
	value = slot_getattr(slot, source->columns[role], &isnull);
	if (isnull)
		return NULL;
	if (source->forms[role] == FORM_OUTPUT)
		return OutputFunctionCall(&source->output[role], value);
	result = TextDatumGetCString(value);
	if (source->forms[role] == FORM_PADDED)
		result[bpchartruelen(result, (int) strlen(result))] = '\0';
	return result;
}

/* Ends a use; what was replaced meanwhile goes. */
static void
release(Source *source)
{
	SourceEntry *entry;

	if (--source->users > 0 || source->is_valid)
		return;
	entry = hash_search(sources, &source->relation, HASH_FIND, NULL);
	if (entry == NULL || entry->source != source)
		MemoryContextDelete(source->context);
}

/* Calls the table's own function; an error must not leave the source in use. */
static pg_noinline char *
call_function(Source *source, TupleTableSlot *slot, size_t *length,
			  const char **problem)
{
	char	   *volatile result = NULL;

	source->users++;
	PG_TRY();
	{
		result = resource_function_call(source->function, slot, length, problem);
	}
	PG_CATCH();
	{
		release(source);
		PG_RE_THROW();
	}
	PG_END_TRY();
	release(source);
	return result;
}

char *
source_join_problems(const char *one, const char *other)
{
	if (one == NULL || other == NULL)
		return unconstify(char *, one ? one : other);
	return psprintf("%s; %s", one, other);
}

char *
source_resource(Source *source, TupleTableSlot *slot, size_t *length,
				const char **problem)
{
	const char *of_mapping = source->problem ? pstrdup(source->problem) : NULL;
	const char *of_row = NULL;
	char	   *resource = NULL;
	StringInfoData out;

	if (source->function != NULL)
		resource = call_function(source, slot, length, &of_row);
	else if (source->writer != NULL)
	{
		initStringInfo(&out);
		if (resource_write(source->writer, slot, setting_resource_limit, &out))
		{
			resource = out.data;
			*length = out.len;
		}
		else
			of_row = resource_too_long();
	}
	*problem = source_join_problems(of_mapping, of_row);
	return resource;
}
