/*-------------------------------------------------------------------------
 *
 * run_ends.c
 *	  Whether runs have ended, by the rows of an attached table.
 *
 * The worker asks this, who serves everybody and has no time for what one table's owner
 * has made: no statement is planned, which would evaluate the owner's policies, casts,
 * checks and expressions, all of which can sleep.  Rows are looked up by an index, whose
 * comparison only a superuser can have made, and read as the triggers read them.
 *
 * IDENTIFICATION
 *	  src/sql/run_ends.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "capture/source.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "rules/transition.h"
#include "rules/webhook.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(webhook_events_run_ends);

/* How runs are looked up in a table. */
typedef struct Lookup
{
	AttrNumber	column;
	Oid			index;
	ScanKeyData key;			/* with the id */
	Oid			type;			/* of the column */
	FmgrInfo	input;			/* from an id's text to the column's type */
	Oid			input_parameter;
} Lookup;

/* Does this index find any row by the column, with the comparison of its type? */
static bool
is_index_of(Relation index, AttrNumber column)
{
	return index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisvalid &&
		!index->rd_index->indcheckxmin && index->rd_index->indkey.values[0] == column &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/* Looks for such an index; false if there is none. */
static bool
prepare(Lookup *lookup, Relation table, AttrNumber column)
{
	ListCell   *cell;

	lookup->column = column;
	lookup->index = InvalidOid;
	if (column == InvalidAttrNumber)
		return false;
	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_index_of(index, column))
		{
			Oid			type = index->rd_opcintype[0];
			Oid			equality = get_opfamily_member(index->rd_opfamily[0], type, type,
													   BTEqualStrategyNumber);

			lookup->index = lfirst_oid(cell);
			ScanKeyEntryInitialize(&lookup->key, 0, column, BTEqualStrategyNumber, InvalidOid,
								   index->rd_indcollation[0], get_opcode(equality),
								   (Datum) 0);
		}
		index_close(index, NoLock);
		if (OidIsValid(lookup->index))
			return true;
	}
	return false;
}

/* How an id becomes a value of the column's type. */
static void
prepare_input(Lookup *lookup, Relation table)
{
	Oid			function;

	lookup->type = getBaseType(TupleDescAttr(RelationGetDescr(table),
											 lookup->column - 1)->atttypid);
	getTypeInputInfo(lookup->type, &function, &lookup->input_parameter);
	fmgr_info(function, &lookup->input);
}

static void
read_id(Lookup *lookup, char *id)
{
	lookup->key.sk_argument = InputFunctionCall(&lookup->input, id,
												lookup->input_parameter, -1);
}

/* The same; false if no row of this table can have it, since its ids are no texts. */
static bool
try_to_read_id(Lookup *lookup, char *id)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool is_read = true;

	if (lookup->type == TEXTOID || lookup->type == VARCHAROID || lookup->type == BPCHAROID)
	{
		read_id(lookup, id);
		return true;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		read_id(lookup, id);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
			ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
			ReThrowError(error);
		FreeErrorData(error);
		is_read = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return is_read;
}

/* Returns a row of the function for each row that has the id. */
static void
return_rows(const Lookup *lookup, Relation table, TupleTableSlot *slot, ReturnSetInfo *result)
{
	ScanKeyData key = lookup->key;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "webhook_events row of a run",
												  ALLOCSET_DEFAULT_SIZES);
	SysScanDesc scan = systable_beginscan(table, lookup->index, true, GetActiveSnapshot(),
										  1, &key);
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		Source	   *source = source_get_attached(table);
		MemoryContext old_context = MemoryContextSwitchTo(context);
		Datum		values[3];
		bool		nulls[3] = {false, false, false};
		char	   *status;
		const char *user;

		ExecStoreHeapTuple(row, slot, false);
		status = source_text(source, slot, ROLE_STATUS);
		user = webhook_run_user(source_text(source, slot, ROLE_USER_ID));
		nulls[1] = (user == NULL);
		values[0] = CStringGetTextDatum(source_text(source, slot, ROLE_ID));
		values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(user);
		values[2] = BoolGetDatum(status != NULL &&
								 status_classify(status, (int) strlen(status)) !=
								 STATUS_TRANSITIONAL);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		ExecClearTuple(slot);
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(context);
	}
	systable_endscan(scan);
	MemoryContextDelete(context);
}

/* Looks up the ids in one table or partition, if its rows raise events. */
static void
look_in(Relation table, Datum *ids, int count, ReturnSetInfo *result)
{
	Source	   *source;
	Lookup		lookup;
	TupleTableSlot *slot;

	if (table->rd_rel->relkind != RELKIND_RELATION ||
		source_find_trigger(table, "insert") == NULL)
		return;
	source = source_get_attached(table);
	if (source_column(source, ROLE_STATUS) == InvalidAttrNumber ||
		!prepare(&lookup, table, source_column(source, ROLE_ID)))
		return;
	prepare_input(&lookup, table);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (try_to_read_id(&lookup, TextDatumGetCString(ids[i])))
			return_rows(&lookup, table, slot, result);
	}
	ExecDropSingleTupleTableSlot(slot);
}

/* run_ends(relation regclass, run_ids text[]) RETURNS TABLE (run_id text, user_id text, has_ended boolean) */
Datum
webhook_events_run_ends(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	attached = table_open(PG_GETARG_OID(0), AccessShareLock);
	Datum	   *ids;
	bool	   *nulls;
	int			count;
	int			known = 0;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT,
					  &ids, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i])
			ids[known++] = ids[i];
	}
	foreach(cell, find_all_inheritors(RelationGetRelid(attached), AccessShareLock, NULL))
	{
		Relation	table = table_open(lfirst_oid(cell), NoLock);

		look_in(table, ids, known, result);
		table_close(table, NoLock);
	}
	table_close(attached, NoLock);
	return (Datum) 0;
}
