/*-------------------------------------------------------------------------
 *
 * rule_functions.c
 *	  SQL functions that show the pure rules: ids and templates.
 *
 * IDENTIFICATION
 *	  src/sql/rule_functions.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "rules/ids.h"
#include "rules/template.h"
#include "rules/webhook.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(webhook_events_new_id);
PG_FUNCTION_INFO_V1(webhook_events_id_time);
PG_FUNCTION_INFO_V1(webhook_events_id_lower_bound);
PG_FUNCTION_INFO_V1(webhook_events_dispatch_id);
PG_FUNCTION_INFO_V1(webhook_events_order_key);
PG_FUNCTION_INFO_V1(webhook_events_template_variables);
PG_FUNCTION_INFO_V1(webhook_events_render_template);

/* new_id() RETURNS text */
Datum
webhook_events_new_id(PG_FUNCTION_ARGS)
{
	Id			id;
	TimestampTz created_at;

	id_make(id, &created_at);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(id, ID_LENGTH));
}

/* id_time(id text) RETURNS timestamptz */
Datum
webhook_events_id_time(PG_FUNCTION_ARGS)
{
	text	   *id = PG_GETARG_TEXT_PP(0);

	PG_RETURN_TIMESTAMPTZ(id_time_of(VARDATA_ANY(id), VARSIZE_ANY_EXHDR(id)));
}

/* id_lower_bound(at timestamptz) RETURNS text */
Datum
webhook_events_id_lower_bound(PG_FUNCTION_ARGS)
{
	Id			bound;

	id_lower_bound(bound, PG_GETARG_TIMESTAMPTZ(0));
	PG_RETURN_TEXT_P(cstring_to_text(bound));
}

/* order_key(id text) RETURNS text */
Datum
webhook_events_order_key(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(order_key_of(text_to_cstring(PG_GETARG_TEXT_PP(0)))));
}

/* dispatch_id(event_id text, webhook_id text) RETURNS text */
Datum
webhook_events_dispatch_id(PG_FUNCTION_ARGS)
{
	Id			id;
	char	   *event_id = text_to_cstring(PG_GETARG_TEXT_PP(0));

	(void) id_time_of(event_id, strlen(event_id));
	id_make_dispatch(id, event_id, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(id, ID_LENGTH));
}

/* Templates and what fills them are UTF-8. */
static char *
to_utf8(const text * value)
{
	char	   *string = text_to_cstring(value);

	return pg_server_to_any(string, (int) strlen(string), PG_UTF8);
}

/* template_variables() RETURNS text[]: in the order of TemplateVariable */
Datum
webhook_events_template_variables(PG_FUNCTION_ARGS)
{
	Datum		names[TEMPLATE_NVARIABLES];

	(void) fcinfo;
	for (int i = 0; i < TEMPLATE_NVARIABLES; i++)
		names[i] = CStringGetTextDatum(template_variable_names[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(names, TEMPLATE_NVARIABLES, TEXTOID, -1,
										  false, TYPALIGN_INT));
}

/*
 * render_template(template text, variables json[], interpolate boolean)
 * RETURNS text
 *
 * variables holds those of template_variables(), in that order.
 */
Datum
webhook_events_render_template(PG_FUNCTION_ARGS)
{
	char	   *source = to_utf8(PG_GETARG_TEXT_PP(0));
	ArrayType  *variables = PG_GETARG_ARRAYTYPE_P(1);
	JsonText	values[TEMPLATE_NVARIABLES] = {{NULL, 0}};
	Template   *template;
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	StringInfoData out;

	deconstruct_array(variables, JSONOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	for (int i = 0; i < Min(count, TEMPLATE_NVARIABLES); i++)
	{
		if (!nulls[i])
		{
			values[i].data = to_utf8(DatumGetTextPP(elements[i]));
			values[i].length = strlen(values[i].data);
		}
	}

	template = template_compile(source, strlen(source), PG_GETARG_BOOL(2), "template");
	initStringInfo(&out);
	if (!template_render(template, values, MaxAllocSize / 2, &out))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("rendered template is longer than %zu bytes",
						MaxAllocSize / 2)));
	PG_RETURN_TEXT_P(cstring_to_text(pg_any_to_server(out.data, out.len, PG_UTF8)));
}
