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
#include "capture/outbox.h"
#include "capture/source.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

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

/*
 * Finds the row with this id, by the caller's rights; NULL if there is none.
 * The id is compared as a value of its column, so that an index can be used.
 */
static HeapTuple
find_row(Relation relation, AttrNumber id_column, const char *id)
{
	Form_pg_attribute attribute =
	TupleDescAttr(RelationGetDescr(relation), id_column - 1);
	HeapTuple	tuple;
	HeapTupleHeader row;
	bool		isnull;
	char	   *sql =
	psprintf("SELECT r FROM %s AS r WHERE r.%s = %s::%s",
			 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
										RelationGetRelationName(relation)),
			 quote_identifier(NameStr(attribute->attname)),
			 quote_literal_cstr(id),
			 format_type_with_typemod(attribute->atttypid, -1));

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read table \"%s\"", RelationGetRelationName(relation));
	if (SPI_processed == 0)
		return NULL;
	row = DatumGetHeapTupleHeader(SPI_getbinval(SPI_tuptable->vals[0],
												SPI_tuptable->tupdesc, 1, &isnull));
	tuple = palloc0(sizeof(HeapTupleData));
	tuple->t_len = HeapTupleHeaderGetDatumLength(row);
	tuple->t_tableOid = RelationGetRelid(relation);
	tuple->t_data = row;
	return tuple;
}

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = (text == NULL);
	if (text != NULL)
		values[column] = CStringGetTextDatum(text);
}

/* source_event(relation regclass, kind text, id text) RETURNS record */
Datum
webhook_events_source_event(PG_FUNCTION_ARGS)
{
	Relation	relation = table_open(PG_GETARG_OID(0), AccessShareLock);
	char	   *id = text_to_cstring(PG_GETARG_TEXT_PP(2));
	MemoryContext context = CurrentMemoryContext;
	Datum		values[N_SOURCE_EVENT] = {0};
	bool		nulls[N_SOURCE_EVENT];
	TupleDesc	desc;
	SourceKind	kind = strcmp(text_to_cstring(PG_GETARG_TEXT_PP(1)), "run") == 0 ?
	SOURCE_RUN : SOURCE_BUILD;
	Source	   *source = source_get_attached(relation, kind);
	HeapTuple	row;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memset(nulls, true, sizeof(nulls));
	nulls[SOURCE_EVENT_FOUND] = false;
	SPI_connect();
	row = find_row(relation, source_column(source, ROLE_ID), id);
	MemoryContextSwitchTo(context);
	if (row != NULL)
	{
		TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(relation),
														&TTSOpsHeapTuple);
		char	   *resource;
		size_t		length;

		ExecStoreHeapTuple(row, slot, false);
		values[SOURCE_EVENT_FOUND] = BoolGetDatum(true);
		set_text(values, nulls, SOURCE_EVENT_USER_ID,
				 source_text(source, slot, ROLE_USER_ID));
		set_text(values, nulls, SOURCE_EVENT_ACTOR_ID,
				 source_text(source, slot, ROLE_ACTOR_ID));
		set_text(values, nulls, SOURCE_EVENT_ACTOR_TASK_ID,
				 source_text(source, slot, ROLE_ACTOR_TASK_ID));
		resource = source_resource(source, slot, &length);
		set_text(values, nulls, SOURCE_EVENT_RESOURCE, resource);
		ExecDropSingleTupleTableSlot(slot);
	}
	SPI_finish();
	table_close(relation, NoLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* Raises an error unless the caller may see this webhook. */
static void
check_visible(const char *webhook_id)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(webhook_id);

	SPI_connect();
	if (SPI_execute_with_args("SELECT FROM webhook_events_internal.webhooks WHERE id = $1",
							  1, &type, &value, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a webhook");
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("webhook \"%s\" does not exist", webhook_id)));
	SPI_finish();
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
	check_visible(event.webhook_id);
	outbox_insert(&event, event_id);
	id_make_dispatch(dispatch_id, event_id, event.webhook_id);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(dispatch_id, ID_LENGTH));
}
