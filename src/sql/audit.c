/*-------------------------------------------------------------------------
 *
 * audit.c
 *	  Reading attached tables for audit().
 *
 * IDENTIFICATION
 *	  src/sql/audit.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/access.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(webhook_events_read_as_owner);

/* Copies a result of texts to a function's own. */
static void
return_texts(ReturnSetInfo *result, int ncolumns)
{
	Datum	   *values = palloc(sizeof(Datum) * ncolumns);
	bool	   *nulls = palloc(sizeof(bool) * ncolumns);

	for (uint64 row = 0; row < SPI_processed; row++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < ncolumns; i++)
		{
			char	   *text = SPI_getvalue(SPI_tuptable->vals[row],
											SPI_tuptable->tupdesc, i + 1);

			nulls[i] = (text == NULL);
			values[i] = text ? CStringGetTextDatum(text) : (Datum) 0;
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/*
 * read_as_owner(relation regclass, query text, since timestamptz,
 * until timestamptz, ids text[]) RETURNS TABLE (...)
 *
 * What a query returns that is run as the table's owner, whose types and casts it
 * evaluates.  It takes the last three arguments and returns texts.
 */
Datum
webhook_events_read_as_owner(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID};
	Datum		values[] = {PG_GETARG_DATUM(2), PG_GETARG_DATUM(3), PG_GETARG_DATUM(4)};
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	relation;
	AccessUser	user;

	InitMaterializedSRF(fcinfo, 0);
	relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
	user = access_become(relation->rd_rel->relowner);
	SPI_connect();
	if (SPI_execute_with_args(query, lengthof(types), types, values, NULL, true,
							  0) != SPI_OK_SELECT ||
		SPI_tuptable->tupdesc->natts != result->setDesc->natts)
		elog(ERROR, "could not read table \"%s\"", RelationGetRelationName(relation));
	return_texts(result, result->setDesc->natts);
	SPI_finish();
	access_return(user);
	relation_close(relation, NoLock);
	return (Datum) 0;
}
