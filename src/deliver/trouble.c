/*-------------------------------------------------------------------------
 *
 * trouble.c
 *	  What keeps failing in a worker that goes on all the same.
 *
 * IDENTIFICATION
 *	  src/deliver/trouble.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/trouble.h"

void
trouble_note(TroubleKind kind, const WorkError *error)
{
	if (!error->is_cancel && shared_set_trouble(kind, error->message))
		ereport(LOG,
				(errcode(error->sqlstate),
				 errmsg("%s of database \"%s\" fails and will be tried again: %s",
						trouble_name(kind), work_database(), error->message)));
}

void
trouble_end(TroubleKind kind)
{
	if (shared_set_trouble(kind, NULL))
		ereport(LOG, (errmsg("%s of database \"%s\" works again", trouble_name(kind),
							 work_database())));
}
