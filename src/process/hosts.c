/*-------------------------------------------------------------------------
 *
 * hosts.c
 *	  Each host's share: what is under way to it and what waits for it.
 *
 * IDENTIFICATION
 *	  src/process/hosts.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "process/hosts.h"
#include "storage/settings.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

dlist_head	backlogged_hosts;

static MemoryContext hosts_context;
static HTAB *hosts;

/* Hosts that can start a request: those that answer fast, and the slow ones. */
static dlist_head ready[2];

static int	in_flight;
static int	slow_in_flight;

static uint32
name_hash(const void *key, Size size pg_attribute_unused())
{
	const char *name = *(const char *const *) key;

	return hash_bytes((const unsigned char *) name, (int) strlen(name));
}

static int
name_compare(const void *a, const void *b, Size size pg_attribute_unused())
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

void
hosts_open(MemoryContext context)
{
	HASHCTL		control = {
		.keysize = sizeof(char *),
		.entrysize = sizeof(Host),
		.hash = name_hash,
		.match = name_compare,
		.hcxt = context
	};

	hosts_context = context;
	hosts = hash_create("webhook_events hosts", 64, &control,
						HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	dlist_init(&ready[false]);
	dlist_init(&ready[true]);
	dlist_init(&backlogged_hosts);
	in_flight = 0;
	slow_in_flight = 0;
}

Host *
host_get(const char *name)
{
	bool		found;
	Host	   *host = hash_search(hosts, &name, HASH_ENTER, &found);

	if (!found)
	{
		memset(host, 0, sizeof(Host));
		host->name = MemoryContextStrdup(hosts_context, name);
		host->fetch_size = setting_max_in_flight_per_host;
		dlist_init(&host->queue);
		dlist_init(&host->backlog);
	}
	host->references++;
	return host;
}

void
host_release(Host *host)
{
	char	   *name = host->name;

	if (--host->references > 0)
		return;
	Assert(host->in_flight == 0 && host->nqueued == 0);
	hash_search(hosts, &name, HASH_REMOVE, NULL);
	pfree(name);
}

/* Puts a host into the list that it belongs to now, or into none. */
static void
place(Host *host)
{
	bool		can_start = host->nqueued > 0 &&
	host->in_flight < setting_max_in_flight_per_host;

	if (can_start && !host->is_ready)
		dlist_push_tail(&ready[host->is_slow], &host->ready_node);
	else if (!can_start && host->is_ready)
		dlist_delete(&host->ready_node);
	host->is_ready = can_start;
}

void
host_enqueue(Host *host, dlist_node *node)
{
	dlist_push_tail(&host->queue, node);
	host->nqueued++;
	place(host);
}

void
host_dequeue(Host *host, dlist_node *node)
{
	dlist_delete(node);
	host->nqueued--;
	place(host);
}

/*
 * Hosts that answer late come after the others, but for a small share that is
 * theirs; and they never have more than half of all.
 */
static dlist_head *
next_list(void)
{
	bool		fast_waits = !dlist_is_empty(&ready[false]);

	if (in_flight >= setting_max_in_flight)
		return NULL;
	if (!dlist_is_empty(&ready[true]) &&
		slow_in_flight < Max(setting_max_in_flight / (fast_waits ? 8 : 2), 1))
		return &ready[true];
	return fast_waits ? &ready[false] : NULL;
}

Host *
hosts_next_ready(void)
{
	dlist_head *list = next_list();
	Host	   *host;

	if (list == NULL)
		return NULL;
	host = dlist_container(Host, ready_node, dlist_head_node(list));
	dlist_delete(&host->ready_node);
	dlist_push_tail(list, &host->ready_node);
	return host;
}

void
host_started(Host *host)
{
	host->in_flight++;
	in_flight++;
	if (host->is_slow)
		slow_in_flight++;
	place(host);
}

void
host_set_slow(Host *host, bool is_slow)
{
	if (is_slow == host->is_slow)
		return;
	if (host->is_ready)
		dlist_delete(&host->ready_node);
	host->is_ready = false;
	slow_in_flight += is_slow ? host->in_flight : -host->in_flight;
	host->is_slow = is_slow;
	place(host);
}

void
host_ended(Host *host)
{
	if (host->is_slow)
		slow_in_flight--;
	host->in_flight--;
	in_flight--;
	place(host);
}

void
host_add_backlog(Host *host, dlist_node *node)
{
	dlist_push_tail(&host->backlog, node);
	if (!host->has_backlog)
		dlist_push_tail(&backlogged_hosts, &host->backlog_node);
	host->has_backlog = true;
}

void
host_drop_backlog(Host *host, dlist_node *node)
{
	dlist_delete(node);
	if (!dlist_is_empty(&host->backlog))
		return;
	dlist_delete(&host->backlog_node);
	host->has_backlog = false;
	host->is_congested = false;
}

int
host_room(const Host *host)
{
	return setting_max_in_flight_per_host - host->in_flight - host->nqueued -
		host->nreserved;
}
