/*-------------------------------------------------------------------------
 *
 * subscribers.c
 *	  The webhooks that the worker has met, and what waits for them.
 *
 * IDENTIFICATION
 *	  src/deliver/subscribers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "deliver/subscribers.h"
#include "deliver/versions.h"
#include "server/wal.h"
#include "store/webhooks.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* So many are looked at in search of some to be forgotten. */
#define MAX_FORGOTTEN 256

static HTAB *subscribers;
static uint64 look_up;			/* number of the last one */

/*
 * Of webhooks that a transaction with this id or a later one made all is known: it is the
 * next one when the process starts.  0: not yet.
 */
static uint64 known_from;

/* Those that have replays, in the order in which it is their turn. */
static dlist_head replaying_subscribers;

/* Those whose failing_since is not what is known to be written. */
static dlist_head unwritten_failing;

static Statement versions_statement = {
	"SELECT id, modified_at FROM webhook_events_internal.webhooks WHERE id = ANY ($1)",
	1, {TEXTARRAYOID}, NULL
};

static Statement rows_statement = {
	"SELECT w.*, w.tableoid, w.ctid, s.failing_since, s.webhook_id AS counted"
	" FROM webhook_events_internal.webhooks AS w"
	" LEFT JOIN webhook_events_internal.webhook_stats AS s ON s.webhook_id = w.id"
	" WHERE w.id = ANY ($1)",
	1, {TEXTARRAYOID}, NULL
};

void
subscribers_open(MemoryContext context)
{
	HASHCTL		control = {
		.keysize = sizeof(Id),
		.entrysize = sizeof(Subscriber),
		.hcxt = context
	};

	if (known_from == 0)
		known_from = U64FromFullTransactionId(ReadNextFullTransactionId());
	versions_open(context);
	dlist_init(&replaying_subscribers);
	dlist_init(&unwritten_failing);
	subscribers = hash_create("webhook_events subscribers", 256, &control,
							  HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* What waits for a webhook is not remembered any longer. */
static void
forget_waiting(const Subscriber *subscriber)
{
	if (subscriber->nwaiting > 0)
		known_from = Max(known_from, subscriber->created_xid + 1);
}

void
subscribers_close(void)
{
	HASH_SEQ_STATUS scan;
	const Subscriber *subscriber;

	hash_seq_init(&scan, subscribers);
	while ((subscriber = hash_seq_search(&scan)) != NULL)
		forget_waiting(subscriber);
}

Subscriber *
subscriber_find(const char *id)
{
	return hash_search(subscribers, id, HASH_FIND, NULL);
}

static Subscriber *
enter(const char *id)
{
	bool		found;
	Subscriber *subscriber = hash_search(subscribers, id, HASH_ENTER, &found);

	if (!found)
	{
		memset((char *) subscriber + sizeof(Id), 0,
			   sizeof(Subscriber) - sizeof(Id));
		version_enter(subscriber);
	}
	return subscriber;
}

/*
 * A bucket of tokens that holds one second's worth, at least one, and fills at
 * max_rate.
 */
int
subscriber_allowed_calls(Subscriber *subscriber, int wanted, TimestampTz now,
						 TimestampTz *next_at)
{
	double		rate = subscriber->max_rate;
	double		seconds = (double) (now - subscriber->tokens_at) / USECS_PER_SEC;

	if (rate == 0)
		return wanted;
	if (seconds > 0)
	{
		subscriber->tokens = Min(subscriber->tokens + seconds * rate, Max(rate, 1.0));
		subscriber->tokens_at = now;
	}
	if (subscriber->tokens >= 1)
		return (int) Min((double) wanted, subscriber->tokens);
	*next_at = Min(*next_at,
				   now + 1 + (int64) ((1 - subscriber->tokens) / rate * USECS_PER_SEC));
	return 0;
}

void
subscriber_take_token(Subscriber *subscriber)
{
	if (subscriber->max_rate > 0)
		subscriber->tokens--;
}

/* Others make rows of replays: their ends can come without beginnings. */
void
subscriber_count_waiting(Subscriber *subscriber, int change)
{
	subscriber->nwaiting = Max(subscriber->nwaiting + change, 0);
}

bool
subscriber_is_idle(const Subscriber *subscriber)
{
	return subscriber->is_known && subscriber->nwaiting == 0;
}

const char *
subscriber_refusal(const Subscriber *subscriber, EventType event_type, int epoch)
{
	if (!subscriber->exists)
		return "Webhook was removed.";
	if (subscriber->webhook == NULL)
		return subscriber->error;
	if (event_type == EVENT_TEST)
		return NULL;
	if (epoch < subscriber->webhook->epoch ||
		(!subscriber->webhook->is_enabled && !subscriber->webhook->is_retired))
		return "Webhook was disabled.";
	return NULL;
}

/*
 * Moves a subscriber, with what waits for it, to the host of its new URL, and takes over a
 * reference to that.
 */
static void
set_host(Subscriber *subscriber, Host *new)
{
	Host	   *old = subscriber->host;

	if (subscriber->has_backlog && old != new)
	{
		if (old)
			host_drop_backlog(old, &subscriber->backlog_node);
		if (new)
			host_add_backlog(new, &subscriber->backlog_node);
		else
			subscriber->has_backlog = false;
	}
	subscriber->host = new;
	if (new)
		new->limited_until = 0;
	if (old)
		host_release(old);
}

/* The transaction of this server that made a webhook; 0 if that is another one's. */
static uint64
made_by(const Webhook *webhook)
{
	return webhook->created_xmin > FirstNormalTransactionId ? webhook->created_xid : 0;
}

static void
note_place(Subscriber *subscriber, HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		table = SPI_getbinval(row, desc, SPI_fnumber(desc, "tableoid"), &isnull);
	Datum		tid = SPI_getbinval(row, desc, SPI_fnumber(desc, "ctid"), &isnull);

	subscriber->place.table = DatumGetObjectId(table);
	subscriber->place.tid = *(ItemPointer) DatumGetPointer(tid);
}

/* What a row says that is kept when its version is forgotten. */
static void
note_version(Subscriber *subscriber, Host *host, HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		since = SPI_getbinval(row, desc, SPI_fnumber(desc, "failing_since"),
									  &isnull);

	if (!subscriber->was_seen)
		subscriber_knows_failing(subscriber,
								 isnull ? 0 : DatumGetTimestampTz(since));
	note_place(subscriber, row, desc);
	if (!subscriber->was_seen && subscriber->webhook != NULL)
	{
		subscriber->created_xid = made_by(subscriber->webhook);
		subscriber->is_known = subscriber->created_xid >= known_from;
		(void) SPI_getbinval(row, desc, SPI_fnumber(desc, "counted"), &isnull);
		subscriber->is_uncounted = subscriber->is_known && isnull;
	}
	subscriber->has_lane_rows |= !subscriber->was_seen;
	subscriber->was_seen = true;
	/* What disabled it has taken that from its row. */
	if (subscriber->webhook != NULL && !subscriber->webhook->is_enabled)
		subscriber_knows_failing(subscriber, 0);
	subscriber->max_rate = subscriber->webhook ? subscriber->webhook->max_rate : 0;
	subscriber->exists = true;
	set_host(subscriber, host);
}

/* Makes the versions of the last statement's rows, those of rows_statement. */
static void
load(uint64 nrows)
{
	Subscriber **loaded = palloc(sizeof(Subscriber *) * (nrows + 1));
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < nrows; row++)
		loaded[row] = subscriber_find(statement_text(row, 1));
	versions_make(loaded, rows->vals, rows->tupdesc, (int) nrows, note_version);
}

/*
 * Makes room, least recently used first.  What a dispatch in memory refers to
 * stays; of what waits in the table only the version is forgotten.
 */
static void
forget_unused(void)
{
	Subscriber *subscriber;

	for (int i = 0; i < MAX_FORGOTTEN && (subscriber = versions_excess()) != NULL; i++)
	{
		if (subscriber->references > 0 || subscriber->has_stats)
		{
			version_use(subscriber);
			continue;
		}
		version_drop(subscriber);
		if (subscriber->has_backlog || subscriber->has_replays ||
			(subscriber->failing_since != subscriber->known_failing_since &&
			 !subscriber->failing_has_no_row))
		{
			version_set_aside(subscriber);
			continue;
		}
		forget_waiting(subscriber);
		subscriber_knows_failing(subscriber, subscriber->failing_since);
		set_host(subscriber, NULL);
		version_forget(subscriber);
		hash_search(subscribers, subscriber->id, HASH_REMOVE, NULL);
	}
}

/*
 * Loads those of the last statement's rows (id, modified_at) that are not known
 * in this version.  Returns a list of all of them.
 */
static List *
load_versions(uint64 nrows)
{
	List	   *all = NIL;
	ArrayParameter missing = {TEXTOID, NULL};

	look_up++;
	for (uint64 row = 0; row < nrows; row++)
	{
		char	   *id = statement_text(row, 1);
		bool		isnull;
		TimestampTz version = DatumGetTimestampTz(statement_value(row, 2, &isnull));
		Subscriber *subscriber = enter(id);

		subscriber->look_up = look_up;
		version_use(subscriber);
		if (subscriber->context != NULL && subscriber->modified_at == version)
			subscriber->exists = true;
		else
			array_add_text(&missing, id);
		all = lappend(all, subscriber);
	}
	if (missing.state != NULL)
	{
		Datum		ids = array_result(&missing);

		load(statement_read(&rows_statement, &ids, NULL, 0));
	}
	return all;
}

/* Reads a subscriber's row once more, all of it; returns what is wrong with it. */
static char *
load_completely(Subscriber *subscriber)
{
	Datum		id = CStringGetTextDatum(subscriber->id);
	Datum		ids = PointerGetDatum(construct_array(&id, 1, TEXTOID, -1, false,
													  TYPALIGN_INT));
	SPITupleTable *rows;

	if (statement_read(&rows_statement, &ids, NULL, 0) == 0)
		return "Webhook was removed.";
	rows = SPI_tuptable;
	load(1);
	return version_complete(subscriber, rows->vals[0], rows->tupdesc);
}

/* A transaction, and what came of it. */
typedef struct Completion
{
	Subscriber *subscriber;
	MemoryContext context;		/* of problem */
	char	   *problem;
} Completion;

static void
complete(void *argument)
{
	Completion *completion = argument;
	char	   *problem = load_completely(completion->subscriber);

	completion->problem = problem ? MemoryContextStrdup(completion->context, problem) : NULL;
}

bool
subscriber_complete(Subscriber *subscriber, char **error, bool *passes)
{
	Completion	completion = {subscriber, CurrentMemoryContext, NULL};
	WorkError	failure;
	WorkResult	result;

	*error = NULL;
	*passes = false;
	if (version_is_complete(subscriber))
		return true;
	result = work_run("loading templates", true, complete, &completion, &failure);
	wal_flush_seen();
	if (result == WORK_DONE)
		*error = completion.problem;
	else if (result == WORK_GONE)
		*error = "The extension was dropped.";
	else
	{
		*error = pstrdup(failure.message);
		*passes = !failure.is_of_row;
	}
	return *error == NULL;
}

bool
subscribers_load(Statement *statement, Datum *values, const bool *nulls, uint64 limit,
				 List **found)
{
	uint64		nrows;

	forget_unused();
	nrows = statement_read(statement, values, nulls, limit == 0 ? 0 : (long) limit + 1);
	if (limit != 0 && nrows > limit)
		return false;
	*found = load_versions(nrows);
	return true;
}

void
subscribers_refresh(Datum ids)
{
	Datum	   *elements;
	List	   *found;
	int			count;

	(void) subscribers_load(&versions_statement, &ids, NULL, 0, &found);

	/* An error before this leaves all as they were. */
	deconstruct_array(DatumGetArrayTypeP(ids), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		Subscriber *subscriber = enter(TextDatumGetCString(elements[i]));

		subscriber->exists = (subscriber->look_up == look_up);
	}
}

void
subscriber_add_backlog(Subscriber *subscriber, TimestampTz time)
{
	DuePosition *position = &subscriber->backlog_position;

	Assert(subscriber->host != NULL);
	if (!subscriber->has_backlog || time <= position->time)
	{
		position->time = time;
		position->id[0] = '\0';
	}
	if (subscriber->has_backlog)
		return;
	subscriber->has_backlog = true;
	host_add_backlog(subscriber->host, &subscriber->backlog_node);
}

/* Less waits for it, or nothing: it may be forgotten. */
static void
take_back(Subscriber *subscriber)
{
	if (subscriber->is_bare)
		version_use(subscriber);
}

void
subscriber_end_backlog(Subscriber *subscriber)
{
	take_back(subscriber);
	subscriber->has_backlog = false;
	host_drop_backlog(subscriber->host, &subscriber->backlog_node);
}

void
subscriber_add_replays(Subscriber *subscriber, const char *position)
{
	if (!subscriber->has_replays)
		dlist_push_tail(&replaying_subscribers, &subscriber->replay_node);
	subscriber->has_replays = true;
	strlcpy(subscriber->replay_position, position, sizeof(ReplayPosition));
}

void
subscriber_end_replays(Subscriber *subscriber)
{
	take_back(subscriber);
	dlist_delete(&subscriber->replay_node);
	subscriber->has_replays = false;
}

Subscriber *
subscribers_first_replaying(void)
{
	if (dlist_is_empty(&replaying_subscribers))
		return NULL;
	return dlist_head_element(Subscriber, replay_node, &replaying_subscribers);
}

void
subscriber_to_end_of_replaying(Subscriber *subscriber)
{
	dlist_move_tail(&replaying_subscribers, &subscriber->replay_node);
}

static void
change_failing(Subscriber *subscriber, TimestampTz since, TimestampTz known)
{
	take_back(subscriber);
	if (subscriber->failing_since != subscriber->known_failing_since)
		dlist_delete(&subscriber->failing_node);
	subscriber->failing_since = since;
	subscriber->known_failing_since = known;
	subscriber->failing_has_no_row = false;
	if (since != known)
		dlist_push_tail(&unwritten_failing, &subscriber->failing_node);
}

void
subscriber_set_failing(Subscriber *subscriber, TimestampTz since)
{
	change_failing(subscriber, since, subscriber->known_failing_since);
}

void
subscriber_knows_failing(Subscriber *subscriber, TimestampTz since)
{
	change_failing(subscriber, since, since);
}

int
subscribers_take_failing(ArrayParameter *ids, ArrayParameter *times, int limit)
{
	Subscriber *first = NULL;
	int			count = 0;

	while (count < limit && !dlist_is_empty(&unwritten_failing))
	{
		Subscriber *subscriber = dlist_head_element(Subscriber, failing_node,
													&unwritten_failing);

		if (subscriber == first)
			break;
		if (first == NULL)
			first = subscriber;
		dlist_move_tail(&unwritten_failing, &subscriber->failing_node);
		subscriber->failing_has_no_row = true;
		take_back(subscriber);
		array_add_text(ids, subscriber->id);
		array_add_time(times, subscriber->failing_since);
		count++;
	}
	return count;
}

void
subscribers_forgive(TimestampTz time)
{
	HASH_SEQ_STATUS scan;
	Subscriber *subscriber;

	hash_seq_init(&scan, subscribers);
	while ((subscriber = hash_seq_search(&scan)) != NULL)
	{
		if (subscriber->failing_since != 0)
			subscriber_set_failing(subscriber, time);
	}
}
