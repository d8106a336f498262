/*-------------------------------------------------------------------------
 *
 * template_render.c
 *	  The template language: filling in the values of variables.
 *
 * Each value is read once to find what all variables name, and then all is only
 * appended.  Nothing here recurses: neither templates nor values can nest too deep.
 *
 * IDENTIFICATION
 *	  src/rules/template_render.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "rules/json_scan.h"
#include "rules/template.h"
#include "rules/template_trie.h"
#include "utils/memutils.h"

/* Where rendering found what a node names. */
typedef struct NodeState
{
	const char *start;			/* NULL when not found */
	const char *end;

	/* While the walk is inside the value: */
	bool		in_array;
	uint32		next_element;
	uint32		next_index;		/* the child that names an element to come */
} NodeState;

typedef struct Renderer
{
	const Template *template;
	NodeState  *states;			/* one for each node */
	char	   *compacted[NROOTS];	/* copies without white space, or NULL */
	StringInfo	out;
	size_t		room;			/* bytes that may still be appended */
} Renderer;

/* Where a walk through the value of one root is. */
typedef struct Walk
{
	const Template *template;
	NodeState  *states;
	JsonScan	scan;
	uint32		container;		/* innermost open one that has a node */
	uint32		target;			/* node of the next value, or NO_NODE */
	size_t		unnamed_depth;	/* open containers within that have none */
} Walk;

static void find_values(Renderer *renderer, uint32 root, JsonText value);
static JsonText trim(JsonText value);
static bool walk_value(const Template *template, NodeState *states,
					   uint32 root, JsonText value);
static void enter_value(Walk *walk, JsonToken token);
static void leave_container(Walk *walk);
static uint32 match_element(const Walk *walk);
static uint32 match_key(const Walk *walk);
static uint32 find_child(const Template *template, uint32 parent,
						 const char *name, size_t length);
static void drop_stale_values(Renderer *renderer);
static bool append_segments(Renderer *renderer);
static bool append_value(Renderer *renderer, const NodeState *state,
						 bool in_string);
static bool append_escaped(Renderer *renderer, const char *start,
						   const char *end);
static bool append_text(Renderer *renderer, const char *data, size_t length);

bool
template_uses(const Template *template, TemplateVariable variable)
{
	return template->used[root_of(variable, false)] ||
		template->used[root_of(variable, true)];
}

bool
template_render(const Template *template,
				const JsonText values[TEMPLATE_NVARIABLES],
				size_t limit, StringInfo out)
{
	Renderer	renderer = {.template = template, .out = out};
	bool		complete;

	/* A StringInfo holds less than MaxAllocSize and raises an error beyond. */
	renderer.room = Min(limit, MaxAllocSize - 1 - (size_t) out->len);
	renderer.states = palloc_extended(template->nnodes * sizeof(NodeState),
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (uint32 root = 0; root < NROOTS; root++)
	{
		if (template->used[root])
			find_values(&renderer, root, trim(values[root_variable(root)]));
	}
	drop_stale_values(&renderer);
	complete = append_segments(&renderer);

	for (uint32 root = 0; root < NROOTS; root++)
	{
		if (renderer.compacted[root] != NULL)
			pfree(renderer.compacted[root]);
	}
	pfree(renderer.states);
	return complete;
}

/* A value without the white space around it. */
static JsonText
trim(JsonText value)
{
	if (value.data == NULL)
		value.length = 0;
	while (value.length > 0 && json_is_space(value.data[0]))
	{
		value.data++;
		value.length--;
	}
	while (value.length > 0 && json_is_space(value.data[value.length - 1]))
		value.length--;
	return value;
}

/*
 * Finds what the nodes below a root name in its value.  Only where a path
 * leads into the value is it read, and then nothing is found if it isn't JSON.
 */
static void
find_values(Renderer *renderer, uint32 root, JsonText value)
{
	NodeState  *state = &renderer->states[root];
	bool		is_container;

	if (value.length == 0)
		return;

	is_container = value.data[0] == '{' || value.data[0] == '[';
	if (is_container && root_is_in_string(root))
	{
		char	   *copy = palloc_extended(value.length, MCXT_ALLOC_HUGE);

		renderer->compacted[root] = copy;
		value.length = json_compact(value.data, value.length, copy);
		value.data = copy;
	}

	state->start = value.data;
	state->end = value.data + value.length;
	if (is_container && renderer->template->nodes[root].nchildren > 0 &&
		!walk_value(renderer->template, renderer->states, root, value))
		state->start = NULL;
}

/* Reads a value once to find what all nodes name; false if it isn't JSON. */
static bool
walk_value(const Template *template, NodeState *states, uint32 root,
		   JsonText value)
{
	Walk		walk = {.template = template, .states = states};
	JsonToken	token;

	walk.container = NO_NODE;
	walk.target = root;
	json_scan_start(&walk.scan, value.data, value.length, false);
	while ((token = json_scan_next(&walk.scan)) > JSON_DONE)
	{
		if (token == JSON_OBJECT_END || token == JSON_ARRAY_END)
			leave_container(&walk);
		else if (token != JSON_KEY)
			enter_value(&walk, token);
		else if (walk.unnamed_depth == 0)
			walk.target = match_key(&walk);
	}
	json_scan_finish(&walk.scan);
	return token == JSON_DONE;
}

static void
enter_value(Walk *walk, JsonToken token)
{
	bool		is_container = token == JSON_OBJECT_START ||
	token == JSON_ARRAY_START;
	NodeState  *state;

	if (walk->unnamed_depth == 0 && walk->container != NO_NODE &&
		walk->states[walk->container].in_array)
		walk->target = match_element(walk);

	if (walk->unnamed_depth > 0 || walk->target == NO_NODE)
	{
		if (is_container)
			walk->unnamed_depth++;
		return;
	}

	/* Of several members with the same key, the last one counts. */
	state = &walk->states[walk->target];
	memset(state, 0, sizeof(NodeState));
	state->start = walk->scan.token;
	state->end = walk->scan.token_end;
	state->in_array = token == JSON_ARRAY_START;
	if (is_container)
		walk->container = walk->target;
}

static void
leave_container(Walk *walk)
{
	if (walk->unnamed_depth > 0)
	{
		walk->unnamed_depth--;
		return;
	}
	walk->states[walk->container].end = walk->scan.token_end;
	walk->container = walk->template->nodes[walk->container].parent;
}

/* The node of the next element of the innermost array, or NO_NODE. */
static uint32
match_element(const Walk *walk)
{
	const TemplateNode *array = &walk->template->nodes[walk->container];
	NodeState  *state = &walk->states[walk->container];
	uint32		element = state->next_element++;
	uint32		child = array->first_child + state->next_index;

	if (state->next_index == array->nindexes ||
		walk->template->nodes[child].index != element)
		return NO_NODE;
	state->next_index++;
	return child;
}

/* The node of the key just read, or NO_NODE. */
static uint32
match_key(const Walk *walk)
{
	const char *key = walk->scan.token + 1;
	size_t		length = walk->scan.token_end - 1 - key;
	char	   *decoded;
	uint32		child;

	if (walk->template->nodes[walk->container].nchildren == 0)
		return NO_NODE;
	if (memchr(key, '\\', length) == NULL)
		return find_child(walk->template, walk->container, key, length);

	decoded = palloc_extended(length, MCXT_ALLOC_HUGE);
	length = json_decode_string(key, length, decoded);
	child = find_child(walk->template, walk->container, decoded, length);
	pfree(decoded);
	return child;
}

static uint32
find_child(const Template *template, uint32 parent, const char *name,
		   size_t length)
{
	uint32		low = template->nodes[parent].first_child;
	uint32		high = low + template->nodes[parent].nchildren;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;
		const TemplateNode *node = &template->nodes[middle];
		int			order = template_compare_names(name, length,
												   template->text + node->name,
												   node->name_length);

		if (order == 0)
			return middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NO_NODE;
}

/*
 * Forgets what was found in a value that a later member with the same key
 * replaced: it lies before the value that its parent has now.
 */
static void
drop_stale_values(Renderer *renderer)
{
	for (uint32 i = NROOTS; i < renderer->template->nnodes; i++)
	{
		NodeState  *state = &renderer->states[i];
		uint32		parent = renderer->template->nodes[i].parent;
		const char *parent_start = renderer->states[parent].start;

		if (state->start != NULL &&
			(parent_start == NULL || state->start < parent_start))
			state->start = NULL;
	}
}

static bool
append_segments(Renderer *renderer)
{
	const Template *template = renderer->template;

	for (uint32 i = 0; i < template->nsegments; i++)
	{
		const TemplateSegment *segment = &template->segments[i];

		if (!append_text(renderer, template->text + segment->literal,
						 segment->literal_length))
			return false;
		if (segment->node != NO_NODE &&
			!append_value(renderer, &renderer->states[segment->node],
						  segment->in_string))
			return false;
	}
	return true;
}

/* In a string, strings lose their quotes; their escapes are right already. */
static bool
append_value(Renderer *renderer, const NodeState *state, bool in_string)
{
	const char *start = state->start;
	const char *end = state->end;

	if (start == NULL)
		return append_text(renderer, "null", strlen("null"));
	if (!in_string)
		return append_text(renderer, start, end - start);
	if (*start == '"' && end - start >= 2)
		return append_text(renderer, start + 1, end - start - 2);
	return append_escaped(renderer, start, end);
}

/* Appends JSON text as part of a string. */
static bool
append_escaped(Renderer *renderer, const char *start, const char *end)
{
	const char *plain = start;

	for (const char *p = start; p < end; p++)
	{
		if (*p != '"' && *p != '\\')
			continue;
		if (!append_text(renderer, plain, p - plain) ||
			!append_text(renderer, "\\", 1))
			return false;
		plain = p;
	}
	return append_text(renderer, plain, end - plain);
}

static bool
append_text(Renderer *renderer, const char *data, size_t length)
{
	if (length > renderer->room)
		return false;
	appendBinaryStringInfo(renderer->out, data, length);
	renderer->room -= length;
	return true;
}
