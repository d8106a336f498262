/*-------------------------------------------------------------------------
 *
 * url.h
 *	  Which URLs a webhook may have.
 *
 * IDENTIFICATION
 *	  src/rules/url.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_URL_H
#define WEBHOOK_URL_H

#include <sys/socket.h>

/* Characters, as the platform's API has it. */
#define URL_MAX_LENGTH 2048

typedef struct Url
{
	char	   *host;			/* palloc'd "host:port", lower case */
	int			port;
	char	   *host_header;	/* palloc'd, as the header Host has it */
	char	   *credentials;	/* palloc'd "user:password"; NULL: none */
	bool		is_address;		/* the host is an address, in any spelling */
	struct sockaddr_storage address;	/* if so, which one */
} Url;

/*
 * Reads an absolute http or https URL with libcurl's own parser, so that what
 * is judged here is what is called later.  Returns false and a palloc'd
 * message in *error, in the style of a primary error message, if the text is
 * anything else, too long, or could be read in two ways (control characters,
 * spaces, backslashes).  Raises only out-of-memory.
 */
extern bool url_parse(const char *text, Url *url, char **error);

#endif							/* WEBHOOK_URL_H */
