/*-------------------------------------------------------------------------
 *
 * outbox_day.c
 *	  The tables of the outbox's days, as those who add rows see them.
 *
 * The table of a day is found by its name.  The partitioned parent is not
 * touched, let alone locked: whoever attaches or drops other days never makes a
 * platform's transaction wait.
 *
 * IDENTIFICATION
 *	  src/storage/outbox_day.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "storage/outbox_day.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static const char *const column_names[N_COLUMNS] = {
	"id", "created_at", "xid", "event_type", "user_id", "actor_id",
	"actor_task_id", "actor_run_id", "actor_build_id", "old_status",
	"new_status", "webhook_id", "resource"
};

static HTAB *known_days = NULL;

Oid
outbox_namespace(void)
{
	return get_namespace_oid("webhook_events", true);
}

static void
invalidate_day(Datum arg pg_attribute_unused(), Oid relation)
{
	HASH_SEQ_STATUS scan;
	OutboxDay  *day;

	if (OidIsValid(relation))
	{
		day = hash_search(known_days, &relation, HASH_FIND, NULL);
		if (day != NULL)
			day->is_valid = false;
		return;
	}
	hash_seq_init(&scan, known_days);
	while ((day = hash_seq_search(&scan)) != NULL)
		day->is_valid = false;
}

static void
create_cache(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(OutboxDay)
	};

	known_days = hash_create("webhook_events days", 8, &control,
							 HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(invalidate_day, (Datum) 0);
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
build(OutboxDay *day, Relation relation)
{
	List	   *oids = RelationGetIndexList(relation);
	ListCell   *cell;

	for (int i = 0; i < N_COLUMNS; i++)
	{
		day->columns[i] = get_attnum(RelationGetRelid(relation), column_names[i]);
		if (day->columns[i] == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table \"%s\" lacks column \"%s\"",
							RelationGetRelationName(relation), column_names[i])));
	}
	for (int i = 0; i < N_EVENT_TYPES; i++)
		day->event_types[i] = event_type_oid(RelationGetNamespace(relation), i);
	day->index_oids = palloc(sizeof(Oid) * list_length(oids));
	day->indexes = palloc(sizeof(IndexInfo *) * list_length(oids));
	day->nindexes = 0;
	foreach(cell, oids)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);

		day->index_oids[day->nindexes] = lfirst_oid(cell);
		day->indexes[day->nindexes++] = BuildIndexInfo(index);
		index_close(index, NoLock);
	}
}

OutboxDay *
outbox_day_get(Relation relation)
{
	Oid			key = RelationGetRelid(relation);
	MemoryContext old_context;
	OutboxDay  *day;
	OutboxDay	fresh;
	bool		found;

	if (known_days == NULL)
		create_cache();
	day = hash_search(known_days, &key, HASH_FIND, NULL);
	if (day != NULL && day->is_valid)
		return day;

	fresh.relation = key;
	fresh.is_valid = true;
	fresh.context = AllocSetContextCreate(CurrentMemoryContext,
										  "webhook_events day",
										  ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(fresh.context);
	build(&fresh, relation);
	MemoryContextSwitchTo(old_context);

	day = hash_search(known_days, &key, HASH_ENTER, &found);
	if (found)
		MemoryContextDelete(day->context);
	MemoryContextSetParent(fresh.context, TopMemoryContext);
	*day = fresh;
	return day;
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
 * While we wait for the lock on the default table a day can be made, so it is
 * looked for again.
 */
Relation
outbox_day_open(TimestampTz time)
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
