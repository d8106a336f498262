/*-------------------------------------------------------------------------
 *
 * partition_keys.h
 *	  What partitioned tables' keys would have our owner call.
 *
 * IDENTIFICATION
 *	  src/sql/partition_keys.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PARTITION_KEYS_H
#define WEBHOOK_PARTITION_KEYS_H

#include "utils/rel.h"

/*
 * Raises an error if the key of a partitioned table, or of a partition, calls a
 * function that belongs to no superuser: whoever makes a trigger on the table reads these
 * keys, and calls what is constant in them.  Locks all partitions as that does.
 */
extern void partition_keys_check(Relation relation);

#endif							/* WEBHOOK_PARTITION_KEYS_H */
