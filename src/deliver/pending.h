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
#include "utils/palloc.h"

/* So many webhooks are remembered; then the oldest is forgotten. */
#define MAX_PENDING 100000

/* Remembers one more, in a list in this context; it owns its items. */
static inline void
pending_add(List **list, void *item, MemoryContext context)
{
	MemoryContext old_context = MemoryContextSwitchTo(context);

	if (list_length(*list) >= MAX_PENDING)
	{
		pfree(linitial(*list));
		*list = list_delete_first(*list);
	}
	*list = lappend(*list, item);
	MemoryContextSwitchTo(old_context);
}

#endif							/* WEBHOOK_PENDING_H */
