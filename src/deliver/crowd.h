/*-------------------------------------------------------------------------
 *
 * crowd.h
 *	  How many requests go to one address at once, as their sockets tell.
 *
 * Who starts requests knows of names only, of which anybody can have many for one
 * address, until a first one has told.  So whoever makes a socket asks here.
 *
 * IDENTIFICATION
 *	  src/deliver/crowd.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_CROWD_H
#define WEBHOOK_CROWD_H

#include "deliver/transfer.h"

/* Counts a transfer for transfer->address, and no more for another one. */
extern void crowd_enter(Transfer *transfer);

/* Counts it no more; harmless if it was not counted. */
extern void crowd_leave(Transfer *transfer);

/*
 * Have others taken all that its address may have, transfer->crowd?  Then it is
 * noted in transfer->was_crowded.  What a proxy takes away has no address.
 */
extern bool crowd_is_full(Transfer *transfer);

#endif							/* WEBHOOK_CROWD_H */
