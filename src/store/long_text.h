/*-------------------------------------------------------------------------
 *
 * long_text.h
 *	  A long text of a row, read slice by slice, in a transaction for each.
 *
 * PostgreSQL reads all of one at once, or its beginning: what takes longer than others
 * should wait is read here in pieces of what is stored, and unpacked as they come.
 *
 * IDENTIFICATION
 *	  src/store/long_text.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_LONG_TEXT_H
#define WEBHOOK_LONG_TEXT_H

#include "compat.h"

/* One that is being read. */
typedef struct LongText
{
	MemoryContext context;		/* of what it points to, and nothing else */
	char	   *data;			/* the text, without a zero byte */
	size_t		length;
	size_t		done;			/* bytes of it that are there */

	/* The rest is its own. */
	varatt_external stored;		/* what it is read from */
	char	   *packed;			/* as it is stored, behind a varlena's header;
								 * NULL if it isn't compressed */
	size_t		packed_length;
	size_t		fetched;		/* bytes of it that are there */
	size_t		unpacked;		/* and that are in "data" */
} LongText;

/* Starts with nothing of it; "context" is reset. */
extern void long_text_start(LongText *text, MemoryContext context);

/*
 * Reads more of it, about as many bytes as "budget" says, from the row's value, which is as
 * it is stored; true if that was the last of it.  What is stored otherwise than by
 * PostgreSQL's own compression in a table of its own is read, or unpacked, at once.  If it
 * is another value than before all of it is read again.  Raises what reading it raises.
 */
extern bool long_text_read(LongText *text, struct varlena *value, size_t budget);

#endif							/* WEBHOOK_LONG_TEXT_H */
