/*-------------------------------------------------------------------------
 *
 * words.h
 *	  Words that may have been meant.
 *
 * IDENTIFICATION
 *	  src/sql/words.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_WORDS_H
#define WEBHOOK_WORDS_H

/*
 * A hint, palloc'd: which of these words may have been meant, or which there are,
 * "The keys are a, b."; of very many how many.
 */
extern char *words_hint(const char *word, const char *const *words, int count,
						const char *what);

#endif							/* WEBHOOK_WORDS_H */
