/*-------------------------------------------------------------------------
 *
 * hosts.c
 *	  Each host's share: what is under way to it and what waits for it.
 *
 * IDENTIFICATION
 *	  src/deliver/hosts.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "deliver/hosts.h"
#include "deliver/http.h"
#include "rules/address.h"
#include "server/live.h"
#include "server/settings.h"
#include "store/statement.h"
#include "utils/memutils.h"

/*
 * After so many requests in a row without an answer a host rests; so long at
 * first and at most, in microseconds.
 */
#define MAX_SILENCES 16
#define MIN_REST (INT64CONST(100) * 1000)
#define MAX_REST (INT64CONST(5) * USECS_PER_SEC)

/* So often at most a host is said to rest, in microseconds. */
#define LOG_INTERVAL (INT64CONST(60) * USECS_PER_SEC)

/* Those for which dispatches wait in the table. */
static dlist_head backlogged_hosts;

static MemoryContext hosts_context;
static HTAB *hosts;

/*
 * Hosts that can start a request: those that answer fast, the slow ones, and
 * those that have nothing but replays.
 */
static dlist_head ready[2];
static dlist_head ready_to_replay;

static pairingheap *resting;	/* the first to wake up on top */

static int	in_flight;
static int	slow_in_flight;
static int	replays_in_flight;

/* pairingheap has the largest on top. */
static int
compare_rests(const pairingheap_node *a, const pairingheap_node *b,
			  void *argument pg_attribute_unused())
{
	TimestampTz one = pairingheap_const_container(Host, rest_node, a)->rests_until;
	TimestampTz other = pairingheap_const_container(Host, rest_node, b)->rests_until;

	return (one < other) - (one > other);
}

void
hosts_open(MemoryContext context)
{
	MemoryContext old_context = MemoryContextSwitchTo(context);

	resting = pairingheap_allocate(compare_rests, NULL);
	MemoryContextSwitchTo(old_context);
	hosts_context = context;
	hosts = name_table_create("webhook_events hosts", sizeof(Host), context);
	shares_open(context);
	dlist_init(&ready[false]);
	dlist_init(&ready[true]);
	dlist_init(&ready_to_replay);
	dlist_init(&backlogged_hosts);
	in_flight = 0;
	slow_in_flight = 0;
	replays_in_flight = 0;
	live_start();
}

/*
 * Until its address is known, a host's name without its port stands for it.  The name
 * can be the address, in brackets if it is one of IPv6.
 */
static Share *
named_address(const char *name)
{
	int			nbrackets = (name[0] == '[');
	char	   *text = pnstrdup(name + nbrackets,
								strrchr(name, ':') - name - 2 * nbrackets);
	char		party[ADDRESS_TEXT_SIZE];
	Share	   *address = share_of_address(address_party(text, party) ? party : text);

	pfree(text);
	return address;
}

Host *
host_get(const char *name)
{
	Host	   *host = hash_search(hosts, &name, HASH_FIND, NULL);

	if (host == NULL)
	{
		/* As for a share. */
		char	   *own_name = MemoryContextStrdup(hosts_context, name);
		Share	   *address = named_address(own_name);

		host = hash_search(hosts, &own_name, HASH_ENTER, NULL);
		memset(host, 0, sizeof(Host));
		host->name = own_name;
		host->address = address;
		host->fetch_size = setting_max_in_flight_per_host;
		dlist_init(&host->queue);
		dlist_init(&host->replays);
		dlist_init(&host->backlog);
		host->live_place = -1;
	}
	host->references++;
	return host;
}

void
host_keep(Host *host)
{
	host->references++;
}

int
host_generation(Host *host, TimestampTz now)
{
	int64		age = setting_connection_age * USECS_PER_SEC;

	if (host->generation_since == 0)
		host->generation_since = now;
	if (host->shares_connections && age > 0 && now - host->generation_since > age)
	{
		host->generation++;
		host->generation_since = now;
	}
	return host->generation;
}

void
host_release(Host *host)
{
	char	   *name = host->name;

	if (--host->references > 0)
		return;
	Assert(host->in_flight == 0 && host->nqueued == 0 && host->nreplays == 0);
	if (host->rests_until != 0)
		pairingheap_remove(resting, &host->rest_node);
	live_host_forgotten(host->live_place);
	share_release(host->address);
	hash_search(hosts, &name, HASH_REMOVE, NULL);
	pfree(name);
}

/* So many replays may be under way to one host. */
static int
max_replays_per_host(void)
{
	return Max(setting_max_in_flight_per_host / 2, 1);
}

/* So many requests may be under way to it. */
static int
share(const Host *host)
{
	return host->silences < MAX_SILENCES ? setting_max_in_flight_per_host : 1;
}

/* Is this a list of those that wait for an address or a user? */
static bool
is_share(const dlist_head *list)
{
	return list != NULL && list != &ready[false] && list != &ready[true] &&
		list != &ready_to_replay;
}

/* Lets others see how it stands. */
static void
show(Host *host)
{
	LiveHostState state = {
		.in_flight = host->in_flight,
		.queued = host->nqueued + host->nreplays,
		.silences = host->silences,
		.rests_until = host->rests_until,
		.is_probed = host->silences >= MAX_SILENCES,
		.is_slow = host->is_slow,
		.is_congested = host->is_congested,
		.waits_for_address = host->ready_list == &host->address->waiting
	};

	state.waits_for_user = is_share(host->ready_list) && !state.waits_for_address;

	live_host_stands(host->name, &host->live_place, &state);
}

/* Lets others see whether hosts wait for the share whose list this is, if it is one. */
static void
show_waiting(dlist_head *list)
{
	if (is_share(list))
		share_show((Share *) ((char *) list - offsetof(Share, waiting)));
}

/* Puts a host into a list, or none. */
static void
move(Host *host, dlist_head *list)
{
	dlist_head *old_list = host->ready_list;

	if (list == old_list)
		return;
	if (old_list != NULL)
		dlist_delete(&host->ready_node);
	if (list != NULL)
		dlist_push_tail(list, &host->ready_node);
	host->ready_list = list;
	show_waiting(old_list);
	show_waiting(list);
}

/* Puts a host into the list that it belongs to now, or into none. */
static void
place(Host *host)
{
	dlist_head *list = NULL;

	if (host->rests_until == 0 && host->in_flight < share(host))
	{
		if (host->nqueued > 0)
			list = &ready[host->is_slow];
		else if (host->nreplays > 0 &&
				 host->replays_in_flight < max_replays_per_host())
			list = &ready_to_replay;
		if (list != NULL &&
			!address_has_room(host->address, http_limit(), host->is_slow))
			list = &host->address->waiting;
	}
	move(host, list);
	show(host);
}

/*
 * A request of an address or a user has ended: one of the hosts that wait for it
 * can go on; and if there is none under way all can, lest one that has nothing to
 * start any more keeps the others waiting.
 */
static void
end_waiting(Share *share)
{
	while (!dlist_is_empty(&share->waiting))
	{
		Host	   *host = dlist_head_element(Host, ready_node, &share->waiting);

		place(host);
		if (host->ready_list == &share->waiting ||
			(host->ready_list != NULL && share->in_flight > 0))
			break;
	}
}

void
host_enqueue(Host *host, dlist_node *node, bool is_replay)
{
	dlist_push_tail(is_replay ? &host->replays : &host->queue, node);
	*(is_replay ? &host->nreplays : &host->nqueued) += 1;
	place(host);
}

void
host_dequeue(Host *host, dlist_node *node, bool is_replay)
{
	dlist_delete(node);
	*(is_replay ? &host->nreplays : &host->nqueued) -= 1;
	place(host);
}

dlist_head *
host_line(Host *host)
{
	return host->nqueued > 0 ? &host->queue : &host->replays;
}

/*
 * Hosts that answer late come after the others, but for a small share that is
 * theirs; and they never have more than half of all.
 */
static dlist_head *
next_list(void)
{
	bool		fast_waits = !dlist_is_empty(&ready[false]);
	int			limit = http_limit();

	if (in_flight >= limit)
		return NULL;
	if (!dlist_is_empty(&ready[true]) &&
		slow_in_flight < Max(limit / (fast_waits ? 8 : 2), 1))
		return &ready[true];
	if (fast_waits)
		return &ready[false];
	if (!dlist_is_empty(&ready_to_replay) &&
		replays_in_flight < Max(limit / 4, 1))
		return &ready_to_replay;
	return NULL;
}

Host *
hosts_next_ready(void)
{
	dlist_head *list;

	while ((list = next_list()) != NULL)
	{
		Host	   *host = dlist_head_element(Host, ready_node, list);

		/* Another host of its address may have taken the last place. */
		place(host);
		if (host->ready_list != list)
			continue;
		dlist_move_tail(list, &host->ready_node);
		return host;
	}
	return NULL;
}

void
host_wait_for_user(Host *host, Share *user)
{
	move(host, &user->waiting);
	show(host);
}

/* NULL if there is no memory for it: whose answer it was counts for more. */
static Share *
try_share_of_address(const char *address)
{
	MemoryContext context = CurrentMemoryContext;
	Share	   *volatile share = NULL;

	PG_TRY();
	{
		share = share_of_address(address);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return share;
}

void
host_set_address(Host *host, const char *address)
{
	Share	   *old = host->address;
	Share	   *new;
	char		party[ADDRESS_TEXT_SIZE];

	(void) address_party(address, party);
	if (strcmp(old->name, party) == 0)
		return;
	new = try_share_of_address(party);
	if (new == NULL)
		return;
	host->address = new;
	host->address->in_flight += host->in_flight;
	old->in_flight -= host->in_flight;
	place(host);
	end_waiting(old);
	share_release(old);
}

void
host_started(Host *host, bool is_replay)
{
	host->in_flight++;
	host->address->in_flight++;
	in_flight++;
	host->replays_in_flight += is_replay;
	replays_in_flight += is_replay;
	if (host->is_slow)
		slow_in_flight++;
	place(host);
}

void
host_set_slow(Host *host, bool is_slow)
{
	if (is_slow == host->is_slow)
		return;
	slow_in_flight += is_slow ? host->in_flight : -host->in_flight;
	host->is_slow = is_slow;
	place(host);
}

static void
end_rest(Host *host)
{
	pairingheap_remove(resting, &host->rest_node);
	host->rests_until = 0;
	place(host);
}

/*
 * Logs that a host begins to rest or answers again; not more than once a minute,
 * and not its end without its beginning.
 */
static void
log_rest(Host *host, bool rests, TimestampTz now)
{
	if (rests == host->rest_is_logged ||
		(rests && host->logged_at != 0 && now - host->logged_at < LOG_INTERVAL))
		return;
	host->rest_is_logged = rests;
	host->logged_at = now;
	if (rests)
		ereport(LOG,
				(errmsg("host %s does not answer webhooks of database \"%s\" and rests",
						host->name, work_database()),
				 errdetail("The last %d calls got no answer.", host->silences)));
	else
		ereport(LOG,
				(errmsg("host %s answers webhooks of database \"%s\" again",
						host->name, work_database())));
}

void
host_note_answer(Host *host, bool answered, bool succeeded, int64 duration,
				 TimestampTz now)
{
	live_host_called(host->live_place, succeeded, duration);
	if (answered)
	{
		log_rest(host, false, now);
		host->silences = 0;
		host->rest_time = 0;
		if (host->rests_until != 0)
			end_rest(host);
		return;
	}
	host->silences++;
	if (host->silences < MAX_SILENCES || host->rests_until != 0)
		return;
	log_rest(host, true, now);
	host->rest_time = Min(Max(2 * host->rest_time, MIN_REST), MAX_REST);
	host->rests_until = now + host->rest_time;
	pairingheap_add(resting, &host->rest_node);
	place(host);
}

/* The host whose rest ends first. */
static Host *
first_resting(void)
{
	return pairingheap_container(Host, rest_node, pairingheap_first(resting));
}

void
hosts_end_rests(TimestampTz now)
{
	while (!pairingheap_is_empty(resting) && first_resting()->rests_until <= now)
		end_rest(first_resting());
}

TimestampTz
hosts_deadline(void)
{
	return pairingheap_is_empty(resting) ? DT_NOEND : first_resting()->rests_until;
}

void
host_ended(Host *host, bool is_replay)
{
	host->replays_in_flight -= is_replay;
	replays_in_flight -= is_replay;
	if (host->is_slow)
		slow_in_flight--;
	host->in_flight--;
	host->address->in_flight--;
	in_flight--;
	place(host);
	end_waiting(host->address);
}

void
hosts_user_ended(Share *user)
{
	end_waiting(user);
}

void
host_add_backlog(Host *host, dlist_node *node)
{
	dlist_push_tail(&host->backlog, node);
	host->limited_until = 0;
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

Host *
hosts_first_backlogged(void)
{
	if (dlist_is_empty(&backlogged_hosts))
		return NULL;
	return dlist_head_element(Host, backlog_node, &backlogged_hosts);
}

void
host_to_end_of_backlogged(Host *host)
{
	dlist_move_tail(&backlogged_hosts, &host->backlog_node);
}

int
host_room(const Host *host)
{
	return share(host) - host->in_flight - host->nqueued - host->nreserved;
}

bool
host_wants_replays(const Host *host)
{
	return !host->has_backlog && host->nreplays < max_replays_per_host();
}

void
hosts_end_reservations(void)
{
	HASH_SEQ_STATUS scan;
	Host	   *host;

	hash_seq_init(&scan, hosts);
	while ((host = hash_seq_search(&scan)) != NULL)
		host->nreserved = 0;
}
