/*-------------------------------------------------------------------------
 *
 * relation_cache.h
 *	  What a process remembers about tables until they change.
 *
 * IDENTIFICATION
 *	  src/store/relation_cache.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_RELATION_CACHE_H
#define WEBHOOK_RELATION_CACHE_H

#include "utils/hsearch.h"
#include "utils/inval.h"

/* What an entry starts with. */
typedef struct CachedRelation
{
	Oid			relation;		/* hash key */
	bool		is_valid;
} CachedRelation;

/*
 * From now on calls a function, as PostgreSQL calls those of
 * CacheRegisterRelcacheCallback(), which nothing else of ours uses.  It raises nothing.
 */
extern void relation_watch(RelcacheCallbackFunction function, Datum argument);

/*
 * Makes an empty cache, which lives as long as the process.  An entry is no
 * longer valid when its relation has changed.
 */
extern HTAB *relation_cache_create(const char *name, Size entry_size);

#endif							/* WEBHOOK_RELATION_CACHE_H */
