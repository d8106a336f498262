/*-------------------------------------------------------------------------
 *
 * words.c
 *	  Words that may have been meant.
 *
 * IDENTIFICATION
 *	  src/sql/words.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "sql/words.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(webhook_events_hint);

/* Words that are longer are not compared. */
#define MAX_WORD 100

/* And so many are not listed. */
#define MAX_TOLD 50

/* A word as it is compared: in lower case and without underscores. */
static char *
plain_word(const char *word)
{
	char	   *plain = pstrdup(word);
	char	   *out = plain;

	for (const char *in = plain; *in; in++)
	{
		if (*in != '_')
			*out++ = pg_ascii_tolower((unsigned char) *in);
	}
	*out = '\0';
	return plain;
}

/*
 * The word with which it shares most, if no more than a third of it has to be
 * changed; NULL if none is near.
 */
static const char *
nearest(const char *word, const char *const *words, int count)
{
	char	   *plain = plain_word(word);
	int			length = (int) strlen(plain);
	int			least = Max(length / 3, 1) + 1;
	const char *best = NULL;

	if (length == 0 || length > MAX_WORD)
		return NULL;
	for (int i = 0; i < count; i++)
	{
		char	   *other = plain_word(words[i]);
		int			distance = varstr_levenshtein_less_equal(plain, length, other,
															 (int) strlen(other), 1, 1, 1,
															 least, true);

		if (distance >= least)
			continue;
		least = distance;
		best = words[i];
	}
	return best;
}

char *
words_hint(const char *word, const char *const *words, int count, const char *what)
{
	const char *meant = word ? nearest(word, words, count) : NULL;
	StringInfoData list;

	if (meant != NULL)
		return psprintf("Perhaps you meant \"%s\".", meant);
	if (count > MAX_TOLD)
		return psprintf("There are %d %s, none of which looks like it.", count, what);
	initStringInfo(&list);
	for (int i = 0; i < count; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", words[i]);
	return psprintf("The %s are %s.", what, list.data);
}

/* hint(word text, words text[], what text) RETURNS text */
Datum
webhook_events_hint(PG_FUNCTION_ARGS)
{
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	const char **words;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	words = palloc(sizeof(char *) * (count + 1));
	for (int i = 0; i < count; i++)
		words[i] = nulls[i] ? "" : TextDatumGetCString(elements[i]);
	PG_RETURN_TEXT_P(cstring_to_text(words_hint(PG_ARGISNULL(0) ? NULL :
												text_to_cstring(PG_GETARG_TEXT_PP(0)),
												words, count,
												text_to_cstring(PG_GETARG_TEXT_PP(2)))));
}
