/*-------------------------------------------------------------------------
 *
 * json_scan.c
 *	  A small strict JSON scanner that hands out one token after another.
 *
 * The grammar is that of RFC 8259, held as a state and one flag per open
 * container, so that nesting costs a byte of heap per level and no C stack.
 *
 * Text is scanned as bytes.  Every encoding of a PostgreSQL server sets the
 * high bit in all bytes of a multibyte character, so no part of one can be
 * mistaken for a quote or a bracket.
 *
 * IDENTIFICATION
 *	  src/rules/json_scan.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "rules/json_scan.h"

#define INITIAL_DEPTH 32

/* What follows the backslash of "\uXXXX". */
#define UNICODE_ESCAPE_LENGTH 5

static JsonToken fail(JsonScan *scan, const char *expected);
static int	peek(JsonScan *scan);
static bool accept_char(JsonScan *scan, char c);
static bool accept_word(JsonScan *scan, const char *word);
static bool accept_digits(JsonScan *scan);
static JsonToken open_container(JsonScan *scan, bool is_object);
static JsonToken close_container(JsonScan *scan);
static JsonToken read_key(JsonScan *scan, const char *expected);
static JsonToken read_value(JsonScan *scan, const char *expected);
static JsonToken read_scalar(JsonScan *scan, const char *expected);
static JsonToken read_number(JsonScan *scan);
static JsonToken read_variable(JsonScan *scan);
static JsonToken read_string(JsonScan *scan);
static JsonToken read_escape(JsonScan *scan);
static char decode_simple_escape(char letter);
static int	decode_unicode_escape(const char *escape, const char *end);

void
json_scan_start(JsonScan *scan, const char *text, size_t length,
				bool variables)
{
	scan->token = text;
	scan->token_end = text;
	scan->cursor = text;

	scan->expected = NULL;
	scan->end = &text[length];
	scan->state = JSON_AT_VALUE;
	scan->variables = variables;
	scan->in_object = palloc(INITIAL_DEPTH * sizeof(bool));
	scan->depth = 0;
	scan->capacity = INITIAL_DEPTH;
}

void
json_scan_finish(JsonScan *scan)
{
	pfree(scan->in_object);
}

JsonToken
json_scan_next(JsonScan *scan)
{
	int			c = peek(scan);

	if (scan->state == JSON_AFTER_VALUE)
	{
		bool		in_object;

		if (scan->depth == 0)
			return c < 0 ? JSON_DONE : fail(scan, "the end of the text");

		in_object = scan->in_object[scan->depth - 1];
		if (c == (in_object ? '}' : ']'))
			return close_container(scan);
		if (c != ',')
			return fail(scan, in_object ?
						"\",\" or \"}\"" : "\",\" or \"]\"");

		scan->cursor++;
		scan->state = in_object ? JSON_AT_KEY : JSON_AT_VALUE;
		c = peek(scan);
	}

	switch (scan->state)
	{
		case JSON_AT_FIRST_KEY:
			if (c == '}')
				return close_container(scan);
			return read_key(scan, "a key in double quotes or \"}\"");
		case JSON_AT_KEY:
			return read_key(scan, "a key in double quotes");
		case JSON_AT_FIRST_ELEMENT:
			if (c == ']')
				return close_container(scan);
			return read_value(scan, "a value or \"]\"");
		default:
			return read_value(scan, "a value");
	}
}

static JsonToken
fail(JsonScan *scan, const char *expected)
{
	scan->expected = expected;
	return JSON_ERROR;
}

/* Skips white space; returns the byte at the cursor, -1 at the end. */
static int
peek(JsonScan *scan)
{
	const char *p = scan->cursor;

	while (p < scan->end && json_is_space(*p))
		p++;
	scan->cursor = p;
	return p < scan->end ? (unsigned char) *p : -1;
}

static bool
accept_char(JsonScan *scan, char c)
{
	if (scan->cursor == scan->end || *scan->cursor != c)
		return false;
	scan->cursor++;
	return true;
}

static bool
accept_word(JsonScan *scan, const char *word)
{
	size_t		length = strlen(word);

	if ((size_t) (scan->end - scan->cursor) < length ||
		memcmp(scan->cursor, word, length) != 0)
		return false;
	scan->cursor += length;
	return true;
}

/* At least one digit. */
static bool
accept_digits(JsonScan *scan)
{
	const char *first = scan->cursor;

	while (scan->cursor < scan->end &&
		   *scan->cursor >= '0' && *scan->cursor <= '9')
		scan->cursor++;
	return scan->cursor > first;
}

static JsonToken
open_container(JsonScan *scan, bool is_object)
{
	if (scan->depth == scan->capacity)
	{
		scan->capacity *= 2;
		scan->in_object = repalloc_huge(scan->in_object,
										scan->capacity * sizeof(bool));
	}
	scan->in_object[scan->depth++] = is_object;

	scan->token = scan->cursor++;
	scan->token_end = scan->cursor;
	scan->state = is_object ? JSON_AT_FIRST_KEY : JSON_AT_FIRST_ELEMENT;
	return is_object ? JSON_OBJECT_START : JSON_ARRAY_START;
}

static JsonToken
close_container(JsonScan *scan)
{
	scan->token = scan->cursor++;
	scan->token_end = scan->cursor;
	scan->state = JSON_AFTER_VALUE;
	return scan->in_object[--scan->depth] ? JSON_OBJECT_END : JSON_ARRAY_END;
}

static JsonToken
read_key(JsonScan *scan, const char *expected)
{
	if (scan->cursor == scan->end || *scan->cursor != '"')
		return fail(scan, expected);

	scan->token = scan->cursor;
	if (read_string(scan) == JSON_ERROR)
		return JSON_ERROR;
	scan->token_end = scan->cursor;

	peek(scan);
	if (!accept_char(scan, ':'))
		return fail(scan, "\":\"");
	scan->state = JSON_AT_VALUE;
	return JSON_KEY;
}

static JsonToken
read_value(JsonScan *scan, const char *expected)
{
	JsonToken	token;

	if (scan->cursor == scan->end)
		return fail(scan, expected);

	scan->token = scan->cursor;
	if (*scan->cursor == '"')
		token = read_string(scan);
	else if (scan->variables && accept_word(scan, "{{"))
		token = read_variable(scan);
	else if (*scan->cursor == '{' || *scan->cursor == '[')
		return open_container(scan, *scan->cursor == '{');
	else
		token = read_scalar(scan, expected);

	scan->token_end = scan->cursor;
	scan->state = JSON_AFTER_VALUE;
	return token;
}

static JsonToken
read_scalar(JsonScan *scan, const char *expected)
{
	if (*scan->cursor == '-' ||
		(*scan->cursor >= '0' && *scan->cursor <= '9'))
		return read_number(scan);
	if (accept_word(scan, "true") ||
		accept_word(scan, "false") ||
		accept_word(scan, "null"))
		return JSON_SCALAR;
	return fail(scan, expected);
}

static JsonToken
read_number(JsonScan *scan)
{
	static const char digit[] = "a digit";

	accept_char(scan, '-');
	if (!accept_char(scan, '0') && !accept_digits(scan))
		return fail(scan, digit);
	if (accept_char(scan, '.') && !accept_digits(scan))
		return fail(scan, digit);
	if (accept_char(scan, 'e') || accept_char(scan, 'E'))
	{
		if (!accept_char(scan, '+'))
			accept_char(scan, '-');
		if (!accept_digits(scan))
			return fail(scan, digit);
	}
	return JSON_SCALAR;
}

/* The cursor is behind the opening braces. */
static JsonToken
read_variable(JsonScan *scan)
{
	while (scan->cursor < scan->end &&
		   (unsigned char) *scan->cursor >= 0x20 &&
		   strchr("{}\"\\", *scan->cursor) == NULL)
		scan->cursor++;
	if (!accept_word(scan, "}}"))
		return fail(scan, "\"}}\" at the end of the variable");
	return JSON_VARIABLE;
}

/* The cursor is on the opening quote. */
static JsonToken
read_string(JsonScan *scan)
{
	const char *p = scan->cursor + 1;

	for (;;)
	{
		while (p < scan->end && *p != '"' && *p != '\\' &&
			   (unsigned char) *p >= 0x20)
			p++;

		scan->cursor = p;
		if (accept_char(scan, '"'))
			return JSON_STRING;
		if (p == scan->end)
			return fail(scan, "a double quote at the end of the string");
		if (!accept_char(scan, '\\'))
			return fail(scan, "an escape in place of the control character");
		if (read_escape(scan) == JSON_ERROR)
			return JSON_ERROR;
		p = scan->cursor;
	}
}

/* The cursor is behind the backslash. */
static JsonToken
read_escape(JsonScan *scan)
{
	if (scan->cursor < scan->end && *scan->cursor == 'u')
	{
		if (decode_unicode_escape(scan->cursor, scan->end) < 0)
			return fail(scan, "\"u\" and four hexadecimal digits");
		scan->cursor += UNICODE_ESCAPE_LENGTH;
	}
	else
	{
		if (scan->cursor == scan->end ||
			decode_simple_escape(*scan->cursor) == '\0')
			return fail(scan, "one of \" \\ / b f n r t u after the backslash");
		scan->cursor++;
	}
	return JSON_STRING;
}

/* The character that a backslash and "letter" stand for, NUL for none. */
static char
decode_simple_escape(char letter)
{
	switch (letter)
	{
		case '"':
		case '\\':
		case '/':
			return letter;
		case 'b':
			return '\b';
		case 'f':
			return '\f';
		case 'n':
			return '\n';
		case 'r':
			return '\r';
		case 't':
			return '\t';
		default:
			return '\0';
	}
}

/* The UTF-16 code unit that "uXXXX" stands for, -1 if it is none. */
static int
decode_unicode_escape(const char *escape, const char *end)
{
	int			unit = 0;

	if (end - escape < UNICODE_ESCAPE_LENGTH || *escape != 'u')
		return -1;

	for (int i = 1; i < UNICODE_ESCAPE_LENGTH; i++)
	{
		char		c = escape[i];

		if (c >= '0' && c <= '9')
			unit = unit * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			unit = unit * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			unit = unit * 16 + (c - 'A' + 10);
		else
			return -1;
	}
	return unit;
}

size_t
json_decode_string(const char *content, size_t length, char *out)
{
	const char *p = content;
	const char *end = content + length;
	char	   *to = out;

	while (p < end)
	{
		int			unit;

		if (*p != '\\')
		{
			*to++ = *p++;
			continue;
		}

		p++;
		unit = decode_unicode_escape(p, end);
		if (unit < 0)
		{
			*to++ = decode_simple_escape(*p++);
			continue;
		}

		p += UNICODE_ESCAPE_LENGTH;
		if (is_utf16_surrogate_first(unit) && p < end && *p == '\\')
		{
			int			second = decode_unicode_escape(p + 1, end);

			if (second >= 0 && is_utf16_surrogate_second(second))
			{
				unit = surrogate_pair_to_codepoint(unit, second);
				p += 1 + UNICODE_ESCAPE_LENGTH;
			}
		}
		unicode_to_utf8(unit, (unsigned char *) to);
		to += pg_utf_mblen((unsigned char *) to);
	}
	return to - out;
}

size_t
json_compact(const char *json, size_t length, char *out)
{
	const char *end = json + length;
	char	   *to = out;
	bool		in_string = false;

	for (const char *p = json; p < end; p++)
	{
		if (!in_string && json_is_space(*p))
			continue;
		*to++ = *p;
		if (*p == '"')
			in_string = !in_string;
		else if (*p == '\\' && in_string && p + 1 < end)
			*to++ = *++p;
	}
	return to - out;
}
