/*-------------------------------------------------------------------------
 *
 * ports.h
 *	  Sets of TCP ports.
 *
 * IDENTIFICATION
 *	  src/rules/ports.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_PORTS_H
#define WEBHOOK_PORTS_H

/* A bit for each port. */
typedef struct PortSet
{
	uint8		bits[65536 / 8];
} PortSet;

/*
 * Reads a list of ports and ranges, from 1 to 65535, separated by commas: "80,
 * 443, 8000-8999".  An empty text is every port.  Returns false if the text is
 * anything else; *set can have changed then.  Raises nothing.
 */
extern bool ports_parse(const char *text, PortSet *set);

/* Is this port in the set?  Raises nothing. */
extern bool ports_have(const PortSet *set, int port);

#endif							/* WEBHOOK_PORTS_H */
