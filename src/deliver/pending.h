/*-------------------------------------------------------------------------
 *
 * pending.h
 *	  What a job that keeps failing has still to do.
 *
 * IDENTIFICATION
 *	  src/deliver/pending.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PENDING_H
#define WEBHOOK_PENDING_H

#include "nodes/pg_list.h"

/*
 * Remembers one more, a copy of this item, in a list in this context; if there are too many
 * the oldest is forgotten.  Raises no error: false if there is no memory for it.
 */
extern bool pending_add(List **list, const void *item, size_t size, MemoryContext context);

#endif							/* WEBHOOK_PENDING_H */
