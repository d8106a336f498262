/*
 * noop.c
 *	  A trigger function that does nothing: what every C trigger costs.  And a function
 *	  whose calls callgrind notes, and what the session has spent until now.
 */
#include "postgres.h"

#include <time.h>

#include "commands/trigger.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(noop);
PG_FUNCTION_INFO_V1(mark);
PG_FUNCTION_INFO_V1(cpu_seconds);

Datum
noop(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "not called as a trigger");
	return PointerGetDatum(NULL);
}

Datum
mark(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_VOID();
}

Datum
cpu_seconds(PG_FUNCTION_ARGS)
{
	struct timespec now;

	(void) fcinfo;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	PG_RETURN_FLOAT8((double) now.tv_sec + (double) now.tv_nsec * 1e-9);
}
