/*-------------------------------------------------------------------------
 *
 * signature.c
 *	  Signatures of requests, by the Standard Webhooks specification.
 *
 * IDENTIFICATION
 *	  src/rules/signature.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "rules/signature.h"

#define SIGNATURE_PREFIX "v1,"

/* Appends base64 to a string with room for it. */
static void
append_base64(char *text, const uint8 *bytes, int length)
{
	int			start = (int) strlen(text);
	int			size = pg_b64_enc_len(length);
	int			written = pg_b64_encode((const void *) bytes, length,
										text + start, size);

	text[start + Max(written, 0)] = '\0';
}

bool
secret_decode(const char *secret, int min_bytes, SecretKey *key, char **error)
{
	int			prefix = (int) strlen(SECRET_PREFIX);
	int			length;

	if (strncmp(secret, SECRET_PREFIX, prefix) == 0)
		secret += prefix;
	length = (int) strlen(secret);
	if (length > pg_b64_enc_len(SECRET_MAX_BYTES))
		key->length = SECRET_MAX_BYTES + 1;
	else
	{
		uint8		bytes[SECRET_MAX_BYTES + 8];

		key->length = pg_b64_decode(secret, length, (void *) bytes, sizeof(bytes));
		if (key->length < 0)
		{
			*error = pstrdup("secret is not \"" SECRET_PREFIX "\" and base64");
			return false;
		}
		memcpy(key->bytes, bytes, Min(key->length, SECRET_MAX_BYTES));
	}
	if (key->length >= min_bytes && key->length <= SECRET_MAX_BYTES)
		return true;
	*error = psprintf("secret must have %d to %d bytes", min_bytes, SECRET_MAX_BYTES);
	return false;
}

char *
secret_make(void)
{
	uint8		bytes[SECRET_MIN_BYTES];
	char	   *secret = palloc(strlen(SECRET_PREFIX) + pg_b64_enc_len(sizeof(bytes)) + 1);

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	strcpy(secret, SECRET_PREFIX);
	append_base64(secret, bytes, sizeof(bytes));
	return secret;
}

static bool
compute(pg_hmac_ctx *context, const SecretKey *key, const char *prefix,
		const char *body, size_t length, uint8 *digest)
{
	return pg_hmac_init(context, key->bytes, key->length) >= 0 &&
		pg_hmac_update(context, (const uint8 *) prefix, strlen(prefix)) >= 0 &&
		pg_hmac_update(context, (const uint8 *) body, length) >= 0 &&
		pg_hmac_final(context, digest, PG_SHA256_DIGEST_LENGTH) >= 0;
}

char *
signature_make(const SecretKey *key, const char *id, int64 timestamp,
			   const char *body, size_t length)
{
	char	   *prefix = psprintf("%s." INT64_FORMAT ".", id, timestamp);
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	char	   *signature = palloc(strlen(SIGNATURE_PREFIX) +
								   pg_b64_enc_len(sizeof(digest)) + 1);
	pg_hmac_ctx *context = pg_hmac_create(PG_SHA256);
	bool		computed = context != NULL &&
	compute(context, key, prefix, body, length, digest);

	pg_hmac_free(context);
	if (!computed)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a signature")));
	strcpy(signature, SIGNATURE_PREFIX);
	append_base64(signature, digest, sizeof(digest));
	return signature;
}

bool
signature_verify(const SecretKey *key, const char *id, int64 timestamp,
				 const char *body, size_t length, const char *signatures)
{
	char	   *expected = signature_make(key, id, timestamp, body, length);
	size_t		expected_length = strlen(expected);
	bool		found = false;

	while (*signatures)
	{
		size_t		candidate_length = strcspn(signatures, " ");
		uint8		difference = (candidate_length != expected_length);

		for (size_t i = 0; i < Min(candidate_length, expected_length); i++)
			difference |= (uint8) (signatures[i] ^ expected[i]);
		found |= (difference == 0);
		signatures += candidate_length;
		signatures += strspn(signatures, " ");
	}
	return found;
}
