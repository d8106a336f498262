/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that delivers the events of one database.
 *
 * It attaches to its slot, waits for what the slot's wake bits, its sockets and
 * the clock say, and runs the engine.  An error ends it; the launcher starts it
 * again after a while, and it goes on from what the tables say.
 *
 * IDENTIFICATION
 *	  src/deliver/worker.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "deliver/delivery.h"
#include "deliver/http.h"
#include "deliver/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "server/clock.h"
#include "server/live.h"
#include "server/settings.h"
#include "server/shared.h"
#include "server/slots.h"
#include "server/standstill.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "store/installed.h"
#include "store/statement.h"
#include "store/counters.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * A worker for which another database waits goes on for so long while it has work; and
 * so often a database is looked at where no commit has announced any.
 */
#define TURN USECS_PER_SEC
#define LOOK_INTERVAL (INT64CONST(900) * USECS_PER_SEC)

/* Who asks to stop once more, so long after he has asked, insists. */
#define INSIST_TIME USECS_PER_SEC

/* So long after a failure it is tried again to read what was counted. */
#define COUNT_RETRY_TIME (INT64CONST(5) * USECS_PER_SEC)

static volatile sig_atomic_t must_stop = false;
static bool makes_room = false; /* for another database's worker */
static bool was_lent = false;	/* comes back; nobody need read that in the
								 * log */
static emit_log_hook_type prev_emit_log_hook = NULL;

/* What the worker was woken for, until a turn has come to its end. */
static uint32 woken_for = 0;

static WorkerHold current_hold = HOLD_NONE;
static WorkerHold told_hold = HOLD_NONE;	/* the last one but a standstill */
static bool hold_is_stale = false;	/* it could not be looked for */

/* When what was counted is to be read; DT_NOEND: it was. */
static TimestampTz count_at = 0;

/* The latch, the postmaster's death and the engine's sockets. */
static WaitEventSet *wait_set = NULL;

/* What a database is held back for, beside the settings. */
static Statement hold_statement = {
	"SELECT CASE"
	" WHEN o.is_own IS NULL THEN CASE WHEN EXISTS (SELECT FROM pg_trigger WHERE tgfoid IN"
	" ('webhook_events.run_changed()'::regprocedure,"
	" 'webhook_events.build_changed()'::regprocedure)) THEN 4 ELSE 1 END"
	" WHEN NOT o.is_own THEN 2"
	" WHEN EXISTS (SELECT FROM webhook_events_internal.pauses) THEN 3"
	" ELSE 0 END"
	" FROM webhook_events_internal.has_own_outbox() AS o (is_own)",
	0, {0}, NULL
};

/* A node that got shards of an attached table has no other who could say so. */
static Statement claim_statement = {
	"SELECT webhook_events_internal.claim_shards()",
	0, {0}, NULL
};

/*
 * There is time to record what was answered: no transaction waits for anybody.  Who
 * insists is obeyed at once; but the postmaster signals a process and its group, so
 * that one request can come twice.
 */
static void
handle_stop(SIGNAL_ARGS)
{
	static volatile TimestampTz stopped_at = 0;
	int			saved_errno = errno;

	if (!must_stop)
		stopped_at = clock_now();
	else if (clock_now() - stopped_at > INSIST_TIME && IsTransactionState())
		die(SIGNAL_ARGUMENTS);
	must_stop = true;
	work_cancel();
	SetLatch(MyLatch);
	errno = saved_errno;
}

/* Why the process will have ended, for the log; that of an error is cut. */
static char end_reason[TROUBLE_SIZE] = "it was asked to";
static bool has_started = false;	/* and said so */
static bool end_is_news = true;
static bool end_is_noted = false;

/* Notes why the worker fails, for status(); to be terminated is no failure. */
static void
note_end(const ErrorData *data)
{
	if (data->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
	{
		shared_worker_ends(SLOT_WAITING);
		end_is_news = false;
	}
	else if (data->message != NULL)
	{
		end_is_news = shared_record_error(data->message);
		snprintf(end_reason, sizeof(end_reason), "an error: %s", data->message);
		if (data->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			shared_worker_was_locked_out();
	}
	end_is_noted = true;
}

/* The log need not have what we note: log_min_messages says what it has. */
static void
note_error(ErrorData *data)
{
	if (data->elevel >= ERROR && !end_is_noted)
		note_end(data);
	if (prev_emit_log_hook)
		prev_emit_log_hook(data);
}

static void
connect_to_slot(int slot)
{
	Oid			database;

	if (!shared_attach_worker(slot, &database))
		proc_exit(0);
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = note_error;
	live_attach(database);
	work_connect(database);
}

/* The transaction of find_hold(). */
static void
look_for_hold(void *argument)
{
	static const WorkerHold holds[] = {
		HOLD_NONE, HOLD_NOT_ATTACHED, HOLD_RESTORED_COPY, HOLD_PAUSED,
		HOLD_RESTORED_TABLES
	};
	WorkerHold *hold = argument;
	bool		isnull;

	if (!installed_version_fits())
	{
		*hold = HOLD_OTHER_VERSION;
		return;
	}
	statement_read(&hold_statement, NULL, NULL, 1);
	*hold = holds[DatumGetInt32(statement_value(0, 1, &isnull))];
	if (*hold == HOLD_RESTORED_TABLES)
		(void) statement_write(&claim_statement, NULL, NULL);
	if (!setting_delivery && *hold <= HOLD_NOT_ATTACHED)
		*hold = HOLD_DELIVERY_OFF;
}

/*
 * Why nothing may be delivered now; false if the extension is gone.  What can't be
 * found out now stays as it was, and is to be looked for again.
 */
static bool
find_hold(WorkerHold *hold)
{
	static bool is_known = false;
	WorkerHold	found;
	WorkError	error;
	WorkResult	result = work_run("looking for a hold", true, look_for_hold, &found,
								  &error);

	hold_is_stale = (result == WORK_FAILED);
	if (result == WORK_DONE)
		*hold = found;
	else if (result == WORK_FAILED && !is_known && !must_stop)
		ereport(ERROR, (errcode(error.sqlstate), errmsg("%s", error.message)));
	is_known |= (result == WORK_DONE);
	return result != WORK_GONE;
}

/* Logs that somebody has stopped delivery, or lets it go on. */
static void
log_stop(void)
{
	if (current_hold == HOLD_PAUSED || current_hold == HOLD_DELIVERY_OFF)
		ereport(LOG,
				(errmsg("webhooks of database \"%s\" are not delivered: %s",
						work_database(), current_hold == HOLD_PAUSED ?
						"they are paused" : "webhook_events.delivery is off")));
	else if (current_hold == HOLD_NONE && told_hold != HOLD_NONE &&
			 told_hold != HOLD_NOT_ATTACHED)
		ereport(LOG,
				(errmsg("webhooks of database \"%s\" are delivered again",
						work_database())));
	told_hold = current_hold;
}

/* Publishes a hold, and logs it if it is one that somebody must end. */
static void
report_hold(void)
{
	shared_worker_holds(current_hold);
	/* Whoever pauses or resumes asks for a standstill first. */
	if (current_hold != HOLD_STANDSTILL && current_hold != told_hold)
		log_stop();
	if (current_hold == HOLD_RESTORED_COPY || current_hold == HOLD_RESTORED_TABLES)
		ereport(WARNING,
				(errmsg(current_hold == HOLD_RESTORED_COPY ?
						"events in database \"%s\" were recorded elsewhere, so nothing is delivered" :
						"tables in database \"%s\" were attached elsewhere, so nothing is delivered",
						work_database()),
				 errdetail("The database is a copy or was restored from a dump."),
				 errhint("Call webhook_events.resume() if this copy is to deliver events.")));
	if (current_hold == HOLD_OTHER_VERSION)
		ereport(WARNING,
				(errmsg("extension \"webhook_events\" in database \"%s\" is not of version %s as the library is, so nothing is delivered",
						work_database(), EXTENSION_VERSION),
				 errdetail("Events are recorded and wait."),
				 errhint("Run ALTER EXTENSION webhook_events UPDATE.")));
}

static void
drop_wait_set(void)
{
	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set = NULL;
}

/* Sleeps until something happens, at most so many milliseconds. */
static void
wait_for_work(long timeout)
{
	static uint32 for_work = 0;
	static uint32 for_answers = 0;
	WaitEvent	event;

	if (for_work == 0)
	{
		for_work = wait_event_named("WebhookEventsWorkerMain");
		for_answers = wait_event_named("WebhookEventsAnswer");
	}

	if (wait_set == NULL)
	{
		wait_set = create_wait_set(3);
		AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL,
						  NULL);
		if (http_descriptor() >= 0)
			AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, http_descriptor(),
							  NULL, NULL);
	}
	(void) WaitEventSetWait(wait_set, timeout, &event, 1,
							http_in_flight() > 0 ? for_answers : for_work);
}

/*
 * One that has not come to say that it has started tells only of an error, and of one that
 * comes each time once.
 */
static void
log_end(int code, Datum arg pg_attribute_unused())
{
	if (has_started)
		ereport(makes_room ? DEBUG1 : LOG,
				(errmsg("webhook_events worker of database \"%s\" has ended: %s",
						work_database(), end_reason)));
	else if (code != 0 && end_is_news)
		ereport(LOG,
				(errmsg("webhook_events worker of database \"%s\" could not start: %s",
						work_database(), end_reason)));
}

static void
log_start(void)
{
	ereport(was_lent ? DEBUG1 : LOG,
			(errmsg("webhook_events worker of database \"%s\" has started",
					work_database())));
	has_started = true;
}

/* Logs what of the settings can't work, when it is news. */
static void
log_settings(void)
{
	static char *logged = NULL;
	StringInfoData problems;
	ListCell   *cell;

	initStringInfo(&problems);
	foreach(cell, settings_unreadable_files())
		appendStringInfo(&problems, "%s%s", problems.len > 0 ? "; " : "",
						 (char *) lfirst(cell));
	if (problems.len > 0 && (logged == NULL || strcmp(logged, problems.data) != 0))
		ereport(WARNING,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("calls over TLS from database \"%s\" fail, since files can't be used: %s",
						work_database(), problems.data)));
	if (logged != NULL)
		pfree(logged);
	logged = MemoryContextStrdup(TopMemoryContext, problems.data);
	pfree(problems.data);
}

/* Ends the process; what is under way will be called again by the next one. */
static void
stop(SlotState next_state, bool record, const char *reason)
{
	if (record)
		delivery_finish();
	else
		delivery_close();
	strlcpy(end_reason, reason, sizeof(end_reason));
	shared_worker_ends(next_state);
	proc_exit(0);
}

/* Runs the engine, or closes it while there is a hold and nothing under way. */
static long
run_engine(uint32 wake)
{
	if (current_hold != HOLD_NONE && delivery_is_quiet())
	{
		drop_wait_set();
		delivery_close();
		return setting_poll_interval;
	}
	if (!delivery_is_open())
	{
		drop_wait_set();
		delivery_open();
	}
	return delivery_run(wake, current_hold == HOLD_NONE && !makes_room);
}

/* Gives up calls that keep this worker; the log has it once a minute. */
static void
give_up_calls(void)
{
	int			count = http_give_up();

	counters_add(COUNTER_CUT_SHORT, (uint64) count);
	if (count > 0 && shared_may_tell_of_cuts())
		ereport(LOG,
				(errmsg("webhook_events worker of database \"%s\" gave up %d calls, since another database has waited too long for a worker",
						work_database(), count),
				 errhint("Raise webhook_events.max_workers, or lower webhook_events.request_timeout.")));
}

/*
 * Makes room for another database's worker, if one is wanted and this one has no
 * work or had its turn.  What is under way comes to its end first: if it does not soon
 * this one has another turn, unless somebody waits for too long, for whom what may be is
 * given up.
 * Returns in how many milliseconds it is to be called again.
 */
static long
make_room(void)
{
	static TimestampTz turn_ends_at = 0;
	static bool has_given_up = false;
	TimestampTz now = clock_now();
	TimestampTz next = current_hold == HOLD_NONE ? delivery_next_work() : DT_NOEND;

	if (turn_ends_at == 0)
		turn_ends_at = now + TURN;
	if (!makes_room && now < turn_ends_at &&
		(!delivery_is_quiet() || next <= clock_work_time() + TURN))
		return setting_poll_interval;
	if (!makes_room)
	{
		if (!shared_make_room())
			return setting_poll_interval;
		makes_room = true;
		has_given_up = false;
		turn_ends_at = now + TURN;
	}
	if (delivery_is_quiet())
	{
		next = Min(next - clock_work_time(), LOOK_INTERVAL);
		shared_worker_wants_at(now + next);
		stop(SLOT_WAITING, true, "another database waits for a worker");
	}
	if (now < turn_ends_at)
		return TimestampDifferenceMilliseconds(now, turn_ends_at);
	turn_ends_at = now + TURN;
	if (shared_room_is_urgent() && !has_given_up)
	{
		give_up_calls();
		has_given_up = true;
	}
	else
	{
		shared_keep_room();
		makes_room = false;
	}
	return 0;
}

/* Reads what was counted.  What can't be read now is in nobody's way. */
static void
read_counters(void)
{
	switch (counters_open())
	{
		case WORK_DONE:
			count_at = DT_NOEND;
			return;
		case WORK_FAILED:
			count_at = clock_now() + COUNT_RETRY_TIME;
			return;
		case WORK_GONE:
			stop(SLOT_ABSENT, false, "the extension is gone");
	}
}

/* Looks for a hold. */
static void
update_hold(void)
{
	WorkerHold	old_hold = current_hold;

	/* Then what the tables say is about to change. */
	if (standstill_is_wanted(MyDatabaseId))
	{
		if (current_hold == HOLD_NONE)
			current_hold = HOLD_STANDSTILL;
	}
	else if (!find_hold(&current_hold))
		stop(SLOT_ABSENT, false, "the extension is gone");
	/* An older version has no table of what was counted. */
	if (count_at <= clock_now() && current_hold != HOLD_OTHER_VERSION &&
		current_hold != HOLD_STANDSTILL)
		read_counters();
	if (current_hold == old_hold)
		return;
	report_hold();
}

/* One turn: what was announced, what is to be done, and then a wait. */
static void
take_turn(void)
{
	static uint64 answered = 0;
	uint64		number = standstill_number();
	bool		must_look = (current_hold != HOLD_NONE || hold_is_stale ||
							 number != answered || count_at <= clock_now());
	long		timeout;

	ResetLatch(MyLatch);
	shared_worker_back_by(clock_now());
	CHECK_FOR_INTERRUPTS();
	woken_for |= shared_take_wake();
	if (must_stop || woken_for & (WAKE_STOP | WAKE_UNWANTED))
		stop(SLOT_WAITING, true, must_stop ? "it was asked to" :
			 woken_for & WAKE_STOP ? "its database is dropped, copied, renamed or moved" :
			 "webhook_events.databases does not name its database, or that takes no connections");
	if (shared_must_reload() || ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		log_settings();
		must_look = true;
	}
	if (must_look || woken_for & WAKE_COMMANDS)
		update_hold();
	timeout = run_engine(woken_for);
	if (timeout < 0)
		stop(SLOT_ABSENT, false, "the extension is gone");
	woken_for = 0;
	if (current_hold == HOLD_NONE || delivery_has_put_down())
	{
		standstill_answer(number);
		answered = number;
	}
	timeout = Min(timeout, make_room());
	shared_worker_back_by(clock_now() + timeout * INT64CONST(1000));
	wait_for_work(timeout);
}

/*
 * After an error that nobody has expected.  What was sent is recorded, if it can be;
 * then the worker ends.
 */
static void
handle_error(void)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	if (IsTransactionState())
		AbortCurrentTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	note_end(error);
	delivery_finish();
	ReThrowError(error);
}

static void
try_turn(void)
{
	PG_TRY();
	{
		take_turn();
	}
	PG_CATCH();
	{
		handle_error();
	}
	PG_END_TRY();
}

static void
start(void)
{
	was_lent = shared_worker_was_lent(&current_hold);
	told_hold = current_hold;
	update_hold();
	log_start();
	if (!was_lent)
		log_settings();
	shared_worker_holds(current_hold);
	shared_worker_runs();
}

static void
try_start(void)
{
	PG_TRY();
	{
		start();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		note_end(CopyErrorData());
		PG_RE_THROW();
	}
	PG_END_TRY();
}

void
webhook_events_worker_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_stop);
	BackgroundWorkerUnblockSignals();
	connect_to_slot(DatumGetInt32(arg));
	before_shmem_exit(log_end, (Datum) 0);
	try_start();
	for (;;)
		try_turn();
}
