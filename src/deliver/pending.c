/*-------------------------------------------------------------------------
 *
 * pending.c
 *	  What a job that keeps failing has still to do.
 *
 * IDENTIFICATION
 *	  src/deliver/pending.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/pending.h"
#include "utils/memutils.h"

/* So many webhooks are remembered; then the oldest is forgotten. */
#define MAX_PENDING 100000

static void
add(List **list, const void *item, size_t size)
{
	void	   *copy = palloc(size);

	memcpy(copy, item, size);
	*list = lappend(*list, copy);
	if (list_length(*list) <= MAX_PENDING)
		return;
	pfree(linitial(*list));
	*list = list_delete_first(*list);
}

bool
pending_add(List **list, const void *item, size_t size, MemoryContext context)
{
	MemoryContext old_context = MemoryContextSwitchTo(context);
	volatile bool result = true;

	PG_TRY();
	{
		add(list, item, size);
	}
	PG_CATCH();
	{
		FlushErrorState();
		result = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old_context);
	return result;
}
