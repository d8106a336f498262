/*-------------------------------------------------------------------------
 *
 * floors.c
 *	  Floors under new ids, so that a read need not look at days that are over.
 *
 * IDENTIFICATION
 *	  src/store/floors.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "server/live.h"
#include "store/floors.h"
#include "utils/timestamp.h"

/*
 * How often a floor is put under new ids, how many floors are known, and how far
 * below the time they are: it is days that are skipped, and ids that were made
 * elsewhere, or by a clock that was corrected a little, come late.
 */
#define FLOOR_INTERVAL (INT64CONST(600) * USECS_PER_SEC)
#define FLOOR_DEPTH (INT64CONST(3600) * USECS_PER_SEC)
#define MAX_FLOORS 64

/* Transactions from "xid" on make no id that is older than "time". */
typedef struct Floor
{
	uint64		xid;
	TimestampTz time;
} Floor;

static Floor floors[MAX_FLOORS];
static int	nfloors = 0;
static uint32 below_floor;		/* the count while these hold */

/* Have all ids since kept to the floors?  Otherwise none is known any more. */
static void
check_floors(void)
{
	uint32		count;

	pg_read_barrier();
	count = pg_atomic_read_u32(&ids_shared->below_floor);
	if (count != below_floor)
		nfloors = 0;
	below_floor = count;
}

/* The order matters: first the floor, then the next transaction's id. */
void
floors_put(void)
{
	TimestampTz floor = GetCurrentTimestamp() - FLOOR_DEPTH;

	if (ids_shared == NULL)
		return;
	check_floors();
	if (nfloors > 0 && floor >= floors[nfloors - 1].time &&
		floor - floors[nfloors - 1].time < FLOOR_INTERVAL)
		return;
	ids_put_floor(floor);
	check_floors();
	if (nfloors == MAX_FLOORS)
		memmove(floors, floors + 1, --nfloors * sizeof(Floor));
	floors[nfloors].time = floor;
	floors[nfloors].xid = U64FromFullTransactionId(ReadNextFullTransactionId());
	live_put_floor(floors[nfloors].xid, floor, below_floor);
	nfloors++;
}

void
floors_least_id(uint64 xid, Id id)
{
	id[0] = '\0';
	if (ids_shared == NULL)
		return;
	check_floors();
	for (int i = nfloors; i-- > 0;)
	{
		if (floors[i].xid <= xid)
		{
			id_lower_bound(id, floors[i].time);
			return;
		}
	}
}

void
floors_forget(void)
{
	nfloors = 0;
}
