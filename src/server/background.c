/*-------------------------------------------------------------------------
 *
 * background.c
 *	  What the extension's processes have in common.
 *
 * IDENTIFICATION
 *	  src/server/background.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "server/background.h"

BackgroundWorker
background_worker(const char *name, const char *function, Datum argument)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_library_name = "webhook_events",
		.bgw_main_arg = argument,
		.bgw_notify_pid = IsUnderPostmaster ? MyProcPid : 0
	};

	strlcpy(worker.bgw_name, name, sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, name, sizeof(worker.bgw_type));
	strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
	return worker;
}
