/*-------------------------------------------------------------------------
 *
 * plans.c
 *	  What other modules and a bad day do to a server: for tests.
 *
 * Plans of a shape that PostgreSQL's own planner never makes, as Citus and
 * TimescaleDB make them, and statements that fail for no reason of theirs.
 *
 * The setting plans.shape says what is put over an INSERT, UPDATE, DELETE or
 * MERGE: "above" a custom node, "deep" two of them, "hidden" one that keeps the
 * plan where nobody but it looks for it.
 *
 * With plans.fault_chance statements of the process whose kind is plans.fault_process
 * fail so often, before or after they have done their work, and so do its commits:
 * with one of the errors that come and go.  The log tells of each.
 *
 * With plans.cancel_lines a background worker is cancelled at each line that it says for the
 * log outside of a transaction, which is when PostgreSQL looks for that.
 *
 * plans_run_job() runs public.job() in a background worker, as a role, and waits for its
 * end: so extensions run jobs of their users.
 *
 * plans_watch_relations(count) takes that many of the ten places that PostgreSQL has in a
 * process for who wants to know what changes in relations.
 *
 * IDENTIFICATION
 *	  test/plans/plans.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <signal.h>

#include "access/xact.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "optimizer/planner.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);
extern PGDLLEXPORT void plans_job_main(Datum database);

PG_FUNCTION_INFO_V1(plans_run_job);
PG_FUNCTION_INFO_V1(plans_watch_relations);

typedef enum Shape
{
	SHAPE_PLAIN,
	SHAPE_ABOVE,
	SHAPE_DEEP,
	SHAPE_HIDDEN
} Shape;

static const struct config_enum_entry shapes[] = {
	{"plain", SHAPE_PLAIN, false},
	{"above", SHAPE_ABOVE, false},
	{"deep", SHAPE_DEEP, false},
	{"hidden", SHAPE_HIDDEN, false},
	{NULL, 0, false}
};

static int	shape = SHAPE_PLAIN;
static planner_hook_type prev_planner = NULL;

static Node *create_state(CustomScan *scan);

static const CustomScanMethods scan_methods = {"plans", create_state};

static void
begin(CustomScanState *node, EState *estate, int flags)
{
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;
	Plan	   *below = linitial(scan->custom_plans ? scan->custom_plans
								 : scan->custom_private);

	node->custom_ps = list_make1(ExecInitNode(below, estate, flags));
}

static TupleTableSlot *
next(CustomScanState *node)
{
	return ExecProcNode(linitial(node->custom_ps));
}

static void
end(CustomScanState *node)
{
	ExecEndNode(linitial(node->custom_ps));
}

static void
rescan(CustomScanState *node)
{
	ExecReScan(linitial(node->custom_ps));
}

static const CustomExecMethods exec_methods = {
	.CustomName = "plans",
	.BeginCustomScan = begin,
	.ExecCustomScan = next,
	.EndCustomScan = end,
	.ReScanCustomScan = rescan
};

static Node *
create_state(CustomScan *scan pg_attribute_unused())
{
	CustomScanState *state = (CustomScanState *) newNode(sizeof(CustomScanState),
														 T_CustomScanState);

	state->methods = &exec_methods;
	return (Node *) state;
}

static Plan *
wrap(Plan *below, bool hide)
{
	CustomScan *scan = makeNode(CustomScan);
	List	   *columns = NIL;
	ListCell   *cell;

	foreach(cell, below->targetlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		columns = lappend(columns,
						  makeTargetEntry((Expr *) makeVarFromTargetEntry(INDEX_VAR, entry),
										  entry->resno, entry->resname,
										  entry->resjunk));
	}
	scan->scan.plan.startup_cost = below->startup_cost;
	scan->scan.plan.total_cost = below->total_cost;
	scan->scan.plan.plan_rows = below->plan_rows;
	scan->scan.plan.plan_width = below->plan_width;
	scan->scan.plan.targetlist = columns;
	scan->custom_scan_tlist = below->targetlist;
	scan->methods = &scan_methods;
	if (hide)
		scan->custom_private = list_make1(below);
	else
		scan->custom_plans = list_make1(below);
	return (Plan *) scan;
}

/* PostgreSQL 19 tells the planner of the EXPLAIN that it works for. */
#if PG_VERSION_NUM < 190000
#define PLANNER_PARAMETERS \
	Query *query, const char *text, int options, ParamListInfo parameters
#define PLANNER_ARGUMENTS query, text, options, parameters
#else
#define PLANNER_PARAMETERS \
	Query *query, const char *text, int options, ParamListInfo parameters, \
	ExplainState *explain
#define PLANNER_ARGUMENTS query, text, options, parameters, explain
#endif

static PlannedStmt *
make_plan(PLANNER_PARAMETERS)
{
	PlannedStmt *plan = (prev_planner ? prev_planner : standard_planner)
		(PLANNER_ARGUMENTS);

	if (!IsA(plan->planTree, ModifyTable) || shape == SHAPE_PLAIN)
		return plan;
	plan->planTree = wrap(plan->planTree, shape == SHAPE_HIDDEN);
	if (shape == SHAPE_DEEP)
		plan->planTree = wrap(plan->planTree, false);
	return plan;
}

static double fault_chance = 0;
static int	fault_seed = 1;
static char *fault_process = NULL;
static pg_prng_state fault_state;
static bool is_seeded = false;
static bool cancel_lines = false;
static emit_log_hook_type prev_emit_log = NULL;
static ExecutorStart_hook_type prev_start = NULL;
static ExecutorFinish_hook_type prev_finish = NULL;

static void
maybe_fail(const char *where)
{
	static const int codes[] = {
		ERRCODE_QUERY_CANCELED, ERRCODE_LOCK_NOT_AVAILABLE, ERRCODE_OUT_OF_MEMORY,
		ERRCODE_DISK_FULL, ERRCODE_T_R_DEADLOCK_DETECTED, ERRCODE_IO_ERROR
	};

	if (fault_chance == 0 || MyBgworkerEntry == NULL ||
		strcmp(MyBgworkerEntry->bgw_type, fault_process) != 0)
		return;
	if (!is_seeded)
		pg_prng_seed(&fault_state, (uint64) fault_seed);
	is_seeded = true;
	if (pg_prng_double(&fault_state) < fault_chance)
	{
		int			code = codes[pg_prng_uint64(&fault_state) % lengthof(codes)];

		ereport(LOG, (errmsg("a fault %s: %s", where, unpack_sql_state(code))));
		ereport(ERROR, (errcode(code), errmsg("a fault of the test")));
	}
}

static void
start(QueryDesc *query, int flags)
{
	maybe_fail("before a statement");
	if (prev_start)
		prev_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
finish(QueryDesc *query)
{
	if (prev_finish)
		prev_finish(query);
	else
		standard_ExecutorFinish(query);
	maybe_fail("after a statement");
}

static void
end_transaction(XactEvent event, void *argument pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_COMMIT)
		maybe_fail("at a commit");
}

void
plans_job_main(Datum database)
{
	Oid			role;

	memcpy(&role, MyBgworkerEntry->bgw_extra, sizeof(role));
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), role, 0);
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute("SELECT public.job()", false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run the job");
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* plans_run_job(role oid) RETURNS void */
Datum
plans_run_job(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker = {
		.bgw_name = "a job of the test", .bgw_type = "a job of the test",
		.bgw_library_name = "plans", .bgw_function_name = "plans_job_main",
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId),
		.bgw_notify_pid = MyProcPid
	};
	Oid			role = PG_GETARG_OID(0);
	BackgroundWorkerHandle *handle;

	memcpy(worker.bgw_extra, &role, sizeof(role));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR, (errmsg("no background worker is left for the job")));
	if (WaitForBackgroundWorkerShutdown(handle) != BGWH_STOPPED)
		ereport(ERROR, (errmsg("the server ended before the job")));
	PG_RETURN_VOID();
}

static void
emit_log(ErrorData *line)
{
	if (prev_emit_log)
		prev_emit_log(line);
	if (cancel_lines && MyBgworkerEntry != NULL && line->elevel < ERROR && !IsTransactionOrTransactionBlock())
		raise(SIGINT);
}

void
_PG_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
	DefineCustomRealVariable("plans.fault_chance", "How often what is run fails.",
							 NULL, &fault_chance, 0, 0, 1, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("plans.fault_seed", "Decides what does.",
							NULL, &fault_seed, 1, 0, INT_MAX, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("plans.fault_process", "Where it does.",
							   NULL, &fault_process, "webhook_events worker",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("plans.cancel_lines", "Whether who writes to the log is cancelled then.",
							 NULL, &cancel_lines, false, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	prev_emit_log = emit_log_hook;
	emit_log_hook = emit_log;
	RegisterXactCallback(end_transaction, NULL);
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = start;
	prev_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish;
	DefineCustomEnumVariable("plans.shape", "What is put over a ModifyTable.",
							 NULL, &shape, SHAPE_PLAIN, shapes, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	prev_planner = planner_hook;
	planner_hook = make_plan;
}

static void
relation_changed(Datum argument, Oid relation)
{
	(void) argument;
	(void) relation;
}

/* plans_watch_relations(count integer) RETURNS void */
Datum
plans_watch_relations(PG_FUNCTION_ARGS)
{
	for (int i = 0; i < PG_GETARG_INT32(0); i++)
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	PG_RETURN_VOID();
}
