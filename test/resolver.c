/*
 * resolver.c
 *	  A resolver with answers that tests choose, to be preloaded: for names that
 *	  end in ".test" it reads TEST_RESOLVER, a file with lines "name address...".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*Getaddrinfo) (const char *, const char *, const struct addrinfo *,
							struct addrinfo **);

/* Finds the answer to this call: addresses separated by spaces. */
static int
find_answer(const char *name, char *answer, size_t size)
{
	const char *file = getenv("TEST_RESOLVER");
	FILE	   *answers = file ? fopen(file, "r") : NULL;
	char		line[4096];
	int			found = 0;

	while (answers && !found && fgets(line, sizeof(line), answers))
	{
		size_t		length = strlen(name);

		if (strncmp(line, name, length) != 0 || line[length] != ' ')
			continue;
		snprintf(answer, size, "%s", line + length);
		found = 1;
	}
	if (answers)
		fclose(answers);
	return found;
}

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	Getaddrinfo real = (Getaddrinfo) dlsym(RTLD_NEXT, "getaddrinfo");
	size_t		length = name ? strlen(name) : 0;
	struct addrinfo **end = result;
	char		answer[4096];
	char	   *rest;

	if (length < 5 || strcmp(name + length - 5, ".test") != 0)
		return real(name, service, hints, result);
	*result = NULL;
	if (!find_answer(name, answer, sizeof(answer)))
		return EAI_NONAME;
	for (char *address = strtok_r(answer, " \n", &rest); address;
		 address = strtok_r(NULL, " \n", &rest))
	{
		/* One that is not of the wanted family is left out. */
		if (real(address, service, hints, end) == 0)
			end = &(*end)->ai_next;
		else
			*end = NULL;
	}
	return *result ? 0 : EAI_NONAME;
}
