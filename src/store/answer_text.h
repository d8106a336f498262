/*-------------------------------------------------------------------------
 *
 * answer_text.h
 *	  Bytes from the network as text that a column can hold.
 *
 * IDENTIFICATION
 *	  src/store/answer_text.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_ANSWER_TEXT_H
#define WEBHOOK_ANSWER_TEXT_H

/*
 * Returns the beginning of an answer's body as palloc'd text in the server's
 * encoding.  The bytes are taken for UTF-8; what is not, what the server's
 * encoding lacks, and zeros become a replacement character.  A character that
 * was cut off at the end is left out.  Runs in a transaction.
 */
extern char *answer_to_text(const char *bytes, size_t length);

#endif							/* WEBHOOK_ANSWER_TEXT_H */
