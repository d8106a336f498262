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

static const char *
copy(const char *text, MemoryContext context)
{
	return text ? MemoryContextStrdup(context, text) : NULL;
}

void
call_result_keep(CallResult *call, MemoryContext context)
{
	char	   *body = NULL;

	call->error = copy(call->error, context);
	call->note = copy(call->note, context);
	if (call->body)
	{
		body = MemoryContextAlloc(context, call->body_length + 1);
		memcpy(body, call->body, call->body_length);
	}
	call->body = body;
}

static void
free_text(const char *text)
{
	if (text)
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
