/*-------------------------------------------------------------------------
 *
 * define.c
 *	  Adding webhooks: what is checked that the table's trigger can't check, since
 *	  what an earlier version took must be restorable.
 *
 * IDENTIFICATION
 *	  src/sql/define.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "rules/ids.h"
#include "rules/signature.h"
#include "server/settings.h"
#include "sql/ad_hoc.h"
#include "sql/definition.h"
#include "store/access.h"
#include "store/webhook_insert.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(webhook_events_current_place);
PG_FUNCTION_INFO_V1(webhook_events_check_limit);
PG_FUNCTION_INFO_V1(webhook_events_insert_webhook);
PG_FUNCTION_INFO_V1(webhook_events_new_webhook);
PG_FUNCTION_INFO_V1(webhook_events_create_ad_hoc_webhooks);

/* A statement of ours, planned once in a session. */
typedef struct Saved
{
	const char *sql;
	int			narguments;
	Oid			types[2];		/* for which it was planned */
	SPIPlanPtr	plan;
} Saved;

/* Of two sessions with one key the second waits here, and gets the first's. */
static Saved insert_once_statement = {
	"INSERT INTO webhook_events_internal.webhooks AS w SELECT ($1).*"
	" ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL"
	" DO UPDATE SET id = w.id RETURNING w",
	1, {0}, NULL
};

static Saved count_of_run_statement = {
	"SELECT count(*) FROM webhook_events_internal.webhooks AS w"
	" WHERE w.actor_run_id = $1 AND w.user_id = $2 AND w.is_ad_hoc",
	2, {TEXTOID, TEXTOID}, NULL
};

static Saved add_user_statement = {
	"INSERT INTO webhook_events_internal.webhook_users VALUES ($1) ON CONFLICT DO NOTHING",
	1, {TEXTOID}, NULL
};

static Saved lock_user_statement = {
	"SELECT FROM webhook_events_internal.webhook_users AS u"
	" WHERE u.user_id = $1 FOR NO KEY UPDATE",
	1, {TEXTOID}, NULL
};

static Saved count_of_user_statement = {
	"SELECT count(*) FROM webhook_events_internal.webhooks AS w"
	" WHERE w.user_id = $1 AND NOT w.is_ad_hoc",
	1, {TEXTOID}, NULL
};

/*
 * What this transaction has counted: of the last users how many webhooks each has, or had
 * before it deleted some.  Nobody else adds one as long as it has the user's row locked; a
 * subtransaction that fails can have been the one that locked.
 */
#define MAX_COUNTED 64

typedef struct UserCount
{
	char	   *user_id;		/* in TopTransactionContext */
	int64		most;
} UserCount;

static UserCount counted[MAX_COUNTED];
static int	ncounted = 0;

static void
prepare(Saved *statement)
{
	if (statement->plan != NULL)
		return;
	statement->plan = SPI_prepare(statement->sql, statement->narguments, statement->types);
	if (statement->plan == NULL || SPI_keepplan(statement->plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", statement->sql);
}

/* Within SPI. */
static void
run(Saved *statement, Datum *values, int expected)
{
	prepare(statement);
	if (SPI_execute_plan(statement->plan, values, NULL, false, 0) != expected)
		elog(ERROR, "could not run \"%s\"", statement->sql);
}

/* One with a webhook for its argument, whose type is another one in an extension made anew. */
static void
run_with_row(Saved *statement, Datum row, Oid type)
{
	if (statement->plan != NULL && statement->types[0] != type)
	{
		SPI_freeplan(statement->plan);
		statement->plan = NULL;
	}
	statement->types[0] = type;
	run(statement, &row, SPI_OK_INSERT_RETURNING);
}

/*
 * Counts what there is now, also in a transaction that sees what there was: with many such
 * ones a user would have as many webhooks as it likes.
 */
static int64
count(Saved *statement, Datum *values)
{
	bool		isnull;

	prepare(statement);
	CommandCounterIncrement();
	if (SPI_execute_snapshot(statement->plan, values, NULL, GetLatestSnapshot(),
							 InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", statement->sql);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
									   &isnull));
}

/*
 * Without a lock, for a platform defines some with every run: sessions at once may
 * get a run a few more.
 */
static void
check_limit_of_run(Datum run_id, Datum user_id)
{
	Datum		values[] = {run_id, user_id};
	int64		nwebhooks;

	SPI_connect();
	nwebhooks = count(&count_of_run_statement, values);
	SPI_finish();
	if (nwebhooks > setting_max_webhooks_per_user)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("user \"%s\" has %d webhooks for run \"%s\" already",
						TextDatumGetCString(user_id), setting_max_webhooks_per_user,
						TextDatumGetCString(run_id)),
				 errdetail("Setting webhook_events.max_webhooks_per_user is the limit.")));
}

static void
forget_counts(void)
{
	ncounted = 0;
}

static void
forget_counts_at_end(XactEvent event pg_attribute_unused(), void *argument pg_attribute_unused())
{
	forget_counts();
}

static void
forget_counts_at_abort(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
					   SubTransactionId parent pg_attribute_unused(),
					   void *argument pg_attribute_unused())
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_counts();
}

/* What is known of this user; NULL if nothing is. */
static UserCount *
find_count(Datum user_id)
{
	const		text *user = DatumGetTextPP(user_id);

	for (int i = 0; i < ncounted; i++)
	{
		if (strlen(counted[i].user_id) == VARSIZE_ANY_EXHDR(user) &&
			memcmp(counted[i].user_id, VARDATA_ANY(user), VARSIZE_ANY_EXHDR(user)) == 0)
			return &counted[i];
	}
	return NULL;
}

/* Remembers how many there are, in the place of the user of whom it has been known longest. */
static void
remember_count(Datum user_id, int64 nwebhooks)
{
	static bool forgets = false;
	static int	next = 0;
	UserCount  *place = find_count(user_id);

	if (!forgets)
	{
		RegisterXactCallback(forget_counts_at_end, NULL);
		RegisterSubXactCallback(forget_counts_at_abort, NULL);
		forgets = true;
	}
	if (place == NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(TopTransactionContext);
		char	   *user = TextDatumGetCString(user_id);

		MemoryContextSwitchTo(old_context);
		if (ncounted < MAX_COUNTED)
			place = &counted[ncounted++];
		else
		{
			place = &counted[next];
			next = (next + 1) % MAX_COUNTED;
			pfree(place->user_id);
		}
		place->user_id = user;
	}
	place->most = nwebhooks;
}

/*
 * Of two sessions with one user the second waits here.  The first need not count again
 * as long as there can't be too many.
 */
static void
check_limit_of_user(Datum user_id)
{
	UserCount  *known = find_count(user_id);
	int64		nwebhooks;

	if (known != NULL && known->most < setting_max_webhooks_per_user)
	{
		known->most++;
		return;
	}
	SPI_connect();
	run(&add_user_statement, &user_id, SPI_OK_INSERT);
	run(&lock_user_statement, &user_id, SPI_OK_SELECT);
	nwebhooks = count(&count_of_user_statement, &user_id);
	SPI_finish();
	remember_count(user_id, nwebhooks);
	if (nwebhooks > setting_max_webhooks_per_user)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("user \"%s\" has %d webhooks already",
						TextDatumGetCString(user_id), setting_max_webhooks_per_user),
				 errdetail("Setting webhook_events.max_webhooks_per_user is the limit."),
				 errhint("Delete some, or make them for one run each (ad-hoc): those don't count.")));
}

/* Refuses a webhook that is one too many for its user, or for its run. */
static void
check_limit(const Draft *draft)
{
	Datum		user_id = draft_value(draft, WEBHOOK_USER_ID);

	if (draft_is_null(draft, WEBHOOK_USER_ID))
		return;
	if (draft_flag(draft, WEBHOOK_IS_AD_HOC))
		check_limit_of_run(draft_value(draft, WEBHOOK_ACTOR_RUN_ID), user_id);
	else
		check_limit_of_user(user_id);
}

/*
 * Adds a webhook with an idempotency key, or finds the one with it, which takes the
 * draft's place.  Returns whether it is new.
 */
static bool
insert_once(Draft *draft)
{
	Datum		row = draft_row(draft);
	Datum		id = draft_value(draft, WEBHOOK_ID);
	bool		isnull;

	SPI_connect();
	run_with_row(&insert_once_statement, row, draft->desc->tdtypeid);
	row = SPI_datumTransfer(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										  &isnull), false, -1);
	SPI_finish();
	draft_set_row(draft, row);
	return datum_image_eq(draft_value(draft, WEBHOOK_ID), id, false, -1);
}

/*
 * Adds a webhook, or finds the one with its idempotency key; the draft becomes what is
 * in the table then.  Returns whether it is new: what else follows is the caller's
 * business.
 */
static bool
add_webhook(WebhookInsert *insert, Draft *draft)
{
	definition_check_sizes(draft);
	definition_check_purpose(draft);
	if (!draft_is_null(draft, WEBHOOK_IDEMPOTENCY_KEY))
		return insert_once(draft);
	webhook_insert_row(insert, draft->values, draft->nulls);
	return true;
}

/*
 * The server's identifier, and xmin and xmax of the latest snapshot, not of the
 * transaction's: what has committed since is older.
 */
static Datum
current_place(void)
{
	TransactionId xmin = GetLatestSnapshot()->xmin;
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);
	Datum		place[3];

	if (xmin > XidFromFullTransactionId(next))
		epoch--;
	place[0] = Int64GetDatum((int64) GetSystemIdentifier());
	place[1] = Int64GetDatum((int64) U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, xmin)));
	place[2] = Int64GetDatum((int64) U64FromFullTransactionId(next));
	return PointerGetDatum(construct_array(place, 3, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* One with its defaults, which is not yet in the table. */
static Draft
new_webhook(void)
{
	static const WebhookColumn off[] = {
		WEBHOOK_IS_AD_HOC, WEBHOOK_IS_RETIRED, WEBHOOK_RUN_ENDED,
		WEBHOOK_SHOULD_INTERPOLATE_STRINGS, WEBHOOK_IGNORE_SSL_ERRORS, WEBHOOK_DO_NOT_RETRY
	};
	Draft		draft = draft_create();
	const char *user_id = access_user(ACCESS_MANAGE);
	TimestampTz now;
	Id			id;

	/* Also where there are no ids for transactions, as on a standby. */
	PreventCommandIfReadOnly("INSERT");
	id_make(id, &now);
	now = GetCurrentTimestamp();
	draft_set(&draft, WEBHOOK_ID,
			  PointerGetDatum(cstring_to_text_with_len(id, ID_LENGTH)));
	if (user_id != NULL)
		draft_set(&draft, WEBHOOK_USER_ID, CStringGetTextDatum(user_id));
	draft_set(&draft, WEBHOOK_IS_ENABLED, BoolGetDatum(true));
	for (int i = 0; i < (int) lengthof(off); i++)
		draft_set(&draft, off[i], BoolGetDatum(false));
	draft_set(&draft, WEBHOOK_SECRET, CStringGetTextDatum(secret_make()));
	draft_set(&draft, WEBHOOK_CREATED_AT, TimestampTzGetDatum(now));
	draft_set(&draft, WEBHOOK_MODIFIED_AT, TimestampTzGetDatum(now));
	draft_set(&draft, WEBHOOK_CREATED_XID,
			  FullTransactionIdGetDatum(GetTopFullTransactionId()));
	draft_set(&draft, WEBHOOK_ORDERING, CStringGetTextDatum("none"));
	draft_set(&draft, WEBHOOK_CREATED_IN, current_place());
	draft_set(&draft, WEBHOOK_BEGUN_AT,
			  TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	return draft;
}

/* current_place() RETURNS bigint[] */
Datum
webhook_events_current_place(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	return current_place();
}

/* check_limit(webhook webhooks) RETURNS void */
Datum
webhook_events_check_limit(PG_FUNCTION_ARGS)
{
	Draft		draft = draft_from_row(PG_GETARG_DATUM(0));

	check_limit(&draft);
	draft_close(&draft);
	PG_RETURN_VOID();
}

/* new_webhook() RETURNS webhooks */
Datum
webhook_events_new_webhook(PG_FUNCTION_ARGS)
{
	Draft		draft = new_webhook();
	Datum		row = draft_row(&draft);

	(void) fcinfo;
	draft_close(&draft);
	return row;
}

/* insert_webhook(webhook webhooks) RETURNS webhooks */
Datum
webhook_events_insert_webhook(PG_FUNCTION_ARGS)
{
	WebhookInsert *insert = webhook_insert_begin();
	Draft		draft = draft_from_row(PG_GETARG_DATUM(0));
	Datum		row;

	if (add_webhook(insert, &draft))
	{
		check_limit(&draft);
		if (draft_flag(&draft, WEBHOOK_IS_AD_HOC))
			ad_hoc_check_run(TextDatumGetCString(draft_value(&draft, WEBHOOK_ACTOR_RUN_ID)));
	}
	row = draft_row(&draft);
	draft_close(&draft);
	webhook_insert_end(insert);
	return row;
}

/* Raises an error for what only its run says of an ad-hoc webhook. */
static void
check_ad_hoc_keys(const JsonbValue *definition)
{
	static const char *const forbidden[] = {"condition", "userId", "isAdHoc", "isEnabled"};
	JsonbIterator *iterator = JsonbIteratorInit(definition->val.binary.data);
	JsonbIteratorToken token;
	JsonbValue	name;

	while ((token = JsonbIteratorNext(&iterator, &name, true)) != WJB_DONE)
	{
		for (int i = 0; token == WJB_KEY && i < (int) lengthof(forbidden); i++)
		{
			if ((int) strlen(forbidden[i]) == name.val.string.len &&
				memcmp(forbidden[i], name.val.string.val, name.val.string.len) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("an ad-hoc webhook can't have \"%s\"", forbidden[i]),
						 errdetail("It is enabled, and belongs to its run and that run's user.")));
		}
	}
}

static void
check_ad_hoc_arguments(const text * run_id, const JsonbValue *definitions)
{
	const char *type = definition_type(definitions);

	if (run_id == NULL || VARSIZE_ANY_EXHDR(run_id) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ad-hoc webhooks need the id of a run")));
	if (strcmp(type, "array") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("definitions of ad-hoc webhooks must be an array, not %s",
						definition_found(definitions)),
				 strcmp(type, "object") == 0 ?
				 errhint("Put the object into an array: [{...}].") :
				 errhint("It looks like [{\"eventTypes\": [\"ACTOR.RUN.SUCCEEDED\"], \"requestUrl\": \"https://...\"}].")));
}

/* Adds a webhook to a function's result, whose rows lack columns that were dropped. */
static void
return_row(ReturnSetInfo *result, const Draft *draft)
{
	TupleDesc	desc = result->setDesc;
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	int			from = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		nulls[i] = true;
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		while (from < draft->desc->natts && TupleDescAttr(draft->desc, from)->attisdropped)
			from++;
		if (from >= draft->desc->natts)
			break;
		values[i] = draft->values[from];
		nulls[i] = draft->nulls[from++];
	}
	tuplestore_putvalues(result->setResult, desc, values, nulls);
}

/* create_ad_hoc_webhooks(actor_run_id text, definitions jsonb, user_id text) RETURNS SETOF webhooks */
Datum
webhook_events_create_ad_hoc_webhooks(PG_FUNCTION_ARGS)
{
	JsonbValue	definitions = {.type = jbvNull};
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	definition;
	WebhookInsert *insert;
	Datum		user = (Datum) 0;	/* all have the same one */
	bool		has_user = false;
	int64		nnew = 0;

	if (!PG_ARGISNULL(1))
		definitions = definition_value(PG_GETARG_JSONB_P(1));
	check_ad_hoc_arguments(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0), &definitions);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	insert = webhook_insert_begin();
	iterator = JsonbIteratorInit(definitions.val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &definition, true)) != WJB_DONE)
	{
		Draft		draft;

		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM)
			continue;
		draft = new_webhook();
		definition_apply(&draft, &definition);
		check_ad_hoc_keys(&definition);
		draft_set(&draft, WEBHOOK_IS_AD_HOC, BoolGetDatum(true));
		draft_set(&draft, WEBHOOK_ACTOR_RUN_ID, PG_GETARG_DATUM(0));
		if (!PG_ARGISNULL(2))
			draft_set(&draft, WEBHOOK_USER_ID, PG_GETARG_DATUM(2));
		has_user = !draft_is_null(&draft, WEBHOOK_USER_ID);
		user = draft_value(&draft, WEBHOOK_USER_ID);
		nnew += add_webhook(insert, &draft) ? 1 : 0;

		/* That there are too many need not wait for the last of them. */
		if (has_user && nnew > setting_max_webhooks_per_user)
			check_limit_of_run(PG_GETARG_DATUM(0), user);
		return_row((ReturnSetInfo *) fcinfo->resultinfo, &draft);
		draft_close(&draft);
	}
	webhook_insert_end(insert);
	if (nnew > 0 && has_user)
		check_limit_of_run(PG_GETARG_DATUM(0), user);
	if (nnew > 0)
		ad_hoc_check_run(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	return (Datum) 0;
}
