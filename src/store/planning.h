/*-------------------------------------------------------------------------
 *
 * planning.h
 *	  Plans that fit tables of any size.
 *
 * IDENTIFICATION
 *	  src/store/planning.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PLANNING_H
#define WEBHOOK_PLANNING_H

/*
 * Has statements planned as if none of our tables were small, and the worker's as if all
 * were large, whatever lies in them and whatever ANALYZE has seen there.  Called once, when
 * the library is loaded.
 */
extern void planning_install_hooks(void);

#endif							/* WEBHOOK_PLANNING_H */
