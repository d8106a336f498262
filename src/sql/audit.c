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
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "port/pg_bitutils.h"
#include "store/access.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(webhook_events_read_as_owner);

/* Hashes of ids, in a table that is at most half full; 0 is a free place. */
typedef struct Hashes
{
	uint64	   *places;
	uint64		mask;
} Hashes;

/* What receives the rows and keeps those whose hash is unknown. */
typedef struct Sieve
{
	DestReceiver receiver;
	ReturnSetInfo *result;
	const Hashes *known;
} Sieve;

static uint64 *
find_place(const Hashes *hashes, uint64 hash)
{
	uint64		place = hash & hashes->mask;

	while (hashes->places[place] != 0 && hashes->places[place] != hash)
		place = (place + 1) & hashes->mask;
	return &hashes->places[place];
}

/* A null among them is no row's. */
static Hashes
read_hashes(ArrayType *array)
{
	Hashes		hashes;
	Datum	   *values;
	bool	   *nulls;
	int			count;

	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values,
					  &nulls, &count);
	hashes.mask = pg_nextpower2_64(2 * (uint64) count + 2) - 1;
	hashes.places = MemoryContextAllocExtended(CurrentMemoryContext,
											   sizeof(uint64) * (hashes.mask + 1),
											   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < count; i++)
	{
		uint64		hash = nulls[i] ? 0 : (uint64) DatumGetInt64(values[i]);

		if (hash != 0)
			*find_place(&hashes, hash) = hash;
	}
	return hashes;
}

/* Which of the four ends of a run or build it is, as missing_events() counts them. */
static int
end_of_status(const text * status)
{
	static const char *const ends[] = {"SUCCEEDED", "FAILED", "ABORTED"};

	for (int i = 0; i < (int) lengthof(ends); i++)
	{
		if (VARSIZE_ANY_EXHDR(status) == strlen(ends[i]) &&
			memcmp(VARDATA_ANY(status), ends[i], strlen(ends[i])) == 0)
			return i + 1;
	}
	return lengthof(ends) + 1;
}

/* hashtextextended() of an id, with the end that its row tells of. */
static uint64
hash_row(const text * id, const text * status)
{
	return hash_bytes_extended((const unsigned char *) VARDATA_ANY(id),
							   (int) VARSIZE_ANY_EXHDR(id), end_of_status(status));
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *receiver)
{
	Sieve	   *sieve = (Sieve *) receiver;

	slot_getallattrs(slot);
	if (!slot->tts_isnull[0] && !slot->tts_isnull[1])
	{
		text	   *id = DatumGetTextPP(slot->tts_values[0]);
		text	   *status = DatumGetTextPP(slot->tts_values[1]);
		uint64		hash = hash_row(id, status);

		if (hash != 0 && *find_place(sieve->known, hash) == hash)
			return true;
	}
	tuplestore_putvalues(sieve->result->setResult, sieve->result->setDesc, slot->tts_values,
						 slot->tts_isnull);
	return true;
}

static void
start_receiving(DestReceiver *receiver, int operation pg_attribute_unused(), TupleDesc desc)
{
	TupleDesc	expected = ((Sieve *) receiver)->result->setDesc;

	if (desc->natts != expected->natts || TupleDescAttr(desc, 0)->atttypid != TEXTOID ||
		TupleDescAttr(desc, 1)->atttypid != TEXTOID)
		elog(ERROR, "a query of read_as_owner() must return two texts");
}

static void
end_receiving(DestReceiver *receiver pg_attribute_unused())
{
}

/*
 * read_as_owner(relation regclass, query text, since timestamptz,
 * until timestamptz, ids text[], hashes bigint[]) RETURNS TABLE (...)
 *
 * What a query returns that is run as the table's owner, whose types and casts it
 * evaluates: an id and a status, both texts.  It takes the three arguments before the last one.
 * Rows are left out whose hash is among the last one's: they need not be copied
 * nor compared.
 */
Datum
webhook_events_read_as_owner(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID};
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Hashes		known = read_hashes(PG_GETARG_ARRAYTYPE_P(5));
	Sieve		sieve = {
		.receiver = {
			.receiveSlot = receive_row, .rStartup = start_receiving,
			.rShutdown = end_receiving, .rDestroy = end_receiving, .mydest = DestTuplestore
		},
		.result = (ReturnSetInfo *) fcinfo->resultinfo,
		.known = &known
	};
	SPIExecuteOptions options = {.read_only = true, .dest = &sieve.receiver};
	Relation	relation;
	AccessUser	user;

	InitMaterializedSRF(fcinfo, 0);
	options.params = makeParamList(lengthof(types));
	for (int i = 0; i < (int) lengthof(types); i++)
		options.params->params[i] = (ParamExternData)
	{
		.value = PG_GETARG_DATUM(i + 2), .pflags = PARAM_FLAG_CONST, .ptype = types[i]
	};
	relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
	user = access_become(relation->rd_rel->relowner);
	SPI_connect();
	if (SPI_execute_extended(query, &options) != SPI_OK_SELECT)
		elog(ERROR, "could not read table \"%s\"", RelationGetRelationName(relation));
	SPI_finish();
	access_return(user);
	relation_close(relation, NoLock);
	return (Datum) 0;
}
