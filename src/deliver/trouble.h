/*-------------------------------------------------------------------------
 *
 * trouble.h
 *	  What keeps failing in a worker that goes on all the same.
 *
 * IDENTIFICATION
 *	  src/deliver/trouble.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TROUBLE_H
#define WEBHOOK_TROUBLE_H

#include "server/slots.h"
#include "store/statement.h"

/*
 * Notes that something has failed: status() shows it until trouble_end(), and the
 * log has a line when it begins and one when it is over.
 */
extern void trouble_note(TroubleKind kind, const WorkError *error);
extern void trouble_end(TroubleKind kind);

#endif							/* WEBHOOK_TROUBLE_H */
