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
#include "nodes/params.h"
#include "port/pg_bitutils.h"
#include "sql/audit_sums.h"
#include "store/access.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(webhook_events_read_as_owner);

/* The arguments of read_as_owner(). */
enum
{
	READ_RELATION,
	READ_QUERY,
	READ_SINCE,
	READ_KIND = READ_SINCE + 3,
	READ_ENDS
};

/*
 * Hashes of ends, in a table that is at most half full.  One half of a hash says where, the other
 * one is there, 0 in a free place: so the table fits into a processor's cache sooner, and one of
 * a billion ends that lack an event is taken for another one.
 */
typedef struct Hashes
{
	uint32	   *places;
	uint64		mask;
} Hashes;

/* What receives the rows and keeps those that have ended, and whose hash is unknown. */
typedef struct Sieve
{
	DestReceiver receiver;
	ReturnSetInfo *result;
	SourceKind	kind;
	Hashes		known;
} Sieve;

static uint32
stored_half(uint64 hash)
{
	return Max((uint32) (hash >> 32), 1);
}

/* Where a hash is, or would be. */
static uint32 *
find_place(const Hashes *hashes, uint64 hash)
{
	uint32		half = stored_half(hash);
	uint64		place = hash & hashes->mask;

	while (hashes->places[place] != 0 && hashes->places[place] != half)
		place = (place + 1) & hashes->mask;
	return &hashes->places[place];
}

/* Reads the ends that events of some days tell of; of too many there are none. */
static Hashes
read_ends(ArrayType *days)
{
	Hashes		hashes;
	Datum	   *values;
	bool	   *nulls;
	int			ndays;
	int64		count = 0;
	bool		too_many = false;

	deconstruct_array(days, BYTEAOID, -1, false, TYPALIGN_INT, &values, &nulls, &ndays);
	for (int i = 0; i < ndays; i++)
	{
		const char *ends;
		int64		nends;

		if (nulls[i])
			continue;
		values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
		nends = audit_read_ends((bytea *) DatumGetPointer(values[i]), &ends);
		too_many |= nends < 0;
		count += nends;
	}
	too_many |= count > AUDIT_MAX_ENDS;
	hashes.mask = pg_nextpower2_64(2 * (uint64) (too_many ? 0 : count) + 2) - 1;
	hashes.places = MemoryContextAllocExtended(CurrentMemoryContext,
											   sizeof(uint32) * (hashes.mask + 1),
											   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < ndays && !too_many; i++)
	{
		const char *ends;
		int64		nends = nulls[i] ? 0 :
		audit_read_ends((bytea *) DatumGetPointer(values[i]), &ends);

		for (int64 j = 0; j < nends; j++)
		{
			uint64		hash;

			memcpy(&hash, ends + sizeof(uint64) * j, sizeof(hash));
			*find_place(&hashes, hash) = stored_half(hash);
		}
	}
	return hashes;
}

/* How a row has ended by its status, written with a dash or an underscore. */
static bool
end_of_status(const text * status, AuditEnd *end)
{
	static const char *const ends[] = {"SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"};
	const char *bytes = VARDATA_ANY(status);
	size_t		length = VARSIZE_ANY_EXHDR(status);

	for (int i = 0; i < N_AUDIT_ENDS; i++)
	{
		if (length != strlen(ends[i]) ||
			(memcmp(bytes, ends[i], length) != 0 &&
			 (i != AUDIT_TIMED_OUT || memcmp(bytes, "TIMED-OUT", length) != 0)))
			continue;
		*end = (AuditEnd) i;
		return true;
	}
	return false;
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *receiver)
{
	Sieve	   *sieve = (Sieve *) receiver;
	AuditEnd	end;
	text	   *id;
	uint64		hash;

	slot_getallattrs(slot);
	/* What has no id nobody could look for. */
	if (slot->tts_isnull[0] || slot->tts_isnull[1] ||
		!end_of_status(DatumGetTextPP(slot->tts_values[1]), &end))
		return true;
	id = DatumGetTextPP(slot->tts_values[0]);
	hash = audit_hash_end(sieve->kind, end, VARDATA_ANY(id), (int) VARSIZE_ANY_EXHDR(id));
	if (*find_place(&sieve->known, hash) != 0)
		return true;
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
 * read_as_owner(relation regclass, query text, since timestamptz, until timestamptz,
 * ids text[], kind text, ends bytea[]) RETURNS TABLE (...)
 *
 * What a query returns that is run as the table's owner, whose types and casts it
 * evaluates: an id and a status, both texts.  It takes the three arguments before the last
 * two ones, which are what wanted_sums() says of some days: rows of that kind are left out that have
 * not ended, or whose end is among these: they need not be copied nor compared.
 */
Datum
webhook_events_read_as_owner(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID};
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(READ_QUERY));
	char	   *kind = text_to_cstring(PG_GETARG_TEXT_PP(READ_KIND));
	Sieve		sieve = {
		.receiver = {
			.receiveSlot = receive_row, .rStartup = start_receiving,
			.rShutdown = end_receiving, .rDestroy = end_receiving, .mydest = DestTuplestore
		},
		.result = (ReturnSetInfo *) fcinfo->resultinfo,
		.kind = strcmp(kind, "run") == 0 ? SOURCE_RUN : SOURCE_BUILD,
		.known = read_ends(PG_GETARG_ARRAYTYPE_P(READ_ENDS))
	};
	SPIExecuteOptions options = {.read_only = true, .dest = &sieve.receiver};
	MemoryContext context = CurrentMemoryContext;
	Relation	relation;
	AccessUser	user;

	InitMaterializedSRF(fcinfo, 0);
	options.params = makeParamList(lengthof(types));
	for (int i = 0; i < (int) lengthof(types); i++)
		options.params->params[i] = (ParamExternData)
	{
		.value = PG_GETARG_DATUM(READ_SINCE + i), .pflags = PARAM_FLAG_CONST, .ptype = types[i]
	};
	relation = relation_open(PG_GETARG_OID(READ_RELATION), AccessShareLock);
	user = access_become(relation->rd_rel->relowner);
	PG_TRY();
	{
		SPI_connect();
		if (SPI_execute_extended(query, &options) != SPI_OK_SELECT)
			elog(ERROR, "could not read table \"%s\"", RelationGetRelationName(relation));
		SPI_finish();
	}
	PG_CATCH();
	{
		access_rethrow(context);
	}
	PG_END_TRY();
	access_return(user);
	relation_close(relation, NoLock);
	return (Datum) 0;
}
