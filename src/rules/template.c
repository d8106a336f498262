/*-------------------------------------------------------------------------
 *
 * template.c
 *	  The template language: JSON in which {{variables}} may stand.
 *
 * A compiled template is its text, cut into segments: a stretch of literal
 * text and the variable behind it.  The paths of all variables form a trie, so
 * that rendering reads each value once to find what all of them name, and then
 * only appends.  Nothing here recurses: neither templates nor values can nest
 * too deep.
 *
 * A variable within a longer string wants compact text, any other the value as
 * it is written.  Each name therefore has two roots in the trie, the second of
 * which is looked up in a copy of the value without white space.
 *
 * IDENTIFICATION
 *	  src/rules/template.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "rules/json_scan.h"
#include "rules/template.h"
#include "utils/memutils.h"

const char *const template_variable_names[TEMPLATE_NVARIABLES] = {
	"userId",
	"createdAt",
	"eventType",
	"eventData",
	"resource",
	"globals"
};

/* The roots are the first nodes of the trie; root_of() numbers them. */
#define NROOTS (2 * TEMPLATE_NVARIABLES)
#define NO_NODE PG_UINT32_MAX

/* How much of a variable's name a message shows, in bytes. */
#define SHOWN_NAME_LENGTH 256

#define INITIAL_VARIABLES 16

/* What stands on either side of a variable's name: {{name}} or "{{name}}". */
#define BRACES 2
#define BRACES_AND_QUOTE 3

/* More digits than this can't be an array index: no value is that long. */
#define INDEX_DIGITS 9
#define NOT_AN_INDEX PG_UINT32_MAX

/* One name on the path of a variable. */
typedef struct TemplateNode
{
	uint32		name;			/* offset in the template's text */
	uint32		name_length;
	uint32		index;			/* of the array element of that name */
	uint32		parent;
	uint32		first_child;	/* children are neighbours, ordered by */
	uint32		nchildren;		/* compare_names: indexes come first */
	uint32		nindexes;
} TemplateNode;

/* Literal text and the variable behind it. */
typedef struct TemplateSegment
{
	uint32		literal;		/* offset in the template's text */
	uint32		literal_length;
	uint32		node;			/* NO_NODE in the last segment */
	bool		in_string;		/* does the variable stand for text? */
} TemplateSegment;

/* All of it lies in one block, in this order. */
struct Template
{
	uint32		nsegments;
	uint32		nnodes;
	bool		used[NROOTS];
	TemplateSegment *segments;
	TemplateNode *nodes;
	char	   *text;
};

/* What is left of a variable's name while the trie is built. */
typedef struct VariablePath
{
	const char *rest;			/* NULL when nothing is left */
	const char *end;
	uint32		root;
	uint32		segment;
} VariablePath;

/* The paths through one node, an interval of the sorted ones. */
typedef struct PathRange
{
	uint32		first;
	uint32		end;
} PathRange;

typedef struct Compiler
{
	const char *text;
	size_t		length;
	const char *what;			/* names the template in messages */
	const char *literal;		/* where the next segment begins */
	TemplateSegment *segments;
	VariablePath *paths;		/* of the variables behind the segments */
	uint32		nsegments;
	uint32		capacity;		/* of both arrays */
	uint32		max_nodes;		/* if no two variables shared one */
	TemplateNode *nodes;
	uint32		nnodes;
} Compiler;

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

static void collect_variables(Compiler *compiler, bool interpolate_strings);
static void collect_from_string(Compiler *compiler, const char *content,
								const char *content_end);
static const char *find_name(const char *from, const char *end,
							 const char **name_end);
static bool is_name_char(char c);
static void add_variable(Compiler *compiler, const char *name,
						 const char *name_end, size_t frame, bool in_string);
static void add_segment(Compiler *compiler, const char *literal_end);
static int	find_variable(const char *name, size_t length);
static void report_unknown_variable(const Compiler *compiler,
									const char *name, const char *name_end);
static void report_invalid_json(const Compiler *compiler,
								const JsonScan *scan);
static void locate(const Compiler *compiler, const char *where,
				   int *line, int *column);
static void build_trie(Compiler *compiler);
static void add_node(Compiler *compiler, uint32 parent,
					 const char *name, size_t length);
static void add_children(Compiler *compiler, uint32 parent,
						 PathRange *ranges);
static size_t first_name_length(const VariablePath *path);
static void drop_first_name(VariablePath *path);
static int	compare_paths(const void *left, const void *right);
static int	compare_names(const char *left, size_t left_length,
						  const char *right, size_t right_length);
static uint32 array_index(const char *name, size_t length);
static Template *flatten(const Compiler *compiler);
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

/* The root of the trie for a variable, alone or within a longer string. */
static inline uint32
root_of(int variable, bool in_string)
{
	return 2 * variable + (in_string ? 1 : 0);
}

static inline int
root_variable(uint32 root)
{
	return root / 2;
}

static inline bool
root_is_in_string(uint32 root)
{
	return root % 2 == 1;
}

Template *
template_compile(const char *text, size_t length, bool interpolate_strings,
				 const char *what)
{
	Compiler	compiler = {.text = text, .length = length, .what = what};
	Template   *template;

	Assert(AllocSizeIsValid(length));

	compiler.literal = text;
	compiler.capacity = INITIAL_VARIABLES;
	compiler.segments = palloc(INITIAL_VARIABLES * sizeof(TemplateSegment));
	compiler.paths = palloc(INITIAL_VARIABLES * sizeof(VariablePath));
	compiler.max_nodes = NROOTS;

	collect_variables(&compiler, interpolate_strings);
	build_trie(&compiler);
	template = flatten(&compiler);

	pfree(compiler.segments);
	pfree(compiler.paths);
	pfree(compiler.nodes);
	return template;
}

/* Cuts the text into segments, making sure that it is JSON. */
static void
collect_variables(Compiler *compiler, bool interpolate_strings)
{
	JsonScan	scan;
	JsonToken	token;

	json_scan_start(&scan, compiler->text, compiler->length, true);
	while ((token = json_scan_next(&scan)) != JSON_DONE)
	{
		if (token == JSON_ERROR)
			report_invalid_json(compiler, &scan);
		if (token == JSON_VARIABLE)
			add_variable(compiler, scan.token + BRACES,
						 scan.token_end - BRACES, BRACES, false);
		else if (token == JSON_STRING && interpolate_strings)
			collect_from_string(compiler, scan.token + 1, scan.token_end - 1);
	}
	json_scan_finish(&scan);

	add_segment(compiler, compiler->text + compiler->length);
}

/* Adds the variables between the quotes of a string. */
static void
collect_from_string(Compiler *compiler, const char *content,
					const char *content_end)
{
	const char *name_end;
	const char *name = find_name(content, content_end, &name_end);

	/* Alone in its string, a variable takes the place of the quotes too. */
	if (name == content + BRACES && name_end == content_end - BRACES)
	{
		add_variable(compiler, name, name_end, BRACES_AND_QUOTE, false);
		return;
	}

	while (name != NULL)
	{
		add_variable(compiler, name, name_end, BRACES, true);
		name = find_name(name_end + BRACES, content_end, &name_end);
	}
}

/* Finds the next {{[a-zA-Z0-9.]+}}; returns its name or NULL. */
static const char *
find_name(const char *from, const char *end, const char **name_end)
{
	const char *open = from;

	while ((open = memchr(open, '{', end - open)) != NULL)
	{
		const char *name = open + BRACES;
		const char *p = name;

		open++;
		if (open == end || *open != '{')
			continue;
		while (p < end && is_name_char(*p))
			p++;
		if (p > name && end - p >= BRACES && p[0] == '}' && p[1] == '}')
		{
			*name_end = p;
			return name;
		}
	}
	return NULL;
}

/* May the name of a variable within a string hold this?  In every locale. */
static bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '.';
}

/*
 * Ends a segment with a variable, which replaces its name and the "frame"
 * bytes on either side of it.
 */
static void
add_variable(Compiler *compiler, const char *name, const char *name_end,
			 size_t frame, bool in_string)
{
	VariablePath path = {.rest = name, .end = name_end};
	int			variable = find_variable(name, first_name_length(&path));

	if (variable < 0 || name_end[-1] == ' ')
		report_unknown_variable(compiler, name, name_end);

	path.root = root_of(variable, in_string);
	path.segment = compiler->nsegments;
	drop_first_name(&path);

	add_segment(compiler, name - frame);
	compiler->segments[path.segment].in_string = in_string;
	compiler->paths[path.segment] = path;
	compiler->literal = name_end + frame;

	for (; path.rest != NULL; drop_first_name(&path))
		compiler->max_nodes++;
}

/* Adds a segment whose literal text reaches to "literal_end". */
static void
add_segment(Compiler *compiler, const char *literal_end)
{
	TemplateSegment *segment;

	if (compiler->nsegments == compiler->capacity)
	{
		compiler->capacity *= 2;
		compiler->segments =
			repalloc_huge(compiler->segments,
						  compiler->capacity * sizeof(TemplateSegment));
		compiler->paths =
			repalloc_huge(compiler->paths,
						  compiler->capacity * sizeof(VariablePath));
	}

	segment = &compiler->segments[compiler->nsegments++];
	segment->literal = compiler->literal - compiler->text;
	segment->literal_length = literal_end - compiler->literal;
	segment->node = NO_NODE;
	segment->in_string = false;
}

/* The number of the variable of this name, or -1. */
static int
find_variable(const char *name, size_t length)
{
	for (int i = 0; i < TEMPLATE_NVARIABLES; i++)
	{
		if (strlen(template_variable_names[i]) == length &&
			memcmp(template_variable_names[i], name, length) == 0)
			return i;
	}
	return -1;
}

static void
report_unknown_variable(const Compiler *compiler, const char *name,
						const char *name_end)
{
	StringInfoData known;
	int			given = name_end - name;
	int			length = Min(given, pg_encoding_mbcliplen(PG_UTF8, name, given,
														  SHOWN_NAME_LENGTH));
	char	   *shown = pg_any_to_server(pnstrdup(name, length), length, PG_UTF8);
	int			line;
	int			column;

	initStringInfo(&known);
	for (int i = 0; i < TEMPLATE_NVARIABLES; i++)
		appendStringInfo(&known, "%s%s", i > 0 ? ", " : "",
						 template_variable_names[i]);
	locate(compiler, name - BRACES, &line, &column);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown variable \"%s\" in %s", shown, compiler->what),
			 errdetail("The variable stands at line %d, column %d.",
					   line, column),
			 errhint("The known variables are %s; no spaces may stand around their names.",
					 known.data)));
}

static void
report_invalid_json(const Compiler *compiler, const JsonScan *scan)
{
	int			line;
	int			column;

	locate(compiler, scan->cursor, &line, &column);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("%s is not valid JSON", compiler->what),
			 errdetail("Expected %s at line %d, column %d.",
					   scan->expected, line, column)));
}

/* Both from 1; columns are characters. */
static void
locate(const Compiler *compiler, const char *where, int *line, int *column)
{
	const char *p = compiler->text;
	const char *newline;

	*line = 1;
	while ((newline = memchr(p, '\n', where - p)) != NULL)
	{
		p = newline + 1;
		(*line)++;
	}

	/* In badly encoded text, a character may seem to go on behind "where". */
	for (*column = 1; p < where; (*column)++)
		p += Min(pg_utf_mblen((const unsigned char *) p), where - p);
}

/*
 * Builds the trie of all paths, breadth first, so that the children of a node
 * are neighbours and come after it.  Every node's paths are an interval of the
 * sorted ones.
 */
static void
build_trie(Compiler *compiler)
{
	uint32		npaths = compiler->nsegments - 1;
	uint32		next = 0;
	PathRange  *ranges;

	compiler->nodes =
		palloc_extended(compiler->max_nodes * sizeof(TemplateNode),
						MCXT_ALLOC_HUGE);
	ranges = palloc_extended(compiler->max_nodes * sizeof(PathRange),
							 MCXT_ALLOC_HUGE);
	qsort(compiler->paths, npaths, sizeof(VariablePath), compare_paths);

	for (uint32 root = 0; root < NROOTS; root++)
	{
		add_node(compiler, NO_NODE, compiler->text, 0);
		ranges[root].first = next;
		while (next < npaths && compiler->paths[next].root == root)
			next++;
		ranges[root].end = next;
	}
	for (uint32 node = 0; node < compiler->nnodes; node++)
		add_children(compiler, node, ranges);

	pfree(ranges);
}

static void
add_node(Compiler *compiler, uint32 parent, const char *name, size_t length)
{
	TemplateNode *node = &compiler->nodes[compiler->nnodes++];

	memset(node, 0, sizeof(TemplateNode));
	node->name = name - compiler->text;
	node->name_length = length;
	node->index = array_index(name, length);
	node->parent = parent;
}

/* Gives the paths that end in a node to it, and it a child for each other. */
static void
add_children(Compiler *compiler, uint32 parent, PathRange *ranges)
{
	VariablePath *paths = compiler->paths;
	uint32		next = ranges[parent].first;
	uint32		end = ranges[parent].end;
	uint32		first_child = compiler->nnodes;
	uint32		nindexes = 0;

	for (; next < end && paths[next].rest == NULL; next++)
		compiler->segments[paths[next].segment].node = parent;

	while (next < end)
	{
		const char *name = paths[next].rest;
		size_t		length = first_name_length(&paths[next]);
		uint32		child = compiler->nnodes;

		add_node(compiler, parent, name, length);
		if (compiler->nodes[child].index != NOT_AN_INDEX)
			nindexes++;

		ranges[child].first = next;
		do
			drop_first_name(&paths[next++]);
		while (next < end &&
			   first_name_length(&paths[next]) == length &&
			   memcmp(paths[next].rest, name, length) == 0);
		ranges[child].end = next;
	}

	compiler->nodes[parent].first_child = first_child;
	compiler->nodes[parent].nchildren = compiler->nnodes - first_child;
	compiler->nodes[parent].nindexes = nindexes;
}

static size_t
first_name_length(const VariablePath *path)
{
	const char *dot = memchr(path->rest, '.', path->end - path->rest);

	return (dot != NULL ? dot : path->end) - path->rest;
}

static void
drop_first_name(VariablePath *path)
{
	const char *dot = memchr(path->rest, '.', path->end - path->rest);

	path->rest = dot != NULL ? dot + 1 : NULL;
}

/* Orders paths by root, then name by name; a path comes before longer ones. */
static int
compare_paths(const void *left, const void *right)
{
	VariablePath a = *(const VariablePath *) left;
	VariablePath b = *(const VariablePath *) right;

	if (a.root != b.root)
		return a.root < b.root ? -1 : 1;

	while (a.rest != NULL && b.rest != NULL)
	{
		int			order = compare_names(a.rest, first_name_length(&a),
										  b.rest, first_name_length(&b));

		if (order != 0)
			return order;
		drop_first_name(&a);
		drop_first_name(&b);
	}
	return (a.rest != NULL) - (b.rest != NULL);
}

/*
 * The order of a node's children: those that can be array indexes come first,
 * by their number, since longer numbers without leading zeros are greater.
 */
static int
compare_names(const char *left, size_t left_length,
			  const char *right, size_t right_length)
{
	bool		left_is_index = array_index(left, left_length) != NOT_AN_INDEX;
	bool		right_is_index = array_index(right, right_length) != NOT_AN_INDEX;

	if (left_is_index != right_is_index)
		return left_is_index ? -1 : 1;
	if (left_length != right_length)
		return left_length < right_length ? -1 : 1;
	return memcmp(left, right, left_length);
}

/* The number that a name is in canonical decimal notation, if it is one. */
static uint32
array_index(const char *name, size_t length)
{
	uint32		index = 0;

	if (length == 0 || length > INDEX_DIGITS || (name[0] == '0' && length > 1))
		return NOT_AN_INDEX;

	for (size_t i = 0; i < length; i++)
	{
		if (name[i] < '0' || name[i] > '9')
			return NOT_AN_INDEX;
		index = index * 10 + (name[i] - '0');
	}
	return index;
}

/* Moves everything into one block. */
static Template *
flatten(const Compiler *compiler)
{
	size_t		segments_size = compiler->nsegments * sizeof(TemplateSegment);
	size_t		nodes_size = compiler->nnodes * sizeof(TemplateNode);
	Template   *template;

	template = palloc_extended(sizeof(Template) + segments_size + nodes_size +
							   compiler->length, MCXT_ALLOC_HUGE);
	template->nsegments = compiler->nsegments;
	template->nnodes = compiler->nnodes;
	template->segments = (TemplateSegment *) (template + 1);
	template->nodes =
		(TemplateNode *) (template->segments + compiler->nsegments);
	template->text = (char *) (template->nodes + compiler->nnodes);

	memcpy(template->segments, compiler->segments, segments_size);
	memcpy(template->nodes, compiler->nodes, nodes_size);
	memcpy(template->text, compiler->text, compiler->length);
	memset(template->used, 0, sizeof(template->used));
	for (uint32 i = 0; i < compiler->nsegments - 1; i++)
		template->used[compiler->paths[i].root] = true;
	return template;
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
		int			order = compare_names(name, length,
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
