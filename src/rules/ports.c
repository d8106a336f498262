/*-------------------------------------------------------------------------
 *
 * ports.c
 *	  Sets of TCP ports.
 *
 * IDENTIFICATION
 *	  src/rules/ports.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "rules/ports.h"

static const char *
skip_space(const char *text)
{
	return text + strspn(text, " \t\r\n");
}

/* Reads a port at *text and moves behind it; 0 if there is none. */
static int
read_port(const char **text)
{
	int			port = 0;
	int			digits = 0;

	for (; **text >= '0' && **text <= '9' && digits < 6; (*text)++, digits++)
		port = port * 10 + (**text - '0');
	return port <= 65535 ? port : 0;
}

bool
ports_parse(const char *text, PortSet *set)
{
	text = skip_space(text);
	memset(set, *text == '\0' ? 0xFF : 0, sizeof(PortSet));
	if (*text == '\0')
		return true;
	for (;;)
	{
		int			first = read_port(&text);
		int			last = first;

		if (*text == '-')
		{
			text++;
			last = read_port(&text);
		}
		if (first == 0 || last < first)
			return false;
		for (int port = first; port <= last; port++)
			set->bits[port / 8] |= (uint8) (1 << (port % 8));
		text = skip_space(text);
		if (*text == '\0')
			return true;
		if (*text != ',')
			return false;
		text = skip_space(text + 1);
	}
}

bool
ports_have(const PortSet *set, int port)
{
	return port > 0 && port <= 65535 &&
		(set->bits[port / 8] & (1 << (port % 8))) != 0;
}
