/*
 * stubs.c
 *	  What the pure rooms need of a PostgreSQL server, for the fuzzer.
 *
 * Memory comes from malloc(), so that a sanitizer sees each overrun, and is
 * freed after each input; ereport(ERROR) jumps back to the fuzzer.
 */
#include "postgres.h"

#include <setjmp.h>

#include "compat.h"
#include "fuzz.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#undef printf
#undef vsnprintf

jmp_buf		fuzz_error;
int			MyBackendNumber = 1;

static void **blocks;
static size_t nblocks;
static size_t room;

static void *
keep(void *block)
{
	if (block == NULL)
		abort();
	if (nblocks == room)
	{
		room = room ? room * 2 : 1024;
		blocks = realloc(blocks, room * sizeof(void *));
	}
	return blocks[nblocks++] = block;
}

static void
forget(void *block)
{
	size_t		i = nblocks;

	while (i > 0 && blocks[i - 1] != block)
		i--;
	if (i == 0)
		abort();
	blocks[i - 1] = blocks[--nblocks];
}

void
fuzz_free_all(void)
{
	while (nblocks > 0)
		free(blocks[--nblocks]);
}

void *
palloc(Size size)
{
	return keep(malloc(size ? size : 1));
}

void *
palloc0(Size size)
{
	return keep(calloc(1, size ? size : 1));
}

void *
palloc_extended(Size size, int flags)
{
	return (flags & MCXT_ALLOC_ZERO) ? palloc0(size) : palloc(size);
}

void *
repalloc(void *block, Size size)
{
	forget(block);
	return keep(realloc(block, size ? size : 1));
}

void *
repalloc_huge(void *block, Size size)
{
	return repalloc(block, size);
}

void
pfree(void *block)
{
	forget(block);
	free(block);
}

char *
pstrdup(const char *text)
{
	return keep(strdup(text));
}

char *
pnstrdup(const char *text, Size length)
{
	return keep(strndup(text, length));
}

static char *
format(const char *fmt, va_list args)
{
	char		buffer[1];
	va_list		copy;
	int			length;
	char	   *text;

	va_copy(copy, args);
	length = vsnprintf(buffer, sizeof(buffer), fmt, copy);
	va_end(copy);
	text = palloc(length + 1);
	vsnprintf(text, length + 1, fmt, args);
	return text;
}

char *
psprintf(const char *fmt,...)
{
	va_list		args;
	char	   *text;

	va_start(args, fmt);
	text = format(fmt, args);
	va_end(args);
	return text;
}

void
initStringInfo(StringInfo string)
{
	string->maxlen = 64;
	string->data = palloc(string->maxlen);
	resetStringInfo(string);
}

void
resetStringInfo(StringInfo string)
{
	string->data[0] = '\0';
	string->len = 0;
	string->cursor = 0;
}

void
appendBinaryStringInfo(StringInfo string,
#if PG_VERSION_NUM >= 160000
					   const void *data,
#else
					   const char *data,
#endif
					   int length)
{
	if (string->len + length + 1 > string->maxlen)
	{
		string->maxlen = (string->len + length + 1) * 2;
		string->data = repalloc(string->data, string->maxlen);
	}
	memcpy(string->data + string->len, data, length);
	string->len += length;
	string->data[string->len] = '\0';
}

void
appendStringInfoString(StringInfo string, const char *text)
{
	appendBinaryStringInfo(string, text, (int) strlen(text));
}

void
appendStringInfoChar(StringInfo string, char c)
{
	appendBinaryStringInfo(string, &c, 1);
}

void
appendStringInfo(StringInfo string, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	appendStringInfoString(string, format(fmt, args));
	va_end(args);
}

List *
lappend(List *list, void *datum)
{
	if (list == NIL)
	{
		list = palloc0(sizeof(List));
		list->type = T_List;
	}
	if (list->length == list->max_length)
	{
		list->max_length = list->max_length * 2 + 4;
		list->elements = list->elements ?
			repalloc(list->elements, list->max_length * sizeof(ListCell)) :
			palloc(list->max_length * sizeof(ListCell));
	}
	list->elements[list->length++].ptr_value = datum;
	return list;
}

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

int
pg_mbstrlen(const char *text)
{
	int			count = 0;

	for (; *text; count++)
	{
		int			length = pg_utf_mblen((const unsigned char *) text);

		while (length-- > 0 && *text)
			text++;
	}
	return count;
}

int
pg_mbstrlen_with_len(const char *text, int limit)
{
	return pg_mbstrlen(pnstrdup(text, limit));
}

int
pg_encoding_mbcliplen(int encoding pg_attribute_unused(), const char *text,
					  int length, int limit)
{
	int			clipped = 0;

	while (length > 0 && *text)
	{
		int			size = pg_utf_mblen((const unsigned char *) text);

		if (clipped + size > limit)
			break;
		clipped += size;
		text += size;
		length -= size;
	}
	return clipped;
}

char *
pg_any_to_server(const char *text, int length pg_attribute_unused(),
				 int encoding pg_attribute_unused())
{
	return unconstify(char *, text);
}

int
pg_mbcliplen(const char *text, int length, int limit)
{
	return pg_encoding_mbcliplen(PG_UTF8, text, length, limit);
}

bool
errstart(int level pg_attribute_unused(), const char *domain pg_attribute_unused())
{
	return true;
}

bool
errstart_cold(int level, const char *domain)
{
	return errstart(level, domain);
}

int
errcode(int code pg_attribute_unused())
{
	return 0;
}

#define MESSAGE_FUNCTION(name) \
int \
name(const char *fmt,...) \
{ \
	va_list		args; \
\
	va_start(args, fmt); \
	(void) format(fmt, args); \
	va_end(args); \
	return 0; \
}

MESSAGE_FUNCTION(errmsg)
MESSAGE_FUNCTION(errmsg_internal)
MESSAGE_FUNCTION(errdetail)
MESSAGE_FUNCTION(errhint)

void
errfinish(const char *file pg_attribute_unused(), int line pg_attribute_unused(),
		  const char *function pg_attribute_unused())
{
	longjmp(fuzz_error, 1);
}

TimestampTz
GetCurrentTimestamp(void)
{
	return 0;
}

TimestampTz
GetCurrentTransactionStartTimestamp(void)
{
	return 0;
}

int
pg_lltoa(int64 value, char *text)
{
	return snprintf(text, MAXINT8LEN + 1, INT64_FORMAT, value);
}
