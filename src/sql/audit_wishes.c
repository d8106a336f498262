/*-------------------------------------------------------------------------
 *
 * audit_wishes.c
 *	  Who should get which events, for audit(): webhooks found by their conditions.
 *
 * Who should get what webhook_match() says.  It is asked of webhooks of which the most special
 * part of the condition and the type are an event's.
 *
 * IDENTIFICATION
 *	  src/sql/audit_wishes.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "rules/webhook.h"
#include "sql/audit_wishes.h"
#include "store/day_table.h"
#include "store/webhook_columns.h"
#include "store/webhooks.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

/* By what webhooks are found: the most special part of their condition. */
typedef enum Kind
{
	KIND_RUN,
	KIND_TASK,
	KIND_ACTOR,
	KIND_USER,
	KIND_ANY,
	N_KINDS
} Kind;

/* Of a webhook what its condition needs. */
typedef struct Condition
{
	uint64		webhook;		/* hash of its id */
	TimestampTz created_at;
	TimestampTz since;
	TimestampTz modified_at;
	uint64		created_xid;
	uint64		created_xmin;
	uint64		created_xmax;
	uint32		event_types;
	const char *user_id;
	const char *actor_id;
	const char *actor_task_id;
	const char *actor_run_id;
	int64		count;
	uint64		hashes;
} Condition;

/* A webhook among those with the same hash of what they are found by and a type. */
typedef struct Wish
{
	uint32		hash;
	uint32		webhook;		/* its number */
	int32		next;			/* -1: none */
} Wish;

struct Wishes
{
	int			count;
	int			room;
	Condition  *webhooks;
	bool		kinds[N_KINDS]; /* has any webhook one of these? */
	uint32		mask;
	int32	   *heads;
	Wish	   *list;
	Oid			types[N_EVENT_TYPES];	/* labels of the SQL enum */
	Webhook		asked;			/* for webhook_match() */
	char	   *texts;			/* those of an event, each ended by a zero */
	size_t		texts_room;
};

uint64
wishes_hash_id(const text * id)
{
	return hash_bytes_extended((const unsigned char *) VARDATA_ANY(id),
							   (int) VARSIZE_ANY_EXHDR(id), 0);
}

/* By what a webhook is found. */
static Kind
kind_of(const Condition *webhook, const char **key)
{
	const char *const keys[] = {
		webhook->actor_run_id, webhook->actor_task_id, webhook->actor_id, webhook->user_id
	};

	for (int kind = 0; kind < KIND_ANY; kind++)
	{
		if (keys[kind] != NULL)
		{
			*key = keys[kind];
			return (Kind) kind;
		}
	}
	*key = "";
	return KIND_ANY;
}

static uint32
hash_wish(Kind kind, EventType type, const char *key, size_t length)
{
	return hash_bytes((const unsigned char *) key, (int) length) ^
		murmurhash32((uint32) (type * N_KINDS + kind + 1));
}

static const char *
copy_string(const char *string)
{
	return string == NULL ? NULL : pstrdup(string);
}

/* Keeps of a webhook what is looked at. */
static void
add_webhook(Wishes *wishes, const Webhook *webhook)
{
	Condition  *condition;

	if (wishes->count == wishes->room)
	{
		wishes->room = Max(2 * wishes->room, 64);
		wishes->webhooks = wishes->webhooks == NULL ?
			palloc(sizeof(Condition) * wishes->room) :
			repalloc_huge(wishes->webhooks, sizeof(Condition) * wishes->room);
	}
	condition = &wishes->webhooks[wishes->count++];
	memset(condition, 0, sizeof(Condition));
	condition->webhook = hash_bytes_extended((const unsigned char *) webhook->id,
											 (int) strlen(webhook->id), 0);
	condition->created_at = webhook->created_at;
	condition->since = webhook->since;
	condition->modified_at = webhook->modified_at;
	condition->created_xid = webhook->created_xid;
	condition->created_xmin = webhook->created_xmin;
	condition->created_xmax = webhook->created_xmax;
	condition->event_types = webhook->event_types;
	condition->user_id = copy_string(webhook->user_id);
	condition->actor_id = copy_string(webhook->actor_id);
	condition->actor_task_id = copy_string(webhook->actor_task_id);
	condition->actor_run_id = copy_string(webhook->actor_run_id);
}

/*
 * Reads a row, in a context of its own, unless the webhook is disabled: it gets nothing,
 * and what it should have got before nobody knows.
 */
static void
add_row(Wishes *wishes, HeapTuple row, TupleDesc desc, MemoryContext context)
{
	bool		isnull;
	Datum		is_enabled = heap_getattr(row, webhook_column(desc, WEBHOOK_IS_ENABLED), desc,
										  &isnull);
	MemoryContext old_context;
	Webhook    *webhook;

	if (isnull || !DatumGetBool(is_enabled))
		return;
	old_context = MemoryContextSwitchTo(context);
	webhook = webhook_condition_from_row(row, desc);
	MemoryContextSwitchTo(old_context);
	add_webhook(wishes, webhook);
	MemoryContextReset(context);
}

static void
index_webhooks(Wishes *wishes)
{
	int64		count = 0;
	int64		added = 0;

	for (int i = 0; i < wishes->count; i++)
		count += pg_popcount32(wishes->webhooks[i].event_types);
	if (count > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there are too many webhooks to audit")));
	wishes->mask = pg_nextpower2_32((uint32) count + 1) - 1;
	wishes->heads = MemoryContextAllocHuge(CurrentMemoryContext,
										   sizeof(int32) * ((size_t) wishes->mask + 1));
	memset(wishes->heads, 0xff, sizeof(int32) * ((size_t) wishes->mask + 1));
	wishes->list = MemoryContextAllocHuge(CurrentMemoryContext,
										  sizeof(Wish) * (count + 1));
	for (int i = 0; i < wishes->count; i++)
	{
		const char *key;
		Kind		kind = kind_of(&wishes->webhooks[i], &key);

		wishes->kinds[kind] = true;
		for (int type = 0; type < N_EVENT_TYPES; type++)
		{
			Wish	   *wish = &wishes->list[added];
			int32	   *head;

			if ((wishes->webhooks[i].event_types & (1 << type)) == 0)
				continue;
			wish->hash = hash_wish(kind, (EventType) type, key, strlen(key));
			wish->webhook = i;
			head = &wishes->heads[wish->hash & wishes->mask];
			wish->next = *head;
			*head = (int32) added++;
		}
	}
}

/* Reads the webhooks, of the time of the query. */
Wishes *
wishes_read(void)
{
	Wishes	   *wishes = palloc0(sizeof(Wishes));
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "webhook_events row of a webhook",
												  ALLOCSET_SMALL_SIZES);
	Relation	relation = table_open(get_relname_relid("webhooks", day_table_namespace()),
									  AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, GetActiveSnapshot(),
										  0, NULL);
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		add_row(wishes, row, RelationGetDescr(relation), context);
	}
	MemoryContextDelete(context);
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	for (int type = 0; type < N_EVENT_TYPES; type++)
		wishes->types[type] = day_table_label("event_type",
											  event_type_label((EventType) type));
	wishes->asked.is_enabled = true;
	index_webhooks(wishes);
	return wishes;
}

/* A row of the outbox, of which no more is read than is asked for. */
typedef struct EventRow
{
	FunctionCallInfo fcinfo;
	Event		event;
	bool		is_read;
	uint64		hash;
} EventRow;

/* As strings, as webhook_match() has them. */
static void
read_event(Wishes *wishes, EventRow *row)
{
	FunctionCallInfo fcinfo = row->fcinfo;
	const char **const strings[] = {
		&row->event.user_id, &row->event.actor_id, &row->event.actor_task_id,
		&row->event.actor_run_id
	};
	text	   *values[lengthof(strings)];
	text	   *id = PG_GETARG_TEXT_PP(WANTED_ID);
	size_t		size = 0;
	char	   *place;

	for (int i = 0; i < (int) lengthof(strings); i++)
	{
		values[i] = PG_ARGISNULL(WANTED_USER_ID + i) ? NULL :
			PG_GETARG_TEXT_PP(WANTED_USER_ID + i);
		size += values[i] == NULL ? 0 : VARSIZE_ANY_EXHDR(values[i]) + 1;
	}
	if (size > wishes->texts_room)
	{
		if (wishes->texts != NULL)
			pfree(wishes->texts);
		wishes->texts_room = 2 * size;
		wishes->texts = MemoryContextAlloc(GetMemoryChunkContext(wishes),
										   wishes->texts_room);
	}
	place = wishes->texts;
	for (int i = 0; i < (int) lengthof(strings); i++)
	{
		if (values[i] == NULL)
			continue;
		*strings[i] = place;
		memcpy(place, VARDATA_ANY(values[i]), VARSIZE_ANY_EXHDR(values[i]));
		place += VARSIZE_ANY_EXHDR(values[i]);
		*place++ = '\0';
	}
	row->event.created_at = PG_GETARG_TIMESTAMPTZ(WANTED_CREATED_AT);
	row->event.xid = U64FromFullTransactionId(DatumGetFullTransactionId(PG_GETARG_DATUM(WANTED_XID)));
	row->hash = wishes_hash_id(id);
	row->is_read = true;
}

/* Who wanted what is known only of webhooks that are as they were then. */
static void
ask_webhook(Wishes *wishes, Condition *webhook, EventRow *row)
{
	Webhook    *asked = &wishes->asked;

	if (!row->is_read)
		read_event(wishes, row);
	asked->since = webhook->since;
	asked->created_xid = webhook->created_xid;
	asked->created_xmin = webhook->created_xmin;
	asked->created_xmax = webhook->created_xmax;
	asked->event_types = webhook->event_types;
	asked->user_id = webhook->user_id;
	asked->actor_id = webhook->actor_id;
	asked->actor_task_id = webhook->actor_task_id;
	asked->actor_run_id = webhook->actor_run_id;
	if ((webhook->modified_at > row->event.created_at &&
		 webhook->modified_at != webhook->created_at) ||
		webhook_match(asked, &row->event) != MATCH_YES)
		return;
	webhook->count++;
	webhook->hashes += row->hash;
}

EventType
wishes_type(const Wishes *wishes, Oid label)
{
	for (int type = 0; type < N_EVENT_TYPES; type++)
	{
		if (wishes->types[type] == label)
			return (EventType) type;
	}
	elog(ERROR, "event type %u has no label", label);
}

void
wishes_ask(Wishes *wishes, FunctionCallInfo fcinfo, EventType type)
{
	static const int keys[] = {
		WANTED_ACTOR_RUN_ID, WANTED_ACTOR_TASK_ID, WANTED_ACTOR_ID, WANTED_USER_ID
	};
	EventRow	row = {.fcinfo = fcinfo,.event.type = type};

	/* Whose test it is an event of this type says itself. */
	if (type == EVENT_TEST)
		return;
	for (int kind = 0; kind < N_KINDS; kind++)
	{
		text	   *key = NULL;
		uint32		hash;

		if (!wishes->kinds[kind] || (kind != KIND_ANY && PG_ARGISNULL(keys[kind])))
			continue;
		if (kind != KIND_ANY)
			key = PG_GETARG_TEXT_PP(keys[kind]);
		hash = hash_wish((Kind) kind, row.event.type, key == NULL ? "" : VARDATA_ANY(key),
						 key == NULL ? 0 : VARSIZE_ANY_EXHDR(key));
		for (int32 i = wishes->heads[hash & wishes->mask]; i >= 0;
			 i = wishes->list[i].next)
		{
			if (wishes->list[i].hash == hash)
				ask_webhook(wishes,
							&wishes->webhooks[wishes->list[i].webhook], &row);
		}
	}
}

void
wishes_take(Wishes *wishes, void (*take) (void *argument, uint64 webhook, int64 count,
										  uint64 hashes), void *argument)
{
	for (int i = 0; i < wishes->count; i++)
	{
		Condition  *webhook = &wishes->webhooks[i];

		if (webhook->count > 0)
			take(argument, webhook->webhook, webhook->count, webhook->hashes);
		webhook->count = 0;
		webhook->hashes = 0;
	}
}
