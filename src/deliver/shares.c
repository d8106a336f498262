/*-------------------------------------------------------------------------
 *
 * shares.c
 *	  How much of the room for requests one address or one user may take.
 *
 * IDENTIFICATION
 *	  src/deliver/shares.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "deliver/shares.h"
#include "mb/pg_wchar.h"
#include "server/live.h"
#include "server/settings.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A share that has room for so short is full all the same: it ends and begins a request. */
#define MOMENT USECS_PER_SEC

static MemoryContext shares_context;
static HTAB *addresses;
static HTAB *users;

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

HTAB *
name_table_create(const char *what, Size entry_size, MemoryContext context)
{
	HASHCTL		control = {
		.keysize = sizeof(char *),
		.entrysize = entry_size,
		.hash = name_hash,
		.match = name_compare,
		.hcxt = context
	};

	return hash_create(what, 64, &control,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

void
shares_open(MemoryContext context)
{
	shares_context = context;
	addresses = name_table_create("webhook_events addresses", sizeof(Share), context);
	users = name_table_create("webhook_events users", sizeof(Share), context);
}

static Share *
get(HTAB *table, const char *name)
{
	Share	   *share = hash_search(table, &name, HASH_FIND, NULL);

	if (share == NULL)
	{
		/* All that can fail comes first: there is none that is half made. */
		char	   *own_name = MemoryContextStrdup(shares_context, name);

		share = hash_search(table, &own_name, HASH_ENTER, NULL);
		memset(share, 0, sizeof(Share));
		share->name = own_name;
		share->table = table;
		dlist_init(&share->waiting);
		share->live_place = -1;
	}
	share->references++;
	return share;
}

Share *
share_of_address(const char *address)
{
	return get(addresses, address);
}

Share *
share_of_user(const char *user_id)
{
	return get(users, user_id);
}

void
share_release(Share *share)
{
	char	   *name = share->name;

	if (--share->references > 0)
		return;
	Assert(share->in_flight == 0 && dlist_is_empty(&share->waiting));
	live_share_freed(share->live_place);
	hash_search(share->table, &name, HASH_REMOVE, NULL);
	pfree(name);
}

void
share_show(Share *share)
{
	bool		is_full = !dlist_is_empty(&share->waiting);
	LiveShare	shown;

	if (is_full == (share->live_place >= 0))
		return;
	if (!is_full)
	{
		live_share_freed(share->live_place);
		share->live_place = -1;
		share->full_until = GetCurrentTimestamp();
		return;
	}
	shown.since = GetCurrentTimestamp();
	if (shown.since - share->full_until > MOMENT)
		share->full_since = shown.since;
	shown.since = share->full_since;
	shown.is_user = (share->table == users);
	shown.in_flight = share->in_flight;
	MemSet(shown.name, 0, sizeof(shown.name));
	memcpy(shown.name, share->name,
		   pg_mbcliplen(share->name, (int) strlen(share->name), sizeof(shown.name) - 1));
	share->live_place = live_share_filled(&shown);
}

bool
address_has_room(const Share *address, int limit, bool is_slow)
{
	int			most = is_slow ?
	Min(Max(2 * setting_max_in_flight_per_host, limit / 8), limit / 2) : limit / 2;

	return address->in_flight < Max(most, 1);
}

bool
user_has_room(const Share *user, int limit, int nqueued)
{
	int			most = nqueued > user->nqueued ? limit / 2 : limit - limit / 8;

	return user->in_flight < Max(most, 1);
}
