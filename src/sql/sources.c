/*-------------------------------------------------------------------------
 *
 * sources.c
 *	  SQL functions behind the view sources: what the arguments of triggers say.
 *
 * IDENTIFICATION
 *	  src/sql/sources.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "capture/follow.h"
#include "capture/mapping.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "sql/sources.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(webhook_events_source_mapping);
PG_FUNCTION_INFO_V1(webhook_events_modernise_mappings);

/* A lock is asked for so often, with so many microseconds in between. */
#define LOCK_TRIES 20
#define LOCK_PAUSE 10000

/* modernise_mappings() RETURNS void */
Datum
webhook_events_modernise_mappings(PG_FUNCTION_ARGS pg_attribute_unused())
{
	follow_version();
	PG_RETURN_VOID();
}

static void
push_string(JsonbBuilder *builder, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = (int) strlen(text);
	jsonb_push(builder, token, &value);
}

List *
source_gone(const SourceMapping *mapping)
{
	List	   *gone = NIL;
	ListCell   *cell;

	foreach(cell, mapping->gone)
		gone = lappend(gone, psprintf("column \"%s\" is gone", (char *) lfirst(cell)));
	foreach(cell, mapping->lost)
		gone = lappend(gone, psprintf("excluded column \"%s\" is gone",
									  (char *) lfirst(cell)));
	if (mapping->function_name && !OidIsValid(mapping->function))
		gone = lappend(gone, psprintf("resource function %s is gone",
									  quote_qualified_identifier(mapping->function_schema,
																 mapping->function_name)));
	return gone;
}

Relation
source_open_soon(Oid oid)
{
	Relation	relation;

	for (int i = 0; !ConditionalLockRelationOid(oid, AccessShareLock); i++)
	{
		if (i == LOCK_TRIES)
			return NULL;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(LOCK_PAUSE);
	}
	relation = try_relation_open(oid, NoLock);
	if (relation == NULL)
		UnlockRelationOid(oid, AccessShareLock);
	return relation;
}

/*
 * source_mapping(relation oid, arguments bytea) RETURNS jsonb
 *
 * The columns that a mapping stands for now: {"columns": {role: name},
 * "exclude": [name], "gone": [what is not there any more]}.  NULL for a table that is
 * locked or gone.
 */
Datum
webhook_events_source_mapping(PG_FUNCTION_ARGS)
{
	Relation	relation = source_open_soon(PG_GETARG_OID(0));
	char	   *argument = text_to_cstring(PG_GETARG_BYTEA_PP(1));
	SourceMapping *mapping;
	JsonbBuilder builder = {0};
	int			attnum = -1;
	ListCell   *cell;

	if (relation == NULL)
		PG_RETURN_NULL();
	mapping = source_mapping_read(argument, relation, RelationGetRelid(relation));
	jsonb_push(&builder, WJB_BEGIN_OBJECT, NULL);
	push_string(&builder, WJB_KEY, "columns");
	jsonb_push(&builder, WJB_BEGIN_OBJECT, NULL);
	for (int role = 0; role < N_ROLES; role++)
	{
		if (mapping->columns[role] == InvalidAttrNumber)
			continue;
		push_string(&builder, WJB_KEY, source_role_names[role]);
		push_string(&builder, WJB_VALUE,
					get_attname(RelationGetRelid(relation),
								mapping->columns[role], false));
	}
	jsonb_push(&builder, WJB_END_OBJECT, NULL);
	push_string(&builder, WJB_KEY, "exclude");
	jsonb_push(&builder, WJB_BEGIN_ARRAY, NULL);
	while ((attnum = bms_next_member(mapping->excluded, attnum)) >= 0)
		push_string(&builder, WJB_ELEM,
					get_attname(RelationGetRelid(relation), attnum, false));
	jsonb_push(&builder, WJB_END_ARRAY, NULL);
	push_string(&builder, WJB_KEY, "gone");
	jsonb_push(&builder, WJB_BEGIN_ARRAY, NULL);
	foreach(cell, source_gone(mapping))
		push_string(&builder, WJB_ELEM, lfirst(cell));
	jsonb_push(&builder, WJB_END_ARRAY, NULL);
	if (mapping->function_name)
	{
		push_string(&builder, WJB_KEY, "resource");
		push_string(&builder, WJB_VALUE,
					quote_qualified_identifier(mapping->function_schema,
											   mapping->function_name));
	}
	jsonb_push(&builder, WJB_END_OBJECT, NULL);
	relation_close(relation, AccessShareLock);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(builder.result));
}
