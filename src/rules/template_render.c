/*-------------------------------------------------------------------------
 *
 * template_render.c
 *	  The template language: filling in the values of variables.
 *
 * Each value is read once to find what all variables name, and then all is only
 * appended.  Both can stop wherever a budget is used up.  Nothing here recurses: neither templates nor values can nest too deep.
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

/* Where a walk through the value of one root is. */
typedef struct Walk
{
	JsonScan	scan;
	uint32		container;		/* innermost open one that has a node */
	uint32		target;			/* node of the next value, or NO_NODE */
	size_t		unnamed_depth;	/* open containers within that have none */
} Walk;

struct Rendering
{
	const Template *template;
	const JsonText *values;
	char	   *compacted[NROOTS];	/* copies without white space, or NULL */
	StringInfo	out;
	size_t		room;			/* bytes that may still be appended */

	/* Values are looked through first, ... */
	uint32		root;			/* its is the next one, or ... */
	bool		is_walking;		/* ... the one that is read */
	Walk		walk;

	/* ... then all is appended. */
	uint32		segment;
	const char *rest;			/* of this segment's value; NULL before its
								 * literal was appended */
	const char *rest_end;
	bool		is_escaped;
	NodeState	states[FLEXIBLE_ARRAY_MEMBER];	/* one for each node */
};

static bool find_values(Rendering *rendering, size_t budget);
static void start_walk(Rendering *rendering, JsonText value);
static JsonText trim(JsonText value);
static bool walk_on(Rendering *rendering, size_t budget);
static void enter_value(Rendering *rendering, JsonToken token);
static void leave_container(Rendering *rendering);
static uint32 match_element(Rendering *rendering);
static uint32 match_key(const Rendering *rendering);
static uint32 find_child(const Template *template, uint32 parent,
						 const char *name, size_t length);
static void drop_stale_values(Rendering *rendering);
static RenderResult append_segments(Rendering *rendering, size_t budget);
static bool start_value(Rendering *rendering, const TemplateSegment *segment);
static bool append_rest(Rendering *rendering, size_t most);
static bool append_escaped(Rendering *rendering, const char *start,
						   const char *end);
static bool append_text(Rendering *rendering, const char *data, size_t length);

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
	Rendering  *rendering = rendering_start(template, values, limit, out);
	bool		complete = rendering_go_on(rendering, SIZE_MAX) == RENDER_DONE;

	rendering_end(rendering);
	return complete;
}

Rendering *
rendering_start(const Template *template,
				const JsonText values[TEMPLATE_NVARIABLES],
				size_t limit, StringInfo out)
{
	Rendering  *rendering = palloc_extended(offsetof(Rendering, states) +
											template->nnodes * sizeof(NodeState),
											MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	rendering->template = template;
	rendering->values = values;
	rendering->out = out;
	/* A StringInfo holds less than MaxAllocSize and raises an error beyond. */
	rendering->room = Min(limit, MaxAllocSize - 1 - (size_t) out->len);
	return rendering;
}

RenderResult
rendering_go_on(Rendering *rendering, size_t budget)
{
	if (rendering->root < NROOTS && !find_values(rendering, budget))
		return RENDER_GOES_ON;
	return append_segments(rendering, budget);
}

void
rendering_end(Rendering *rendering)
{
	if (rendering->is_walking)
		json_scan_finish(&rendering->walk.scan);
	for (uint32 root = 0; root < NROOTS; root++)
	{
		if (rendering->compacted[root] != NULL)
			pfree(rendering->compacted[root]);
	}
	pfree(rendering);
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
 * Finds what the nodes name in the values of their roots, from the next root on; false
 * if the budget was used up before.
 */
static bool
find_values(Rendering *rendering, size_t budget)
{
	const Template *template = rendering->template;

	for (; rendering->root < NROOTS; rendering->root++)
	{
		uint32		root = rendering->root;

		if (!template->used[root])
			continue;
		if (!rendering->is_walking)
			start_walk(rendering, trim(rendering->values[root_variable(root)]));
		if (rendering->is_walking && !walk_on(rendering, budget))
			return false;
	}
	drop_stale_values(rendering);
	return true;
}

/*
 * Finds the value of a root.  Only where a path leads into it is it read, and then
 * nothing is found if it isn't JSON.
 */
static void
start_walk(Rendering *rendering, JsonText value)
{
	uint32		root = rendering->root;
	NodeState  *state = &rendering->states[root];
	bool		is_container;

	if (value.length == 0)
		return;

	is_container = value.data[0] == '{' || value.data[0] == '[';
	if (is_container && root_is_in_string(root))
	{
		char	   *copy = palloc_extended(value.length, MCXT_ALLOC_HUGE);

		rendering->compacted[root] = copy;
		value.length = json_compact(value.data, value.length, copy);
		value.data = copy;
	}

	state->start = value.data;
	state->end = value.data + value.length;
	if (!is_container || rendering->template->nodes[root].nchildren == 0)
		return;
	rendering->walk.container = NO_NODE;
	rendering->walk.target = root;
	rendering->walk.unnamed_depth = 0;
	json_scan_start(&rendering->walk.scan, value.data, value.length, false);
	rendering->is_walking = true;
}

/* Reads a value once to find what all nodes name; false if there is more of it. */
static bool
walk_on(Rendering *rendering, size_t budget)
{
	JsonScan   *scan = &rendering->walk.scan;
	const char *enough = scan->cursor + Min(budget, (size_t) (scan->end - scan->cursor));
	JsonToken	token;

	while ((token = json_scan_next(scan)) > JSON_DONE)
	{
		if (token == JSON_OBJECT_END || token == JSON_ARRAY_END)
			leave_container(rendering);
		else if (token != JSON_KEY)
			enter_value(rendering, token);
		else if (rendering->walk.unnamed_depth == 0)
			rendering->walk.target = match_key(rendering);
		if (scan->cursor >= enough && scan->cursor < scan->end)
			return false;
	}
	json_scan_finish(scan);
	rendering->is_walking = false;
	if (token != JSON_DONE)
		rendering->states[rendering->root].start = NULL;
	return true;
}

static void
enter_value(Rendering *rendering, JsonToken token)
{
	Walk	   *walk = &rendering->walk;
	bool		is_container = token == JSON_OBJECT_START ||
	token == JSON_ARRAY_START;
	NodeState  *state;

	if (walk->unnamed_depth == 0 && walk->container != NO_NODE &&
		rendering->states[walk->container].in_array)
		walk->target = match_element(rendering);

	if (walk->unnamed_depth > 0 || walk->target == NO_NODE)
	{
		if (is_container)
			walk->unnamed_depth++;
		return;
	}

	/* Of several members with the same key, the last one counts. */
	state = &rendering->states[walk->target];
	memset(state, 0, sizeof(NodeState));
	state->start = walk->scan.token;
	state->end = walk->scan.token_end;
	state->in_array = token == JSON_ARRAY_START;
	if (is_container)
		walk->container = walk->target;
}

static void
leave_container(Rendering *rendering)
{
	Walk	   *walk = &rendering->walk;

	if (walk->unnamed_depth > 0)
	{
		walk->unnamed_depth--;
		return;
	}
	rendering->states[walk->container].end = walk->scan.token_end;
	walk->container = rendering->template->nodes[walk->container].parent;
}

/* The node of the next element of the innermost array, or NO_NODE. */
static uint32
match_element(Rendering *rendering)
{
	const TemplateNode *nodes = rendering->template->nodes;
	const TemplateNode *array = &nodes[rendering->walk.container];
	NodeState  *state = &rendering->states[rendering->walk.container];
	uint32		element = state->next_element++;
	uint32		child = array->first_child + state->next_index;

	if (state->next_index == array->nindexes ||
		nodes[child].index != element)
		return NO_NODE;
	state->next_index++;
	return child;
}

/* The node of the key just read, or NO_NODE. */
static uint32
match_key(const Rendering *rendering)
{
	const Walk *walk = &rendering->walk;
	const Template *template = rendering->template;
	const char *key = walk->scan.token + 1;
	size_t		length = walk->scan.token_end - 1 - key;
	char	   *decoded;
	uint32		child;

	if (template->nodes[walk->container].nchildren == 0)
		return NO_NODE;
	if (memchr(key, '\\', length) == NULL)
		return find_child(template, walk->container, key, length);

	decoded = palloc_extended(length, MCXT_ALLOC_HUGE);
	length = json_decode_string(key, length, decoded);
	child = find_child(template, walk->container, decoded, length);
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
drop_stale_values(Rendering *rendering)
{
	for (uint32 i = NROOTS; i < rendering->template->nnodes; i++)
	{
		NodeState  *state = &rendering->states[i];
		uint32		parent = rendering->template->nodes[i].parent;
		const char *parent_start = rendering->states[parent].start;

		if (state->start != NULL &&
			(parent_start == NULL || state->start < parent_start))
			state->start = NULL;
	}
}

static RenderResult
append_segments(Rendering *rendering, size_t budget)
{
	const Template *template = rendering->template;
	size_t		enough = budget < rendering->room ? rendering->room - budget : 0;

	for (; rendering->segment < template->nsegments; rendering->segment++)
	{
		const TemplateSegment *segment = &template->segments[rendering->segment];

		if (rendering->rest == NULL)
		{
			if (!append_text(rendering, template->text + segment->literal,
							 segment->literal_length))
				return RENDER_TOO_LONG;
			if (segment->node == NO_NODE)
				continue;
			if (!start_value(rendering, segment))
				return RENDER_TOO_LONG;
		}
		while (rendering->rest < rendering->rest_end)
		{
			if (enough > 0 && rendering->room <= enough)
				return RENDER_GOES_ON;
			if (!append_rest(rendering, budget))
				return RENDER_TOO_LONG;
		}
		rendering->rest = NULL;
	}
	return RENDER_DONE;
}

/*
 * Begins with a segment's value; false if it is too long.  In a string, strings lose their
 * quotes; their escapes are right already.
 */
static bool
start_value(Rendering *rendering, const TemplateSegment *segment)
{
	const NodeState *state = &rendering->states[segment->node];
	const char *start = state->start;
	const char *end = state->end;

	rendering->is_escaped = false;
	if (start == NULL)
	{
		start = "null";
		end = start + strlen(start);
	}
	else if (segment->in_string)
	{
		if (*start == '"' && end - start >= 2)
		{
			start++;
			end--;
		}
		else
			rendering->is_escaped = true;
	}
	rendering->rest = start;
	rendering->rest_end = end;
	return (size_t) (end - start) <= rendering->room;
}

/* Appends at most so many bytes of the segment's value, which may be more in a string. */
static bool
append_rest(Rendering *rendering, size_t most)
{
	const char *start = rendering->rest;
	size_t		length = Min((size_t) (rendering->rest_end - start), most);

	rendering->rest += length;
	return rendering->is_escaped ?
		append_escaped(rendering, start, start + length) :
		append_text(rendering, start, length);
}

/* Appends JSON text as part of a string. */
static bool
append_escaped(Rendering *rendering, const char *start, const char *end)
{
	const char *plain = start;

	for (const char *p = start; p < end; p++)
	{
		if (*p != '"' && *p != '\\')
			continue;
		if (!append_text(rendering, plain, p - plain) ||
			!append_text(rendering, "\\", 1))
			return false;
		plain = p;
	}
	return append_text(rendering, plain, end - plain);
}

static bool
append_text(Rendering *rendering, const char *data, size_t length)
{
	if (length > rendering->room)
		return false;
	appendBinaryStringInfo(rendering->out, data, length);
	rendering->room -= length;
	return true;
}
