/*-------------------------------------------------------------------------
 *
 * draft.c
 *	  Rows of the table webhooks that are being made.
 *
 * IDENTIFICATION
 *	  src/sql/draft.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "sql/draft.h"
#include "store/day_table.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static Draft
make_draft(Oid type)
{
	Draft		draft;

	draft.desc = lookup_rowtype_tupdesc(type, -1);
	draft.values = palloc0(sizeof(Datum) * draft.desc->natts);
	draft.nulls = palloc(sizeof(bool) * draft.desc->natts);
	memset(draft.nulls, true, sizeof(bool) * draft.desc->natts);
	return draft;
}

Draft
draft_create(void)
{
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum("webhooks"),
									   ObjectIdGetDatum(day_table_namespace()));

	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension \"webhook_events\" is not installed")));
	return make_draft(type);
}

Draft
draft_from_row(Datum row)
{
	Draft		draft = make_draft(HeapTupleHeaderGetTypeId(DatumGetHeapTupleHeader(row)));

	draft_set_row(&draft, row);
	return draft;
}

void
draft_set_row(Draft *draft, Datum row)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};

	heap_deform_tuple(&tuple, draft->desc, draft->values, draft->nulls);
}

Datum
draft_row(const Draft *draft)
{
	return HeapTupleGetDatum(heap_form_tuple(draft->desc, draft->values, draft->nulls));
}

void
draft_close(Draft *draft)
{
	ReleaseTupleDesc(draft->desc);
	pfree(draft->values);
	pfree(draft->nulls);
}

bool
draft_is_null(const Draft *draft, WebhookColumn column)
{
	return draft->nulls[webhook_column(draft->desc, column) - 1];
}

Datum
draft_value(const Draft *draft, WebhookColumn column)
{
	return draft->values[webhook_column(draft->desc, column) - 1];
}

bool
draft_flag(const Draft *draft, WebhookColumn column)
{
	return !draft_is_null(draft, column) && DatumGetBool(draft_value(draft, column));
}

void
draft_set(Draft *draft, WebhookColumn column, Datum value)
{
	int			i = webhook_column(draft->desc, column) - 1;

	draft->values[i] = value;
	draft->nulls[i] = false;
}

void
draft_set_null(Draft *draft, WebhookColumn column)
{
	draft->nulls[webhook_column(draft->desc, column) - 1] = true;
}
