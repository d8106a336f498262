/*-------------------------------------------------------------------------
 *
 * matching.c
 *	  Which webhooks get which events of a batch.
 *
 * For a batch of events one query finds every webhook that could want one of
 * them, through one index for each kind of condition; so its cost depends on
 * the batch and not on how many webhooks there are.  Who really gets an event
 * is for webhook_match() to say.
 *
 * IDENTIFICATION
 *	  src/deliver/matching.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "deliver/matching.h"
#include "deliver/subscribers.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

/*
 * So many webhooks are looked at in one turn, at most, and so many in a slice of
 * those that could want one event: to compile them all takes a tenth of a second,
 * and a fraction of that.
 */
#define MAX_CANDIDATES 2048
#define SLICE_SIZE 256

static uint64 match_number;		/* of calls of subscribers_match() */

/* What a webhook's condition is most special in; part of a key. */
typedef enum ConditionKind
{
	CONDITION_RUN,
	CONDITION_TASK,
	CONDITION_ACTOR,
	CONDITION_USER,
	CONDITION_NONE,
	CONDITION_WEBHOOK
} ConditionKind;

/* The candidates of a batch that share a key. */
typedef struct Candidates
{
	uint64		key;
	List	   *subscribers;
} Candidates;

#define CANDIDATE_COLUMNS "SELECT id, modified_at FROM webhook_events_internal.webhooks"

/*
 * OFFSET 0 keeps the planner from joining the other way round: it could read all
 * webhooks of Actors, which costs nothing as long as there are none.
 */
static Statement candidates_statement = {
	CANDIDATE_COLUMNS
	" WHERE actor_run_id = ANY ($1) AND actor_run_id IS NOT NULL"
	" AND (is_enabled OR is_retired)"
	" UNION ALL "
	CANDIDATE_COLUMNS
	" WHERE actor_task_id = ANY ($2) AND actor_task_id IS NOT NULL"
	" AND actor_run_id IS NULL AND is_enabled"
	" UNION ALL "
	"SELECT w.* FROM unnest($3, $4) AS k (actor_id, user_id) CROSS JOIN LATERAL ("
	CANDIDATE_COLUMNS " AS w"
	" WHERE w.actor_id = k.actor_id AND w.user_id = k.user_id"
	" AND w.actor_id IS NOT NULL"
	" AND w.actor_run_id IS NULL AND w.actor_task_id IS NULL AND w.is_enabled"
	" OFFSET 0) AS w"
	" UNION ALL "
	CANDIDATE_COLUMNS
	" WHERE actor_id = ANY ($3) AND user_id IS NULL AND actor_id IS NOT NULL"
	" AND actor_run_id IS NULL AND actor_task_id IS NULL AND is_enabled"
	" UNION ALL "
	CANDIDATE_COLUMNS
	" WHERE user_id = ANY ($4) AND actor_run_id IS NULL"
	" AND actor_task_id IS NULL AND actor_id IS NULL AND is_enabled"
	" UNION ALL "
	CANDIDATE_COLUMNS
	" WHERE user_id IS NULL AND actor_run_id IS NULL"
	" AND actor_task_id IS NULL AND actor_id IS NULL AND is_enabled"
	" UNION ALL "
	CANDIDATE_COLUMNS " WHERE id = ANY ($5)",
	5, {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
	NULL
};

/*
 * Each index has the id behind what is looked for, so that a slice costs the same
 * whatever stands before it.  Ordered by user_id as well where that is NULL, which
 * the planner does not take for a constant.
 */
static Statement slice_statement = {
	"SELECT c.id, c.modified_at FROM ((" CANDIDATE_COLUMNS
	" WHERE actor_run_id = $1 AND actor_run_id IS NOT NULL"
	" AND (is_enabled OR is_retired) AND id > $5 ORDER BY id LIMIT $6)"
	" UNION ALL (" CANDIDATE_COLUMNS
	" WHERE actor_task_id = $2 AND actor_task_id IS NOT NULL"
	" AND actor_run_id IS NULL AND is_enabled AND id > $5 ORDER BY id LIMIT $6)"
	" UNION ALL (" CANDIDATE_COLUMNS
	" WHERE actor_id = $3 AND user_id = $4 AND actor_id IS NOT NULL"
	" AND actor_run_id IS NULL AND actor_task_id IS NULL AND is_enabled"
	" AND id > $5 ORDER BY id LIMIT $6)"
	" UNION ALL (" CANDIDATE_COLUMNS
	" WHERE actor_id = $3 AND user_id IS NULL AND actor_id IS NOT NULL"
	" AND actor_run_id IS NULL AND actor_task_id IS NULL AND is_enabled"
	" AND id > $5 ORDER BY user_id, id LIMIT $6)"
	" UNION ALL (" CANDIDATE_COLUMNS
	" WHERE user_id = $4 AND actor_run_id IS NULL"
	" AND actor_task_id IS NULL AND actor_id IS NULL AND is_enabled"
	" AND id > $5 ORDER BY id LIMIT $6)"
	" UNION ALL (" CANDIDATE_COLUMNS
	" WHERE user_id IS NULL AND actor_run_id IS NULL"
	" AND actor_task_id IS NULL AND actor_id IS NULL AND is_enabled"
	" AND id > $5 ORDER BY user_id, id LIMIT $6)) AS c"
	" ORDER BY c.id LIMIT $6",
	6, {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID}, NULL
};

/*
 * The key of a condition.  Two conditions can have the same; webhook_match()
 * tells them apart.
 */
static uint64
make_key(ConditionKind kind, const char *first, const char *second)
{
	uint64		key = (uint64) kind;

	if (first)
		key = hash_bytes_extended((const unsigned char *) first,
								  (int) strlen(first), key);
	if (second)
		key = hash_bytes_extended((const unsigned char *) second,
								  (int) strlen(second), key);
	return key;
}

static uint64
key_of_webhook(const Webhook *webhook)
{
	if (webhook->actor_run_id)
		return make_key(CONDITION_RUN, webhook->actor_run_id, NULL);
	if (webhook->actor_task_id)
		return make_key(CONDITION_TASK, webhook->actor_task_id, NULL);
	if (webhook->actor_id)
		return make_key(CONDITION_ACTOR, webhook->actor_id, webhook->user_id);
	if (webhook->user_id)
		return make_key(CONDITION_USER, webhook->user_id, NULL);
	return make_key(CONDITION_NONE, NULL, NULL);
}

/* A key under which an event's webhooks can be found. */
#define MAX_KEYS 6

typedef struct EventKey
{
	uint64		key;
	ConditionKind kind;
} EventKey;

static int
add_key(EventKey *keys, int count, ConditionKind kind, const char *first,
		const char *second)
{
	keys[count].key = make_key(kind, first, second);
	keys[count].kind = kind;
	return count + 1;
}

/* Fills keys[] with those of an event; how many there are. */
static int
keys_of_event(const Event *event, EventKey keys[MAX_KEYS])
{
	int			count = 0;

	if (event->webhook_id)
		return add_key(keys, 0, CONDITION_WEBHOOK, event->webhook_id, NULL);
	if (event->actor_run_id)
		count = add_key(keys, count, CONDITION_RUN, event->actor_run_id, NULL);
	if (event->actor_task_id)
		count = add_key(keys, count, CONDITION_TASK, event->actor_task_id, NULL);
	if (event->actor_id)
		count = add_key(keys, count, CONDITION_ACTOR, event->actor_id, NULL);
	if (event->actor_id && event->user_id)
		count = add_key(keys, count, CONDITION_ACTOR, event->actor_id, event->user_id);
	if (event->user_id)
		count = add_key(keys, count, CONDITION_USER, event->user_id, NULL);
	return add_key(keys, count, CONDITION_NONE, NULL, NULL);
}

/*
 * Makes the entries of a batch's keys, and finds the candidates for them.  False if
 * there are too many.
 */
static bool
find_candidates(HTAB *table, Event **events, int nevents, List **candidates)
{
	ArrayParameter parameters[5] = {{0}};
	Datum		values[5];

	for (int i = 0; i < 5; i++)
		parameters[i].type = TEXTOID;
	for (int i = 0; i < nevents; i++)
	{
		Event	   *event = events[i];
		EventKey	keys[MAX_KEYS];
		int			nkeys = keys_of_event(event, keys);
		bool		is_new[CONDITION_WEBHOOK + 1] = {false};

		for (int k = 0; k < nkeys; k++)
		{
			bool		found;
			Candidates *entry = hash_search(table, &keys[k].key, HASH_ENTER, &found);

			if (found)
				continue;
			entry->subscribers = NIL;
			is_new[keys[k].kind] = true;
		}

		/*
		 * Each is looked for once: most events have Actors and users in
		 * common.
		 */
		if (is_new[CONDITION_WEBHOOK])
			array_add_text(&parameters[4], event->webhook_id);
		if (is_new[CONDITION_RUN])
			array_add_text(&parameters[0], event->actor_run_id);
		if (is_new[CONDITION_TASK])
			array_add_text(&parameters[1], event->actor_task_id);
		if (is_new[CONDITION_ACTOR] || is_new[CONDITION_USER])
		{
			array_add_text(&parameters[2], event->actor_id);
			array_add_text(&parameters[3], event->user_id);
		}
	}
	for (int i = 0; i < 5; i++)
		values[i] = array_result(&parameters[i]);
	return subscribers_load(&candidates_statement, values, NULL, MAX_CANDIDATES, candidates);
}

/* Files a candidate under its condition, and as the target of a TEST. */
static void
file_candidate(HTAB *table, Subscriber *subscriber)
{
	uint64		keys[2];

	if (subscriber->filed_in == match_number)
		return;
	subscriber->filed_in = match_number;
	keys[0] = make_key(CONDITION_WEBHOOK, subscriber->id, NULL);
	keys[1] = key_of_webhook(subscriber->webhook);
	for (int k = 0; k < 2; k++)
	{
		Candidates *entry = hash_search(table, &keys[k], HASH_FIND, NULL);

		if (entry != NULL)
			entry->subscribers = lappend(entry->subscribers, subscriber);
	}
}

int
subscribers_match(Event **events, int nevents, int max_matches,
				  void (*callback) (Event *event, Subscriber *subscriber,
									MatchResult result, void *argument),
				  void *argument)
{
	HASHCTL		control = {
		.keysize = sizeof(uint64),
		.entrysize = sizeof(Candidates),
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *table;
	List	   *candidates;
	ListCell   *cell;
	int			nmatches = 0;
	int			ndone = 0;

	match_number++;
	table = hash_create("webhook_events candidates", 256, &control,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	if (!find_candidates(table, events, nevents, &candidates))
	{
		hash_destroy(table);
		return 0;
	}
	foreach(cell, candidates)
	{
		Subscriber *subscriber = lfirst(cell);

		if (subscriber->webhook != NULL)
			file_candidate(table, subscriber);
	}
	while (ndone < nevents && nmatches < max_matches)
	{
		Event	   *event = events[ndone++];
		EventKey	keys[MAX_KEYS];
		int			nkeys = keys_of_event(event, keys);

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < nkeys; k++)
		{
			Candidates *entry = hash_search(table, &keys[k].key, HASH_FIND, NULL);

			foreach(cell, entry->subscribers)
			{
				Subscriber *subscriber = lfirst(cell);
				MatchResult result = webhook_match(subscriber->webhook, event);

				callback(event, subscriber, result, argument);
				nmatches += (result == MATCH_YES);
			}
		}
	}
	hash_destroy(table);
	return ndone;
}

bool
subscribers_match_slice(Event *event, Id position,
						void (*callback) (Event *event, Subscriber *subscriber,
										  MatchResult result, void *argument),
						void *argument)
{
	const char *condition[] = {
		event->actor_run_id, event->actor_task_id, event->actor_id, event->user_id
	};
	Datum		values[6] = {0};
	bool		nulls[6] = {false};
	List	   *candidates;
	ListCell   *cell;

	for (int i = 0; i < (int) lengthof(condition); i++)
	{
		nulls[i] = (condition[i] == NULL);
		if (!nulls[i])
			values[i] = CStringGetTextDatum(condition[i]);
	}
	values[4] = CStringGetTextDatum(position);
	values[5] = Int64GetDatum(SLICE_SIZE);
	(void) subscribers_load(&slice_statement, values, nulls, SLICE_SIZE, &candidates);
	foreach(cell, candidates)
	{
		Subscriber *subscriber = lfirst(cell);

		if (subscriber->webhook != NULL)
			callback(event, subscriber, webhook_match(subscriber->webhook, event),
					 argument);
		strlcpy(position, subscriber->id, sizeof(Id));
	}
	return list_length(candidates) == SLICE_SIZE;
}
