/*-------------------------------------------------------------------------
 *
 * json_scan.h
 *	  A small strict JSON scanner that hands out one token after another.
 *
 * PostgreSQL's own parser recurses, raises, and knows neither variables nor
 * where a value began.  This one needs no stack however deep the text nests,
 * never reads beyond the text, and raises nothing but out-of-memory.
 *
 * IDENTIFICATION
 *	  src/rules/json_scan.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_JSON_SCAN_H
#define WEBHOOK_JSON_SCAN_H

typedef enum JsonToken
{
	JSON_ERROR,					/* "cursor" and "expected" say what is wrong */
	JSON_DONE,					/* the whole text was one JSON value */
	JSON_OBJECT_START,
	JSON_OBJECT_END,
	JSON_ARRAY_START,
	JSON_ARRAY_END,
	JSON_KEY,					/* a member's name, its colon consumed as well */
	JSON_STRING,
	JSON_SCALAR,				/* a number, true, false or null */
	JSON_VARIABLE				/* {{anything}} in place of a value */
} JsonToken;

/* What the grammar allows next. */
typedef enum JsonState
{
	JSON_AT_VALUE,
	JSON_AT_FIRST_ELEMENT,
	JSON_AT_FIRST_KEY,
	JSON_AT_KEY,
	JSON_AFTER_VALUE
} JsonState;

typedef struct JsonScan
{
	/*
	 * The last token from its first byte to behind its last one, quotes and
	 * braces included.  A container's token is its bracket alone.
	 */
	const char *token;
	const char *token_end;

	/* Where scanning goes on; after JSON_ERROR, where the text went wrong. */
	const char *cursor;

	/* After JSON_ERROR, what should have stood there, to follow "expected". */
	const char *expected;

	/* The rest is the scanner's own. */
	const char *end;
	JsonState	state;
	bool		variables;
	bool	   *in_object;		/* of each open container: object or array? */
	size_t		depth;
	size_t		capacity;
} JsonScan;

/*
 * Starts scanning "length" bytes of text.  With "variables", a value may also
 * be a variable: "{{", any characters but braces, double quotes, backslashes
 * and control characters, "}}".  The text must outlive the scan.
 */
extern void json_scan_start(JsonScan *scan, const char *text, size_t length,
							bool variables);

/* Reads the next token.  Not to be called after JSON_ERROR or JSON_DONE. */
extern JsonToken json_scan_next(JsonScan *scan);

/* Frees what the scan allocated. */
extern void json_scan_finish(JsonScan *scan);

/*
 * Decodes the text between the quotes of a JSON string, which the scanner has
 * accepted, and returns the length of the result.  "out" has room for as many
 * bytes as the text has, and gets no terminator.  Escapes become UTF-8; an
 * unpaired surrogate becomes three bytes that are not valid UTF-8.
 */
extern size_t json_decode_string(const char *content, size_t length, char *out);

/*
 * Copies JSON text without the white space between its tokens and returns the
 * length of the result.  "out" has room for as many bytes as the text has.
 */
extern size_t json_compact(const char *json, size_t length, char *out);

/* Is this one of the four white space characters of JSON? */
static inline bool
json_is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

#endif							/* WEBHOOK_JSON_SCAN_H */
