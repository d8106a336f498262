/*-------------------------------------------------------------------------
 *
 * arrival.c
 *	  Webhooks that are defined on another server and arrive by replication.
 *
 * A row that was changed there arrives whole, also with what it says there about
 * things that are decided here: that an endpoint is gone or keeps failing, that a run
 * has ended.  So each server counts how often a webhook was enabled or disabled
 * ("turned"), and one that gets rows remembers what they said last ("turned_there").  A
 * row in which that is another one says something about it, all others don't.
 *
 * IDENTIFICATION
 *	  src/sql/arrival.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "server/shared.h"
#include "server/wake.h"
#include "sql/ad_hoc.h"
#include "store/webhook_columns.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(webhook_events_webhook_arrived);

/* What of a row is looked at. */
enum
{
	COLUMN_IS_ENABLED,
	COLUMN_DISABLED_REASON,
	COLUMN_IS_RETIRED,
	COLUMN_RUN_ENDED,
	COLUMN_RUN_CHANGED_AT,
	COLUMN_MODIFIED_AT,
	COLUMN_EPOCH,
	COLUMN_TURNED,
	COLUMN_TURNED_THERE,
	COLUMN_BEGUN_AT,
	N_STATES,					/* those before are decided, those behind read */
	COLUMN_IS_AD_HOC = N_STATES,
	COLUMN_ACTOR_RUN_ID,
	COLUMN_USER_ID,
	COLUMN_MAX_RATE,
	N_COLUMNS
};

static const WebhookColumn columns[N_COLUMNS] = {
	WEBHOOK_IS_ENABLED, WEBHOOK_DISABLED_REASON, WEBHOOK_IS_RETIRED, WEBHOOK_RUN_ENDED,
	WEBHOOK_RUN_CHANGED_AT, WEBHOOK_MODIFIED_AT, WEBHOOK_EPOCH, WEBHOOK_TURNED,
	WEBHOOK_TURNED_THERE, WEBHOOK_BEGUN_AT, WEBHOOK_IS_AD_HOC, WEBHOOK_ACTOR_RUN_ID, WEBHOOK_USER_ID,
	WEBHOOK_MAX_RATE
};

typedef struct Row
{
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS];
} Row;

static void
read_row(Row *row, HeapTuple tuple, TupleDesc desc, const int *attnums)
{
	for (int i = 0; i < N_COLUMNS; i++)
		row->values[i] = heap_getattr(tuple, attnums[i], desc, &row->nulls[i]);
}

static bool
flag(const Row *row, int column)
{
	return !row->nulls[column] && DatumGetBool(row->values[column]);
}

static void
set(Row *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

static void
copy(Row *row, const Row *from, int column)
{
	row->values[column] = from->values[column];
	row->nulls[column] = from->nulls[column];
}

static void
count_up(Row *row, const Row *old, int column)
{
	set(row, column, Int32GetDatum(old->nulls[column] ? 1 :
								   DatumGetInt32(old->values[column]) + 1));
}

/* Are these equal, in a column of this length that is passed by value, or not? */
static bool
is_same(const Row *a, int column_a, const Row *b, int column_b, bool by_value, int length)
{
	if (a->nulls[column_a] || b->nulls[column_b])
		return a->nulls[column_a] && b->nulls[column_b];
	return datum_image_eq(a->values[column_a], b->values[column_b], by_value, length);
}

static void
remember_said(Row *row)
{
	row->values[COLUMN_TURNED_THERE] = row->values[COLUMN_TURNED];
	row->nulls[COLUMN_TURNED_THERE] = row->nulls[COLUMN_TURNED];
}

/* When the run ended or was resurrected last, as far as any of the two servers knows. */
static void
decide_run_change(Row *row, const Row *old)
{
	if (!old->nulls[COLUMN_RUN_CHANGED_AT] &&
		(row->nulls[COLUMN_RUN_CHANGED_AT] ||
		 DatumGetTimestampTz(row->values[COLUMN_RUN_CHANGED_AT]) <
		 DatumGetTimestampTz(old->values[COLUMN_RUN_CHANGED_AT])))
		copy(row, old, COLUMN_RUN_CHANGED_AT);
}

/*
 * What the changed row says here, as update_webhook() would have it.  One that is
 * disabled on both servers is so for the reason that is known here.  Returns whether
 * the webhook now is for a run that may have ended before.
 */
static bool
decide(Row *row, const Row *old, bool same_run)
{
	bool		is_said = !is_same(row, COLUMN_TURNED, old, COLUMN_TURNED_THERE, true, sizeof(int32));
	bool		counts = is_said && (flag(row, COLUMN_IS_ENABLED) || flag(old, COLUMN_IS_ENABLED));
	TimestampTz last = DatumGetTimestampTz(old->values[COLUMN_MODIFIED_AT]);

	remember_said(row);
	copy(row, old, COLUMN_TURNED);
	copy(row, old, COLUMN_EPOCH);
	copy(row, old, COLUMN_BEGUN_AT);
	if (counts)
	{
		bool		revived = flag(old, COLUMN_IS_RETIRED) && flag(row, COLUMN_IS_ENABLED);

		if (flag(old, COLUMN_RUN_ENDED) && !revived)
			copy(row, old, COLUMN_RUN_ENDED);
		decide_run_change(row, old);
		count_up(row, old, COLUMN_TURNED);
		if (!flag(row, COLUMN_IS_ENABLED) && !flag(row, COLUMN_IS_RETIRED))
			count_up(row, old, COLUMN_EPOCH);
	}
	else
		for (int i = COLUMN_IS_ENABLED; i <= COLUMN_RUN_CHANGED_AT; i++)
			copy(row, old, i);
	if (!same_run)
	{
		set(row, COLUMN_RUN_ENDED, BoolGetDatum(false));
		row->nulls[COLUMN_RUN_CHANGED_AT] = true;
	}

	/* Each version has a time of its own, and there it is another clock's. */
	if (!TIMESTAMP_NOT_FINITE(last) &&
		DatumGetTimestampTz(row->values[COLUMN_MODIFIED_AT]) == last)
		set(row, COLUMN_MODIFIED_AT, TimestampTzGetDatum(last + 1));
	return !same_run || (counts && !flag(old, COLUMN_IS_ENABLED) && !flag(old, COLUMN_IS_RETIRED));
}

/* webhook_arrived() RETURNS trigger; BEFORE INSERT OR UPDATE, for rows that replication brings */
Datum
webhook_events_webhook_arrived(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	Row			row;
	bool		may_have_ended = true;
	int			attnums[N_COLUMNS];

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_BEFORE(data->tg_event) || TRIGGER_FIRED_BY_DELETE(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function can only be called by a trigger before rows of table \"webhooks\" are written")));
	desc = RelationGetDescr(data->tg_relation);
	for (int i = 0; i < N_COLUMNS; i++)
		attnums[i] = webhook_column(desc, columns[i]);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		Row			old;

		tuple = data->tg_newtuple;
		read_row(&row, tuple, desc, attnums);
		read_row(&old, data->tg_trigtuple, desc, attnums);
		may_have_ended = decide(&row, &old,
								is_same(&row, COLUMN_ACTOR_RUN_ID, &old, COLUMN_ACTOR_RUN_ID, false, -1) &&
								is_same(&row, COLUMN_USER_ID, &old, COLUMN_USER_ID, false, -1));
		if (!is_same(&row, COLUMN_MAX_RATE, &old, COLUMN_MAX_RATE, FLOAT8PASSBYVAL, sizeof(float8)))
			wake_at_commit(WAKE_COMMANDS);
	}
	else
	{
		tuple = data->tg_trigtuple;
		read_row(&row, tuple, desc, attnums);
		remember_said(&row);

		/* Runs that come the same way are there when it comes. */
		row.nulls[COLUMN_BEGUN_AT] |= flag(&row, COLUMN_IS_AD_HOC) && ad_hoc_runs_arrive();
	}
	if (may_have_ended && flag(&row, COLUMN_IS_AD_HOC) && flag(&row, COLUMN_IS_ENABLED) &&
		!row.nulls[COLUMN_ACTOR_RUN_ID])
		ad_hoc_check_run(TextDatumGetCString(row.values[COLUMN_ACTOR_RUN_ID]));
	return PointerGetDatum(heap_modify_tuple_by_cols(tuple, desc, N_STATES, attnums,
													 row.values, row.nulls));
}
