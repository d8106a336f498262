/*-------------------------------------------------------------------------
 *
 * transition.c
 *	  The state machine: which change of status raises which events.
 *
 * IDENTIFICATION
 *	  src/rules/transition.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "rules/transition.h"

/* The platform writes TIMED-OUT; some of its tables have TIMED_OUT. */
static const struct
{
	const char *name;
	StatusClass class;
}			terminal_statuses[] = {
	{"SUCCEEDED", STATUS_SUCCEEDED},
	{"FAILED", STATUS_FAILED},
	{"ABORTED", STATUS_ABORTED},
	{"TIMED-OUT", STATUS_TIMED_OUT},
	{"TIMED_OUT", STATUS_TIMED_OUT},
};

StatusClass
status_classify(const char *status, int length)
{
	if (status == NULL)
		return STATUS_TRANSITIONAL;

	for (size_t i = 0; i < lengthof(terminal_statuses); i++)
	{
		const char *name = terminal_statuses[i].name;

		if (strncmp(name, status, length) == 0 && name[length] == '\0')
			return terminal_statuses[i].class;
	}
	return STATUS_TRANSITIONAL;
}

static EventType
terminal_event(SourceKind kind, StatusClass status)
{
	bool		run = (kind == SOURCE_RUN);

	switch (status)
	{
		case STATUS_SUCCEEDED:
			return run ? EVENT_RUN_SUCCEEDED : EVENT_BUILD_SUCCEEDED;
		case STATUS_FAILED:
			return run ? EVENT_RUN_FAILED : EVENT_BUILD_FAILED;
		case STATUS_ABORTED:
			return run ? EVENT_RUN_ABORTED : EVENT_BUILD_ABORTED;
		case STATUS_TIMED_OUT:
			return run ? EVENT_RUN_TIMED_OUT : EVENT_BUILD_TIMED_OUT;
		case STATUS_TRANSITIONAL:
			break;
	}
	pg_unreachable();
}

Transition
transition_of_insert(SourceKind kind, StatusClass status)
{
	Transition	result = {.nevents = 1};

	result.events[0] = (kind == SOURCE_RUN) ? EVENT_RUN_CREATED
		: EVENT_BUILD_CREATED;
	if (status != STATUS_TRANSITIONAL)
		result.events[result.nevents++] = terminal_event(kind, status);
	return result;
}

Transition
transition_of_update(SourceKind kind, StatusClass old_status,
					 StatusClass new_status)
{
	Transition	result = {.nevents = 0};

	if (new_status != STATUS_TRANSITIONAL)
	{
		if (new_status != old_status)
			result.events[result.nevents++] = terminal_event(kind, new_status);
	}
	else if (old_status != STATUS_TRANSITIONAL && kind == SOURCE_RUN)
		result.events[result.nevents++] = EVENT_RUN_RESURRECTED;
	return result;
}
