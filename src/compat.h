/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the supported versions of PostgreSQL.
 *
 * IDENTIFICATION
 *	  src/compat.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_COMPAT_H
#define WEBHOOK_COMPAT_H

#include "catalog/pg_attribute.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/wait_event.h"

/* PostgreSQL 17 introduced infinite intervals. */
#if PG_VERSION_NUM < 170000
#define INTERVAL_IS_NOBEGIN(i) ((void) (i), false)
#define INTERVAL_IS_NOEND(i) ((void) (i), false)
#endif

/* PostgreSQL 18 introduced generated columns that are not stored. */
#if PG_VERSION_NUM < 180000
#define ATTRIBUTE_GENERATED_VIRTUAL 'v'
#endif

/* PostgreSQL 16 gave what is known of long values a header of its own. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* A number that no other running backend has. */
#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#define MyBackendNumber MyProcNumber
#else
#include "storage/backendid.h"
#define MyBackendNumber MyBackendId
#endif

/* The index of a PGPROC, for GetPGProcByNumber(). */
#if PG_VERSION_NUM >= 170000
#define PROC_NUMBER(proc) GetNumberFromPGProc(proc)
#else
#define PROC_NUMBER(proc) ((proc)->pgprocno)
#endif

/* PostgreSQL 16 gave one name to the checks of who owns what. */
#if PG_VERSION_NUM < 160000
#define relation_is_owned_by(oid, role) pg_class_ownercheck(oid, role)
#define database_is_owned_by(oid, role) pg_database_ownercheck(oid, role)
#define function_is_executable_by(oid, role) \
	(pg_proc_aclcheck(oid, role, ACL_EXECUTE) == ACLCHECK_OK)
#else
#define relation_is_owned_by(oid, role) \
	object_ownercheck(RelationRelationId, oid, role)
#define database_is_owned_by(oid, role) \
	object_ownercheck(DatabaseRelationId, oid, role)
#define function_is_executable_by(oid, role) \
	(object_aclcheck(ProcedureRelationId, oid, role, ACL_EXECUTE) == ACLCHECK_OK)
#endif

/* PostgreSQL 18 keeps what is needed most of a column apart. */
#if PG_VERSION_NUM < 180000
#define populate_compact_attribute(desc, i) ((void) 0)
#endif

/* PostgreSQL 16 tells which indexes want an entry for a row's new version. */
#if PG_VERSION_NUM < 160000
#define TU_UpdateIndexes bool
#define TU_None false
#define insert_index_entries(target, slot, estate, stale) \
	ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL)
#elif PG_VERSION_NUM < 190000
#define insert_index_entries(target, slot, estate, stale) \
	ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL, \
						  (stale) == TU_Summarizing)
#else
#define insert_index_entries(target, slot, estate, stale) \
	ExecInsertIndexTuples(target, estate, EIIT_IS_UPDATE | \
						  ((stale) == TU_Summarizing ? EIIT_ONLY_SUMMARIZING : 0), \
						  slot, NIL, NULL)
#endif

/* PostgreSQL 19 added options to updates of rows. */
#if PG_VERSION_NUM < 190000
#define update_tuple(relation, tid, slot, command, snapshot, failure, mode, stale) \
	table_tuple_update(relation, tid, slot, command, snapshot, InvalidSnapshot, \
					   true, failure, mode, stale)
#else
#define update_tuple(relation, tid, slot, command, snapshot, failure, mode, stale) \
	table_tuple_update(relation, tid, slot, command, 0, snapshot, InvalidSnapshot, \
					   true, failure, mode, stale)
#endif

/* PostgreSQL 19 tells an iterator over an array of the elements' type once. */
#if PG_VERSION_NUM < 190000
#define array_begin(iterator, array, length, by_value, align) \
	array_iter_setup(iterator, array)
#define array_next(iterator, is_null, i, length, by_value, align) \
	array_iter_next(iterator, is_null, i, length, by_value, align)
#else
#define array_begin(iterator, array, length, by_value, align) \
	array_iter_setup(iterator, array, length, by_value, align)
#define array_next(iterator, is_null, i, length, by_value, align) \
	array_iter_next(iterator, is_null, i)
#endif

/* PostgreSQL 19 knows workers of subscriptions by their type. */
#if PG_VERSION_NUM < 190000
#define find_apply_worker(subscription) \
	logicalrep_worker_find(subscription, InvalidOid, true)
#else
#define find_apply_worker(subscription) \
	logicalrep_worker_find(WORKERTYPE_APPLY, subscription, InvalidOid, true)
#endif

/* PostgreSQL 19 keeps the value that is made beside the state that makes it. */
#if PG_VERSION_NUM < 190000
typedef struct JsonbBuilder
{
	JsonbParseState *state;
	JsonbValue *result;
} JsonbBuilder;
#define jsonb_push(builder, token, value) \
	((builder)->result = pushJsonbValue(&(builder)->state, token, value))
#else
#define JsonbBuilder JsonbInState
#define jsonb_push(builder, token, value) pushJsonbValue(builder, token, value)
#endif

/* PostgreSQL 17 introduced caches of index access methods that want an end. */
#if PG_VERSION_NUM < 170000
#define index_insert_cleanup(index, info) ((void) (index), (void) (info))
#endif

/* PostgreSQL 16 renamed where a relation's file is. */
#if PG_VERSION_NUM < 160000
#define FileLocator RelFileNode
#define relation_file(relation) ((relation)->rd_node)
#else
#define FileLocator RelFileLocator
#define relation_file(relation) ((relation)->rd_locator)
#endif

/* PostgreSQL 16 keeps with a view's query which view it was; before, its OLD row tells. */
#if PG_VERSION_NUM < 160000
#define view_of_subquery(entry) \
	((entry)->subquery->rtable == NIL ? InvalidOid : \
	 linitial_node(RangeTblEntry, (entry)->subquery->rtable)->relid)
#else
#define view_of_subquery(entry) ((entry)->relid)
#endif

/* PostgreSQL 19 has the planner tell what EXPLAIN wants to know. */
#if PG_VERSION_NUM < 190000
#define PLANNER_ARGUMENTS \
	Query *query, const char *text, int options, ParamListInfo parameters
#define PLANNER_PASSED query, text, options, parameters
#else
#define PLANNER_ARGUMENTS \
	Query *query, const char *text, int options, ParamListInfo parameters, \
	ExplainState *explain
#define PLANNER_PASSED query, text, options, parameters, explain
#endif

/* PostgreSQL 19 has another hook for tables that the planner meets. */
#if PG_VERSION_NUM < 190000
#include "optimizer/plancat.h"
#define relation_planned_hook get_relation_info_hook
#define RELATION_PLANNED_HOOK_TYPE get_relation_info_hook_type
#define RELATION_PLANNED_ARGUMENTS \
	PlannerInfo *root, Oid relation, bool has_children, RelOptInfo *rel
#define RELATION_PLANNED_PASSED root, relation, has_children, rel
#define RELATION_PLANNED relation
#else
#include "optimizer/pathnode.h"
#define relation_planned_hook build_simple_rel_hook
#define RELATION_PLANNED_HOOK_TYPE build_simple_rel_hook_type
#define RELATION_PLANNED_ARGUMENTS \
	PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *entry
#define RELATION_PLANNED_PASSED root, rel, entry
#define RELATION_PLANNED entry->relid
#endif

/* PostgreSQL 17 lets extensions name what they wait for. */
#if PG_VERSION_NUM < 170000
#define wait_event_named(name) PG_WAIT_EXTENSION
#else
#define wait_event_named(name) WaitEventExtensionNew(name)
#endif

/* PostgreSQL 17 gave sets of wait events an owner. */
#if PG_VERSION_NUM < 170000
#define create_wait_set(size) CreateWaitEventSet(TopMemoryContext, size)
#else
#define create_wait_set(size) CreateWaitEventSet(NULL, size)
#endif

/* PostgreSQL 17 has no snapshots that are too old any more. */
#ifndef ERRCODE_SNAPSHOT_TOO_OLD
#define ERRCODE_SNAPSHOT_TOO_OLD MAKE_SQLSTATE('7', '2', '0', '0', '0')
#endif

/* What a signal handler hands on to another one. */
#if PG_VERSION_NUM >= 190000
#define SIGNAL_ARGUMENTS postgres_signal_arg, pg_siginfo
#else
#define SIGNAL_ARGUMENTS postgres_signal_arg
#endif

/* PostgreSQL 19 gathers what it knows of the transaction that is being applied. */
#if PG_VERSION_NUM >= 190000
#define applied_origin_lsn replorigin_xact_state.origin_lsn
#define applied_origin_time replorigin_xact_state.origin_timestamp
#else
#define applied_origin_lsn replorigin_session_origin_lsn
#define applied_origin_time replorigin_session_origin_timestamp
#endif

/* PostgreSQL 17 reads BRIN indexes without a snapshot. */
#if PG_VERSION_NUM < 170000
#define open_revmap(index, size, snapshot) brinRevmapInitialize(index, size, snapshot)
#define read_range(map, block, buffer, offset, size, snapshot) \
	brinGetTupleForHeapBlock(map, block, buffer, offset, size, BUFFER_LOCK_SHARE, snapshot)
#else
#define open_revmap(index, size, snapshot) ((void) (snapshot), brinRevmapInitialize(index, size))
#define read_range(map, block, buffer, offset, size, snapshot) \
	((void) (snapshot), brinGetTupleForHeapBlock(map, block, buffer, offset, size, BUFFER_LOCK_SHARE))
#endif

/* PostgreSQL 19 is told what a scan of some pages is for. */
#if PG_VERSION_NUM < 190000
#define begin_page_scan(table, snapshot, from, to) \
	table_beginscan_tidrange(table, snapshot, from, to)
#else
#define begin_page_scan(table, snapshot, from, to) \
	table_beginscan_tidrange(table, snapshot, from, to, SO_NONE)
#endif

/* PostgreSQL 18 has what EXPLAIN writes apart. */
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* PostgreSQL 18 has orders that are no strategies of B-trees. */
#if PG_VERSION_NUM < 180000
#define is_descending(pathkey) ((pathkey)->pk_strategy == BTGreaterStrategyNumber)
#else
#define is_descending(pathkey) ((pathkey)->pk_cmptype == COMPARE_GT)
#endif

#endif							/* WEBHOOK_COMPAT_H */
