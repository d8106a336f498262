/*-------------------------------------------------------------------------
 *
 * signature.h
 *	  Signatures of requests, by the Standard Webhooks specification.
 *
 * A secret is "whsec_" and the base64 of its bytes.  What is signed is
 * "id.timestamp.body", by HMAC-SHA256 (RFC 2104); a signature is "v1," and the
 * base64 of that.  See https://www.standardwebhooks.com/.
 *
 * IDENTIFICATION
 *	  src/rules/signature.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SIGNATURE_H
#define WEBHOOK_SIGNATURE_H

#include "common/hmac.h"

#define SECRET_PREFIX "whsec_"

/* How many bytes secrets have. */
#define SECRET_MIN_BYTES 24
#define SECRET_MAX_BYTES 64

/* The bytes of a secret, for HMAC. */
typedef struct SecretKey
{
	int			length;
	uint8		bytes[SECRET_MAX_BYTES];
} SecretKey;

/*
 * Reads a secret, with its prefix or without.  Returns false and a palloc'd
 * message in *error, in the style of a primary error message and without the
 * secret, if it isn't base64 of at least "min_bytes" and at most
 * SECRET_MAX_BYTES.
 */
extern bool secret_decode(const char *secret, int min_bytes, SecretKey *key,
						  char **error);

/* A new secret of SECRET_MIN_BYTES random bytes, palloc'd. */
extern char *secret_make(void);

/*
 * A signature of a message whose body comes in pieces; "timestamp" is in seconds since
 * 1970.  What signing_start() returns, NULL if it can't, lives until signing_end() or
 * signing_drop(), and needs a CurrentResourceOwner that lasts as long.  signing_add() returns false if the hash can't be
 * computed; signing_end() returns the signature, palloc'd, or raises
 * ERRCODE_INTERNAL_ERROR, as for NULL.
 */
typedef struct pg_hmac_ctx Signing;

extern Signing *signing_start(const SecretKey *key, const char *id, int64 timestamp);
extern bool signing_add(Signing *signing, const char *data, size_t length);
extern char *signing_end(Signing *signing);
extern void signing_drop(Signing *signing);

/*
 * Is one of the signatures in "signatures", separated by spaces, the one that
 * this key makes?  Takes the same time whatever the difference is.
 */
extern bool signature_verify(const SecretKey *key, const char *id,
							 int64 timestamp, const char *body, size_t length,
							 const char *signatures);

#endif							/* WEBHOOK_SIGNATURE_H */
