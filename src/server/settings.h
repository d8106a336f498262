/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The settings webhook_events.*; src/doc/settings.md lists them for operators.
 *
 * IDENTIFICATION
 *	  src/server/settings.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SETTINGS_H
#define WEBHOOK_SETTINGS_H

#include "rules/address.h"
#include "rules/schedule.h"
#include "nodes/pg_list.h"

/* Whether HTTP/2 is spoken with those who can: auto asks libcurl's version. */
typedef enum Http2Setting
{
	HTTP2_AUTO,
	HTTP2_ON,
	HTTP2_OFF
} Http2Setting;

extern char *setting_databases;
extern bool setting_delivery;
extern bool setting_emit;
extern int	setting_max_workers;
extern int	setting_lending_patience;	/* milliseconds */
extern int	setting_max_in_flight;
extern int	setting_max_in_flight_per_host;
extern int	setting_request_timeout;	/* milliseconds */
extern int	setting_connect_timeout;	/* milliseconds */
extern int	setting_dns_cache_time; /* seconds */
extern int	setting_connection_age; /* seconds, 0: no limit */
extern int	setting_disable_after;	/* minutes, 0: never */
extern int	setting_retention;	/* minutes, 0 for ever */
extern int	setting_response_body_limit;	/* bytes */
extern int	setting_payload_limit;	/* bytes */
extern int	setting_resource_limit; /* bytes */
extern int	setting_poll_interval;	/* milliseconds */
extern int	setting_ordering_patience;	/* milliseconds */
extern char *setting_header_prefix;
extern char *setting_user_id;	/* of a tenant's session; empty: none */
extern int	setting_max_webhooks_per_user;
extern int	setting_max_tests_per_user;
extern int	setting_webhook_memory; /* kilobytes */

/* How servers are reached; the generation changes with each of these. */
extern char *setting_proxy;		/* URL, empty: none */
extern char *setting_ca_file;	/* empty: the system's */
extern char *setting_client_certificate_file;	/* empty: none */
extern char *setting_client_key_file;
extern int	setting_tls_min_version;	/* CURL_SSLVERSION_* */
extern int	setting_http2;		/* an Http2Setting */
extern int	setting_client_generation;

/*
 * A plan was made for somebody who sees all: it is not one for whom the session is narrowed
 * to then, or who has lost that right.  All plans that are kept are made anew.
 */
extern void settings_note_plan(void);
extern void settings_forget_plans(void);

/* Defines the settings; called once, when the library is loaded. */
extern void settings_define(void);

/* The schedule of retries that the settings describe now. */
extern RetryPolicy settings_retry_policy(void);

/*
 * May a request be sent to this address?  Judged by the settings as they are
 * now.  Raises nothing, so that libcurl's callbacks can ask.
 */
extern bool settings_allow_address(const struct sockaddr *address);

/* May one be sent to this port? */
extern bool settings_allow_port(int port);

/* The names in webhook_events.databases, "*" among them, in CurrentMemoryContext. */
extern List *settings_database_names(void);

/* Does the setting "databases" name this one? */
extern bool settings_name_database(const char *name);

/*
 * What is wrong with the files that settings name, as in "webhook_events.ca_file: No
 * such file or directory"; palloc'd strings, NIL if all can be read.
 */
extern List *settings_unreadable_files(void);

#endif							/* WEBHOOK_SETTINGS_H */
