/*-------------------------------------------------------------------------
 *
 * url.c
 *	  Which URLs a webhook may have.
 *
 * IDENTIFICATION
 *	  src/rules/url.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>

#include "common/string.h"
#include "mb/pg_wchar.h"
#include "rules/address.h"
#include "rules/url.h"

static const char no_host[] = "request URL has no host";
static const char foreign_host[] =
"request URL has a host with other characters than ASCII letters, digits, \"-\", \".\" and \"_\"; write a name in other scripts in Punycode, as in xn--mller-kva.example";
static const char host_characters[] =
"-._0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ[]:";
static const char no_port[] = "request URL has no valid port";

/* What the text may hold at all: printable ASCII that has one meaning. */
static bool
check_characters(const char *text, char **error)
{
	const char *host = strstr(text, "://") + 3;
	const char *host_end = host + strcspn(host, "/?#");

	for (const char *p = text; *p; p++)
	{
		unsigned char c = *p;

		if (c <= ' ' || c == 0x7f)
		{
			*error = psprintf("request URL holds a space or a control character at position %d",
							  (int) (p - text) + 1);
			return false;
		}
		if (IS_HIGHBIT_SET(c) && p < host_end)
		{
			*error = pstrdup(foreign_host);
			return false;
		}
		if (c == '\\' || IS_HIGHBIT_SET(c))
		{
			*error = psprintf("request URL holds a character at position %d that must be percent-encoded",
							  (int) (p - text) + 1);
			return false;
		}
	}
	return true;
}

static char *
copy_part(CURLU *handle, CURLUPart part, unsigned int flags)
{
	char	   *value;
	char	   *copy;

	if (curl_url_get(handle, part, &value, flags) != CURLUE_OK)
		return NULL;
	copy = pstrdup(value);
	curl_free(value);
	return copy;
}

/* Reads the host as an address: with brackets, or with a dot at its end. */
static bool
read_address(const char *host, struct sockaddr_storage *address)
{
	char	   *text = pstrdup(host);
	size_t		length = strlen(text);

	if (length > 1 && text[0] == '[' && text[length - 1] == ']')
	{
		text[length - 1] = '\0';
		text++;
	}
	else if (length > 1 && text[length - 1] == '.')
		text[--length] = '\0';
	if (pg_strcasecmp(text, "localhost") == 0 ||
		(length > 10 && pg_strcasecmp(text + length - 10, ".localhost") == 0))
		text = "127.0.0.1";		/* RFC 6761, section 6.3 */
	return address_from_text(text, address);
}

/* Is this the port of the scheme, which the header Host leaves out? */
static bool
is_default_port(CURLU *handle, const char *port)
{
	char	   *scheme = copy_part(handle, CURLUPART_SCHEME, 0);

	return scheme != NULL &&
		strcmp(port, strcmp(scheme, "https") == 0 ? "443" : "80") == 0;
}

static bool
refuse(const char *why, char **error)
{
	*error = pstrdup(why);
	return false;
}

/* Judges what libcurl has parsed. */
static bool
read_parts(CURLU *handle, Url *url, char **error)
{
	char	   *host = copy_part(handle, CURLUPART_HOST, 0);
	char	   *port = copy_part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	char	   *zone = copy_part(handle, CURLUPART_ZONEID, 0);
	char	   *user = copy_part(handle, CURLUPART_USER, CURLU_URLDECODE);
	char	   *password = copy_part(handle, CURLUPART_PASSWORD, CURLU_URLDECODE);

	if (host == NULL || host[0] == '\0' || host[0] == '.' || strstr(host, ".."))
		return refuse(no_host, error);
	if (zone != NULL)
		return refuse("request URL has an address with a zone", error);
	if (strspn(host, host_characters) != strlen(host))
		return refuse(foreign_host, error);
	if (port == NULL || strcmp(port, "0") == 0)
		return refuse(no_port, error);

	url->host_header = is_default_port(handle, port) ?
		pstrdup(host) : psprintf("%s:%s", host, port);
	for (char *p = host; *p; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	url->is_address = read_address(host, &url->address);
	url->host = psprintf("%s:%s", host, port);
	url->port = atoi(port);
	url->credentials = NULL;
	if (user != NULL || password != NULL)
		url->credentials = psprintf("%s:%s", user ? user : "",
									password ? password : "");
	return true;
}

bool
url_parse(const char *text, Url *url, char **error)
{
	CURLU	   *handle;
	CURLUcode	code;
	bool		ok = false;
	int			length = pg_mbstrlen(text);

	*error = NULL;
	if (length > URL_MAX_LENGTH)
	{
		*error = psprintf("request URL has %d characters, more than %d",
						  length, URL_MAX_LENGTH);
		return false;
	}
	if (pg_strncasecmp(text, "http://", 7) != 0 &&
		pg_strncasecmp(text, "https://", 8) != 0)
	{
		*error = pstrdup("request URL must start with http:// or https://");
		return false;
	}
	if (!check_characters(text, error))
		return false;
	if (strncmp(strchr(text, ':'), ":///", 4) == 0)
	{
		*error = pstrdup(no_host);	/* libcurl would take the path for it */
		return false;
	}

	handle = curl_url();
	if (handle == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	code = curl_url_set(handle, CURLUPART_URL, text, 0);
	if (code == CURLUE_OK)
		ok = read_parts(handle, url, error);
	else if (code == CURLUE_NO_HOST)
		*error = pstrdup(no_host);
	else if (code == CURLUE_BAD_PORT_NUMBER)
		*error = pstrdup(no_port);
	else
		*error = psprintf("request URL is malformed: %s", curl_url_strerror(code));
	curl_url_cleanup(handle);
	return ok;
}
