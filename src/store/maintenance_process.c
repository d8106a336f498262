/*-------------------------------------------------------------------------
 *
 * maintenance_process.c
 *	  What is done now and then: tables for the days to come, and an end of those
 *	  that are over.
 *
 * IDENTIFICATION
 *	  src/store/maintenance_process.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "server/settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/maintenance_process.h"
#include "store/statement.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

/* So long after a failure it is tried again. */
#define RETRY_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

/*
 * So many webhooks are deleted at once, and so many rows that are in no table of a
 * day; and so soon come the next ones.
 */
#define MAX_DELETED 1000
#define DELETE_INTERVAL USECS_PER_SEC

/*
 * An extension that was just created gets its days from attach() or from the
 * dump that is being restored into it, not from here.
 */
static Statement create_days_statement = {
	"SELECT webhook_events_internal.create_days(today, today + 3)"
	" FROM (SELECT (now() AT TIME ZONE 'UTC')::date) AS t (today)"
	" WHERE EXISTS (SELECT FROM pg_inherits"
	" WHERE inhparent = 'webhook_events_internal.outbox'::regclass"
	" AND inhrelid <> 'webhook_events_internal.outbox_default'::regclass)"
	" OR EXISTS (SELECT FROM webhook_events_internal.outbox)",
	0, {0}, NULL
};

static Statement drop_days_statement = {
	"SELECT webhook_events_internal.drop_days((now() AT TIME ZONE 'UTC'"
	" - $1 * interval '1 minute')::date)",
	1, {INT4OID}, NULL
};

static Statement delete_undated_statement = {
	"SELECT webhook_events_internal.delete_undated((now() AT TIME ZONE 'UTC'"
	" - $1 * interval '1 minute')::date, $2)",
	2, {INT4OID, INT4OID}, NULL
};

/* What happened to ad-hoc webhooks of that age is dropped as well. */
static Statement delete_webhooks_statement = {
	"DELETE FROM webhook_events_internal.webhooks WHERE id IN ("
	" SELECT id FROM webhook_events_internal.webhooks"
	" WHERE is_ad_hoc AND NOT is_enabled"
	" AND modified_at < now() - $1 * interval '1 minute'"
	" ORDER BY modified_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
	2, {INT4OID, INT4OID}, NULL
};

/* Attaching and dropping tables must not make others queue behind us. */
static void
look_after_days(void)
{
	Datum		retention = Int32GetDatum(setting_retention);

	(void) set_config_option("lock_timeout", "100ms", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	statement_write(&create_days_statement, NULL, NULL);
	if (setting_retention > 0)
		statement_write(&drop_days_statement, &retention, NULL);
}

/* Deletes some of what can't be dropped; returns whether there may be more. */
static bool
delete_old_rows(void)
{
	Datum		values[] = {
		Int32GetDatum(setting_retention), Int32GetDatum(MAX_DELETED)
	};
	bool		isnull;
	bool		more;

	if (setting_retention == 0)
		return false;
	more = statement_write(&delete_webhooks_statement, values, NULL) == MAX_DELETED;
	statement_write(&delete_undated_statement, values, NULL);
	return DatumGetInt32(statement_value(0, 1, &isnull)) == MAX_DELETED || more;
}

/* Does what there is to do; returns through "argument" whether there may be more. */
static void
do_maintenance(void *argument)
{
	bool	   *more = argument;

	look_after_days();
	*more = delete_old_rows();
}

/*
 * Does what there is to do, and sets *next_at to when there may be more, which is
 * 0 when all is done.  Returns false if the extension is gone.
 */
static bool
look_after_tables(TimestampTz *next_at)
{
	static bool has_failed = false;
	TimestampTz now = GetCurrentTimestamp();
	bool		more = false;
	char	   *error;

	if (!work_begin("looking after the tables of days"))
		return false;
	error = work_try(do_maintenance, &more);
	if (error != NULL && !has_failed)
		ereport(LOG,
				(errmsg("could not make or drop the tables of days: %s", error)));
	has_failed = (error != NULL);
	if (has_failed)
		*next_at = now + RETRY_INTERVAL;
	else
		*next_at = more ? now + DELETE_INTERVAL : 0;
	work_commit();
	return true;
}

void
webhook_events_maintenance_main(Datum arg)
{
	TimestampTz next_at = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	work_connect(DatumGetObjectId(arg));
	while (look_after_tables(&next_at) && next_at != 0)
	{
		TimestampTz now;

		while ((now = GetCurrentTimestamp()) < next_at)
		{
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 TimestampDifferenceMilliseconds(now, next_at),
							 wait_event_named("WebhookEventsMaintenance"));
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		if (ConfigReloadPending)
			ProcessConfigFile(PGC_SIGHUP);
		ConfigReloadPending = false;
	}
	proc_exit(0);
}
