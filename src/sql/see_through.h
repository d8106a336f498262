/*-------------------------------------------------------------------------
 *
 * see_through.h
 *	  Lets the planner look into our views where that tells nobody anything.
 *
 * IDENTIFICATION
 *	  src/sql/see_through.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SEE_THROUGH_H
#define WEBHOOK_SEE_THROUGH_H

/* Called when the library is loaded. */
extern void see_through_install_hook(void);

#endif							/* WEBHOOK_SEE_THROUGH_H */
