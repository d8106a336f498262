/*-------------------------------------------------------------------------
 *
 * applied.c
 *	  What processes that apply a subscription have committed.
 *
 * IDENTIFICATION
 *	  src/server/applied.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "compat.h"
#include "replication/origin.h"
#include "replication/worker_internal.h"
#include "server/applied.h"
#include "server/shared.h"
#include "server/wake.h"
#include "utils/timestamp.h"

static AppliedShared *shared = NULL;

void
applied_initialize(AppliedShared *memory)
{
	SpinLockInit(&memory->mutex);
}

void
applied_attach(AppliedShared *memory)
{
	shared = memory;
}

/* The entry of a subscription, or the one to take: free, or longest without news. */
static Applied *
find_entry(Oid subscription)
{
	Applied    *oldest = &shared->entries[0];

	for (int i = 0; i < MAX_APPLIED; i++)
	{
		Applied    *entry = &shared->entries[i];

		if (entry->subscription == subscription)
			return entry;
		if (entry->applied_at < oldest->applied_at)
			oldest = entry;
	}
	return oldest;
}

/* Other transactions of this process follow, with the same origin as before. */
static void
note_commit(void)
{
	static XLogRecPtr last = InvalidXLogRecPtr;
	TimestampTz applied_at = GetCurrentTransactionStopTimestamp();
	Applied    *entry;

	if (applied_origin_lsn == last ||
		applied_origin_time == 0)
		return;
	last = applied_origin_lsn;
	SpinLockAcquire(&shared->mutex);
	entry = find_entry(MyLogicalRepWorker->subid);
	entry->subscription = MyLogicalRepWorker->subid;
	entry->committed_at = applied_origin_time;
	entry->applied_at = applied_at;
	SpinLockRelease(&shared->mutex);
}

/*
 * What was prepared is committed by a call between the start and the end of a
 * transaction that writes nothing else: it has no id, but has written WAL.
 */
static bool
has_ended_prepared(void)
{
	return XactLastRecEnd != InvalidXLogRecPtr &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny());
}

static void
at_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (MyLogicalRepWorker == NULL || shared == NULL)
		return;
	if (event == XACT_EVENT_PRE_COMMIT && has_ended_prepared())
		wake_at_commit(WAKE_EVENTS | WAKE_COMMANDS);
	else if (event == XACT_EVENT_COMMIT && !OidIsValid(MyLogicalRepWorker->relid))
		note_commit();
}

void
applied_watch(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

bool
applied_last(Oid subscription, Applied *last)
{
	if (shared == NULL)
		return false;
	SpinLockAcquire(&shared->mutex);
	*last = *find_entry(subscription);
	SpinLockRelease(&shared->mutex);
	return last->subscription == subscription;
}
