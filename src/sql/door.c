/*-------------------------------------------------------------------------
 *
 * door.c
 *	  The way in: every documented function that touches our tables.
 *
 * A documented function runs the function of the same name and arguments in
 * schema webhook_events_internal, as its owner and with settings of our own, in
 * the name of the role that called; what that role may see and do access.c
 * decides.  So nobody needs a right on a table or an inner function, and no name
 * of a caller's own is found by our statements.
 *
 * IDENTIFICATION
 *	  src/sql/door.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupconvert.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/access.h"
#include "store/day_table.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(webhook_events_door);

/* The function behind a documented one; lives as long as its FmgrInfo. */
typedef struct Inner
{
	uint64		generation;		/* of the catalog in which it was found */
	Oid			owner;
	Oid			result_type;	/* of the documented function */
	bool		is_row;			/* is that a table's or view's row? */
	FmgrInfo	function;
} Inner;

static uint64 generation = 0;

static void
count_change(Datum arg pg_attribute_unused(), int cache_id pg_attribute_unused(),
			 uint32 hash_value pg_attribute_unused())
{
	generation++;
}

/* Looks up what is behind a documented function. */
static void
find_inner(Inner *inner, FmgrInfo *door)
{
	HeapTuple	outer_tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(door->fn_oid));
	HeapTuple	inner_tuple;
	Form_pg_proc form;
	oidvector  *arguments;
	bool		isnull;

	if (!HeapTupleIsValid(outer_tuple))
		elog(ERROR, "cache lookup failed for function %u", door->fn_oid);
	form = (Form_pg_proc) GETSTRUCT(outer_tuple);
	arguments = (oidvector *) DatumGetPointer(SysCacheGetAttr(PROCOID, outer_tuple,
															  Anum_pg_proc_proargtypes,
															  &isnull));
	inner_tuple = SearchSysCache3(PROCNAMEARGSNSP, NameGetDatum(&form->proname),
								  PointerGetDatum(arguments),
								  ObjectIdGetDatum(day_table_namespace()));
	if (!HeapTupleIsValid(inner_tuple) ||
		((Form_pg_proc) GETSTRUCT(inner_tuple))->oid == door->fn_oid)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("nothing is behind function \"%s\"", NameStr(form->proname)),
				 errhint("Only the extension makes such functions.")));
	inner->result_type = form->prorettype;
	inner->is_row = (get_typtype(form->prorettype) == TYPTYPE_COMPOSITE);
	form = (Form_pg_proc) GETSTRUCT(inner_tuple);
	inner->owner = form->proowner;
	fmgr_info_cxt(form->oid, &inner->function, door->fn_mcxt);
	inner->function.fn_expr = NULL;
	inner->generation = generation;
	ReleaseSysCache(inner_tuple);
	ReleaseSysCache(outer_tuple);
}

/*
 * What was found once is used until a function changes, or to its end by a
 * function that has returned some of its rows.
 */
static Inner *
get_inner(FmgrInfo *door)
{
	static bool registered = false;
	Inner	   *inner = door->fn_extra;

	if (inner != NULL &&
		(inner->generation == generation || door->fn_retset))
		return inner;
	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, count_change, (Datum) 0);
		registered = true;
	}
	if (inner == NULL)
		inner = MemoryContextAllocZero(door->fn_mcxt, sizeof(Inner));
	find_inner(inner, door);
	door->fn_extra = inner;
	return inner;
}

/* Makes a row of a table one of the view that shows it. */
static Datum
as_row_of(Oid type, Datum value)
{
	HeapTupleHeader row = DatumGetHeapTupleHeader(value);
	TupleDesc	from;
	TupleDesc	to;
	TupleConversionMap *map;
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row), .t_data = row};

	if (HeapTupleHeaderGetTypeId(row) == type)
		return value;
	from = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row),
								  HeapTupleHeaderGetTypMod(row));
	to = lookup_rowtype_tupdesc(type, -1);
	map = convert_tuples_by_position(from, to,
									 "a documented function returns another row than its inner one");
	if (map != NULL)
		value = heap_copy_tuple_as_datum(execute_attr_map_tuple(&tuple, map), to);
	else
		value = heap_copy_tuple_as_datum(&tuple, to);
	ReleaseTupleDesc(from);
	ReleaseTupleDesc(to);
	return value;
}

static void
set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Throws an error again, in the words of the documented function: the statements
 * inside of it are ours and tell a user nothing.  What is wrong with us, with the
 * server or by an interruption is told in full.
 */
static pg_noinline void
rethrow_error(MemoryContext context)
{
	ErrorData  *error;
	int			category;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
	if (category == ERRCODE_INTERNAL_ERROR ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_QUERY_CANCELED) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR))
		PG_RE_THROW();
	FlushErrorState();
	error->context = NULL;
	error->internalquery = NULL;
	error->internalpos = 0;
	ThrowErrorData(error);
}

/*
 * Calls the inner function in the name of the current role.  An error leaves
 * settings to the end of the transaction or subtransaction, as everywhere.
 */
static pg_noinline Datum
invoke(Oid owner, FunctionCallInfo call)
{
	volatile Datum result = (Datum) 0;
	MemoryContext context = CurrentMemoryContext;
	AccessFrame frame;
	Oid			user;
	int			security_context;
	int			level;

	GetUserIdAndSecContext(&user, &security_context);
	frame = access_enter(owner);
	SetUserIdAndSecContext(owner, security_context | SECURITY_LOCAL_USERID_CHANGE);
	level = NewGUCNestLevel();
	PG_TRY();
	{
		set("search_path", "pg_catalog, pg_temp");
		set("jit", "off");
		result = FunctionCallInvoke(call);
	}
	PG_CATCH();
	{
		access_leave(frame);
		SetUserIdAndSecContext(user, security_context);
		rethrow_error(context);
	}
	PG_END_TRY();
	access_leave(frame);
	SetUserIdAndSecContext(user, security_context);
	AtEOXact_GUC(true, level);
	return result;
}

/* Any documented function */
Datum
webhook_events_door(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, FUNC_MAX_ARGS);
	Inner	   *inner = get_inner(fcinfo->flinfo);
	Datum		result;

	InitFunctionCallInfoData(*call, &inner->function, fcinfo->nargs,
							 PG_GET_COLLATION(), NULL, fcinfo->resultinfo);
	memcpy(call->args, fcinfo->args, sizeof(NullableDatum) * fcinfo->nargs);
	result = invoke(inner->owner, call);
	fcinfo->isnull = call->isnull;
	if (inner->is_row && !call->isnull && DatumGetPointer(result) != NULL)
		return as_row_of(inner->result_type, result);
	return result;
}
