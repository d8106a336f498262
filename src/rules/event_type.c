/*-------------------------------------------------------------------------
 *
 * event_type.c
 *	  The types of events, in C as in the SQL enum event_type.
 *
 * IDENTIFICATION
 *	  src/rules/event_type.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "rules/event_type.h"

static const char *const labels[N_EVENT_TYPES] = {
	[EVENT_RUN_CREATED] = "ACTOR.RUN.CREATED",
	[EVENT_RUN_SUCCEEDED] = "ACTOR.RUN.SUCCEEDED",
	[EVENT_RUN_FAILED] = "ACTOR.RUN.FAILED",
	[EVENT_RUN_ABORTED] = "ACTOR.RUN.ABORTED",
	[EVENT_RUN_TIMED_OUT] = "ACTOR.RUN.TIMED_OUT",
	[EVENT_RUN_RESURRECTED] = "ACTOR.RUN.RESURRECTED",
	[EVENT_BUILD_CREATED] = "ACTOR.BUILD.CREATED",
	[EVENT_BUILD_SUCCEEDED] = "ACTOR.BUILD.SUCCEEDED",
	[EVENT_BUILD_FAILED] = "ACTOR.BUILD.FAILED",
	[EVENT_BUILD_ABORTED] = "ACTOR.BUILD.ABORTED",
	[EVENT_BUILD_TIMED_OUT] = "ACTOR.BUILD.TIMED_OUT",
	[EVENT_TEST] = "TEST",
};

const char *
event_type_label(EventType type)
{
	Assert(type >= 0 && type < N_EVENT_TYPES);
	return labels[type];
}

EventType
event_type_from_label(const char *label)
{
	for (int i = 0; i < N_EVENT_TYPES; i++)
	{
		if (strcmp(labels[i], label) == 0)
			return (EventType) i;
	}
	elog(ERROR, "unknown event type \"%s\"", label);
}
