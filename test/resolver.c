/*
 * resolver.c
 *	  A resolver with answers that tests choose, to be preloaded: for names that
 *	  end in ".test" it reads TEST_RESOLVER, a file with lines "name address...".
 *	  The addresses between two "|" are one answer; each call takes the next one
 *	  from a counter in the file TEST_RESOLVER.count.
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

/* How many answers were given before. */
static int
next_count(const char *file)
{
	char		path[4096];
	FILE	   *counter;
	int			count = 0;

	snprintf(path, sizeof(path), "%s.count", file);
	counter = fopen(path, "r");
	if (counter)
	{
		if (fscanf(counter, "%d", &count) != 1)
			count = 0;
		fclose(counter);
	}
	counter = fopen(path, "w");
	if (counter)
	{
		fprintf(counter, "%d", count + 1);
		fclose(counter);
	}
	return count;
}

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
		char	   *parts[64];
		int			nparts = 0;
		size_t		length = strlen(name);

		if (strncmp(line, name, length) != 0 || line[length] != ' ')
			continue;
		for (char *p = strtok(line + length, "|\n"); p && nparts < 64; p = strtok(NULL, "|\n"))
			parts[nparts++] = p;
		snprintf(answer, size, "%s", parts[next_count(file) % nparts]);
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

	if (length < 5 || strcmp(name + length - 5, ".test") != 0)
		return real(name, service, hints, result);
	*result = NULL;
	if (!find_answer(name, answer, sizeof(answer)))
		return EAI_NONAME;
	for (char *address = strtok(answer, " "); address; address = strtok(NULL, " "))
	{
		if (real(address, service, hints, end) != 0)
			return EAI_FAIL;
		end = &(*end)->ai_next;
	}
	return 0;
}
