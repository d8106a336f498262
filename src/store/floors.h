/*-------------------------------------------------------------------------
 *
 * floors.h
 *	  Floors under new ids, so that a read need not look at days that are over.
 *
 * IDENTIFICATION
 *	  src/store/floors.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_FLOORS_H
#define WEBHOOK_FLOORS_H

#include "rules/ids.h"

/* Puts a floor under the ids that are made from now on, if it is time for one. */
extern void floors_put(void);

/*
 * Before which no id is that a transaction from "xid" on has made; "" if that is not
 * known.  A snapshot that shows what these have committed must have been taken by now:
 * who made an id below has counted it before it committed.
 */
extern void floors_least_id(uint64 xid, Id id);

/* Forgets all floors. */
extern void floors_forget(void);

#endif							/* WEBHOOK_FLOORS_H */
