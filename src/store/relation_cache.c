/*-------------------------------------------------------------------------
 *
 * relation_cache.c
 *	  What a process remembers about tables until they change.
 *
 * IDENTIFICATION
 *	  src/store/relation_cache.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/relation_cache.h"
#include "utils/inval.h"

/*
 * Makes one entry invalid, or with InvalidOid all of them; "cache" is the
 * pointer, so that this is a callback too.  Raises nothing.
 */
static void
relation_cache_invalidate(Datum cache, Oid relation)
{
	HTAB	   *table = (HTAB *) DatumGetPointer(cache);
	HASH_SEQ_STATUS scan;
	CachedRelation *entry;

	if (OidIsValid(relation))
	{
		entry = hash_search(table, &relation, HASH_FIND, NULL);
		if (entry != NULL)
			entry->is_valid = false;
		return;
	}
	hash_seq_init(&scan, table);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->is_valid = false;
}

HTAB *
relation_cache_create(const char *name, Size entry_size)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = entry_size
	};
	HTAB	   *table = hash_create(name, 16, &control, HASH_ELEM | HASH_BLOBS);

	CacheRegisterRelcacheCallback(relation_cache_invalidate,
								  PointerGetDatum(table));
	return table;
}
