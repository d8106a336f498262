/*
 * commit.c
 *	  Commits one run after the other at a given rate, and notes when.
 *
 * Usage: commit CONNINFO PREFIX COUNT RATE LOG ACTORS
 *
 * Inserts COUNT runs with the ids PREFIX0, PREFIX1, ..., RATE of them each
 * second, each in a transaction of its own.  Their Actors are taken in turns from
 * ACTORS, a list with commas.  LOG gets a line for each with its id and the times
 * before and after COMMIT, in nanoseconds of CLOCK_MONOTONIC.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define MAX_ACTORS 256

static void
run(PGconn *connection, PGresult *result)
{
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "commit: %s", PQerrorMessage(connection));
		exit(1);
	}
	PQclear(result);
}

int
main(int argc, char **argv)
{
	PGconn	   *connection = PQconnectdb(argc == 7 ? argv[1] : "");
	const char *actors[MAX_ACTORS];
	int			nactors = 0;
	FILE	   *log;
	int64_t		started;
	long		count;
	double		rate;

	if (argc != 7)
	{
		fprintf(stderr, "usage: commit CONNINFO PREFIX COUNT RATE LOG ACTORS\n");
		return 2;
	}
	if (PQstatus(connection) != CONNECTION_OK ||
		(log = fopen(argv[5], "w")) == NULL)
	{
		fprintf(stderr, "commit: %s", PQerrorMessage(connection));
		return 1;
	}
	count = atol(argv[3]);
	rate = atof(argv[4]);
	for (char *name = strtok(argv[6], ","); name && nactors < MAX_ACTORS;
		 name = strtok(NULL, ","))
		actors[nactors++] = name;
	run(connection, PQprepare(connection, "add",
							  "INSERT INTO actor_runs (id, actor_id) VALUES ($1, $2)", 2, NULL));
	started = now();
	for (long i = 0; i < count; i++)
	{
		int64_t		at = started + (int64_t) (i * 1e9 / rate);
		struct timespec until = {at / 1000000000, at % 1000000000};
		char		id[64];
		const char *values[] = {id, actors[i % nactors]};
		int64_t		before;

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		snprintf(id, sizeof(id), "%s%ld", argv[2], i);
		run(connection, PQexec(connection, "BEGIN"));
		run(connection, PQexecPrepared(connection, "add", 2, values, NULL, NULL, 0));
		before = now();
		run(connection, PQexec(connection, "COMMIT"));
		fprintf(log, "%s %lld %lld\n", id, (long long) before, (long long) now());
	}
	fclose(log);
	PQfinish(connection);
	return 0;
}
