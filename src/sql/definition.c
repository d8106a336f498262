/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  Definitions of webhooks in the words of the platform's API.
 *
 * A platform defines webhooks with its runs, so this is what its transactions wait
 * for.
 *
 * IDENTIFICATION
 *	  src/sql/definition.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "rules/event_type.h"
#include "sql/definition.h"
#include "sql/words.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(webhook_events_apply_definition);
PG_FUNCTION_INFO_V1(webhook_events_check_sizes);
PG_FUNCTION_INFO_V1(webhook_events_check_purpose);

/* What the worker keeps of each webhook, and indexes can hold, in characters. */
#define MAX_ID_LENGTH 255

/* So much of a value an error tells. */
#define MAX_TOLD 60

typedef enum KeyKind
{
	KEY_TEXT,
	KEY_FLAG,					/* null is false */
	KEY_FLAG_ON,				/* null is true */
	KEY_ORDERING,
	KEY_EVENT_TYPES,
	KEY_CONDITION,
	KEY_KEPT,					/* and given back */
	KEY_IGNORED					/* the platform alone sets it */
} KeyKind;

typedef struct Key
{
	const char *name;
	const char *type;			/* what jsonb_typeof() says of it */
	KeyKind		kind;
	WebhookColumn column;		/* N_WEBHOOK_COLUMNS: not one alone */
} Key;

/* In the order in which a hint tells those with a meaning. */
static const Key keys[] = {
	{"requestUrl", "string", KEY_TEXT, WEBHOOK_REQUEST_URL},
	{"eventTypes", "array", KEY_EVENT_TYPES, WEBHOOK_EVENT_TYPES},
	{"condition", "object", KEY_CONDITION, N_WEBHOOK_COLUMNS},
	{"userId", "string", KEY_TEXT, WEBHOOK_USER_ID},
	{"payloadTemplate", "string", KEY_TEXT, WEBHOOK_PAYLOAD_TEMPLATE},
	{"headersTemplate", "string", KEY_TEXT, WEBHOOK_HEADERS_TEMPLATE},
	{"shouldInterpolateStrings", "boolean", KEY_FLAG, WEBHOOK_SHOULD_INTERPOLATE_STRINGS},
	{"ignoreSslErrors", "boolean", KEY_FLAG, WEBHOOK_IGNORE_SSL_ERRORS},
	{"doNotRetry", "boolean", KEY_FLAG, WEBHOOK_DO_NOT_RETRY},
	{"isAdHoc", "boolean", KEY_FLAG, WEBHOOK_IS_AD_HOC},
	{"isEnabled", "boolean", KEY_FLAG_ON, WEBHOOK_IS_ENABLED},
	{"description", "string", KEY_TEXT, WEBHOOK_DESCRIPTION},
	{"idempotencyKey", "string", KEY_TEXT, WEBHOOK_IDEMPOTENCY_KEY},
	{"ordering", "string", KEY_ORDERING, WEBHOOK_ORDERING},
	{"actionType", "string", KEY_KEPT, N_WEBHOOK_COLUMNS},
	{"isApifyIntegration", "boolean", KEY_KEPT, N_WEBHOOK_COLUMNS},
	{"id", NULL, KEY_IGNORED, N_WEBHOOK_COLUMNS},
	{"createdAt", NULL, KEY_IGNORED, N_WEBHOOK_COLUMNS},
	{"modifiedAt", NULL, KEY_IGNORED, N_WEBHOOK_COLUMNS},
	{"lastDispatch", NULL, KEY_IGNORED, N_WEBHOOK_COLUMNS},
	{"stats", NULL, KEY_IGNORED, N_WEBHOOK_COLUMNS}
};

static const Key parts[] = {
	{"actorId", "string", KEY_TEXT, WEBHOOK_ACTOR_ID},
	{"actorTaskId", "string", KEY_TEXT, WEBHOOK_ACTOR_TASK_ID},
	{"actorRunId", "string", KEY_TEXT, WEBHOOK_ACTOR_RUN_ID}
};

JsonbValue
definition_value(Jsonb *json)
{
	JsonbValue	value;

	if (!JB_ROOT_IS_SCALAR(json) ||
		!JsonbExtractScalar(&json->root, &value))
	{
		value.type = jbvBinary;
		value.val.binary.data = &json->root;
		value.val.binary.len = (int) VARSIZE(json) - VARHDRSZ;
	}
	return value;
}

const char *
definition_type(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "string";
		case jbvNumeric:
			return "number";
		case jbvBool:
			return "boolean";
		default:
			return JsonContainerIsArray(value->val.binary.data) ? "array" : "object";
	}
}

/* A value that is not null, as "->>" shows it, palloc'd. */
static char *
text_of(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
	}
}

/* As much of a text as a message tells, palloc'd. */
static char *
clipped(const char *text)
{
	int			length = pg_mbcliplen(text, (int) strlen(text), MAX_TOLD);

	return psprintf("%.*s%s", length, text, text[length] == '\0' ? "" : "...");
}

char *
definition_found(const JsonbValue *value)
{
	const char *type = definition_type(value);

	if (value->type == jbvNull || value->type == jbvBinary)
		return pstrdup(type);
	return psprintf(value->type == jbvString ? "%s \"%s\"" : "%s %s", type,
					clipped(text_of(value)));
}

/* Raises an error unless the value is of this type or null. */
static void
check_type(const JsonbValue *name, const JsonbValue *value, const char *type)
{
	if (value->type == jbvNull || strcmp(definition_type(value), type) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s of a webhook must be %s %s, not %s", text_of(name),
					strcmp(type, "object") == 0 || strcmp(type, "array") == 0 ? "an" : "a",
					type, definition_found(value))));
}

/* The key of that name, NULL if it is none of these. */
static const Key *
key_among(const JsonbValue *name, const Key *among, int count)
{
	for (int i = 0; i < count; i++)
	{
		if ((int) strlen(among[i].name) == name->val.string.len &&
			memcmp(among[i].name, name->val.string.val, name->val.string.len) == 0)
			return &among[i];
	}
	return NULL;
}

/* The key of that name; an error if it is none of these, which tells those with a meaning. */
static const Key *
find_key(const char *of, const JsonbValue *name, const Key *among, int count, const char *what)
{
	const Key  *key = key_among(name, among, count);
	const char **words;
	char	   *word;
	int			nwords = 0;

	if (key != NULL)
		return key;
	words = palloc(sizeof(char *) * count);
	word = text_of(name);
	for (int i = 0; i < count; i++)
	{
		if (among[i].kind != KEY_KEPT && among[i].kind != KEY_IGNORED)
			words[nwords++] = among[i].name;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s has no \"%s\"", of, clipped(word)),
			 key_among(name, parts, lengthof(parts)) != NULL ?
			 errhint("It is a part of \"condition\".") :
			 errhint("%s", words_hint(word, words, nwords, what))));
}

static void
set_text(Draft *draft, WebhookColumn column, const JsonbValue *value)
{
	if (value->type == jbvNull)
		draft_set_null(draft, column);
	else
		draft_set(draft, column,
				  PointerGetDatum(cstring_to_text_with_len(value->val.string.val,
														   value->val.string.len)));
}

/* The label of an element of eventTypes, which is one of the enum's. */
static Oid
event_type_oid(const JsonbValue *element, Oid type)
{
	const char *labels[N_EVENT_TYPES];
	char	   *label;
	Oid			oid;

	if (element->type == jbvNull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("an event type of a webhook is null")));
	label = text_of(element);
	oid = strlen(label) >= NAMEDATALEN ? InvalidOid :
		GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(type),
						CStringGetDatum(label));
	if (OidIsValid(oid))
		return oid;
	for (int i = 0; i < N_EVENT_TYPES; i++)
		labels[i] = event_type_label(i);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("event type \"%s\" does not exist", clipped(label)),
			 errhint("%s", words_hint(label, labels, N_EVENT_TYPES, "event types"))));
}

static void
set_event_types(Draft *draft, const JsonbValue *value)
{
	AttrNumber	attnum = webhook_column(draft->desc, WEBHOOK_EVENT_TYPES);
	Oid			type = get_element_type(TupleDescAttr(draft->desc, attnum - 1)->atttypid);
	int			count = value->type == jbvNull ? 0 :
	(int) JsonContainerSize(value->val.binary.data);
	Datum	   *types = palloc(sizeof(Datum) * (count + 1));
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	element;
	int			n = 0;

	if (count > 0)
	{
		iterator = JsonbIteratorInit(value->val.binary.data);
		while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
		{
			if (token == WJB_ELEM)
				types[n++] = ObjectIdGetDatum(event_type_oid(&element, type));
		}
	}
	draft_set(draft, WEBHOOK_EVENT_TYPES,
			  PointerGetDatum(construct_array(types, n, type, sizeof(Oid), true,
											  TYPALIGN_INT)));
}

static void
set_condition(Draft *draft, const JsonbValue *value)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	part;

	if (value->type == jbvNull)
	{
		for (int i = 0; i < (int) lengthof(parts); i++)
			draft_set_null(draft, parts[i].column);
		return;
	}
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &name, true)) != WJB_DONE)
	{
		const Key  *key;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&iterator, &part, true);
		key = find_key("condition of a webhook", &name, parts, lengthof(parts),
					   "parts of a condition");
		check_type(&name, &part, key->type);
		set_text(draft, key->column, &part);
	}
}

/* Keeps a key that means nothing here, or forgets it. */
static void
keep(Draft *draft, const JsonbValue *name, const JsonbValue *value)
{
	bool		is_empty = draft_is_null(draft, WEBHOOK_API_KEYS);
	JsonbBuilder builder = {0};
	Datum		kept;

	if (value->type == jbvNull)
	{
		if (is_empty)
			return;
		kept = DirectFunctionCall2(jsonb_delete, draft_value(draft, WEBHOOK_API_KEYS),
								   CStringGetTextDatum(text_of(name)));
		if (JB_ROOT_COUNT(DatumGetJsonbP(kept)) == 0)
			draft_set_null(draft, WEBHOOK_API_KEYS);
		else
			draft_set(draft, WEBHOOK_API_KEYS, kept);
		return;
	}
	jsonb_push(&builder, WJB_BEGIN_OBJECT, NULL);
	jsonb_push(&builder, WJB_KEY, unconstify(JsonbValue *, name));
	jsonb_push(&builder, WJB_VALUE, unconstify(JsonbValue *, value));
	jsonb_push(&builder, WJB_END_OBJECT, NULL);
	kept = JsonbPGetDatum(JsonbValueToJsonb(builder.result));
	if (!is_empty)
		kept = DirectFunctionCall2(jsonb_concat, draft_value(draft, WEBHOOK_API_KEYS), kept);
	draft_set(draft, WEBHOOK_API_KEYS, kept);
}

static void
set_key(Draft *draft, const Key *key, const JsonbValue *name, const JsonbValue *value)
{
	if (key->kind == KEY_IGNORED)
		return;
	check_type(name, value, key->type);
	switch (key->kind)
	{
		case KEY_TEXT:
			set_text(draft, key->column, value);
			break;
		case KEY_FLAG:
		case KEY_FLAG_ON:
			draft_set(draft, key->column,
					  BoolGetDatum(value->type == jbvNull ? key->kind == KEY_FLAG_ON :
								   value->val.boolean));
			break;
		case KEY_ORDERING:
			set_text(draft, key->column, value);
			if (value->type == jbvNull)
				draft_set(draft, key->column, CStringGetTextDatum("none"));
			break;
		case KEY_EVENT_TYPES:
			set_event_types(draft, value);
			break;
		case KEY_CONDITION:
			set_condition(draft, value);
			break;
		case KEY_KEPT:
			keep(draft, name, value);
			break;
		case KEY_IGNORED:
			break;
	}
}

void
definition_apply(Draft *draft, const JsonbValue *definition)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	value;

	if (strcmp(definition_type(definition), "object") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("definition of a webhook must be an object, not %s",
						definition_found(definition))));
	iterator = JsonbIteratorInit(definition->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &name, true)) != WJB_DONE)
	{
		const Key  *key;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&iterator, &value, true);
		key = find_key("a webhook", &name, keys, lengthof(keys), "keys");
		set_key(draft, key, &name, &value);
	}
}

/* Characters of a text; 0 if it is null. */
static int
length_of(const Draft *draft, WebhookColumn column)
{
	const		text *value;

	if (draft_is_null(draft, column))
		return 0;
	value = DatumGetTextPP(draft_value(draft, column));
	return pg_mbstrlen_with_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

static void
check_length(const char *name, int length)
{
	if (length > MAX_ID_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s of a webhook has %d characters, more than %d", name, length,
						MAX_ID_LENGTH)));
}

/* The event types' oids; how many there are. */
static int
event_types(const Draft *draft, Datum **types, bool **nulls)
{
	ArrayType  *array;
	int			count;

	if (draft_is_null(draft, WEBHOOK_EVENT_TYPES))
		return 0;
	array = DatumGetArrayTypeP(draft_value(draft, WEBHOOK_EVENT_TYPES));
	deconstruct_array(array, ARR_ELEMTYPE(array), sizeof(Oid), true, TYPALIGN_INT, types,
					  nulls, &count);
	return count;
}

void
definition_check_sizes(const Draft *draft)
{
	static const WebhookColumn ids[] = {
		WEBHOOK_USER_ID, WEBHOOK_ACTOR_ID, WEBHOOK_ACTOR_TASK_ID, WEBHOOK_ACTOR_RUN_ID
	};
	Datum	   *types;
	bool	   *nulls;
	int			count = event_types(draft, &types, &nulls);

	if (count > N_EVENT_TYPES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("webhook has %d event types, more than the %d that there are",
						count, N_EVENT_TYPES)));
	if (count > 0 &&
		ARR_NDIM(DatumGetArrayTypeP(draft_value(draft, WEBHOOK_EVENT_TYPES))) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("event types of a webhook are an array of arrays"),
				 errhint("Give a list: '{ACTOR.RUN.SUCCEEDED, ACTOR.RUN.FAILED}'.")));
	for (int i = 0; i < (int) lengthof(ids); i++)
		check_length(webhook_column_names[ids[i]], length_of(draft, ids[i]));
	if (!draft_is_null(draft, WEBHOOK_API_KEYS))
	{
		Jsonb	   *kept = DatumGetJsonbP(draft_value(draft, WEBHOOK_API_KEYS));
		JsonbValue	value;

		if (getKeyJsonValueFromContainer(&kept->root, "actionType", strlen("actionType"),
										 &value) != NULL && value.type == jbvString)
			check_length("actionType",
						 pg_mbstrlen_with_len(value.val.string.val, value.val.string.len));
	}
}

/* Are there event types, and are all of them of builds? */
static bool
is_for_builds(const Draft *draft)
{
	Datum	   *types;
	bool	   *nulls;
	int			count = event_types(draft, &types, &nulls);

	for (int i = 0; i < count; i++)
	{
		HeapTuple	tuple;
		bool		is_build;

		if (nulls[i])
			return false;
		tuple = SearchSysCache1(ENUMOID, types[i]);
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for enum label %u", DatumGetObjectId(types[i]));
		is_build = strncmp(NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel),
						   "ACTOR.BUILD.", strlen("ACTOR.BUILD.")) == 0;
		ReleaseSysCache(tuple);
		if (!is_build)
			return false;
	}
	return count > 0;
}

/* Could a template of this column hold a variable? */
static bool
may_have_variables(const Draft *draft, WebhookColumn column)
{
	return !draft_is_null(draft, column) &&
		strstr(TextDatumGetCString(draft_value(draft, column)), "{{") != NULL;
}

/* Tells of the first variable that stands inside a string. */
static void
tell_inert_variable(const Draft *draft)
{
	static const WebhookColumn columns[] = {
		WEBHOOK_PAYLOAD_TEMPLATE, WEBHOOK_HEADERS_TEMPLATE
	};
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[lengthof(columns)];
	char		nulls[lengthof(columns)];
	char	   *variable;

	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		nulls[i] = draft_is_null(draft, columns[i]) ? 'n' : ' ';
		values[i] = draft_value(draft, columns[i]);
	}
	SPI_connect();
	if (SPI_execute_with_args("SELECT coalesce(webhook_events_internal.inert_variable($1),"
							  " webhook_events_internal.inert_variable($2))",
							  lengthof(columns), types, values, nulls, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for variables");
	variable = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (variable != NULL)
		ereport(NOTICE,
				(errmsg("%s stands inside a string and is sent as it is", variable),
				 errhint("With should_interpolate_strings variables in strings are filled in.")));
	SPI_finish();
}

void
definition_check_purpose(const Draft *draft)
{
	bool		has_run = !draft_is_null(draft, WEBHOOK_ACTOR_RUN_ID);

	if (!has_run && draft_flag(draft, WEBHOOK_IS_AD_HOC))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an ad-hoc webhook needs the id of a run"),
				 errhint("Set actor_run_id (condition.actorRunId), or leave out is_ad_hoc (isAdHoc).")));
	if ((has_run || !draft_is_null(draft, WEBHOOK_ACTOR_TASK_ID)) && is_for_builds(draft))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a webhook for events of builds can't have the id of a %s",
						has_run ? "run" : "task"),
				 errdetail("Builds belong to no run and to no task, so it would never fire."),
				 errhint("Leave out the id, or add event types of runs.")));
	if (!draft_flag(draft, WEBHOOK_SHOULD_INTERPOLATE_STRINGS) &&
		(may_have_variables(draft, WEBHOOK_PAYLOAD_TEMPLATE) ||
		 may_have_variables(draft, WEBHOOK_HEADERS_TEMPLATE)))
		tell_inert_variable(draft);
}

/* apply_definition(webhook webhooks, definition jsonb) RETURNS webhooks */
Datum
webhook_events_apply_definition(PG_FUNCTION_ARGS)
{
	JsonbValue	definition = {.type = jbvNull};
	Draft		draft;
	Datum		row;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (!PG_ARGISNULL(1))
		definition = definition_value(PG_GETARG_JSONB_P(1));
	draft = draft_from_row(PG_GETARG_DATUM(0));
	definition_apply(&draft, &definition);
	row = draft_row(&draft);
	draft_close(&draft);
	return row;
}

/* check_sizes(webhook webhooks) RETURNS void */
Datum
webhook_events_check_sizes(PG_FUNCTION_ARGS)
{
	Draft		draft = draft_from_row(PG_GETARG_DATUM(0));

	definition_check_sizes(&draft);
	draft_close(&draft);
	PG_RETURN_VOID();
}

/* check_purpose(webhook webhooks) RETURNS void */
Datum
webhook_events_check_purpose(PG_FUNCTION_ARGS)
{
	Draft		draft = draft_from_row(PG_GETARG_DATUM(0));

	definition_check_purpose(&draft);
	draft_close(&draft);
	PG_RETURN_VOID();
}
