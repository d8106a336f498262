/*-------------------------------------------------------------------------
 *
 * definition.h
 *	  Definitions of webhooks in the words of the platform's API.
 *
 * IDENTIFICATION
 *	  src/sql/definition.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DEFINITION_H
#define WEBHOOK_DEFINITION_H

#include "sql/draft.h"
#include "utils/jsonb.h"

/*
 * Changes the row as the keys of the platform's API say.  Raises
 * ERRCODE_INVALID_PARAMETER_VALUE, or ERRCODE_NULL_VALUE_NOT_ALLOWED, for what is
 * no object, for a key that there is not, and for a value of another type.
 */
extern void definition_apply(Draft *draft, const JsonbValue *definition);

/* A whole jsonb as a value, and what jsonb_typeof() says of one. */
extern JsonbValue definition_value(Jsonb *json);
extern const char *definition_type(const JsonbValue *value);

/* That and, of one that is neither null nor nested, how it begins, for messages; palloc'd. */
extern char *definition_found(const JsonbValue *value);

/*
 * Refuses ids and lists that are longer than any that could match; and a webhook that
 * could never fire.  The latter tells of variables that are not filled in, by a notice.
 */
extern void definition_check_sizes(const Draft *draft);
extern void definition_check_purpose(const Draft *draft);

#endif							/* WEBHOOK_DEFINITION_H */
