/*-------------------------------------------------------------------------
 *
 * headers.h
 *	  From a rendered headers template to checked HTTP header lines.
 *
 * IDENTIFICATION
 *	  src/rules/headers.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_HEADERS_H
#define WEBHOOK_HEADERS_H

#include "nodes/pg_list.h"

/* No request has more headers than this, forced ones not counted, ... */
#define HEADERS_MAX_COUNT 100

/* ... or longer ones, in bytes, with ": " and the end of each line. */
#define HEADERS_MAX_SIZE (32 * 1024)

/* One header of a request; both strings are palloc'd. */
typedef struct Header
{
	char	   *name;
	char	   *value;
} Header;

/*
 * True if "name" is one of the headers that requests set themselves (Host,
 * Content-Type, the three with "prefix", for example "X-Apify", and the three
 * of a signature) or that would
 * break its framing (Content-Length, Transfer-Encoding, Connection, ...);
 * upper and lower case count as the same.
 */
extern bool header_is_forced(const char *name, const char *prefix);

/*
 * Reads the text of a JSON object whose values are strings into a List of
 * Header in the object's order, leaving out the forced names.  A later header
 * of the same name (in any case) replaces an earlier one, in its place.
 *
 * The text is encoded in UTF-8.  Names must be tokens of RFC 9110 section
 * 5.6.2, values printable characters, spaces and tabs (RFC 9110 section 5.5);
 * spaces and tabs at either end of a value are dropped.  A value may be empty.
 *
 * Returns false and sets *error to a palloc'd message, in the style of a
 * primary error message and naming the header or the limit, when the text is
 * anything else; *headers is not to be used then.  Sets *error to NULL
 * otherwise.  Raises nothing but out-of-memory.
 */
extern bool headers_parse(const char *json, size_t length, const char *prefix,
						  List **headers, char **error);

#endif							/* WEBHOOK_HEADERS_H */
