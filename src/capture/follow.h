/*-------------------------------------------------------------------------
 *
 * follow.h
 *	  Statements that change what attached tables look like.
 *
 * IDENTIFICATION
 *	  src/capture/follow.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_FOLLOW_H
#define WEBHOOK_FOLLOW_H

/*
 * Keeps the names in mappings true when columns, functions and schemas are renamed,
 * and columns dropped; so that they are true in a dump, too.
 */
extern void follow_install_hook(void);

/* Makes mappings that the first version wrote those of this one. */
extern void follow_version(void);

#endif							/* WEBHOOK_FOLLOW_H */
