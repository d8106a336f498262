/*-------------------------------------------------------------------------
 *
 * crowd.c
 *	  How many requests go to one address at once, as their sockets tell.
 *
 * IDENTIFICATION
 *	  src/deliver/crowd.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/crowd.h"
#include "rules/address.h"
#include "server/settings.h"

static dlist_head located = DLIST_STATIC_INIT(located);

void
crowd_enter(Transfer *transfer)
{
	crowd_leave(transfer);
	(void) address_party(transfer->address, transfer->party);
	dlist_push_tail(&located, &transfer->located_node);
	transfer->is_located = true;
}

void
crowd_leave(Transfer *transfer)
{
	if (transfer->is_located)
		dlist_delete(&transfer->located_node);
	transfer->is_located = false;
}

bool
crowd_is_full(Transfer *transfer)
{
	int			count = 0;
	dlist_iter	iter;

	if (*setting_proxy != '\0')
		return false;
	dlist_foreach(iter, &located)
	{
		const Transfer *other = dlist_container(Transfer, located_node, iter.cur);

		if (other != transfer && strcmp(other->party, transfer->party) == 0)
			count++;
	}
	transfer->was_crowded |= (count >= transfer->crowd);
	return count >= transfer->crowd;
}
