/*
 * disk.c
 *	  A disk that tests fill, to be preloaded by a server: while the file that
 *	  TEST_DISK names begins with "1", the files of relations can't grow.  The
 *	  log of transactions is on another disk, so to speak: it would stop any server.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const volatile char *state;

static __attribute__((constructor)) void
open_state(void)
{
	const char *name = getenv("TEST_DISK");
	int			file = name ? open(name, O_RDONLY) : -1;
	void	   *map = MAP_FAILED;

	if (file >= 0)
		map = mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0);
	if (map != MAP_FAILED)
		state = map;
}

/* Would the file end later than it does, on a disk that is full? */
static int
is_refused(int fd, off_t end)
{
	struct stat status;
	char		link[64];
	char		path[4096];
	ssize_t		length;

	if (state == NULL || *state != '1')
		return 0;
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || end <= status.st_size)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return 0;
	path[length] = '\0';
	return strstr(path, "/base/") != NULL;
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
	static ssize_t (*real) (int, const void *, size_t, off_t);

	if (real == NULL)
		real = (ssize_t (*) (int, const void *, size_t, off_t)) dlsym(RTLD_NEXT, "pwrite");
	if (is_refused(fd, offset + (off_t) size))
	{
		errno = ENOSPC;
		return -1;
	}
	return real(fd, data, size, offset);
}

ssize_t
pwritev(int fd, const struct iovec *pieces, int npieces, off_t offset)
{
	static ssize_t (*real) (int, const struct iovec *, int, off_t);
	off_t		end = offset;

	if (real == NULL)
		real = (ssize_t (*) (int, const struct iovec *, int, off_t)) dlsym(RTLD_NEXT, "pwritev");
	for (int i = 0; i < npieces; i++)
		end += (off_t) pieces[i].iov_len;
	if (is_refused(fd, end))
	{
		errno = ENOSPC;
		return -1;
	}
	return real(fd, pieces, npieces, offset);
}

int
posix_fallocate(int fd, off_t offset, off_t size)
{
	static int	(*real) (int, off_t, off_t);

	if (real == NULL)
		real = (int (*) (int, off_t, off_t)) dlsym(RTLD_NEXT, "posix_fallocate");
	return is_refused(fd, offset + size) ? ENOSPC : real(fd, offset, size);
}
