/*-------------------------------------------------------------------------
 *
 * table_triggers.h
 *	  The triggers that attach() puts on a table and detach() takes off.
 *
 * IDENTIFICATION
 *	  src/sql/table_triggers.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TABLE_TRIGGERS_H
#define WEBHOOK_TABLE_TRIGGERS_H

#include "capture/mapping.h"

/*
 * Puts triggers with this mapping on a table, in place of those that it has.  The
 * caller has locked the table.  Raises what CREATE TRIGGER raises.
 */
extern void table_triggers_make(Relation relation, SourceKind kind,
								const SourceMapping *mapping);

/*
 * Says where those that were just made fire: TRIGGER_FIRES_ON_ORIGIN or another such.
 * The table must be locked, but not open.
 */
extern void table_triggers_fire(Oid relation, char fires);

/* Takes all triggers of ours off a table. */
extern void table_triggers_drop(Relation relation);

#endif							/* WEBHOOK_TABLE_TRIGGERS_H */
