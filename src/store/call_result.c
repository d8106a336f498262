/*-------------------------------------------------------------------------
 *
 * call_result.c
 *	  What became of a call: all that its row says.
 *
 * IDENTIFICATION
 *	  src/store/call_result.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/call_result.h"
#include "utils/memutils.h"

/* In place of why it has failed. */
static const char lost[] = "out of memory";

/* NULL if there is no memory for it. */
static const char *
copy(const char *bytes, size_t length, MemoryContext context)
{
	char	   *result = MemoryContextAllocExtended(context, length + 1, MCXT_ALLOC_NO_OOM);

	if (result == NULL)
		return NULL;
	memcpy(result, bytes, length);
	result[length] = '\0';
	return result;
}

static const char *
copy_text(const char *text, MemoryContext context)
{
	return text ? copy(text, strlen(text), context) : NULL;
}

void
call_result_keep(CallResult *call, MemoryContext context)
{
	if (call->error)
	{
		call->error = copy_text(call->error, context);
		if (call->error == NULL)
			call->error = lost;
	}
	call->note = copy_text(call->note, context);
	if (call->body)
		call->body = copy(call->body, call->body_length, context);
	if (call->body == NULL)
		call->body_length = 0;
}

static void
free_text(const char *text)
{
	if (text && text != lost)
		pfree(unconstify(char *, text));
}

void
call_result_free(CallResult *call)
{
	free_text(call->url);
	free_text(call->error);
	free_text(call->note);
	free_text(call->body);
}
