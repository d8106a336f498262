/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings webhook_events.*
 *
 * IDENTIFICATION
 *	  src/server/settings.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <curl/curl.h>

#include "rules/ports.h"
#include "server/settings.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/varlena.h"

/* So much of a file is read to see whether it is one in PEM. */
#define PEM_SIZE (64 * 1024)

char	   *setting_databases;
bool		setting_delivery;
bool		setting_emit;
int			setting_max_workers;
int			setting_lending_patience;
int			setting_max_in_flight;
int			setting_max_in_flight_per_host;
int			setting_request_timeout;
int			setting_connect_timeout;
int			setting_dns_cache_time;
int			setting_connection_age;
int			setting_disable_after;
int			setting_retention;
int			setting_response_body_limit;
int			setting_payload_limit;
int			setting_resource_limit;
int			setting_poll_interval;
int			setting_ordering_patience;
char	   *setting_header_prefix;
char	   *setting_user_id;
int			setting_max_webhooks_per_user;
int			setting_max_tests_per_user;
int			setting_webhook_memory;
char	   *setting_proxy;
char	   *setting_ca_file;
char	   *setting_client_certificate_file;
char	   *setting_client_key_file;
int			setting_tls_min_version;
int			setting_http2;
int			setting_client_generation = 0;

static bool plans_for_all = false;	/* some may be kept */

static int	max_retries;
static int	delay_before_retry;
static double retry_jitter;
static char *allowed_networks_text;
static char *denied_networks_text;
static char *allowed_ports_text;
static PortSet allowed_ports;

static const struct config_enum_entry tls_versions[] = {
	{"TLSv1", CURL_SSLVERSION_TLSv1_0, false},
	{"TLSv1.1", CURL_SSLVERSION_TLSv1_1, false},
	{"TLSv1.2", CURL_SSLVERSION_TLSv1_2, false},
	{"TLSv1.3", CURL_SSLVERSION_TLSv1_3, false},
	{NULL, 0, false}
};

static const struct config_enum_entry http2_choices[] = {
	{"auto", HTTP2_AUTO, false},
	{"on", HTTP2_ON, false},
	{"off", HTTP2_OFF, false},
	{NULL, 0, false}
};

/*
 * The lists as parsed when they were assigned.  They are ours, not the
 * settings' "extra", whose allocator differs between versions.
 */
static NetworkList *allowed_networks;
static NetworkList *denied_networks;

static bool
check_networks(char **newval, void **extra pg_attribute_unused(),
			   GucSource source pg_attribute_unused())
{
	char	   *bad_item;
	NetworkList *list = network_list_parse(*newval, &bad_item);

	if (list == NULL)
	{
		GUC_check_errdetail("\"%s\" is not a network such as 10.0.0.0/8.",
							bad_item ? bad_item : "");
		free(bad_item);
		return false;
	}
	free(list);
	return true;
}

/* The text was checked; without memory to parse it the old list stays. */
static void
assign_networks(NetworkList **list, const char *text)
{
	char	   *bad_item;
	NetworkList *parsed = network_list_parse(text, &bad_item);

	if (parsed == NULL)
	{
		free(bad_item);
		return;
	}
	free(*list);
	*list = parsed;
}

static void
assign_allowed_networks(const char *newval, void *extra pg_attribute_unused())
{
	assign_networks(&allowed_networks, newval);
}

static void
assign_denied_networks(const char *newval, void *extra pg_attribute_unused())
{
	assign_networks(&denied_networks, newval);
}

/* The prefix starts header names, so it is made of what those may hold. */
static bool
check_header_prefix(char **newval, void **extra pg_attribute_unused(),
					GucSource source pg_attribute_unused())
{
	const char *p = *newval;

	if (IS_HIGHBIT_SET(*p) || !isalpha((unsigned char) *p))
	{
		GUC_check_errdetail("A header prefix starts with a letter.");
		return false;
	}
	for (; *p; p++)
	{
		if (IS_HIGHBIT_SET(*p) || (!isalnum((unsigned char) *p) && *p != '-'))
		{
			GUC_check_errdetail("A header prefix holds letters, digits and \"-\" only.");
			return false;
		}
	}
	if (p - *newval > 64)
	{
		GUC_check_errdetail("A header prefix has at most 64 characters.");
		return false;
	}
	return true;
}

static bool
check_databases(char **newval, void **extra pg_attribute_unused(),
				GucSource source pg_attribute_unused())
{
	char	   *text = pstrdup(*newval);
	List	   *names;
	bool		ok = SplitIdentifierString(text, ',', &names);

	if (!ok)
		GUC_check_errdetail("List syntax is invalid.");
	else
		list_free(names);
	pfree(text);
	return ok;
}

static bool
check_ports(char **newval, void **extra pg_attribute_unused(),
			GucSource source pg_attribute_unused())
{
	PortSet		set;

	if (ports_parse(*newval, &set))
		return true;
	GUC_check_errdetail("The value is a list of ports and ranges of ports, as in \"443, 8000-8999\".");
	return false;
}

static void
assign_ports(const char *newval, void *extra pg_attribute_unused())
{
	(void) ports_parse(newval, &allowed_ports);
}

/* Like the URL of a webhook, but for the schemes that a proxy can have. */
static bool
check_proxy(char **newval, void **extra pg_attribute_unused(),
			GucSource source pg_attribute_unused())
{
	const char *text = *newval;

	if (*text == '\0')
		return true;
	if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0)
	{
		GUC_check_errdetail("A proxy starts with http:// or https://.");
		return false;
	}
	for (; *text; text++)
	{
		if (*text <= ' ' || *text >= 0x7f)
		{
			GUC_check_errdetail("A proxy has no spaces or control characters.");
			return false;
		}
	}
	return true;
}

void
settings_note_plan(void)
{
	plans_for_all = true;
}

void
settings_forget_plans(void)
{
	if (plans_for_all)
		ResetPlanCache();
	plans_for_all = false;
}

static void
assign_user_id(const char *newval pg_attribute_unused(), void *extra pg_attribute_unused())
{
	settings_forget_plans();
}

static void
assign_client_text(const char *newval pg_attribute_unused(),
				   void *extra pg_attribute_unused())
{
	setting_client_generation++;
}

static void
assign_client_enum(int newval pg_attribute_unused(),
				   void *extra pg_attribute_unused())
{
	setting_client_generation++;
}

static void
define_file(const char *name, const char *description, char **variable)
{
	DefineCustomStringVariable(name, description, NULL, variable, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, assign_client_text, NULL);
}

static void
define_int(const char *name, const char *description, int *variable,
		   int boot, int min, int max, int flags)
{
	DefineCustomIntVariable(name, description, NULL, variable, boot, min, max,
							PGC_SIGHUP, flags, NULL, NULL, NULL);
}

void
settings_define(void)
{
	DefineCustomStringVariable("webhook_events.databases",
							   "Databases whose events are delivered.",
							   "A list of names; * stands for every database that has the extension.",
							   &setting_databases, "*",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_databases, NULL, NULL);
	DefineCustomBoolVariable("webhook_events.delivery",
							 "Delivers events.",
							 "When off, events are recorded and wait.",
							 &setting_delivery, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("webhook_events.emit",
							 "Raises events for changes made by this session.",
							 "Off is for backfills.",
							 &setting_emit, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);

	define_int("webhook_events.max_workers",
			   "Workers that may run at once; 0 leaves a quarter of max_worker_processes, and three, to others.",
			   &setting_max_workers, 0, 0, 1000, 0);
	define_int("webhook_events.lending_patience",
			   "How long a database waits for a worker before requests that keep one are given up.",
			   &setting_lending_patience, 5000, 1, INT_MAX, GUC_UNIT_MS);
	define_int("webhook_events.max_in_flight",
			   "Requests that may be under way at once, for each database.",
			   &setting_max_in_flight, 256, 1, 10000, 0);
	define_int("webhook_events.max_in_flight_per_host",
			   "Requests that may be under way at once to one host.",
			   &setting_max_in_flight_per_host, 16, 1, 10000, 0);
	define_int("webhook_events.request_timeout",
			   "Time after which a request has failed.",
			   &setting_request_timeout, 120 * 1000, 1, INT_MAX, GUC_UNIT_MS);
	define_int("webhook_events.connect_timeout",
			   "Time after which connecting has failed.",
			   &setting_connect_timeout, 10 * 1000, 1, INT_MAX, GUC_UNIT_MS);
	define_int("webhook_events.dns_cache_time",
			   "How long the addresses of a name are used again without asking for them.",
			   &setting_dns_cache_time, 60, 0, INT_MAX, GUC_UNIT_S);
	define_int("webhook_events.connection_age",
			   "Age at which a connection is not used again; 0 sets no limit.",
			   &setting_connection_age, 300, 0, INT_MAX, GUC_UNIT_S);
	define_int("webhook_events.max_retries",
			   "Calls of a dispatch after the first one.",
			   &max_retries, 11, 0, 100, 0);
	define_int("webhook_events.retry_delay",
			   "Time before the first retry; each later one waits twice as long.",
			   &delay_before_retry, 60 * 1000, 1, INT_MAX, GUC_UNIT_MS);
	DefineCustomRealVariable("webhook_events.retry_jitter",
							 "Part of a retry's delay by which it is randomly early or late.",
							 NULL,
							 &retry_jitter, 0.25, 0.0, 1.0,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_int("webhook_events.disable_after",
			   "Time of failures alone after which a webhook is disabled; 0 never does.",
			   &setting_disable_after, 5 * 24 * 60, 0, INT_MAX, GUC_UNIT_MIN);
	define_int("webhook_events.retention",
			   "Age at which whole days of events and dispatches are dropped; 0 keeps them.",
			   &setting_retention, 30 * 24 * 60, 0, INT_MAX, GUC_UNIT_MIN);
	define_int("webhook_events.response_body_limit",
			   "How much of an answer's body is recorded.",
			   &setting_response_body_limit, 2048, 0, 1024 * 1024, GUC_UNIT_BYTE);
	define_int("webhook_events.payload_limit",
			   "Longest body that is sent.",
			   &setting_payload_limit, 1024 * 1024, 1, 256 * 1024 * 1024,
			   GUC_UNIT_BYTE);
	define_int("webhook_events.resource_limit",
			   "Longest resource that an event carries; a longer one is null.",
			   &setting_resource_limit, 16 * 1024 * 1024, 1024, 64 * 1024 * 1024,
			   GUC_UNIT_BYTE);
	define_int("webhook_events.poll_interval",
			   "How often the worker looks for work that nothing announced.",
			   &setting_poll_interval, 1000, 1, INT_MAX, GUC_UNIT_MS);
	define_int("webhook_events.ordering_patience",
			   "How long a dispatch that is called again holds back those that go out in order behind it.",
			   &setting_ordering_patience, 60 * 60 * 1000, 0, INT_MAX, GUC_UNIT_MS);
	define_int("webhook_events.webhook_memory",
			   "Memory for what a worker knows of webhooks; what it needs least it forgets.",
			   &setting_webhook_memory, 64 * 1024, 1024, MAX_KILOBYTES, GUC_UNIT_KB);
	define_int("webhook_events.max_webhooks_per_user",
			   "Webhooks that one user may define, ad-hoc ones not counted.",
			   &setting_max_webhooks_per_user, 100, 0, INT_MAX, 0);
	define_int("webhook_events.max_tests_per_user",
			   "TEST events that one user's webhooks may get by test_webhook() within a minute.",
			   &setting_max_tests_per_user, 600, 0, INT_MAX, 0);

	DefineCustomStringVariable("webhook_events.user_id",
							   "The user to whose webhooks, events and dispatches a session is narrowed.",
							   "Empty does not narrow it.",
							   &setting_user_id, "",
							   PGC_SUSET, 0,
							   NULL, assign_user_id, NULL);
	DefineCustomStringVariable("webhook_events.header_prefix",
							   "What the names of this extension's own headers start with.",
							   NULL,
							   &setting_header_prefix, "X-Apify",
							   PGC_SIGHUP, 0,
							   check_header_prefix, NULL, NULL);
	DefineCustomStringVariable("webhook_events.allowed_networks",
							   "Networks that requests may go to although denied_networks has them.",
							   NULL,
							   &allowed_networks_text, "",
							   PGC_SIGHUP, 0,
							   check_networks, assign_allowed_networks, NULL);
	DefineCustomStringVariable("webhook_events.denied_networks",
							   "Networks that requests may not go to.",
							   NULL,
							   &denied_networks_text, address_default_denied,
							   PGC_SIGHUP, 0,
							   check_networks, assign_denied_networks, NULL);

	DefineCustomStringVariable("webhook_events.allowed_ports",
							   "Ports that requests may go to.",
							   "A list of ports and ranges; empty allows all.",
							   &allowed_ports_text, "",
							   PGC_SIGHUP, 0,
							   check_ports, assign_ports, NULL);
	DefineCustomStringVariable("webhook_events.proxy",
							   "Proxy that all requests go through.",
							   "The proxy decides which addresses names lead to.",
							   &setting_proxy, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_proxy, assign_client_text, NULL);
	define_file("webhook_events.ca_file",
				"File with the certificates of authorities that are trusted.",
				&setting_ca_file);
	define_file("webhook_events.client_certificate_file",
				"File with the certificate that requests over TLS show.",
				&setting_client_certificate_file);
	define_file("webhook_events.client_key_file",
				"File with the key of that certificate.",
				&setting_client_key_file);
	DefineCustomEnumVariable("webhook_events.tls_min_version",
							 "Oldest version of TLS that is spoken.",
							 NULL,
							 &setting_tls_min_version, CURL_SSLVERSION_TLSv1_2,
							 tls_versions, PGC_SIGHUP, 0,
							 NULL, assign_client_enum, NULL);
	DefineCustomEnumVariable("webhook_events.http2",
							 "Speaks HTTP/2 with endpoints that can.",
							 "auto does where libcurl is 8.23 or newer. Before 8.14 a connection has one request at a time.",
							 &setting_http2, HTTP2_AUTO,
							 http2_choices, PGC_SIGHUP, 0,
							 NULL, assign_client_enum, NULL);

	MarkGUCPrefixReserved("webhook_events");
}

RetryPolicy
settings_retry_policy(void)
{
	RetryPolicy policy = {
		.max_retries = max_retries,
		.delay = (int64) delay_before_retry * 1000,
		.jitter = retry_jitter
	};

	return policy;
}

bool
settings_allow_address(const struct sockaddr *address)
{
	return address_is_allowed(address, allowed_networks, denied_networks);
}

bool
settings_allow_port(int port)
{
	return ports_have(&allowed_ports, port);
}

List *
settings_database_names(void)
{
	List	   *names;

	return SplitIdentifierString(pstrdup(setting_databases), ',', &names) ? names : NIL;
}

bool
settings_name_database(const char *name)
{
	List	   *names = settings_database_names();
	ListCell   *cell;
	bool		found = false;

	foreach(cell, names)
	{
		const char *item = lfirst(cell);

		if (strcmp(item, "*") == 0 || strcmp(item, name) == 0)
			found = true;
	}
	list_free(names);
	return found;
}

/*
 * What is wrong with a file in PEM, of which the beginning is read; NULL if nothing is.
 * Whether what it holds is valid only a call can tell.
 */
static const char *
problem_of_file(const char *path, const char *lacks)
{
	char	   *text;
	struct stat status;
	ssize_t		length;
	bool		is_pem;
	int			file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (file < 0)
		return strerror(errno);
	if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
	{
		close(file);
		return "not a file";
	}
	text = palloc(PEM_SIZE + 1);
	length = read(file, text, PEM_SIZE);
	text[Max(length, 0)] = '\0';
	is_pem = (strstr(text, "-----BEGIN ") != NULL);
	close(file);
	pfree(text);
	return is_pem ? NULL : lacks;
}

List *
settings_unreadable_files(void)
{
	const struct
	{
		const char *setting;
		const char *file;
		const char *lacks;
	}			files[] = {
		{"webhook_events.ca_file", setting_ca_file, "no certificate in it"},
		{"webhook_events.client_certificate_file", setting_client_certificate_file,
		"no certificate in it"},
		{"webhook_events.client_key_file", setting_client_key_file, "no key in it"}
	};
	List	   *problems = NIL;

	for (int i = 0; i < (int) lengthof(files); i++)
	{
		const char *problem = NULL;

		if (files[i].file != NULL && files[i].file[0] != '\0')
			problem = problem_of_file(files[i].file, files[i].lacks);
		if (problem != NULL)
			problems = lappend(problems, psprintf("%s: %s", files[i].setting, problem));
	}
	return problems;
}
