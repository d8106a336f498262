/*
 * signals.c
 *	  Holds up processes of a server where they ignore SIGHUP, which a background worker
 *	  does for a moment when it starts: while there is the file that TEST_SIGNALS names.
 *	  Beside it lies one with the process's number at its end then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* In tenths of a second. */
#define LONGEST 6000

int
sigaction(int number, const struct sigaction *restrict action, struct sigaction *restrict old)
{
	static int	(*real_sigaction) (int, const struct sigaction *, struct sigaction *);
	const char *gate = getenv("TEST_SIGNALS");
	char		waits[4096];

	if (real_sigaction == NULL)
		real_sigaction = (int (*) (int, const struct sigaction *, struct sigaction *)) dlsym(RTLD_NEXT, "sigaction");
	if (number == SIGHUP && action != NULL && action->sa_handler == SIG_IGN && gate != NULL && access(gate, F_OK) == 0)
	{
		(void) snprintf(waits, sizeof(waits), "%s.%d", gate, (int) getpid());
		(void) close(open(waits, O_WRONLY | O_CREAT, 0600));
		for (int i = 0; i < LONGEST && access(gate, F_OK) == 0; i++)
			(void) usleep(100000);
	}
	return real_sigaction(number, action, old);
}
