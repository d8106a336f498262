/*-------------------------------------------------------------------------
 *
 * event_type.h
 *	  The types of events, in C as in the SQL enum event_type.
 *
 * IDENTIFICATION
 *	  src/rules/event_type.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_EVENT_TYPE_H
#define WEBHOOK_EVENT_TYPE_H

/* In the order of the SQL enum's labels. */
typedef enum EventType
{
	EVENT_RUN_CREATED,
	EVENT_RUN_SUCCEEDED,
	EVENT_RUN_FAILED,
	EVENT_RUN_ABORTED,
	EVENT_RUN_TIMED_OUT,
	EVENT_RUN_RESURRECTED,
	EVENT_BUILD_CREATED,
	EVENT_BUILD_SUCCEEDED,
	EVENT_BUILD_FAILED,
	EVENT_BUILD_ABORTED,
	EVENT_BUILD_TIMED_OUT,
	EVENT_TEST
} EventType;

#define N_EVENT_TYPES (EVENT_TEST + 1)

/* What a source table holds. */
typedef enum SourceKind
{
	SOURCE_RUN,
	SOURCE_BUILD
} SourceKind;

/* "ACTOR.RUN.CREATED" and so on; a constant string. */
extern const char *event_type_label(EventType type);

/* The type of a label; raises an error if there is none. */
extern EventType event_type_from_label(const char *label);

#endif							/* WEBHOOK_EVENT_TYPE_H */
