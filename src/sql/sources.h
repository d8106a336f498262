/*-------------------------------------------------------------------------
 *
 * sources.h
 *	  What the arguments of triggers say, in words.
 *
 * IDENTIFICATION
 *	  src/sql/sources.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SOURCES_H
#define WEBHOOK_SOURCES_H

#include "capture/mapping.h"

/* What a mapping names and is not there any more, in the words of an event's problem. */
extern List *source_gone(const SourceMapping *mapping);

/*
 * Opens a table that its owner can keep locked for as long as he likes, which must not
 * keep others from asking about all tables; NULL if it can't be had soon or is gone.
 */
extern Relation source_open_soon(Oid oid);

#endif							/* WEBHOOK_SOURCES_H */
