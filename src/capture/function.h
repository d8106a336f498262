/*-------------------------------------------------------------------------
 *
 * function.h
 *	  Resource functions: what a platform makes of its rows itself.
 *
 * IDENTIFICATION
 *	  src/capture/function.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_FUNCTION_H
#define WEBHOOK_FUNCTION_H

#include "capture/mapping.h"
#include "executor/tuptable.h"

typedef struct ResourceFunction ResourceFunction;

/*
 * Prepares calls of a mapping's function with rows of a table, which may be a
 * partition or a copy of the attached one; in CurrentMemoryContext.  Locks no
 * table.
 */
extern ResourceFunction *resource_function_create(const SourceMapping *mapping,
												  Relation relation);

/*
 * Calls it with a row as the attached table has it.  Returns JSON text of *length
 * bytes, palloc'd, or NULL; then *problem says why, if the function did not say
 * so itself.  Each call has a state of its own, so it may end in an error or lead
 * to the next one.  Raises what the function raises.
 */
extern char *resource_function_call(const ResourceFunction *function,
									TupleTableSlot *slot, size_t *length,
									const char **problem);

/* The problem of a resource that is longer than allowed; palloc'd. */
extern char *resource_too_long(void);

#endif							/* WEBHOOK_FUNCTION_H */
