/*-------------------------------------------------------------------------
 *
 * headers.c
 *	  From a rendered headers template to checked HTTP header lines.
 *
 * Names in messages are shown as the JSON text writes them: its escapes keep
 * control characters out of logs, and the values, which may be secrets, are
 * not shown at all.
 *
 * IDENTIFICATION
 *	  src/rules/headers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "rules/headers.h"
#include "rules/json_scan.h"

/* How much of a header's name a message shows, in bytes. */
#define SHOWN_NAME_LENGTH 100

/* What a line has besides name and value: ": " and the line's end. */
#define LINE_OVERHEAD 4

/* The text between the quotes of a JSON string. */
typedef struct StringContent
{
	const char *data;
	size_t		length;
} StringContent;

static char *read_headers(JsonScan *scan, const char *prefix, List **headers);
static StringContent token_content(const JsonScan *scan);
static char *read_header(StringContent name_content,
						 StringContent value_content,
						 const char *prefix, List **headers);
static char *decode(StringContent content, size_t *length);
static bool is_token(const char *name, size_t length);
static bool has_control_character(const char *value, size_t length);
static void trim(char *value, size_t length);
static void set_header(List **headers, char *name, char *value);
static char *check_size(const List *headers);
static char *header_error(const char *format, StringContent name);

bool
header_is_forced(const char *name, const char *prefix)
{
	static const char *const names[] = {
		"Connection",
		"Content-Length",
		"Content-Type",
		"Expect",
		"Host",
		"HTTP2-Settings",
		"Keep-Alive",
		"Proxy-Connection",
		"TE",
		"Trailer",
		"Transfer-Encoding",
		"Upgrade",
		"webhook-id",
		"webhook-signature",
		"webhook-timestamp"
	};
	static const char *const prefixed[] = {
		"-Request-Origin",
		"-Webhook",
		"-Webhook-Dispatch-Id"
	};
	size_t		prefix_length = strlen(prefix);

	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (pg_strcasecmp(name, names[i]) == 0)
			return true;
	}

	if (pg_strncasecmp(name, prefix, prefix_length) != 0)
		return false;
	for (size_t i = 0; i < lengthof(prefixed); i++)
	{
		if (pg_strcasecmp(name + prefix_length, prefixed[i]) == 0)
			return true;
	}
	return false;
}

bool
headers_parse(const char *json, size_t length, const char *prefix,
			  List **headers, char **error)
{
	JsonScan	scan;

	*headers = NIL;
	json_scan_start(&scan, json, length, false);
	*error = read_headers(&scan, prefix, headers);
	json_scan_finish(&scan);
	return *error == NULL;
}

/* Like the other functions that return a message, NULL if all is well. */
static char *
read_headers(JsonScan *scan, const char *prefix, List **headers)
{
	JsonToken	token;

	if (json_scan_next(scan) != JSON_OBJECT_START)
		return pstrdup("headers are not a JSON object");

	while ((token = json_scan_next(scan)) == JSON_KEY)
	{
		StringContent name = token_content(scan);
		char	   *error;

		token = json_scan_next(scan);
		if (token == JSON_ERROR)
			break;
		if (token != JSON_STRING)
			return header_error("header \"%s\" has a value that is not a string",
								name);

		error = read_header(name, token_content(scan), prefix, headers);
		if (error != NULL)
			return error;
	}

	if (token == JSON_ERROR || json_scan_next(scan) != JSON_DONE)
		return pstrdup("headers are not valid JSON");
	return check_size(*headers);
}

static StringContent
token_content(const JsonScan *scan)
{
	StringContent content;

	content.data = scan->token + 1;
	content.length = scan->token_end - 1 - content.data;
	return content;
}

static char *
read_header(StringContent name_content, StringContent value_content,
			const char *prefix, List **headers)
{
	size_t		length;
	char	   *name = decode(name_content, &length);
	char	   *value;

	if (!is_token(name, length))
		return header_error("header name \"%s\" is not a valid token",
							name_content);
	if (header_is_forced(name, prefix))
	{
		pfree(name);
		return NULL;
	}

	value = decode(value_content, &length);
	if (has_control_character(value, length))
		return header_error("value of header \"%s\" contains a control character",
							name_content);
	if (pg_encoding_verifymbstr(PG_UTF8, value, length) != (int) length)
		return header_error("value of header \"%s\" is not valid UTF-8",
							name_content);
	trim(value, length);
	set_header(headers, name, value);

	/* Told at once, since each header is compared with all before it. */
	if (list_length(*headers) > HEADERS_MAX_COUNT)
		return psprintf("there are more than %d headers", HEADERS_MAX_COUNT);
	return NULL;
}

static char *
decode(StringContent content, size_t *length)
{
	char	   *decoded = palloc(content.length + 1);

	*length = json_decode_string(content.data, content.length, decoded);
	decoded[*length] = '\0';
	return decoded;
}

/* RFC 9110 section 5.6.2 */
static bool
is_token(const char *name, size_t length)
{
	static const char token_characters[] =
	"!#$%&'*+-.^_`|~0123456789"
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	return length > 0 && strspn(name, token_characters) == length;
}

/* The C1 controls count too; in UTF-8 they are C2 80 to C2 9F. */
static bool
has_control_character(const char *value, size_t length)
{
	const unsigned char *bytes = (const unsigned char *) value;

	for (size_t i = 0; i < length; i++)
	{
		if ((bytes[i] < 0x20 && bytes[i] != '\t') || bytes[i] == 0x7f ||
			(bytes[i] == 0xc2 && bytes[i + 1] >= 0x80 && bytes[i + 1] <= 0x9f))
			return true;
	}
	return false;
}

/* Removes spaces and tabs at both ends, which no recipient would see. */
static void
trim(char *value, size_t length)
{
	size_t		leading = strspn(value, " \t");

	while (length > leading &&
		   (value[length - 1] == ' ' || value[length - 1] == '\t'))
		length--;
	memmove(value, value + leading, length - leading);
	value[length - leading] = '\0';
}

static void
set_header(List **headers, char *name, char *value)
{
	Header	   *header;
	ListCell   *cell;

	foreach(cell, *headers)
	{
		header = lfirst(cell);
		if (pg_strcasecmp(header->name, name) == 0)
		{
			pfree(header->name);
			pfree(header->value);
			header->name = name;
			header->value = value;
			return;
		}
	}

	header = palloc(sizeof(Header));
	header->name = name;
	header->value = value;
	*headers = lappend(*headers, header);
}

static char *
check_size(const List *headers)
{
	size_t		size = 0;
	ListCell   *cell;

	foreach(cell, headers)
	{
		const Header *header = lfirst(cell);

		size += strlen(header->name) + strlen(header->value) + LINE_OVERHEAD;
	}
	if (size > HEADERS_MAX_SIZE)
		return psprintf("headers are longer than %d bytes", HEADERS_MAX_SIZE);
	return NULL;
}

static char *
header_error(const char *format, StringContent name)
{
	int			given = (int) name.length;
	int			shown = Min(given, pg_encoding_mbcliplen(PG_UTF8, name.data, given,
														 SHOWN_NAME_LENGTH));

	return psprintf(format, pg_any_to_server(pnstrdup(name.data, shown), shown, PG_UTF8));
}
