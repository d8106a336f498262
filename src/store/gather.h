/*-------------------------------------------------------------------------
 *
 * gather.h
 *	  Lists from the rows of small tables and catalogs.
 *
 * IDENTIFICATION
 *	  src/store/gather.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_GATHER_H
#define WEBHOOK_GATHER_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"

/*
 * Reads all rows of a table or catalog, as of a snapshot or as they are now (NULL): what the
 * callback makes of one it adds to the list, in the memory of the caller.
 */
extern List *gather_rows(Oid table, Snapshot snapshot,
						 void (*add) (HeapTuple row, TupleDesc desc, List **list));

#endif							/* WEBHOOK_GATHER_H */
