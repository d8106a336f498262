/*-------------------------------------------------------------------------
 *
 * audit_sums.h
 *	  What the parts of audit() share: ends of runs and builds.
 *
 * IDENTIFICATION
 *	  src/sql/audit_sums.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_AUDIT_SUMS_H
#define WEBHOOK_AUDIT_SUMS_H

#include "rules/event_type.h"

/* How a run or a build has ended, in the order of the types of events. */
typedef enum AuditEnd
{
	AUDIT_SUCCEEDED,
	AUDIT_FAILED,
	AUDIT_ABORTED,
	AUDIT_TIMED_OUT
} AuditEnd;

#define N_AUDIT_ENDS (AUDIT_TIMED_OUT + 1)

/* Of more ends no hashes are kept. */
#define AUDIT_MAX_ENDS INT64CONST(2000000)

/* A hash of the end of a run or a build with this id. */
extern uint64 audit_hash_end(SourceKind kind, AuditEnd end, const char *id, int length);

/*
 * How many ends the result of wanted_sums() has, -1 for too many, and where their hashes begin, which
 * may not be aligned.
 */
extern int64 audit_read_ends(bytea *written, const char **hashes);

#endif							/* WEBHOOK_AUDIT_SUMS_H */
