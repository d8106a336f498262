/*-------------------------------------------------------------------------
 *
 * outbox_day.h
 *	  The tables of the outbox's days, as those who add rows see them.
 *
 * IDENTIFICATION
 *	  src/storage/outbox_day.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_OUTBOX_DAY_H
#define WEBHOOK_OUTBOX_DAY_H

#include "nodes/execnodes.h"
#include "rules/event_type.h"
#include "utils/relcache.h"

/* The columns of the outbox that are written. */
typedef enum OutboxColumn
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
} OutboxColumn;

/* What is known about the table of a day. */
typedef struct OutboxDay
{
	Oid			relation;		/* hash key */
	bool		is_valid;
	MemoryContext context;		/* of "indexes" and what it points to */
	AttrNumber	columns[N_COLUMNS];
	Oid			event_types[N_EVENT_TYPES]; /* labels of type event_type */
	int			nindexes;
	Oid		   *index_oids;
	IndexInfo **indexes;
} OutboxDay;

/*
 * Opens the table that a row of this time belongs to, that of its day or the
 * default one, and locks it for the rest of the transaction.  Raises an error
 * if there is none.
 */
extern Relation outbox_day_open(TimestampTz time);

/* Looks up what is known about it; that stays so until the next call. */
extern OutboxDay *outbox_day_get(Relation relation);

/* The outbox's own namespace, or InvalidOid where the extension is not. */
extern Oid	outbox_namespace(void);

#endif							/* WEBHOOK_OUTBOX_DAY_H */
