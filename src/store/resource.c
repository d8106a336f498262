/*-------------------------------------------------------------------------
 *
 * resource.c
 *	  A row as the platform's API would show it, as JSON text.
 *
 * This runs in the platform's own transactions, once for every event, so a
 * writer is a plan: a key that is already JSON, and a function for the type,
 * per column, which resource_types.c finds.  What some types' output functions print
 * depends on settings, which are pinned while a row that has such a column is written.
 *
 * IDENTIFICATION
 *	  src/store/resource.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/typcache.h"

#include "compat.h"
#include "store/json_values.h"
#include "store/resource.h"
#include "store/resource_state.h"

/*
 * NULL stands for what the session started with: the scale of an amount of
 * money is the database's lc_monetary, so no value is right everywhere.
 */
static const struct
{
	int			group;
	const char *name;
	const char *value;
}			pinned_settings[] =

{
	{SETTINGS_FORMAT, "DateStyle", "ISO, MDY"},
	{SETTINGS_FORMAT, "IntervalStyle", "iso_8601"},
	{SETTINGS_FORMAT, "TimeZone", "UTC"},
	{SETTINGS_FORMAT, "bytea_output", "hex"},
	{SETTINGS_FORMAT, "extra_float_digits", "1"},
	{SETTINGS_NAMES, "search_path", "pg_catalog"},
	{SETTINGS_MONEY, "lc_monetary", NULL}
};

void
resource_append_row(const ResourceWriter *writer, const Datum *values,
					const bool *nulls, StringInfo out)
{
	if (writer->ncolumns == 0)
		append_literal(out, "{");

	for (int i = 0; i < writer->ncolumns; i++)
	{
		const ResourceColumn *column = &writer->columns[i];
		int			index = AttrNumberGetAttrOffset(column->attnum);

		append_bytes(out, column->key, column->key_length);
		if (nulls[index])
			append_literal(out, "null");
		else
			column->type->append(column->type, values[index], out);
		if (too_long)
			return;
	}
	append_literal(out, "}");
}

/*-------------------------------------------------------------------------
 * Keys
 *-------------------------------------------------------------------------
 */

/*
 * The name in camelCase: underscores between other characters go, and what
 * follows them gets its ASCII capital.  Those at the ends stay.
 */
static char *
camel_case(const char *name)
{
	char	   *result = palloc(strlen(name) + 1);
	char	   *at = result;

	while (*name == '_')
		*at++ = *name++;
	while (*name != '\0')
	{
		size_t		underscores = strspn(name, "_");

		if (underscores > 0 && name[underscores] != '\0')
		{
			name += underscores;
			*at++ = pg_ascii_toupper((unsigned char) *name++);
		}
		else
			*at++ = *name++;
	}
	*at = '\0';
	return result;
}

static bool
key_is_taken(const ResourceWriter *writer, const StringInfo key)
{
	for (int i = 0; i < writer->ncolumns; i++)
	{
		const ResourceColumn *column = &writer->columns[i];

		/* The first byte is the punctuation before the key. */
		if (column->key != NULL && column->key_length == key->len &&
			memcmp(column->key + 1, key->data + 1, key->len - 1) == 0)
			return true;
	}
	return false;
}

/* Gives the column this key, unless another one has it. */
static bool
try_key(ResourceWriter *writer, ResourceColumn *column, const char *name)
{
	StringInfoData key;
	bool		is_free;

	initStringInfo(&key);
	append_bytes(&key, column == writer->columns ? "{" : ",", 1);
	append_string(&key, name, strlen(name));
	append_literal(&key, ":");
	terminate(&key);

	is_free = !key_is_taken(writer, &key);
	if (is_free)
	{
		column->key = pnstrdup(key.data, key.len);
		column->key_length = key.len;
	}
	pfree(key.data);
	return is_free;
}

/*
 * Gives the column its name in camelCase as its key or, if another column has
 * that, its raw name.  A raw name can be taken as well, when it is camelCase
 * itself; then as many underscores follow it as are needed.
 */
static void
assign_key(ResourceWriter *writer, ResourceColumn *column, const char *name)
{
	char	   *camel = camel_case(name);
	StringInfoData raw;

	initStringInfo(&raw);
	appendStringInfoString(&raw, name);
	if (!try_key(writer, column, camel))
	{
		while (!try_key(writer, column, raw.data))
			appendStringInfoChar(&raw, '_');
	}
	pfree(raw.data);
	pfree(camel);
}

/*-------------------------------------------------------------------------
 * Writers
 *-------------------------------------------------------------------------
 */

/* A virtual column's value is nowhere in the row, so it is left out. */
static bool
is_left_out(Form_pg_attribute attribute, Bitmapset *excluded)
{
	return attribute->attisdropped ||
		attribute->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL ||
		bms_is_member(attribute->attnum, excluded);
}

ResourceWriter *
resource_writer_create(TupleDesc desc, AttrNumber id_attnum,
					   AttrNumber actor_id_attnum, Bitmapset *excluded,
					   ResourceDependencies *dependencies)
{
	ResourceWriter *writer;

	writer = palloc0(offsetof(ResourceWriter, columns) +
					 desc->natts * sizeof(ResourceColumn));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		ResourceColumn *column = &writer->columns[writer->ncolumns];

		if (is_left_out(attribute, excluded))
			continue;

		column->attnum = attribute->attnum;
		column->type = resource_value_type(attribute->atttypid, dependencies);
		writer->settings |= column->type->settings;
		writer->last_attnum = attribute->attnum;
		writer->ncolumns++;
	}

	/* The two fixed keys come first, so that nothing else can take them. */
	for (int i = 0; i < writer->ncolumns; i++)
	{
		ResourceColumn *column = &writer->columns[i];

		if (column->attnum == id_attnum)
			(void) try_key(writer, column, "id");
		else if (column->attnum == actor_id_attnum)
			(void) try_key(writer, column, "actId");
	}
	for (int i = 0; i < writer->ncolumns; i++)
	{
		ResourceColumn *column = &writer->columns[i];
		int			index = AttrNumberGetAttrOffset(column->attnum);

		if (column->key == NULL)
			assign_key(writer, column,
					   NameStr(TupleDescAttr(desc, index)->attname));
	}
	return writer;
}

ResourceWriter *
resource_nested_writer(Oid type, int32 typmod,
					   ResourceDependencies *dependencies)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, typmod);
	ResourceWriter *writer;

	writer = resource_writer_create(desc, InvalidAttrNumber,
									InvalidAttrNumber, NULL, dependencies);
	writer->desc = desc;
	return writer;
}

/*
 * Makes the output functions independent of the session's settings, until
 * AtEOXact_GUC(true, level) or the end of the (sub)transaction.  Setting a
 * setting costs more than looking at it.
 */
static int
pin_settings(int groups)
{
	int			level = NewGUCNestLevel();

	for (size_t i = 0; i < lengthof(pinned_settings); i++)
	{
		const char *name = pinned_settings[i].name;
		const char *value = pinned_settings[i].value;

		if ((pinned_settings[i].group & groups) == 0)
			continue;
		if (value == NULL)
			value = GetConfigOptionResetString(name);
		if (strcmp(GetConfigOption(name, false, false), value) != 0)
			(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, 0, false);
	}
	return level;
}

/* Ends a row: was it short enough? */
static bool
end_row(StringInfo out)
{
	bool		fits = !too_long && (size_t) out->len <= limit;

	end_limit();
	if (!fits)
		resetStringInfo(out);
	terminate(out);
	return fits;
}

static void
begin_row(size_t max_length)
{
	limit = max_length;
	too_long = false;
}

bool
resource_write(ResourceWriter *writer, TupleTableSlot *slot, size_t max_length,
			   StringInfo out)
{
	int			level = 0;

	slot_getsomeattrs(slot, writer->last_attnum);

	if (writer->settings != 0)
		level = pin_settings(writer->settings);
	begin_row(max_length);
	resource_append_row(writer, slot->tts_values, slot->tts_isnull, out);
	if (writer->settings != 0)
		AtEOXact_GUC(true, level);
	return end_row(out);
}

bool
resource_write_jsonb(Jsonb *jsonb, size_t max_length, StringInfo out)
{
	begin_row(max_length);
	append_jsonb_text(jsonb, out);
	return end_row(out);
}
