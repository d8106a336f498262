/*-------------------------------------------------------------------------
 *
 * maintenance.c
 *	  What a worker does now and then: tables for the days to come, and an end
 *	  of those that are over.
 *
 * IDENTIFICATION
 *	  src/process/maintenance.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "process/maintenance.h"
#include "storage/settings.h"
#include "storage/statement.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

/* How often tables are made ahead, and how soon after a failure. */
#define INTERVAL (INT64CONST(3600) * USECS_PER_SEC)
#define RETRY_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

/*
 * So many webhooks are deleted at once, and so many rows that are in no table of a
 * day; and so soon come the next ones.
 */
#define MAX_DELETED 1000
#define DELETE_INTERVAL USECS_PER_SEC

static TimestampTz next_at = 0;
static bool has_failed = false;

/*
 * An extension that was just created gets its days from attach() or from the
 * dump that is being restored into it, not from here.
 */
static Statement create_days_statement = {
	"SELECT webhook_events.create_days(today, today + 3)"
	" FROM (SELECT (now() AT TIME ZONE 'UTC')::date) AS t (today)"
	" WHERE EXISTS (SELECT FROM pg_inherits"
	" WHERE inhparent = 'webhook_events.outbox'::regclass"
	" AND inhrelid <> 'webhook_events.outbox_default'::regclass)"
	" OR EXISTS (SELECT FROM webhook_events.outbox)",
	0, {0}, NULL
};

static Statement drop_days_statement = {
	"SELECT webhook_events.drop_days((now() AT TIME ZONE 'UTC'"
	" - $1 * interval '1 minute')::date)",
	1, {INT4OID}, NULL
};

static Statement delete_undated_statement = {
	"SELECT webhook_events.delete_undated((now() AT TIME ZONE 'UTC'"
	" - $1 * interval '1 minute')::date, $2)",
	2, {INT4OID, INT4OID}, NULL
};

/* What happened to ad-hoc webhooks of that age is dropped as well. */
static Statement delete_webhooks_statement = {
	"DELETE FROM webhook_events.webhooks WHERE id IN ("
	" SELECT id FROM webhook_events.webhooks"
	" WHERE is_ad_hoc AND NOT is_enabled"
	" AND modified_at < now() - $1 * interval '1 minute'"
	" ORDER BY modified_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
	2, {INT4OID, INT4OID}, NULL
};

TimestampTz
maintenance_deadline(void)
{
	return next_at;
}

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

bool
maintenance_run(void)
{
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext context;
	ResourceOwner owner;

	if (now < next_at)
		return true;
	if (!work_begin("looking after the tables of days"))
		return false;
	context = CurrentMemoryContext;
	owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		look_after_days();
		next_at = now + (delete_old_rows() ? DELETE_INTERVAL : INTERVAL);
		ReleaseCurrentSubTransaction();
		has_failed = false;
	}
	PG_CATCH();
	{
		ErrorData  *data;

		MemoryContextSwitchTo(context);
		data = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		next_at = now + RETRY_INTERVAL;
		if (!has_failed)
			ereport(LOG,
					(errmsg("could not make or drop the tables of days: %s",
							data->message)));
		has_failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	work_commit();
	return true;
}
