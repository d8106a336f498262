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

/*
 * PostgreSQL has room for ten callbacks in a process, for itself, for us and for all other
 * extensions, and ends the session that wants one more: so ours are one.
 */
#define MAX_WATCHERS 8

static struct
{
	RelcacheCallbackFunction function;
	Datum		argument;
}			watchers[MAX_WATCHERS];
static int	nwatchers = 0;

static void
relation_changed(Datum argument pg_attribute_unused(), Oid relation)
{
	for (int i = 0; i < nwatchers; i++)
		watchers[i].function(watchers[i].argument, relation);
}

void
relation_watch(RelcacheCallbackFunction function, Datum argument)
{
	static bool is_registered = false;

	if (nwatchers == MAX_WATCHERS)
		elog(ERROR, "there is no room for another watcher of relations");
	if (!is_registered)
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	is_registered = true;
	watchers[nwatchers].function = function;
	watchers[nwatchers].argument = argument;
	nwatchers++;
}

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

	relation_watch(relation_cache_invalidate, PointerGetDatum(table));
	return table;
}
