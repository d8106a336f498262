/*-------------------------------------------------------------------------
 *
 * newest_scan.h
 *	  Reads the rows of a day that somebody looks for, those with the greatest ids first.
 *
 * IDENTIFICATION
 *	  src/sql/newest_scan.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_NEWEST_SCAN_H
#define WEBHOOK_NEWEST_SCAN_H

#include "nodes/pathnodes.h"

/* What is looked for, and the BRIN indexes that help. */
typedef struct NewestScan
{
	AttrNumber	id;				/* the table's column */
	Oid			ids;			/* an index with least and greatest ids of
								 * ranges */
	int			ids_column;		/* in that index, from 1 */
	Oid			keys;			/* one with Bloom filters */
	int			keys_column;
	Expr	   *key;			/* the text that is looked for there */
	List	   *lower;			/* ids that none is less than */
	List	   *upper;			/* ids that none is greater than */
} NewestScan;

/* A way to read a table of a day; costs and order are the caller's. */
extern CustomPath *newest_scan_path(RelOptInfo *table, const NewestScan *scan);

extern void newest_scan_register(void);

#endif							/* WEBHOOK_NEWEST_SCAN_H */
