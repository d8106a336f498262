/*-------------------------------------------------------------------------
 *
 * template.h
 *	  The template language: JSON in which {{variables}} may stand.
 *
 * A template is compiled once, when its webhook is defined or first used, and
 * rendered for every request.  Rendering is linear in the sizes of template,
 * values and result, and never reads a filled-in value as template again.
 *
 * IDENTIFICATION
 *	  src/rules/template.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TEMPLATE_H
#define WEBHOOK_TEMPLATE_H

#include "lib/stringinfo.h"

/* What a template may use, and its name there; make_values() gives it a value. */
#define TEMPLATE_VARIABLES(use) \
	use(TEMPLATE_USER_ID, "userId") \
	use(TEMPLATE_CREATED_AT, "createdAt") \
	use(TEMPLATE_EVENT_TYPE, "eventType") \
	use(TEMPLATE_EVENT_DATA, "eventData") \
	use(TEMPLATE_RESOURCE, "resource") \
	use(TEMPLATE_GLOBALS, "globals")

#define TEMPLATE_SYMBOL(variable, name) variable,
#define TEMPLATE_NAME(variable, name) name,
#define TEMPLATE_ONE_MORE(variable, name) + 1

typedef enum TemplateVariable
{
	TEMPLATE_VARIABLES(TEMPLATE_SYMBOL)
} TemplateVariable;

#define TEMPLATE_NVARIABLES (0 TEMPLATE_VARIABLES(TEMPLATE_ONE_MORE))

extern const char *const template_variable_names[TEMPLATE_NVARIABLES];

/*
 * A piece of valid JSON text owned by somebody else; data NULL means null.  It
 * is trusted: text that isn't JSON makes the result something else as well,
 * but does no other harm.
 */
typedef struct JsonText
{
	const char *data;
	size_t		length;			/* bytes */
} JsonText;

typedef struct Template Template;

/*
 * Compiles a template in UTF-8 of the given length in bytes, less than 1 GB.
 * "what" names it in messages, for example "payload template".
 *
 * In place of a value, {{name}} or {{name.path.to.value}} is a variable.  The
 * path's names may hold anything but dots, braces, double quotes, backslashes
 * and control characters; no spaces may stand around the whole.  They are keys
 * of objects or indexes of arrays; what they don't lead to is null.
 *
 * With interpolate_strings, {{[a-zA-Z0-9.]+}} is a variable inside string
 * values too.  One that is the whole string becomes the value itself.  In a
 * longer string, a string stands without its quotes, and anything else as JSON
 * text without white space.
 *
 * The result lives in one block of CurrentMemoryContext and copies what it
 * needs; it stays valid after "text" is gone.
 *
 * Raises ERRCODE_INVALID_PARAMETER_VALUE for a first name that is none of the
 * known variables and ERRCODE_INVALID_TEXT_REPRESENTATION for text that is not
 * JSON once its variables are filled; both say the position (line and column,
 * from 1, in characters) and what was expected.
 */
extern Template *template_compile(const char *text, size_t length,
								  bool interpolate_strings, const char *what);

/* Does the template hold this variable, or what is in its value? */
extern bool template_uses(const Template *template, TemplateVariable variable);

/*
 * Appends the filled-in template to "out".  values[] holds one JSON text for
 * each TemplateVariable that the template uses.  Returns false, with a partial result in "out", as
 * soon as the result is longer than "limit" bytes.  Raises nothing but
 * out-of-memory.
 */
extern bool template_render(const Template *template,
							const JsonText values[TEMPLATE_NVARIABLES],
							size_t limit, StringInfo out);

/*
 * The same in steps, each of which reads and appends about as many bytes as "budget" says:
 * one long string in which a path is looked for, and a long value without its white space,
 * are a step of their own.  Template, values and "out" must last until it is done or
 * dropped.  rendering_start() allocates in CurrentMemoryContext, which rendering_go_on()
 * must find as well; rendering_end() frees that.
 */
typedef struct Rendering Rendering;

typedef enum RenderResult
{
	RENDER_DONE,
	RENDER_GOES_ON,
	RENDER_TOO_LONG
} RenderResult;

extern Rendering *rendering_start(const Template *template,
								  const JsonText values[TEMPLATE_NVARIABLES],
								  size_t limit, StringInfo out);
extern RenderResult rendering_go_on(Rendering *rendering, size_t budget);
extern void rendering_end(Rendering *rendering);

#endif							/* WEBHOOK_TEMPLATE_H */
