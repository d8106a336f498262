/*-------------------------------------------------------------------------
 *
 * versions.c
 *	  The versions of webhooks that are known: made from their rows, their
 *	  bytes counted, and in the order in which they were used.
 *
 * IDENTIFICATION
 *	  src/deliver/versions.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/versions.h"
#include "miscadmin.h"
#include "server/settings.h"
#include "store/webhooks.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * Templates with more bytes are left out until they are needed: dispatches in memory keep
 * the rest of their webhooks' versions there, whatever the limit is.
 */
#define MAX_SHORT_TEMPLATES 4096

/* Of a hash entry beside the Subscriber. */
#define ENTRY_OVERHEAD 32

static MemoryContext versions_context;
static size_t total_bytes;
static dlist_head used;			/* Subscriber.use_node */
static dlist_head bare;			/* the same, of those that are bare */
static size_t bare_bytes;
static dlist_head with_templates;	/* Subscriber.templates_node */
static uint64 nchanges = 0;		/* to Subscriber.change */

/* Rows to be compiled, all or one of them. */
typedef struct Compilation
{
	MemoryContext *contexts;	/* of what is made, the transaction's at first */
	Webhook   **webhooks;
	HeapTuple  *rows;
	TupleDesc	desc;
	int			first;
	int			end;
} Compilation;

void
versions_open(MemoryContext context)
{
	versions_context = context;
	total_bytes = 0;
	dlist_init(&used);
	dlist_init(&bare);
	bare_bytes = 0;
	dlist_init(&with_templates);
}

/* What those that are not bare may take: at least half of it all. */
static size_t
limit(void)
{
	size_t		all = (size_t) setting_webhook_memory * 1024;

	return bare_bytes < all / 2 ? all - bare_bytes : all / 2;
}

/* Counts what a subscriber takes now. */
static void
count_bytes(Subscriber *subscriber)
{
	size_t		bytes = sizeof(Subscriber) + ENTRY_OVERHEAD;

	if (subscriber->context)
		bytes += MemoryContextMemAllocated(subscriber->context, true);
	if (subscriber->templates)
		bytes += MemoryContextMemAllocated(subscriber->templates, true);
	total_bytes += bytes - subscriber->bytes;
	if (subscriber->is_bare)
		bare_bytes += bytes - subscriber->bytes;
	subscriber->bytes = bytes;
}

void
version_enter(Subscriber *subscriber)
{
	dlist_push_tail(&used, &subscriber->use_node);
	count_bytes(subscriber);
}

/* Takes it out of the list that it is in. */
static void
take_out(Subscriber *subscriber)
{
	dlist_delete(&subscriber->use_node);
	if (subscriber->is_bare)
		bare_bytes -= subscriber->bytes;
	subscriber->is_bare = false;
}

void
version_forget(Subscriber *subscriber)
{
	take_out(subscriber);
	total_bytes -= subscriber->bytes;
}

void
version_use(Subscriber *subscriber)
{
	take_out(subscriber);
	dlist_push_tail(&used, &subscriber->use_node);
}

void
version_set_aside(Subscriber *subscriber)
{
	take_out(subscriber);
	dlist_push_tail(&bare, &subscriber->use_node);
	subscriber->is_bare = true;
	bare_bytes += subscriber->bytes;
}

Subscriber *
versions_excess(void)
{
	if (total_bytes - bare_bytes <= limit() || dlist_is_empty(&used))
		return NULL;
	return dlist_head_element(Subscriber, use_node, &used);
}

static void
drop_templates(Subscriber *subscriber)
{
	if (subscriber->templates == NULL)
		return;
	MemoryContextDelete(subscriber->templates);
	dlist_delete(&subscriber->templates_node);
	subscriber->templates = NULL;
	subscriber->webhook->payload = NULL;
	subscriber->webhook->headers = NULL;
	subscriber->change = ++nchanges;
}

void
version_drop(Subscriber *subscriber)
{
	drop_templates(subscriber);
	if (subscriber->context)
		MemoryContextDelete(subscriber->context);
	subscriber->context = NULL;
	subscriber->webhook = NULL;
	subscriber->error = NULL;
	subscriber->change = ++nchanges;
	count_bytes(subscriber);
}

static void
compile_rows(void *argument)
{
	Compilation *compilation = argument;

	for (int i = compilation->first; i < compilation->end; i++)
	{
		MemoryContext old_context;

		/* A long template takes milliseconds. */
		CHECK_FOR_INTERRUPTS();
		old_context = MemoryContextSwitchTo(compilation->contexts[i]);

		compilation->webhooks[i] = webhook_from_row_without(compilation->rows[i],
															compilation->desc,
															MAX_SHORT_TEMPLATES);
		MemoryContextSwitchTo(old_context);
	}
}

/* Starts with nothing made of these rows. */
static void
make_contexts(Compilation *compilation)
{
	for (int i = compilation->first; i < compilation->end; i++)
	{
		if (compilation->contexts[i] != NULL)
			MemoryContextDelete(compilation->contexts[i]);
		compilation->webhooks[i] = NULL;
		compilation->contexts[i] = AllocSetContextCreate(CurrentMemoryContext,
														 "webhook_events webhook",
														 ALLOCSET_SMALL_SIZES);
	}
}

/* The bad ones among them must not spoil the others. */
static void
compile_one_by_one(Compilation *all, char **errors)
{
	for (int i = 0; i < all->end; i++)
	{
		Compilation one = *all;

		one.first = i;
		one.end = i + 1;
		make_contexts(&one);
		errors[i] = work_try_row(compile_rows, &one);
	}
}

/* Replaces a subscriber's version, which stays as it is if an error comes before. */
static void
replace_version(Subscriber *subscriber, MemoryContext context, Webhook *webhook,
				const char *error)
{
	char	   *reason = error ? MemoryContextStrdup(context, error) : NULL;

	version_drop(subscriber);
	MemoryContextSetParent(context, versions_context);
	subscriber->context = context;
	subscriber->webhook = error ? NULL : webhook;
	subscriber->error = reason;
}

void
versions_make(Subscriber **subscribers, HeapTuple *rows, TupleDesc desc,
			  int count,
			  void (*note) (Subscriber *subscriber, Host *host,
							HeapTuple row, TupleDesc desc))
{
	Compilation all = {
		.contexts = palloc0(sizeof(MemoryContext) * count),
		.webhooks = palloc(sizeof(Webhook *) * count),
		.rows = rows, .desc = desc, .end = count
	};
	char	  **errors = palloc0(sizeof(char *) * count);
	int			attnum = SPI_fnumber(desc, "modified_at");

	if (count == 0)
		return;
	make_contexts(&all);
	if (work_try_row(compile_rows, &all) != NULL)
		compile_one_by_one(&all, errors);
	for (int i = 0; i < count; i++)
	{
		bool		isnull;
		Webhook    *webhook = all.webhooks[i];	/* NULL after an error */
		Host	   *host = webhook != NULL ? host_get(webhook->host) : NULL;

		replace_version(subscribers[i], all.contexts[i], webhook, errors[i]);
		subscribers[i]->modified_at =
			DatumGetTimestampTz(SPI_getbinval(rows[i], desc, attnum, &isnull));
		count_bytes(subscribers[i]);
		note(subscribers[i], host, rows[i], desc);
	}
}

bool
version_is_complete(Subscriber *subscriber)
{
	if (subscriber->webhook == NULL)
		return false;
	if (!subscriber->webhook->templates_left_out)
		return true;
	if (subscriber->templates == NULL)
		return false;
	dlist_move_tail(&with_templates, &subscriber->templates_node);
	return true;
}

/* A subscriber's row, from which its templates are to be read. */
typedef struct TemplatesRow
{
	Webhook    *webhook;
	HeapTuple	row;
	TupleDesc	desc;
} TemplatesRow;

static void
read_templates(void *argument)
{
	TemplatesRow *templates = argument;

	webhook_read_templates(templates->webhook, templates->row, templates->desc);
}

char *
version_complete(Subscriber *subscriber, HeapTuple row, TupleDesc desc)
{
	Webhook		whole;
	TemplatesRow templates = {&whole, row, desc};
	MemoryContext context;
	MemoryContext old_context;
	char	   *error;

	if (subscriber->webhook == NULL || version_is_complete(subscriber))
		return subscriber->error;
	whole = *subscriber->webhook;
	context = AllocSetContextCreate(CurrentMemoryContext, "webhook_events templates",
									ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(context);
	error = work_try_row(read_templates, &templates);
	MemoryContextSwitchTo(old_context);
	if (error != NULL)
		return error;
	MemoryContextSetParent(context, versions_context);
	subscriber->templates = context;
	subscriber->webhook->payload = whole.payload;
	subscriber->webhook->headers = whole.headers;
	subscriber->change = ++nchanges;
	dlist_push_tail(&with_templates, &subscriber->templates_node);
	count_bytes(subscriber);
	while (total_bytes > limit() && !dlist_is_empty(&with_templates))
	{
		Subscriber *oldest = dlist_head_element(Subscriber, templates_node,
												&with_templates);

		if (oldest == subscriber)
			break;
		drop_templates(oldest);
		count_bytes(oldest);
	}
	return error;
}
