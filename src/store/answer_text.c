/*-------------------------------------------------------------------------
 *
 * answer_text.c
 *	  Bytes from the network as text that a column can hold.
 *
 * IDENTIFICATION
 *	  src/store/answer_text.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "store/answer_text.h"

/* U+FFFD, and what stands for it where there is no such character. */
#define REPLACEMENT "\xef\xbf\xbd"
#define REPLACEMENT_ELSEWHERE "?"

/*
 * The length of the UTF-8 character at the beginning, 0 if there is none, -1
 * if it is cut off.
 */
static int
character_length(const char *bytes, size_t length)
{
	int			expected = pg_utf_mblen((const unsigned char *) bytes);

	if (*bytes == '\0')
		return 0;
	if ((size_t) expected <= length)
		return pg_utf8_islegal((const unsigned char *) bytes, expected) ?
			expected : 0;
	for (size_t i = 1; i < length; i++)
	{
		if (((unsigned char) bytes[i] & 0xc0) != 0x80)
			return 0;
	}
	return -1;
}

static void
append_utf8(StringInfo out, const char *bytes, size_t length)
{
	size_t		done = 0;

	while (done < length)
	{
		int			n = character_length(bytes + done, length - done);

		if (n < 0)
			break;
		if (n == 0)
			appendStringInfoString(out, REPLACEMENT);
		else
			appendBinaryStringInfo(out, bytes + done, n);
		done += Max(n, 1);
	}
}

/* Converts valid UTF-8, character by character where one is missing. */
static char *
convert(const char *text, int length)
{
	int			encoding = GetDatabaseEncoding();
	Oid			function = FindDefaultConversionProc(PG_UTF8, encoding);
	StringInfoData out;
	size_t		size = length * MAX_CONVERSION_GROWTH + 1;
	char	   *converted = palloc(size);

	initStringInfo(&out);
	while (length > 0 && OidIsValid(function))
	{
		int			done;

		done = pg_do_encoding_conversion_buf(function, PG_UTF8, encoding,
											 (unsigned char *) unconstify(char *, text),
											 length,
											 (unsigned char *) converted,
											 (int) size, true);
		appendStringInfoString(&out, converted);
		if (done < length)
		{
			appendStringInfoString(&out, REPLACEMENT_ELSEWHERE);
			done += pg_utf_mblen((const unsigned char *) text + done);
		}
		text += done;
		length -= done;
	}
	return out.data;
}

char *
answer_to_text(const char *bytes, size_t length)
{
	StringInfoData utf8;

	initStringInfo(&utf8);
	append_utf8(&utf8, bytes, length);
	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return utf8.data;
	return convert(utf8.data, utf8.len);
}
