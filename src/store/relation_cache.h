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

/* What an entry starts with. */
typedef struct CachedRelation
{
	Oid			relation;		/* hash key */
	bool		is_valid;
} CachedRelation;

/*
 * Makes an empty cache, which lives as long as the process.  An entry is no
 * longer valid when its relation has changed.
 */
extern HTAB *relation_cache_create(const char *name, Size entry_size);

#endif							/* WEBHOOK_RELATION_CACHE_H */
