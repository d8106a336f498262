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

#include "access/xact.h"
#include "capture/outbox.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "server/shared.h"
#include "server/wake.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(webhook_events_check_run);

/*
 * check_run(run_id text) RETURNS void
 *
 * The run may have ended, or end, before anybody can see what this transaction has
 * defined.  One that it has made itself can't.
 */
Datum
webhook_events_check_run(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	Oid			type = TEXTOID;
	Datum		run_id = PG_GETARG_DATUM(0);

	if (outbox_has_made_run(text_to_cstring(PG_GETARG_TEXT_PP(0))))
		PG_RETURN_VOID();
	SPI_connect();
	if (plan == NULL)
	{
		plan = SPI_prepare("INSERT INTO webhook_events_internal.runs_to_check (run_id)"
						   " VALUES ($1)", 1, &type);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare to note a run");
	}
	if (SPI_execute_plan(plan, &run_id, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not note a run");
	SPI_finish();
	wake_at_commit(WAKE_RUNS);
	PG_RETURN_VOID();
}
