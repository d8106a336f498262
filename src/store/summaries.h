/*-------------------------------------------------------------------------
 *
 * summaries.h
 *	  Which ranges of a table's pages a BRIN index has a summary of.
 *
 * IDENTIFICATION
 *	  src/store/summaries.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SUMMARIES_H
#define WEBHOOK_SUMMARIES_H

#include "storage/block.h"

/* What is known of a BRIN index; lives as long as the process. */
typedef struct Summaries Summaries;

/*
 * Of an index that must be told of nothing but rows in ranges that have a summary; NULL of any
 * other one.
 */
extern Summaries *summaries_of(Oid index);

/*
 * Call this between adding rows to their table and summaries_have(): who has moved the
 * index meanwhile is noticed.
 */
extern void summaries_look(void);

/*
 * Has a block's range a summary, or has somebody begun to make it?  If not, whoever does it
 * later sees the rows that were added before summaries_look().
 */
extern bool summaries_have(Summaries *summaries, BlockNumber block);

#endif							/* WEBHOOK_SUMMARIES_H */
