/*-------------------------------------------------------------------------
 *
 * webhook_events.c
 *	  Typed events of Actor runs and builds, delivered to webhooks: what
 *	  happens when the library is loaded.
 *
 * IDENTIFICATION
 *	  src/webhook_events.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "capture/follow.h"
#include "capture/firing.h"
#include "capture/triggers.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "server/applied.h"
#include "server/launcher.h"
#include "server/live.h"
#include "server/settings.h"
#include "server/shared.h"
#include "server/utility.h"
#include "sql/newest_first.h"
#include "sql/see_through.h"
#include "store/own_triggers.h"
#include "store/planning.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	settings_define();
	triggers_install_hook();
	firing_install_hook();
	follow_install_hook();
	own_triggers_install_hook();
	planning_install_hooks();
	see_through_install_hook();
	newest_first_install_hook();
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	shared_request();
	live_request();
	applied_watch();
	utility_install_hook();
	launcher_register();
}
