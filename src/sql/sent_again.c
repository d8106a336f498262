/*-------------------------------------------------------------------------
 *
 * sent_again.c
 *	  What waits for a webhook already, for those who want to send it more.
 *
 * Counted is what there is now, also in a transaction that sees what there was: with
 * many such ones, or many times in one, a webhook would get any number.
 *
 * IDENTIFICATION
 *	  src/sql/sent_again.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(webhook_events_active_events);
PG_FUNCTION_INFO_V1(webhook_events_count_due);

/* A statement about a webhook, $1, planned once in a session. */
typedef struct Question
{
	const char *sql;
	int			nparameters;
	Oid			types[2];
	SPIPlanPtr	plan;
} Question;

static Question active_question = {
	"SELECT d.event_id FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE' AND d.webhook_id = $1",
	1, {TEXTOID}, NULL
};

/*
 * As a span of the webhook's index and in its order, so that no other one is read, whatever
 * else waits.
 */
static Question due_question = {
	"SELECT FROM webhook_events_internal.dispatches AS d"
	" WHERE d.status = 'ACTIVE'"
	" AND (d.webhook_id, d.next_attempt_at, d.id) > ($1, '-infinity', '')"
	" AND (d.webhook_id, d.next_attempt_at) <= ($1, 'infinity')"
	" ORDER BY d.webhook_id, d.next_attempt_at, d.id LIMIT $2",
	2, {TEXTOID, INT8OID}, NULL
};

/* Within SPI, where the answer is then. */
static void
ask_now(Question *question, Datum *values)
{
	if (question->plan == NULL)
	{
		question->plan = SPI_prepare(question->sql, question->nparameters,
									 question->types);
		if (question->plan == NULL || SPI_keepplan(question->plan) != 0)
			elog(ERROR, "could not prepare \"%s\"", question->sql);
	}
	CommandCounterIncrement();
	if (SPI_execute_snapshot(question->plan, values, NULL, GetLatestSnapshot(),
							 InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", question->sql);
}

/* active_events(webhook_id text) RETURNS SETOF text */
Datum
webhook_events_active_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		webhook_id = PG_GETARG_DATUM(0);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	SPI_connect();
	ask_now(&active_question, &webhook_id);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		event_id = SPI_getbinval(SPI_tuptable->vals[i],
											 SPI_tuptable->tupdesc, 1, &isnull);

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(result->setResult, result->setDesc, &event_id, &isnull);
	}
	SPI_finish();
	return (Datum) 0;
}

/* count_due(webhook_id text, most bigint) RETURNS bigint */
Datum
webhook_events_count_due(PG_FUNCTION_ARGS)
{
	Datum		values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	uint64		count;

	SPI_connect();
	ask_now(&due_question, values);
	count = SPI_processed;
	SPI_finish();
	PG_RETURN_INT64((int64) count);
}
