/*-------------------------------------------------------------------------
 *
 * ad_hoc.c
 *	  Ad-hoc webhooks that are defined apart from their runs.
 *
 * IDENTIFICATION
 *	  src/sql/ad_hoc.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "capture/outbox.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "server/shared.h"
#include "server/wake.h"
#include "sql/ad_hoc.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(webhook_events_check_run);

/* The run may have ended, or end, before anybody can see what is defined here. */
void
ad_hoc_check_run(const char *run_id)
{
	static SPIPlanPtr plan = NULL;
	Oid			type = TEXTOID;
	Datum		value;

	if (outbox_has_made_run(run_id))
		return;
	SPI_connect();
	if (plan == NULL)
	{
		plan = SPI_prepare("INSERT INTO webhook_events_internal.runs_to_check (run_id)"
						   " SELECT $1 WHERE EXISTS (SELECT FROM webhook_events_internal.origins)",
						   1, &type);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare to note a run");
	}
	value = CStringGetTextDatum(run_id);
	if (SPI_execute_plan(plan, &value, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not note a run");
	if (SPI_processed > 0)
		wake_at_commit(WAKE_RUNS);
	SPI_finish();
}

bool
ad_hoc_runs_arrive(void)
{
	static SPIPlanPtr plan = NULL;
	bool		result;

	SPI_connect();
	if (plan == NULL)
	{
		plan = SPI_prepare("SELECT FROM webhook_events_internal.attached AS a"
						   " JOIN pg_catalog.pg_namespace AS n ON n.nspname = a.schema_name"
						   " JOIN pg_catalog.pg_class AS c"
						   " ON c.relnamespace = n.oid AND c.relname = a.table_name"
						   " JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = c.oid"
						   " WHERE t.tgenabled IN ('A', 'R') AND t.tgfoid ="
						   " 'webhook_events.run_changed()'::pg_catalog.regprocedure LIMIT 1",
						   0, NULL);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare to look for attached tables");
	}
	if (SPI_execute_plan(plan, NULL, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for attached tables");
	result = SPI_processed > 0;
	SPI_finish();
	return result;
}

/* check_run(run_id text) RETURNS void */
Datum
webhook_events_check_run(PG_FUNCTION_ARGS)
{
	ad_hoc_check_run(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}
