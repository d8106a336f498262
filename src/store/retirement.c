/*-------------------------------------------------------------------------
 *
 * retirement.c
 *	  Ad-hoc webhooks that retire, in their rows.
 *
 * Where the worker has read a row it needs neither an index to find it nor a lock that
 * is logged; and what it writes is nothing that the table's triggers look at.
 *
 * IDENTIFICATION
 *	  src/store/retirement.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/retirement.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

enum
{
	COLUMN_ID,
	COLUMN_IS_AD_HOC,
	COLUMN_IS_ENABLED,
	COLUMN_IS_RETIRED,
	COLUMN_RUN_ENDED,
	COLUMN_RUN_CHANGED_AT,
	COLUMN_DISABLED_REASON,
	COLUMN_MODIFIED_AT,
	COLUMN_TURNED,
	N_COLUMNS
};

const DayKind retirement_kind = {
	"webhooks", N_COLUMNS,
	{
		"id", "is_ad_hoc", "is_enabled", "is_retired", "run_ended",
		"run_changed_at", "disabled_reason", "modified_at", "turned"
	},
	true
};

/* The version that the row gets: the time, but later than the one that it has. */
static TimestampTz
next_version(const DayUpdate *changes)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last = DatumGetTimestampTz(day_update_value(changes, COLUMN_MODIFIED_AT));

	return TIMESTAMP_NOT_FINITE(last) ? now : Max(now, last + 1);
}

/* How often it was enabled or disabled, with this time. */
static int32
next_turn(const DayUpdate *changes)
{
	return day_update_is_null(changes, COLUMN_TURNED) ? 1 :
		DatumGetInt32(day_update_value(changes, COLUMN_TURNED)) + 1;
}

bool
retirement_write(DayUpdate *changes, const RowPlace *place, const char *id,
				 TimestampTz time)
{
	if (!day_update_begin_row(changes, place, id) ||
		!DatumGetBool(day_update_value(changes, COLUMN_IS_AD_HOC)) ||
		!DatumGetBool(day_update_value(changes, COLUMN_IS_ENABLED)) ||
		(!day_update_is_null(changes, COLUMN_RUN_CHANGED_AT) &&
		 DatumGetTimestampTz(day_update_value(changes, COLUMN_RUN_CHANGED_AT)) >= time) ||
		day_update_is_locked(changes))
		return false;
	day_update_set(changes, COLUMN_IS_ENABLED, BoolGetDatum(false), false);
	day_update_set(changes, COLUMN_IS_RETIRED, BoolGetDatum(true), false);
	day_update_set(changes, COLUMN_RUN_ENDED, BoolGetDatum(true), false);
	day_update_set(changes, COLUMN_RUN_CHANGED_AT, TimestampTzGetDatum(time), false);
	day_update_set(changes, COLUMN_DISABLED_REASON,
				   CStringGetTextDatum(RETIREMENT_REASON), false);
	day_update_set(changes, COLUMN_MODIFIED_AT,
				   TimestampTzGetDatum(next_version(changes)), false);
	day_update_set(changes, COLUMN_TURNED, Int32GetDatum(next_turn(changes)), false);
	return day_update_end_row(changes);
}
