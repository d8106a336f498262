/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Adding events to the outbox, in the transaction that raises them.
 *
 * A row goes straight into the table of its day, which is found by its name,
 * and from there into that table's indexes.  The partitioned parent is not
 * touched, let alone locked: whoever attaches or drops other days never makes a
 * platform's transaction wait.
 *
 * IDENTIFICATION
 *	  src/storage/outbox.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/outbox.h"
#include "storage/shared.h"
#include "storage/wake.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* The columns of the outbox that are written. */
enum
{
	COLUMN_ID,
	COLUMN_CREATED_AT,
	COLUMN_XID,
	COLUMN_EVENT_TYPE,
	COLUMN_USER_ID,
	COLUMN_ACTOR_ID,
	COLUMN_ACTOR_TASK_ID,
	COLUMN_ACTOR_RUN_ID,
	COLUMN_ACTOR_BUILD_ID,
	COLUMN_OLD_STATUS,
	COLUMN_NEW_STATUS,
	COLUMN_WEBHOOK_ID,
	COLUMN_RESOURCE,
	N_COLUMNS
};

static const char *const column_names[N_COLUMNS] = {
	"id", "created_at", "xid", "event_type", "user_id", "actor_id",
	"actor_task_id", "actor_run_id", "actor_build_id", "old_status",
	"new_status", "webhook_id", "resource"
};

/* What is known about the table of a day. */
typedef struct Leaf
{
	Oid			relation;		/* hash key */
	bool		is_valid;
	MemoryContext context;		/* of "indexes" and what it points to */
	AttrNumber	columns[N_COLUMNS];
	int			nindexes;
	Oid		   *index_oids;
	IndexInfo **indexes;
} Leaf;

static HTAB *leaves = NULL;

Oid
outbox_namespace(void)
{
	return get_namespace_oid("webhook_events", true);
}

static void
invalidate_leaf(Datum arg pg_attribute_unused(), Oid relation)
{
	HASH_SEQ_STATUS scan;
	Leaf	   *leaf;

	if (OidIsValid(relation))
	{
		leaf = hash_search(leaves, &relation, HASH_FIND, NULL);
		if (leaf != NULL)
			leaf->is_valid = false;
		return;
	}
	hash_seq_init(&scan, leaves);
	while ((leaf = hash_seq_search(&scan)) != NULL)
		leaf->is_valid = false;
}

static void
create_cache(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(Leaf)
	};

	leaves = hash_create("webhook_events days", 8, &control,
						 HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(invalidate_leaf, (Datum) 0);
}

static void
build_leaf(Leaf *leaf, Relation relation)
{
	List	   *oids = RelationGetIndexList(relation);
	ListCell   *cell;

	for (int i = 0; i < N_COLUMNS; i++)
	{
		leaf->columns[i] = get_attnum(RelationGetRelid(relation), column_names[i]);
		if (leaf->columns[i] == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table \"%s\" lacks column \"%s\"",
							RelationGetRelationName(relation), column_names[i])));
	}
	leaf->index_oids = palloc(sizeof(Oid) * list_length(oids));
	leaf->indexes = palloc(sizeof(IndexInfo *) * list_length(oids));
	leaf->nindexes = 0;
	foreach(cell, oids)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);

		leaf->index_oids[leaf->nindexes] = lfirst_oid(cell);
		leaf->indexes[leaf->nindexes++] = BuildIndexInfo(index);
		index_close(index, NoLock);
	}
}

static Leaf *
get_leaf(Relation relation)
{
	Oid			key = RelationGetRelid(relation);
	MemoryContext old_context;
	Leaf	   *leaf;
	Leaf		fresh;
	bool		found;

	if (leaves == NULL)
		create_cache();
	leaf = hash_search(leaves, &key, HASH_FIND, NULL);
	if (leaf != NULL && leaf->is_valid)
		return leaf;

	fresh.relation = key;
	fresh.is_valid = true;
	fresh.context = AllocSetContextCreate(CurrentMemoryContext,
										  "webhook_events day",
										  ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(fresh.context);
	build_leaf(&fresh, relation);
	MemoryContextSwitchTo(old_context);

	leaf = hash_search(leaves, &key, HASH_ENTER, &found);
	if (found)
		MemoryContextDelete(leaf->context);
	MemoryContextSetParent(fresh.context, TopMemoryContext);
	*leaf = fresh;
	return leaf;
}

/* Opens the table of a time's day, if there is one. */
static Relation
open_day(Oid namespace, TimestampTz time)
{
	char		name[NAMEDATALEN];
	int			year;
	int			month;
	int			day;
	Oid			oid;
	Relation	relation;

	j2date((int) (time / USECS_PER_DAY) + POSTGRES_EPOCH_JDATE,
		   &year, &month, &day);
	snprintf(name, sizeof(name), "outbox_%04d%02d%02d", year, month, day);
	oid = get_relname_relid(name, namespace);
	if (!OidIsValid(oid))
		return NULL;
	relation = try_table_open(oid, RowExclusiveLock);
	if (relation == NULL || relation->rd_rel->relispartition)
		return relation;
	table_close(relation, NoLock);
	return NULL;
}

/*
 * Opens the table that a row of this time belongs to.  While we wait for the
 * lock on the default table a day can be made, so it is looked for again.
 */
static Relation
open_leaf(TimestampTz time)
{
	Oid			namespace = outbox_namespace();
	Oid			oid;
	Relation	relation;
	Relation	day;

	if (OidIsValid(namespace))
	{
		relation = open_day(namespace, time);
		if (relation != NULL)
			return relation;
		oid = get_relname_relid("outbox_default", namespace);
		relation = OidIsValid(oid) ? try_table_open(oid, RowExclusiveLock) : NULL;
		if (relation != NULL)
		{
			day = open_day(namespace, time);
			if (day == NULL)
				return relation;
			table_close(relation, NoLock);
			return day;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("events can't be recorded because extension \"webhook_events\" is not installed"),
			 errhint("Create the extension, or drop the triggers that its functions are called by.")));
}

static Oid
event_type_oid(Oid namespace, EventType event_type)
{
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum("event_type"),
									   ObjectIdGetDatum(namespace));
	Oid			value = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
										ObjectIdGetDatum(type),
										CStringGetDatum(event_type_label(event_type)));

	if (!OidIsValid(value))
		elog(ERROR, "type event_type lacks label \"%s\"",
			 event_type_label(event_type));
	return value;
}

static void
set_column(TupleTableSlot *slot, const Leaf *leaf, int column, Datum value)
{
	int			i = leaf->columns[column] - 1;

	slot->tts_values[i] = value;
	slot->tts_isnull[i] = false;
}

static void
set_text(TupleTableSlot *slot, const Leaf *leaf, int column, const char *text)
{
	if (text != NULL)
		set_column(slot, leaf, column, CStringGetTextDatum(text));
}

static void
fill_slot(TupleTableSlot *slot, const Leaf *leaf, Oid namespace,
		  const OutboxEvent *event, const char *id, TimestampTz created_at)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   sizeof(bool) * slot->tts_tupleDescriptor->natts);
	set_text(slot, leaf, COLUMN_ID, id);
	set_column(slot, leaf, COLUMN_CREATED_AT, TimestampTzGetDatum(created_at));
	set_column(slot, leaf, COLUMN_XID,
			   FullTransactionIdGetDatum(GetTopFullTransactionId()));
	set_column(slot, leaf, COLUMN_EVENT_TYPE,
			   ObjectIdGetDatum(event_type_oid(namespace, event->type)));
	set_text(slot, leaf, COLUMN_USER_ID, event->user_id);
	set_text(slot, leaf, COLUMN_ACTOR_ID, event->actor_id);
	set_text(slot, leaf, COLUMN_ACTOR_TASK_ID, event->actor_task_id);
	set_text(slot, leaf, COLUMN_ACTOR_RUN_ID, event->actor_run_id);
	set_text(slot, leaf, COLUMN_ACTOR_BUILD_ID, event->actor_build_id);
	set_text(slot, leaf, COLUMN_OLD_STATUS, event->old_status);
	set_text(slot, leaf, COLUMN_NEW_STATUS, event->new_status);
	set_text(slot, leaf, COLUMN_WEBHOOK_ID, event->webhook_id);
	if (event->resource)
		set_column(slot, leaf, COLUMN_RESOURCE,
				   PointerGetDatum(cstring_to_text_with_len(event->resource,
															(int) event->resource_length)));
	ExecStoreVirtualTuple(slot);
}

/*
 * Adds the row to an index.  Our own indexes are plain; those that an operator
 * added can have expressions and predicates, whose state must not outlive
 * "estate".
 */
static void
insert_into_index(Relation relation, Oid index_oid, const IndexInfo *cached,
				  TupleTableSlot *slot)
{
	Relation	index = index_open(index_oid, RowExclusiveLock);
	IndexInfo	info = *cached;
	EState	   *estate = NULL;
	bool		wanted = true;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	info.ii_Context = CurrentMemoryContext;
	if (info.ii_Expressions != NIL || info.ii_Predicate != NIL)
	{
		estate = CreateExecutorState();
		GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
	}
	if (info.ii_Predicate != NIL)
		wanted = ExecQual(ExecPrepareQual(info.ii_Predicate, estate),
						  GetPerTupleExprContext(estate));
	if (wanted && info.ii_ReadyForInserts)
	{
		FormIndexDatum(&info, slot, estate, values, nulls);
		index_insert(index, values, nulls, &slot->tts_tid, relation,
					 index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
					 false, &info);
		index_insert_cleanup(index, &info);
	}
	if (estate)
		FreeExecutorState(estate);
	index_close(index, NoLock);
}

void
outbox_insert(const OutboxEvent *event, Id id)
{
	TimestampTz created_at;
	Relation	relation;
	Leaf	   *leaf;
	TupleTableSlot *slot;

	/* The reader counts on it that an id is never older than its xid. */
	(void) GetTopFullTransactionId();
	id_make(id, &created_at);

	relation = open_leaf(created_at);
	leaf = get_leaf(relation);
	slot = table_slot_create(relation, NULL);
	fill_slot(slot, leaf, RelationGetNamespace(relation), event, id, created_at);
	table_tuple_insert(relation, slot, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < leaf->nindexes; i++)
		insert_into_index(relation, leaf->index_oids[i], leaf->indexes[i], slot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(relation, NoLock);
	wake_at_commit(WAKE_EVENTS);
}
