/*-------------------------------------------------------------------------
 *
 * load.h
 *	  Rows that are not new, though they are inserted.
 *
 * IDENTIFICATION
 *	  src/capture/load.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LOAD_H
#define WEBHOOK_LOAD_H

#include "utils/rel.h"

/*
 * Does this session insert rows into a table that were there before: those of a
 * dump, or those that a subscription starts with?  The first time it says so of a
 * dump, with a warning.
 */
extern bool load_is_copy(Relation relation);

/*
 * Is this table a part of another one that was just made of it, with triggers that were
 * written for that one?  Then a COPY brings the rows that the other one had.
 */
extern bool load_is_distribution(Relation relation);

/*
 * Is this table a chunk that was just made of a hypertable, while the rows that the
 * hypertable had before it was one, "attached", are still there?  Then it gets these.
 */
extern bool load_is_migration(Relation relation, Oid attached);

#endif							/* WEBHOOK_LOAD_H */
