/*-------------------------------------------------------------------------
 *
 * day_table.c
 *	  The tables of days, as those who add rows see them.
 *
 * The table of a day is found by its name.  The partitioned parent is not
 * touched, let alone locked: whoever attaches or drops other days never makes a
 * platform's transaction wait.
 *
 * IDENTIFICATION
 *	  src/store/day_table.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/primnodes.h"
#include "store/day_table.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* As many as there are kinds of tables, and two days at midnight. */
#define N_KNOWN_DAYS 6

/* The table that was last found by a day's name, until it changes. */
typedef struct KnownDay
{
	const DayKind *kind;
	int64		day;			/* since 2000-01-01 */
	Oid			namespace;
	Oid			oid;			/* InvalidOid: forgotten */
} KnownDay;

static HTAB *known_tables = NULL;
static KnownDay known_days[N_KNOWN_DAYS];

/* Forgotten whenever a namespace changes. */
static Oid	known_namespace = InvalidOid;
static bool is_known_absent = false;	/* there is no schema of that name */

static void
forget_namespace(Datum argument, int cache, uint32 hash)
{
	(void) argument;
	(void) cache;
	(void) hash;
	known_namespace = InvalidOid;
	is_known_absent = false;
}

/*
 * Version 1.0.0 had its tables where the documented functions are.  Somebody
 * else's schema of our name is none of ours: it belongs to no extension, or there is none.
 */
Oid
day_table_namespace(void)
{
	static bool is_watching = false;
	Oid			outer;
	Oid			inner;

	if (!is_watching)
	{
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_namespace, (Datum) 0);
		is_watching = true;
	}
	if (OidIsValid(known_namespace) || is_known_absent)
		return known_namespace;
	outer = get_namespace_oid("webhook_events", true);
	/* At once: what is looked for next can be told that there is one now. */
	is_known_absent = !OidIsValid(outer);
	if (is_known_absent)
		return InvalidOid;
	inner = get_namespace_oid("webhook_events_internal", true);
	if (OidIsValid(get_extension_oid("webhook_events", true)))
		known_namespace = OidIsValid(inner) &&
			OidIsValid(getExtensionOfObject(NamespaceRelationId, inner)) ? inner : outer;
	return known_namespace;
}

bool
day_table_is_there(Oid relation)
{
	Oid			namespace = day_table_namespace();

	return OidIsValid(namespace) && OidIsValid(relation) &&
		get_rel_namespace(relation) == namespace;
}

Oid
day_table_label(const char *type, const char *label)
{
	Oid			oid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									  CStringGetDatum(type),
									  ObjectIdGetDatum(get_namespace_oid("webhook_events", true)));
	Oid			value = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
										ObjectIdGetDatum(oid),
										CStringGetDatum(label));

	if (!OidIsValid(value))
		elog(ERROR, "type %s lacks label \"%s\"", type, label);
	return value;
}

/* The column that a partial index wants to have a value, if it wants nothing else. */
static AttrNumber
wanted_column(const IndexInfo *index)
{
	const NullTest *test;

	if (list_length(index->ii_Predicate) != 1 ||
		!IsA(linitial(index->ii_Predicate), NullTest))
		return InvalidAttrNumber;
	test = linitial_node(NullTest, index->ii_Predicate);
	if (test->nulltesttype != IS_NOT_NULL || test->argisrow || !IsA(test->arg, Var))
		return InvalidAttrNumber;
	return Max(castNode(Var, test->arg)->varattno, InvalidAttrNumber);
}

static void
build_table(DayTable *table, const DayKind *kind, Relation relation)
{
	List	   *oids = RelationGetIndexList(relation);
	ListCell   *cell;

	for (int i = 0; i < kind->ncolumns; i++)
	{
		const char *name = kind->columns[i];
		bool		may_lack = name[0] == '?';

		name += may_lack;
		table->columns[i] = get_attnum(RelationGetRelid(relation), name);
		if (table->columns[i] == InvalidAttrNumber && !may_lack)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table \"%s\" lacks column \"%s\"",
							RelationGetRelationName(relation), name)));
	}
	for (int i = 0; i < N_EVENT_TYPES; i++)
		table->event_types[i] = day_table_label("event_type", event_type_label(i));
	table->index_oids = palloc(sizeof(Oid) * list_length(oids));
	table->indexes = palloc(sizeof(IndexInfo *) * list_length(oids));
	table->wanted = palloc(sizeof(AttrNumber) * list_length(oids));
	table->summaries = palloc(sizeof(Summaries *) * list_length(oids));
	table->nindexes = 0;
	foreach(cell, oids)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);

		table->index_oids[table->nindexes] = lfirst_oid(cell);
		table->indexes[table->nindexes] = BuildIndexInfo(index);
		table->wanted[table->nindexes] = wanted_column(table->indexes[table->nindexes]);
		table->summaries[table->nindexes] = summaries_of(lfirst_oid(cell));
		table->nindexes++;
		index_close(index, NoLock);
	}
}

DayTable *
day_table_get(const DayKind *kind, Relation relation)
{
	Oid			key = RelationGetRelid(relation);
	MemoryContext old_context;
	DayTable   *table;
	DayTable	fresh;
	bool		found;

	if (known_tables == NULL)
		known_tables = relation_cache_create("webhook_events day tables",
											 sizeof(DayTable));
	table = hash_search(known_tables, &key, HASH_FIND, NULL);
	if (table != NULL && table->cached.is_valid)
		return table;

	fresh.cached.relation = key;
	fresh.cached.is_valid = true;
	fresh.context = AllocSetContextCreate(CurrentMemoryContext,
										  "webhook_events day table",
										  ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(fresh.context);
	build_table(&fresh, kind, relation);
	MemoryContextSwitchTo(old_context);

	table = hash_search(known_tables, &key, HASH_ENTER, &found);
	if (found)
		MemoryContextDelete(table->context);
	MemoryContextSetParent(fresh.context, TopMemoryContext);
	*table = fresh;
	return table;
}

/* Renamed, moved, detached or dropped: all of it tells the relation's cache. */
static void
forget_day(Datum argument pg_attribute_unused(), Oid relation)
{
	for (int i = 0; i < N_KNOWN_DAYS; i++)
	{
		if (!OidIsValid(relation) || known_days[i].oid == relation)
			known_days[i].oid = InvalidOid;
	}
}

static KnownDay *
find_known_day(Oid namespace, const DayKind *kind, int64 day)
{
	for (int i = 0; i < N_KNOWN_DAYS; i++)
	{
		KnownDay   *known = &known_days[i];

		if (OidIsValid(known->oid) && known->kind == kind &&
			known->day == day && known->namespace == namespace)
			return known;
	}
	return NULL;
}

static void
remember_day(Oid namespace, const DayKind *kind, int64 day, Oid oid)
{
	static bool is_watching = false;
	static int	next = 0;

	if (!is_watching)
		relation_watch(forget_day, (Datum) 0);
	is_watching = true;
	known_days[next] = (KnownDay)
	{
		.kind = kind, .day = day, .namespace = namespace, .oid = oid
	};
	next = (next + 1) % N_KNOWN_DAYS;
}

static Oid
find_day(Oid namespace, const DayKind *kind, int64 day)
{
	char		name[NAMEDATALEN];
	int			year;
	int			month;
	int			day_of_month;

	j2date((int) day + POSTGRES_EPOCH_JDATE, &year, &month, &day_of_month);
	snprintf(name, sizeof(name), "%s_%04d%02d%02d", kind->name, year, month,
			 day_of_month);
	return get_relname_relid(name, namespace);
}

/*
 * Opens the table of a time's day, if there is one.  The lock tells of all that
 * happened to the one that is known, which then may be another one by now.
 */
static Relation
open_day(Oid namespace, const DayKind *kind, TimestampTz time)
{
	int64		day = time / USECS_PER_DAY;
	KnownDay   *known;
	Oid			oid;
	Relation	relation;

	if (TIMESTAMP_IS_NOBEGIN(time) || kind->is_whole)
		return NULL;
	known = find_known_day(namespace, kind, day);
	if (known != NULL)
	{
		oid = known->oid;
		relation = try_table_open(oid, RowExclusiveLock);
		if (relation != NULL && known->oid == oid)
			return relation;
		if (relation != NULL)
			table_close(relation, RowExclusiveLock);
	}
	oid = find_day(namespace, kind, day);
	if (!OidIsValid(oid))
		return NULL;
	relation = try_table_open(oid, RowExclusiveLock);
	if (relation == NULL)
		return NULL;
	if (relation->rd_rel->relispartition)
	{
		if (find_day(namespace, kind, day) == oid)
			remember_day(namespace, kind, day, oid);
		return relation;
	}
	table_close(relation, NoLock);
	return NULL;
}

/*
 * While we wait for the lock on the default table a day can be made, so it is
 * looked for again.
 */
Relation
day_table_open(const DayKind *kind, TimestampTz time)
{
	char		name[NAMEDATALEN];
	Oid			namespace = day_table_namespace();
	Oid			oid;
	Relation	relation;
	Relation	day;

	if (OidIsValid(namespace))
	{
		relation = open_day(namespace, kind, time);
		if (relation != NULL)
			return relation;
		snprintf(name, sizeof(name), kind->is_whole ? "%s" : "%s_default", kind->name);
		oid = get_relname_relid(name, namespace);
		relation = OidIsValid(oid) ? try_table_open(oid, RowExclusiveLock) : NULL;
		if (relation != NULL)
		{
			day = open_day(namespace, kind, time);
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
