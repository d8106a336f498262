/*-------------------------------------------------------------------------
 *
 * webhook.h
 *	  What a webhook and an event are, and whether the one gets the other.
 *
 * IDENTIFICATION
 *	  src/rules/webhook.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WEBHOOK_H
#define WEBHOOK_WEBHOOK_H

#include <sys/socket.h>

#include "datatype/timestamp.h"
#include "rules/event_type.h"
#include "rules/ids.h"
#include "rules/signature.h"
#include "rules/template.h"

/* A secret that signs until this time; DT_NOEND for the current one. */
typedef struct WebhookSecret
{
	TimestampTz expires_at;
	SecretKey	key;
} WebhookSecret;

/* What of a webhook goes out one after the other. */
typedef enum Ordering
{
	ORDERING_NONE,
	ORDERING_RESOURCE,			/* what is of the same run or build */
	ORDERING_WEBHOOK			/* everything */
} Ordering;

/*
 * One version of a webhook's row, its templates compiled.  Texts are in the
 * server's encoding and NULL where the column is.
 */
typedef struct Webhook
{
	Id			id;
	TimestampTz created_at;
	TimestampTz since;			/* events from here on are younger, where
								 * transactions don't tell */
	TimestampTz modified_at;
	uint64		created_xid;
	uint64		created_xmin;	/* transactions before this one had ended, ... */
	uint64		created_xmax;	/* ... and none from here on had begun; 0:
								 * unknown */
	bool		is_enabled;
	int			epoch;			/* how often it was disabled */
	bool		is_ad_hoc;
	bool		is_retired;		/* it is disabled, if it is, because its run
								 * ended */
	bool		ignore_ssl_errors;
	bool		do_not_retry;
	double		max_rate;		/* calls per second; 0: no limit */
	Ordering	ordering;
	uint32		event_types;	/* bits 1 << EventType */
	const char *disabled_reason;
	const char *user_id;
	const char *actor_id;
	const char *actor_task_id;
	const char *actor_run_id;
	const char *request_url;
	const char *host;			/* "host:port", whose share its requests take */
	int			port;
	const struct sockaddr_storage *address; /* NULL unless it is written in
											 * the URL */
	bool		templates_left_out; /* they are long: NULL while not needed */
	Template   *payload;
	Template   *headers;		/* NULL: none but the forced ones */
	int			nsecrets;		/* 0: requests are not signed */
	WebhookSecret *secrets;		/* the current one first */
} Webhook;

/* An event as it stands in the outbox; texts as above. */
typedef struct Event
{
	Id			id;
	TimestampTz created_at;
	uint64		xid;
	uint64		next_xid;		/* above all that had been committed when it
								 * was raised; 0: unknown */
	EventType	type;
	const char *user_id;
	const char *actor_id;
	const char *actor_task_id;
	const char *actor_run_id;
	const char *actor_build_id;
	const char *webhook_id;		/* of a TEST: who gets it */
	const char *resource;		/* JSON text, NULL if there is none; maybe
								 * without a zero byte at its end */
	size_t		resource_length;	/* also of one that was left in its table */
	bool		has_problem;	/* not all of it could be made */
} Event;

/* Why a webhook does not get an event, in the order in which it is judged. */
typedef enum MatchResult
{
	MATCH_YES,
	MATCH_OTHER_WEBHOOK,		/* a TEST for another one */
	MATCH_DISABLED,
	MATCH_EVENT_TYPE,
	MATCH_RUN,
	MATCH_TASK,
	MATCH_ACTOR,
	MATCH_USER,
	MATCH_TOO_OLD				/* the event was there before the webhook */
} MatchResult;

/* Are two ids, or texts like them, the same?  NULL is the same as NULL alone. */
extern bool same_text(const char *one, const char *other);

/* Does this webhook get this event?  Raises nothing. */
extern MatchResult webhook_match(const Webhook *webhook, const Event *event);

/*
 * Is the event about the run of this ad-hoc webhook, and that run the webhook's user's?
 * What becomes of another's run is not for it to know.
 */
extern bool webhook_is_of_run(const Webhook *webhook, const Event *event);

/* A run's user, as far as webhooks go: NULL as well for one that is too long for any. */
extern const char *webhook_run_user(const char *user_id);

/*
 * What an event of this webhook shares with those that it has to wait for, a part
 * of the event or palloc'd; NULL if it waits for none.  A test never does.
 */
extern const char *webhook_order_key(const Webhook *webhook, const Event *event);

/*
 * The key of what has this id: the id, or of one too long for an index a hash, palloc'd.
 * Then others can have the same, and wait for each other.
 */
extern const char *order_key_of(const char *id);

/* The ordering with this name; false if there is none. */
extern bool ordering_from_name(const char *name, Ordering *ordering);

/*
 * The result in words, palloc'd, as in "condition: Actor is x, event's is y";
 * NULL for MATCH_YES.
 */
extern char *webhook_match_reason(const Webhook *webhook, const Event *event,
								  MatchResult result);

#endif							/* WEBHOOK_WEBHOOK_H */
