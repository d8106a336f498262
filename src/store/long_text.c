/*-------------------------------------------------------------------------
 *
 * long_text.c
 *	  A long text of a row, read slice by slice, in a transaction for each.
 *
 * IDENTIFICATION
 *	  src/store/long_text.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/toast_compression.h"
#include "store/long_text.h"
#include "utils/memutils.h"

/* How pglz stores: a byte of flags, and for each a byte or two or three of reference. */
#define GROUP_ITEMS 8
#define GROUP_SIZE (1 + 3 * GROUP_ITEMS)
#define SHORT_LENGTH 3
#define EXTENDED_LENGTH 18

/* What is stored begins with how long it was, which the header of a varlena follows. */
#define INFO_SIZE sizeof(uint32)

void
long_text_start(LongText *text, MemoryContext context)
{
	MemoryContextReset(context);
	memset(text, 0, sizeof(LongText));
	text->context = context;
}

/* Begins to read what is stored elsewhere. */
static void
begin(LongText *text, const varatt_external *stored)
{
	MemoryContext old_context = MemoryContextSwitchTo(text->context);

	long_text_start(text, text->context);
	text->length = stored->va_rawsize - VARHDRSZ;
	if (VARATT_EXTERNAL_IS_COMPRESSED(*stored))
	{
		text->packed_length = VARATT_EXTERNAL_GET_EXTSIZE(*stored);
		text->packed = palloc(VARHDRSZ + text->packed_length);
		SET_VARSIZE_COMPRESSED(text->packed, VARHDRSZ + text->packed_length);
		text->unpacked = INFO_SIZE;
	}
	text->data = palloc(text->length + 1);
	text->stored = *stored;
	MemoryContextSwitchTo(old_context);
}

/*
 * Fetches bytes as they are stored: of a value that has not been compressed, PostgreSQL
 * reads any part.
 */
static void
fetch(const varatt_external *stored, size_t from, size_t length, char *to)
{
	varatt_external plain = *stored;
	char		value[TOAST_POINTER_SIZE];
	struct varlena *piece;

	plain.va_extinfo = VARATT_EXTERNAL_GET_EXTSIZE(*stored);
	plain.va_rawsize = plain.va_extinfo + VARHDRSZ;
	SET_VARTAG_EXTERNAL(value, VARTAG_ONDISK);
	memcpy(VARDATA_EXTERNAL(value), &plain, sizeof(plain));
	piece = detoast_attr_slice((struct varlena *) value, (int32) from, (int32) length);
	Assert(VARSIZE_ANY_EXHDR(piece) == length);
	memcpy(to, VARDATA_ANY(piece), length);
	pfree(piece);
}

static void
is_corrupt(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg_internal("compressed pglz data is corrupt")));
}

/* Appends what lies "offset" bytes back; the two may overlap. */
static char *
repeat(char *to, size_t offset, size_t length)
{
	while (offset < length)
	{
		memcpy(to, to - offset, offset);
		to += offset;
		length -= offset;
		offset += offset;
	}
	memcpy(to, to - offset, length);
	return to + length;
}

/*
 * Unpacks a group of items, or what there is of one at the end.  Their format is that of
 * pglz_decompress(), which can't stop and go on.
 */
static char *
unpack_group(LongText *text, char *to, const unsigned char **from,
			 const unsigned char *end)
{
	const unsigned char *p = *from;
	char	   *to_end = text->data + text->length;
	unsigned int flags = *p++;

	for (int i = 0; i < GROUP_ITEMS && p < end && to < to_end; i++, flags >>= 1)
	{
		size_t		length;
		size_t		offset;

		if ((flags & 1) == 0)
		{
			*to++ = (char) *p++;
			continue;
		}
		if (end - p < 2)
			is_corrupt();
		length = (p[0] & 0x0f) + SHORT_LENGTH;
		offset = ((size_t) (p[0] & 0xf0) << 4) | p[1];
		p += 2;
		if (length == EXTENDED_LENGTH && p < end)
			length += *p++;
		if (offset == 0 || offset > (size_t) (to - text->data))
			is_corrupt();
		to = repeat(to, offset, Min(length, (size_t) (to_end - to)));
	}
	*from = p;
	return to;
}

/* Unpacks as much as has been fetched and the budget allows. */
static void
unpack_pglz(LongText *text, size_t budget)
{
	const unsigned char *start = (unsigned char *) text->packed + VARHDRSZ;
	const unsigned char *from = start + text->unpacked;
	const unsigned char *end = start + text->fetched;
	bool		is_all = (text->fetched == text->packed_length);
	char	   *to = text->data + text->done;
	char	   *to_end = to + Min(budget, text->length - text->done);

	while (to < to_end && from < end && (is_all || end - from >= GROUP_SIZE))
		to = unpack_group(text, to, &from, end);
	text->done = to - text->data;
	text->unpacked = from - start;
	if ((is_all && from == end) != (text->done == text->length))
		is_corrupt();
}

/* Unpacks what the other method has packed. */
static void
unpack_at_once(LongText *text)
{
	MemoryContext old_context = MemoryContextSwitchTo(text->context);
	struct varlena *whole;

	pfree(text->data);
	text->data = NULL;
	whole = detoast_attr((struct varlena *) text->packed);
	MemoryContextSwitchTo(old_context);
	text->data = VARDATA_ANY(whole);
	text->length = text->done = VARSIZE_ANY_EXHDR(whole);
}

static void
read_at_once(LongText *text, struct varlena *value)
{
	MemoryContext old_context;
	struct varlena *whole;

	long_text_start(text, text->context);
	old_context = MemoryContextSwitchTo(text->context);
	whole = detoast_attr(value);
	MemoryContextSwitchTo(old_context);
	text->data = VARDATA_ANY(whole);
	text->length = text->done = VARSIZE_ANY_EXHDR(whole);
}

bool
long_text_read(LongText *text, struct varlena *value, size_t budget)
{
	varatt_external stored;
	size_t		most;

	if (!VARATT_IS_EXTERNAL_ONDISK(value))
	{
		read_at_once(text, value);
		return true;
	}
	VARATT_EXTERNAL_GET_POINTER(stored, value);
	if (text->data == NULL || memcmp(&stored, &text->stored, sizeof(stored)) != 0)
		begin(text, &stored);
	if (text->packed == NULL)
	{
		most = Min(budget, text->length - text->done);
		fetch(&stored, text->done, most, text->data + text->done);
		text->done += most;
		return text->done == text->length;
	}
	most = Min(budget, text->packed_length - text->fetched);
	if (most > 0)
		fetch(&stored, text->fetched, most, text->packed + VARHDRSZ + text->fetched);
	text->fetched += most;
	if (VARATT_EXTERNAL_GET_COMPRESS_METHOD(stored) == TOAST_PGLZ_COMPRESSION_ID)
		unpack_pglz(text, budget);
	else if (text->fetched == text->packed_length)
		unpack_at_once(text);
	return text->done == text->length;
}
