/*-------------------------------------------------------------------------
 *
 * newest_first.h
 *	  Lets the planner sort the few rows of a day that somebody looks for.
 *
 * IDENTIFICATION
 *	  src/sql/newest_first.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_NEWEST_FIRST_H
#define WEBHOOK_NEWEST_FIRST_H

extern void newest_first_install_hook(void);

#endif							/* WEBHOOK_NEWEST_FIRST_H */
