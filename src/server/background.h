/*-------------------------------------------------------------------------
 *
 * background.h
 *	  What the extension's processes have in common.
 *
 * IDENTIFICATION
 *	  src/server/background.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_BACKGROUND_H
#define WEBHOOK_BACKGROUND_H

#include "postmaster/bgworker.h"

/*
 * A process that can connect to a database and is not started again by itself,
 * to be registered.  It runs "function", which this library exports, with the
 * argument.  Whoever registers it is told when it starts and ends, unless that
 * is the postmaster.
 */
extern BackgroundWorker background_worker(const char *name, const char *function,
										  Datum argument);

#endif							/* WEBHOOK_BACKGROUND_H */
