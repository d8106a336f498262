/*-------------------------------------------------------------------------
 *
 * template.c
 *	  The template language: compiling a template.
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
#include "rules/template_trie.h"
#include "utils/memutils.h"

const char *const template_variable_names[TEMPLATE_NVARIABLES] = {
	TEMPLATE_VARIABLES(TEMPLATE_NAME)
};

/* How much of a variable's name a message shows, in bytes. */
#define SHOWN_NAME_LENGTH 256

#define INITIAL_VARIABLES 16

/* What stands on either side of a variable's name: {{name}} or "{{name}}". */
#define BRACES 2
#define BRACES_AND_QUOTE 3

/* More digits than this can't be an array index: no value is that long. */
#define INDEX_DIGITS 9
#define NOT_AN_INDEX PG_UINT32_MAX

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
static uint32 array_index(const char *name, size_t length);
static Template *flatten(const Compiler *compiler);
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
		int			order = template_compare_names(a.rest, first_name_length(&a),
												   b.rest, first_name_length(&b));

		if (order != 0)
			return order;
		drop_first_name(&a);
		drop_first_name(&b);
	}
	return (a.rest != NULL) - (b.rest != NULL);
}

int
template_compare_names(const char *left, size_t left_length,
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
