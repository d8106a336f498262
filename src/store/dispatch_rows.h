/*-------------------------------------------------------------------------
 *
 * dispatch_rows.h
 *	  Rows of the table dispatches, read when they are due.
 *
 * All of it runs between work_begin() and work_commit().
 *
 * IDENTIFICATION
 *	  src/store/dispatch_rows.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_DISPATCH_ROWS_H
#define WEBHOOK_DISPATCH_ROWS_H

#include "rules/event_type.h"
#include "rules/ids.h"
#include "store/day_table.h"
#include "store/statement.h"

typedef enum DispatchStatus
{
	DISPATCH_ACTIVE,
	DISPATCH_SUCCEEDED,
	DISPATCH_FAILED
} DispatchStatus;

/* Its label in SQL, and the status of a label; an error if there is none. */
extern const char *dispatch_status_label(DispatchStatus status);
extern DispatchStatus dispatch_status_from_label(const char *label);

/* The number of a dispatch's last call in the table, 0 if there is none. */
extern int	dispatches_last_attempt(const char *id);

/* The last id of all, to be copied to "id"; an empty one if there is none. */
extern void dispatches_last_id(Id id);

/* Does one that has an id below this one wait? */
extern bool dispatches_any_waits_below(const char *id);

/* Which of these ids (text[]) have a row?  The rows hold the id alone. */
extern uint64 dispatches_find_existing(Datum ids);

/* A waiting dispatch, palloc'd with its strings. */
typedef struct DueRow
{
	char	   *id;
	char	   *event_id;
	char	   *webhook_id;
	EventType	event_type;
	int			attempts;
	bool		is_replay;		/* never called, and has no time at which to
								 * be */
	bool		is_new;			/* never called, and made by a session: not
								 * yet in its webhook's statistics */
	TimestampTz next_attempt_at;
	char	   *order_key;		/* NULL: it goes out in no order */
	TimestampTz holds_until;	/* 0 for NULL */
	int			epoch;			/* its webhook's when it was made */
	RowPlace	place;
} DueRow;

/* What a statement selects of "dispatches AS d" for DueRows. */
#define DUE_COLUMNS \
	"SELECT d.id, d.event_id, d.webhook_id, d.event_type::text, d.attempts," \
	" d.next_attempt_at, d.replay_of IS NOT NULL AND d.attempts = 0," \
	" d.tableoid, d.ctid, d.order_key, d.holds_until, d.epoch "

/* Copies so many rows of the last statement; returns how many. */
extern int	dispatches_copy_due_rows(uint64 count, DueRow **rows);

/* A place in the order in which dispatches are due. */
typedef struct DuePosition
{
	TimestampTz time;
	Id			id;
} DuePosition;

/*
 * Waiting dispatches that are due after "position" and not after "until", in
 * this order.  Returns how many there are, at most "limit".
 */
extern int	dispatches_find_due(const DuePosition *position,
								TimestampTz until, int limit, DueRow **rows);

/* The same of one webhook. */
extern int	dispatches_find_due_of(const char *webhook_id,
								   const DuePosition *position,
								   TimestampTz until, int limit,
								   DueRow **rows);

/* When the first one after "position" is due; false if none waits. */
extern bool dispatches_next_due(const DuePosition *position,
								TimestampTz *time);

/* A place among the replays of a webhook: at this id or behind it. */
typedef char ReplayPosition[ID_LENGTH + 2];

/* Replays of a webhook that wait, from this position on, by id. */
extern int	dispatches_find_replays_of(const char *webhook_id,
									   const char *position, int limit,
									   DueRow **rows);

/* A webhook for which dispatches wait; palloc'd. */
typedef struct WaitingWebhook
{
	char	   *id;
	TimestampTz first_due_at;	/* DT_NOEND: it has nothing but replays */
	bool		has_replays;
} WaitingWebhook;

/*
 * The webhooks behind "after" for which dispatches wait, by id.  Returns how many
 * there are, at most "limit".
 */
extern int	dispatches_find_webhooks(const char *after, int limit,
									 WaitingWebhook **webhooks);

/*
 * What waits for a webhook and was made in an epoch before this one, in no order, with
 * TEST events or without.
 */
extern int	dispatches_find_waiting_of(const char *webhook_id, int epoch,
									   bool with_tests, int limit, DueRow **rows);

#endif							/* WEBHOOK_DISPATCH_ROWS_H */
