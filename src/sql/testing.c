/*-------------------------------------------------------------------------
 *
 * testing.c
 *	  SQL functions behind test_webhook(): a row as an event would show it, and
 *	  TEST events.
 *
 * IDENTIFICATION
 *	  src/sql/testing.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "capture/outbox.h"
#include "capture/source.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/access.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(webhook_events_source_event);
PG_FUNCTION_INFO_V1(webhook_events_raise_test);

/* The columns of source_event(). */
enum
{
	SOURCE_EVENT_FOUND,
	SOURCE_EVENT_USER_ID,
	SOURCE_EVENT_ACTOR_ID,
	SOURCE_EVENT_ACTOR_TASK_ID,
	SOURCE_EVENT_RESOURCE,
	N_SOURCE_EVENT
};

static Oid
get_typ_namespace(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	result = ((Form_pg_type) GETSTRUCT(tuple))->typnamespace;
	ReleaseSysCache(tuple);
	return result;
}

/* The column as an expression, and the value that it is compared with. */
static char *
comparison(Form_pg_attribute attribute, const char *id)
{
	Oid			type = getBaseType(attribute->atttypid);
	const char *column = quote_identifier(NameStr(attribute->attname));

	/*
	 * Only types of pg_catalog have operators of pg_catalog, and indexes by
	 * them.  Of others what they print is compared: a cast can be anybody's.
	 */
	if (get_typ_namespace(type) != PG_CATALOG_NAMESPACE)
		return psprintf("pg_catalog.concat(t.%s) OPERATOR(pg_catalog.=) %s::pg_catalog.text",
						column, quote_literal_cstr(id));
	return psprintf("t.%s OPERATOR(pg_catalog.=) %s::%s", column, quote_literal_cstr(id),
					format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY |
										 FORMAT_TYPE_TYPEMOD_GIVEN));
}

/*
 * Finds where the row with this id lies, in the table or in a partition of it;
 * false if there is none.  A row is never taken from a result: there "t" would be
 * a column of that name.
 */
static bool
find_row(Relation relation, AttrNumber id_column, const char *id, Oid *leaf,
		 ItemPointer tid)
{
	Form_pg_attribute attribute =
	TupleDescAttr(RelationGetDescr(relation), id_column - 1);
	bool		isnull;
	char	   *sql =
	psprintf("SELECT t.tableoid, t.ctid FROM %s %s AS t WHERE %s",
			 relation->rd_rel->relkind == RELKIND_RELATION ? "ONLY" : "",
			 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
										RelationGetRelationName(relation)),
			 comparison(attribute, id));

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read table \"%s\"", RelationGetRelationName(relation));
	if (SPI_processed == 0)
		return false;
	*leaf = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
										   SPI_tuptable->tupdesc, 1, &isnull));
	*tid = *(ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[0],
														SPI_tuptable->tupdesc, 2, &isnull));
	return true;
}

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = (text == NULL);
	if (text != NULL)
		values[column] = CStringGetTextDatum(text);
}

/* Reads what an event of a row would hold; as the table's owner, within SPI. */
static bool
read_row(Relation relation, const char *id, MemoryContext context,
		 Datum *values, bool *nulls)
{
	Source	   *source = source_get_attached(relation);
	Oid			oid;
	ItemPointerData tid;
	Relation	leaf;
	TupleTableSlot *slot;
	bool		found;

	if (source_column(source, ROLE_ID) == InvalidAttrNumber ||
		!find_row(relation, source_column(source, ROLE_ID), id, &oid, &tid))
		return false;
	leaf = table_open(oid, AccessShareLock);
	/* The rows of a foreign table lie elsewhere. */
	if (leaf->rd_rel->relkind != RELKIND_RELATION)
	{
		table_close(leaf, AccessShareLock);
		return false;
	}
	source = source_get_attached(leaf);
	slot = table_slot_create(leaf, NULL);
	found = table_tuple_fetch_row_version(leaf, &tid, GetActiveSnapshot(), slot);
	if (found)
	{
		size_t		length;
		const char *problem;
		MemoryContext spi_context = MemoryContextSwitchTo(context);

		values[SOURCE_EVENT_FOUND] = BoolGetDatum(true);
		set_text(values, nulls, SOURCE_EVENT_USER_ID,
				 source_text(source, slot, ROLE_USER_ID));
		set_text(values, nulls, SOURCE_EVENT_ACTOR_ID,
				 source_text(source, slot, ROLE_ACTOR_ID));
		set_text(values, nulls, SOURCE_EVENT_ACTOR_TASK_ID,
				 source_text(source, slot, ROLE_ACTOR_TASK_ID));
		set_text(values, nulls, SOURCE_EVENT_RESOURCE,
				 source_resource(source, slot, &length, &problem));
		MemoryContextSwitchTo(spi_context);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(leaf, AccessShareLock);
	return found;
}

/*
 * source_event(relation regclass, kind text, id text) RETURNS record
 *
 * Policies and the resource function are the table owner's, so they run as that.
 */
Datum
webhook_events_source_event(PG_FUNCTION_ARGS)
{
	Relation	relation = table_open(PG_GETARG_OID(0), AccessShareLock);
	char	   *id = text_to_cstring(PG_GETARG_TEXT_PP(2));
	Datum		values[N_SOURCE_EVENT] = {0};
	bool		nulls[N_SOURCE_EVENT];
	TupleDesc	desc;
	AccessUser	user;
	MemoryContext context = CurrentMemoryContext;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(nulls, true, sizeof(nulls));
	nulls[SOURCE_EVENT_FOUND] = false;
	user = access_become(relation->rd_rel->relowner);
	PG_TRY();
	{
		SPI_connect();
		(void) read_row(relation, id, context, values, nulls);
		SPI_finish();
	}
	PG_CATCH();
	{
		access_rethrow(context);
	}
	PG_END_TRY();
	access_return(user);
	table_close(relation, NoLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * raise_test(webhook_id text, user_id text, actor_id text, actor_task_id text,
 * actor_run_id text, actor_build_id text, resource json) RETURNS text
 */
Datum
webhook_events_raise_test(PG_FUNCTION_ARGS)
{
	char	   *texts[7];
	OutboxEvent event = {.type = EVENT_TEST};
	Id			event_id;
	Id			dispatch_id;

	for (int i = 0; i < (int) lengthof(texts); i++)
		texts[i] = PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
	if (texts[0] == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a TEST event needs a webhook")));
	event.webhook_id = texts[0];
	event.user_id = texts[1];
	event.actor_id = texts[2];
	event.actor_task_id = texts[3];
	event.actor_run_id = texts[4];
	event.actor_build_id = texts[5];
	event.resource = texts[6];
	event.resource_length = texts[6] ? strlen(texts[6]) : 0;
	outbox_insert(&event, event_id);
	id_make_dispatch(dispatch_id, event_id, event.webhook_id);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(dispatch_id, ID_LENGTH));
}
