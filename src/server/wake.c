/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking the worker when the current transaction commits.
 *
 * IDENTIFICATION
 *	  src/server/wake.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "server/shared.h"
#include "server/standstill.h"
#include "server/wake.h"

static uint32 pending = 0;
static bool announcement_pending = false;
static bool list_pending = false;
static bool commits_asynchronously = false;

static void
end_async_commit(void)
{
	if (commits_asynchronously)
		shared_end_async_commit();
	commits_asynchronously = false;
}

/* Runs at the end of every transaction of the session, so it can't fail. */
static void
at_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (pending != 0 && synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
			{
				commits_asynchronously = true;
				shared_begin_async_commit();
			}
			break;
		case XACT_EVENT_COMMIT:
			end_async_commit();
			standstill_release();
			if (pending != 0)
				shared_wake_worker(pending);
			if (announcement_pending)
				shared_announce_extension();
			if (list_pending)
				shared_list_databases();
			pending = 0;
			announcement_pending = list_pending = false;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			end_async_commit();
			standstill_release();
			pending = 0;
			announcement_pending = list_pending = false;
			break;
		default:
			break;
	}
}

static void
register_callback(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
}

void
wake_at_commit(uint32 wake)
{
	register_callback();
	pending |= wake;
}

bool
stand_still_until_end(int timeout)
{
	register_callback();
	return standstill_request(timeout);
}

void
announce_at_commit(void)
{
	register_callback();
	announcement_pending = true;
}

void
list_databases_at_commit(void)
{
	register_callback();
	list_pending = true;
}
