/*-------------------------------------------------------------------------
 *
 * recording.c
 *	  One transaction that writes down what became of dispatches.
 *
 * IDENTIFICATION
 *	  src/deliver/recording.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/lanes.h"
#include "deliver/recording.h"
#include "deliver/retiring.h"
#include "deliver/tally.h"
#include "server/clock.h"
#include "store/dispatch_writer.h"
#include "utils/builtins.h"

static Statement prove_statement = {
	"INSERT INTO webhook_events_internal.worker_starts (version, filler)"
	" VALUES ($1, repeat('.', 5000))",
	1, {TEXTOID}, NULL
};

/* Nothing is sent before this is done, so it waits for no lock. */
static Statement forget_starts_statement = {
	"DELETE FROM webhook_events_internal.worker_starts AS s"
	" USING (SELECT id FROM webhook_events_internal.worker_starts"
	" WHERE id < (SELECT id FROM webhook_events_internal.worker_starts"
	" ORDER BY id DESC OFFSET 20 LIMIT 1) FOR UPDATE SKIP LOCKED) AS o"
	" WHERE s.id = o.id",
	0, {0}, NULL
};

/* Did its call end, and can that be written? */
static bool
has_call(const Entry *entry)
{
	return entry->dispatch->stage == STAGE_ENDED && entry->dispatch->was_called &&
		!entry->without_call;
}

/*
 * Adds a dispatch as it stands, to be found again at "next_attempt_at".  One that
 * gets its row now is forgotten before that has a place, unless it is being called.
 */
static void
write_dispatch(DispatchWriter *writer, Entry *entry)
{
	Dispatch   *dispatch = entry->dispatch;
	const Webhook *webhook = dispatch->subscriber->webhook;
	bool		waits = (entry->status == DISPATCH_ACTIVE);
	bool		has_place = dispatch->has_row || dispatch->stage == STAGE_CALLING;
	DispatchRow row = {
		.id = dispatch->id,
		.event_id = dispatch->event_id,
		.webhook_id = dispatch->subscriber->id,
		.user_id = webhook ? webhook->user_id : NULL,
		.event_type = dispatch->event_type,
		.status = entry->status,
		.created_at = clock_to_wall(dispatch->since),
		.finished_at = waits ? 0 : clock_to_wall(dispatch->ended_at),
		.attempts = dispatch->attempts,
		.next_attempt_at = waits ? entry->next_attempt_at : 0,
		.error_message = dispatch->error,
		.order_key = dispatch->is_passed ? NULL : lane_key(dispatch),
		.holds_until = dispatch->holds_until,
		.epoch = dispatch->epoch,
		.call = has_call(entry) ? &dispatch->call : NULL,
		.is_passed = dispatch->is_passed,
		.place = has_place ? &dispatch->place : NULL
	};

	if (dispatch->has_row)
		entry->is_locked = dispatch_writer_update(writer, &row) == ROW_LOCKED;
	else
		dispatch_writer_insert(writer, &row);
}

/* Marks the entries with these ids as locked. */
static void
note_locked(Recording *recording, List *ids)
{
	ListCell   *cell;

	foreach(cell, ids)
	{
		for (int i = 0; i < recording->count; i++)
		{
			Entry	   *entry = &recording->entries[i];

			entry->is_locked |= strcmp(entry->dispatch->id, lfirst(cell)) == 0;
		}
	}
}

/*
 * Writes the mark of the last of the batches that are done with what is written here.
 * A batch in which runs have ended waits until their webhooks were looked after, or a
 * table knows of it.
 */
static void
write_mark(Recording *recording)
{
	CursorMark *last = NULL;
	Batch	   *batch;

	for (batch = batch_next(NULL); batch != NULL; batch = batch_next(batch))
		batch->ngetting_row = 0;
	for (int i = 0; i < recording->count; i++)
	{
		Dispatch   *dispatch = recording->entries[i].dispatch;

		if (!dispatch->has_row)
			dispatch->batch->ngetting_row++;
	}
	recording->nmarked = 0;
	for (batch = batch_next(NULL); batch != NULL; batch = batch_next(batch))
	{
		if (batch->ended_runs != NIL || retiring_holds_marks() ||
			batch->nwithout_row > batch->ngetting_row)
			break;
		last = batch->mark;
		recording->nmarked++;
	}
	if (last != NULL)
		cursor_write(last);
}

static void
write_recording(void *argument)
{
	Recording  *recording = argument;
	DispatchWriter *writer = dispatch_writer_create();

	for (int i = 0; i < recording->count; i++)
	{
		recording->entries[i].is_locked = false;
		write_dispatch(writer, &recording->entries[i]);
	}
	note_locked(recording, dispatch_writer_find_locked(writer));
	for (int i = 0; i < recording->count; i++)
	{
		Entry	   *entry = &recording->entries[i];

		if (has_call(entry) && !entry->is_locked)
			dispatch_writer_call(writer, entry->dispatch->id, entry->dispatch->attempts,
								 &entry->dispatch->call);
	}
	if (recording->with_statistics)
		tally_write();
	dispatch_writer_execute(writer);
	if (recording->with_mark)
		write_mark(recording);
}

WorkResult
recording_write(Recording *recording, WorkError *error)
{
	return work_run("recording results", false, write_recording, recording, error);
}

/* Adds a row that takes a page of its own, as the next results may have to. */
static void
prove(void *argument pg_attribute_unused())
{
	Datum		version = CStringGetTextDatum(EXTENSION_VERSION);

	statement_write(&prove_statement, &version, NULL);
	statement_write(&forget_starts_statement, NULL, NULL);
}

WorkResult
recording_prove(WorkError *error)
{
	return work_run("recording the start", true, prove, NULL, error);
}
