/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking the worker when the current transaction commits.
 *
 * IDENTIFICATION
 *	  src/storage/wake.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/shared.h"
#include "storage/wake.h"

static uint32 pending = 0;

/* Runs at the end of every transaction of the session, so it can't fail. */
static void
at_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (pending != 0)
				shared_wake_worker(pending);
			pending = 0;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			pending = 0;
			break;
		default:
			break;
	}
}

void
wake_at_commit(uint32 wake)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		registered = true;
	}
	pending |= wake;
}
