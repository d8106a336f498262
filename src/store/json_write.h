/*-------------------------------------------------------------------------
 *
 * json_write.h
 *	  Values as JSON text.
 *
 * IDENTIFICATION
 *	  src/store/json_write.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_JSON_WRITE_H
#define WEBHOOK_JSON_WRITE_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

/* Appends "length" bytes in the server's encoding as a JSON string. */
extern void json_append_string(StringInfo out, const char *data, size_t length);

/* Appends a time as a JSON string, UTC, milliseconds: "2019-01-09T15:59:56.408Z". */
extern void json_append_timestamp(StringInfo out, TimestampTz time);

#endif							/* WEBHOOK_JSON_WRITE_H */
