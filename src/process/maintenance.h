/*-------------------------------------------------------------------------
 *
 * maintenance.h
 *	  What a worker does now and then: tables for the days to come, and an end
 *	  of those that are over.
 *
 * IDENTIFICATION
 *	  src/process/maintenance.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_MAINTENANCE_H
#define WEBHOOK_MAINTENANCE_H

#include "datatype/timestamp.h"

/* When maintenance_run() has something to do. */
extern TimestampTz maintenance_deadline(void);

/*
 * Does it, if it is time.  A failure is logged and tried again later: the
 * default tables take what has no day.  Returns false if the extension is
 * gone.
 */
extern bool maintenance_run(void);

#endif							/* WEBHOOK_MAINTENANCE_H */
