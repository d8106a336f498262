/*-------------------------------------------------------------------------
 *
 * template_trie.h
 *	  What a compiled template is: for template.c and template_render.c alone.
 *
 * IDENTIFICATION
 *	  src/rules/template_trie.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_TEMPLATE_TRIE_H
#define WEBHOOK_TEMPLATE_TRIE_H

#include "rules/template.h"

/* The roots are the first nodes of the trie; root_of() numbers them. */
#define NROOTS (2 * TEMPLATE_NVARIABLES)
#define NO_NODE PG_UINT32_MAX

/* One name on the path of a variable. */
typedef struct TemplateNode
{
	uint32		name;			/* offset in the template's text */
	uint32		name_length;
	uint32		index;			/* of the array element of that name */
	uint32		parent;
	uint32		first_child;	/* children are neighbours, ordered by */
	uint32		nchildren;		/* template_compare_names: indexes first */
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

/*
 * The order of a node's children: those that can be array indexes come first,
 * by their number, since longer numbers without leading zeros are greater.
 */
extern int	template_compare_names(const char *left, size_t left_length,
								   const char *right, size_t right_length);

#endif							/* WEBHOOK_TEMPLATE_TRIE_H */
