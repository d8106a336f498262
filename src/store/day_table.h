/*-------------------------------------------------------------------------
 *
 * day_table.h
 *	  The tables of days, as those who add rows see them.
 *
 * IDENTIFICATION
 *	  src/store/day_table.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DAY_TABLE_H
#define WEBHOOK_DAY_TABLE_H

#include "nodes/execnodes.h"
#include "rules/event_type.h"
#include "storage/itemptr.h"
#include "store/relation_cache.h"
#include "store/summaries.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#define DAY_TABLE_MAX_COLUMNS 16

/*
 * A table that is partitioned by day, and the columns of it that are written.  One that
 * came with a later version is "?name": where it lacks it is left out.  One that is not
 * partitioned is its own default, for all times.
 */
typedef struct DayKind
{
	const char *name;
	int			ncolumns;
	const char *columns[DAY_TABLE_MAX_COLUMNS];
	bool		is_whole;		/* it is not partitioned */
} DayKind;

/* Where a row lies; its tid is not valid if that is not known. */
typedef struct RowPlace
{
	Oid			table;
	ItemPointerData tid;
} RowPlace;

/* What is known about the table of a day. */
typedef struct DayTable
{
	CachedRelation cached;
	MemoryContext context;		/* of "indexes" and what it points to */
	AttrNumber	columns[DAY_TABLE_MAX_COLUMNS]; /* in the order of the kind;
												 * InvalidAttrNumber: lacking */
	Oid			event_types[N_EVENT_TYPES]; /* labels of type event_type */
	int			nindexes;
	Oid		   *index_oids;
	IndexInfo **indexes;
	AttrNumber *wanted;			/* an index has only rows with a value here;
								 * InvalidAttrNumber: it has others */
	Summaries **summaries;		/* of BRIN indexes; NULL of others */
} DayTable;

/*
 * Opens the table that a row of this time belongs to, that of its day or the
 * default one, and locks it for the rest of the transaction; DT_NOBEGIN belongs
 * to the default one.  Raises an error if there is none.
 */
extern Relation day_table_open(const DayKind *kind, TimestampTz time);

/* Looks up what is known about it; that stays so until the next call. */
extern DayTable *day_table_get(const DayKind *kind, Relation relation);

/* A label of one of the extension's enum types. */
extern Oid	day_table_label(const char *type, const char *label);

/*
 * The namespace of the extension's tables, those of version 1.0.0 until it is
 * updated, or InvalidOid where the extension is not.
 */
extern Oid	day_table_namespace(void);

/* Is this relation in it?  Asked of each that is planned; in most databases none is. */
extern bool day_table_is_there(Oid relation);

#endif							/* WEBHOOK_DAY_TABLE_H */
