/*-------------------------------------------------------------------------
 *
 * webhook_insert.c
 *	  Adding rows to the table of webhooks, several without a statement for each.
 *
 * A platform adds some with every run.  Starting and ending a statement that adds one took
 * more than adding it, so they are written as logical replication writes a row.
 *
 * IDENTIFICATION
 *	  src/store/webhook_insert.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "store/day_table.h"
#include "store/webhook_insert.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

struct WebhookInsert
{
	Relation	relation;
	EState	   *estate;
	ResultRelInfo *target;
	TupleTableSlot *slot;
};

WebhookInsert *
webhook_insert_begin(void)
{
	WebhookInsert *insert = palloc(sizeof(WebhookInsert));
	Oid			oid = get_relname_relid("webhooks", day_table_namespace());

	PreventCommandIfReadOnly("INSERT");
	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("extension \"webhook_events\" is not installed")));
	insert->relation = table_open(oid, RowExclusiveLock);
	insert->estate = CreateExecutorState();
	insert->target = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->target, insert->relation, 0, NULL, 0);
	ExecOpenIndices(insert->target, false);

	/* Where triggers that fire afterwards look for it. */
	insert->estate->es_opened_result_relations = list_make1(insert->target);
	insert->slot = table_slot_create(insert->relation, &insert->estate->es_tupleTable);
	return insert;
}

void
webhook_insert_end(WebhookInsert *insert)
{
	ExecCloseIndices(insert->target);
	ExecResetTupleTable(insert->estate->es_tupleTable, false);
	FreeExecutorState(insert->estate);
	table_close(insert->relation, NoLock);
	pfree(insert);
}

void
webhook_insert_row(WebhookInsert *insert, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = insert->slot;
	size_t		ncolumns = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, sizeof(Datum) * ncolumns);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * ncolumns);
	ExecStoreVirtualTuple(slot);
	insert->estate->es_output_cid = GetCurrentCommandId(true);
	AfterTriggerBeginQuery();
	ExecSimpleRelationInsert(insert->target, insert->estate, slot);
	AfterTriggerEndQuery(insert->estate);
	CommandCounterIncrement();
	slot_getallattrs(slot);
	memcpy(values, slot->tts_values, sizeof(Datum) * ncolumns);
	memcpy(nulls, slot->tts_isnull, sizeof(bool) * ncolumns);
}
