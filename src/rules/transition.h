/*-------------------------------------------------------------------------
 *
 * transition.h
 *	  The state machine: which change of status raises which events.
 *
 * The new status decides, never the path that led to it.
 *
 * IDENTIFICATION
 *	  src/rules/transition.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TRANSITION_H
#define WEBHOOK_TRANSITION_H

#include "rules/event_type.h"

/* What a status means.  Unknown statuses, and none, are transitional. */
typedef enum StatusClass
{
	STATUS_TRANSITIONAL,
	STATUS_SUCCEEDED,
	STATUS_FAILED,
	STATUS_ABORTED,
	STATUS_TIMED_OUT
} StatusClass;

/* The events of one write, in the order in which they happened. */
typedef struct Transition
{
	int			nevents;		/* 0 to 2 */
	EventType	events[2];
} Transition;

/* Classifies a status of "length" bytes; NULL is transitional. */
extern StatusClass status_classify(const char *status, int length);

/* What inserting a row with this status raises. */
extern Transition transition_of_insert(SourceKind kind, StatusClass status);

/*
 * What changing a row's status raises.  The same terminal status written again,
 * be it in its other spelling, raises nothing.
 */
extern Transition transition_of_update(SourceKind kind, StatusClass old_status,
									   StatusClass new_status);

#endif							/* WEBHOOK_TRANSITION_H */
