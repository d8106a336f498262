/*
 * memory.c
 *	  A lack of memory that tests make, to be preloaded by a server: the file that TEST_MEMORY
 *	  names holds three numbers.  While the first one is not 0 no process has a piece of memory
 *	  as long as the second one says, or more; if the third one is not 0 only that many'th such
 *	  piece since the first one has changed is refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static const volatile unsigned long *state;

static __attribute__((constructor)) void
open_state(void)
{
	const char *name = getenv("TEST_MEMORY");
	int			file = name ? open(name, O_RDONLY) : -1;
	void	   *map = MAP_FAILED;

	if (file >= 0)
		map = mmap(NULL, 3 * sizeof(unsigned long), PROT_READ, MAP_SHARED, file, 0);
	if (map != MAP_FAILED)
		state = map;
}

static int
is_refused(size_t size)
{
	static unsigned long number = 0;
	static unsigned long count;

	if (state == NULL || state[0] == 0 || size < state[1])
		return 0;
	if (number != state[0])
		count = 0;
	number = state[0];
	count++;
	if (state[2] != 0 && state[2] != count)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *
malloc(size_t size)
{
	return is_refused(size) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	return is_refused(count * size) ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	return is_refused(size) ? NULL : __libc_realloc(old, size);
}
