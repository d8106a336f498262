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
#include "utils/builtins.h"

#define SIGNATURE_PREFIX "v1,"

/* A prefix and the base64 of some bytes, palloc'd. */
static char *
encode(const char *prefix, const uint8 *bytes, int length)
{
	int			start = (int) strlen(prefix);
	int			size = pg_b64_enc_len(length);
	char	   *text = palloc(start + size + 1);
	int			written;

	strcpy(text, prefix);
	written = pg_b64_encode((const void *) bytes, length, text + start, size);
	text[start + Max(written, 0)] = '\0';
	return text;
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

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	return encode(SECRET_PREFIX, bytes, sizeof(bytes));
}

/* "id.timestamp.", which stands before the body; psprintf() would take longer. */
static char *
make_prefix(const char *id, int64 timestamp)
{
	char	   *prefix = palloc(strlen(id) + MAXINT8LEN + 3);
	char	   *end = stpcpy(prefix, id);

	*end++ = '.';
	end += pg_lltoa(timestamp, end);
	*end++ = '.';
	*end = '\0';
	return prefix;
}

Signing *
signing_start(const SecretKey *key, const char *id, int64 timestamp)
{
	char	   *prefix = make_prefix(id, timestamp);
	Signing    *signing = pg_hmac_create(PG_SHA256);

	if (signing != NULL &&
		pg_hmac_init(signing, key->bytes, key->length) >= 0 &&
		pg_hmac_update(signing, (const uint8 *) prefix, strlen(prefix)) >= 0)
		return signing;
	pg_hmac_free(signing);
	return NULL;
}

bool
signing_add(Signing *signing, const char *data, size_t length)
{
	return signing != NULL &&
		pg_hmac_update(signing, (const uint8 *) data, length) >= 0;
}

char *
signing_end(Signing *signing)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	bool		computed = signing != NULL &&
	pg_hmac_final(signing, digest, sizeof(digest)) >= 0;

	signing_drop(signing);
	if (!computed)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a signature")));
	return encode(SIGNATURE_PREFIX, digest, sizeof(digest));
}

void
signing_drop(Signing *signing)
{
	pg_hmac_free(signing);
}

static char *
make_signature(const SecretKey *key, const char *id, int64 timestamp,
			   const char *body, size_t length)
{
	Signing    *signing = signing_start(key, id, timestamp);

	if (!signing_add(signing, body, length))
	{
		signing_drop(signing);
		signing = NULL;
	}
	return signing_end(signing);
}

bool
signature_verify(const SecretKey *key, const char *id, int64 timestamp,
				 const char *body, size_t length, const char *signatures)
{
	char	   *expected = make_signature(key, id, timestamp, body, length);
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
