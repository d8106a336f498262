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

/* Is this column of the row set? */
static bool
has_flag(const DayUpdate *changes, int column)
{
	return DatumGetBool(day_update_value(changes, column));
}

/* Starts with the row; false if it can't be changed here. */
static bool
begin_row(DayUpdate *changes, const RowPlace *place, const char *id)
{
	return day_update_begin_row(changes, place, id) &&
		has_flag(changes, COLUMN_IS_AD_HOC) && has_flag(changes, COLUMN_IS_ENABLED) &&
		!day_update_is_locked(changes);
}

/* The same, unless what is known of its run is newer. */
static bool
begin_row_of_end(DayUpdate *changes, const RowPlace *place, const char *id,
				 TimestampTz time)
{
	return begin_row(changes, place, id) &&
		(day_update_is_null(changes, COLUMN_RUN_CHANGED_AT) ||
		 DatumGetTimestampTz(day_update_value(changes, COLUMN_RUN_CHANGED_AT)) < time);
}

static void
set_end(DayUpdate *changes, TimestampTz time)
{
	day_update_set(changes, COLUMN_RUN_ENDED, BoolGetDatum(true), false);
	day_update_set(changes, COLUMN_RUN_CHANGED_AT, TimestampTzGetDatum(time), false);
}

static void
set_retired(DayUpdate *changes)
{
	day_update_set(changes, COLUMN_IS_ENABLED, BoolGetDatum(false), false);
	day_update_set(changes, COLUMN_IS_RETIRED, BoolGetDatum(true), false);
	day_update_set(changes, COLUMN_DISABLED_REASON,
				   CStringGetTextDatum(RETIREMENT_REASON), false);
	day_update_set(changes, COLUMN_TURNED, Int32GetDatum(next_turn(changes)), false);
}

/* Writes the row's next version; *version becomes its time, and *place where it lies. */
static bool
end_row(DayUpdate *changes, TimestampTz *version, RowPlace *place)
{
	*version = next_version(changes);
	day_update_set(changes, COLUMN_MODIFIED_AT, TimestampTzGetDatum(*version), false);
	return day_update_end_row(changes, place);
}

bool
retirement_write(DayUpdate *changes, const RowPlace *place, const char *id,
				 TimestampTz time)
{
	TimestampTz version;
	RowPlace	written;

	if (!begin_row_of_end(changes, place, id, time))
		return false;
	set_end(changes, time);
	set_retired(changes);
	return end_row(changes, &version, &written);
}

bool
retirement_write_end(DayUpdate *changes, const RowPlace *place, const char *id,
					 TimestampTz time, TimestampTz *version, RowPlace *written)
{
	if (!begin_row_of_end(changes, place, id, time))
		return false;
	set_end(changes, time);
	return end_row(changes, version, written);
}

RetirementResult
retirement_write_rest(DayUpdate *changes, const RowPlace *place, const char *id)
{
	TimestampTz version;
	RowPlace	written;

	if (!begin_row(changes, place, id))
		return RETIREMENT_UNKNOWN;
	if (!has_flag(changes, COLUMN_RUN_ENDED))
		return RETIREMENT_NONE;
	set_retired(changes);
	return end_row(changes, &version, &written) ? RETIREMENT_DONE : RETIREMENT_UNKNOWN;
}
