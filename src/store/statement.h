/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  The worker's transactions, and the SQL statements in them.
 *
 * IDENTIFICATION
 *	  src/store/statement.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_STATEMENT_H
#define WEBHOOK_STATEMENT_H

#include "executor/spi.h"
#include "utils/array.h"

#define STATEMENT_MAX_PARAMETERS 12
#define STATEMENT_MAX_COLUMNS 64

/*
 * Connects a worker process to a database, with the settings that the statements
 * are made for.  Ends the process if the database is gone.
 */
extern void work_connect(Oid database);

/* The name of that database, for messages. */
extern const char *work_database(void);

/* A statement that is planned once, at its first use. */
typedef struct Statement
{
	const char *sql;
	int			nparameters;
	Oid			types[STATEMENT_MAX_PARAMETERS];
	SPIPlanPtr	plan;			/* NULL before the first use */
} Statement;

/*
 * Starts a transaction for statements, with one snapshot for all that only
 * read.  Returns false, with no transaction, if the extension is gone or is
 * another one than at the first call; then nothing that was remembered counts
 * any more.
 */
extern bool work_begin(const char *activity);

/*
 * A whole transaction that may fail: calls "work" between work_begin() and
 * work_commit().  If it raises an error, nothing of it stands, *error says why and
 * nothing is logged.  "work" changes nothing in memory that must not stay so then.
 * The caller's memory context is not the transaction's.
 */
typedef enum WorkResult
{
	WORK_DONE,
	WORK_FAILED,
	WORK_GONE					/* the extension is; see work_begin() */
} WorkResult;

typedef struct WorkError
{
	int			sqlstate;
	bool		is_of_row;		/* and not of the server: others can be done */
	bool		is_cancel;		/* by work_cancel(): nothing is wrong */
	char		message[512];
} WorkError;

/*
 * Is an error of this kind about what was to be done, and not about the server, whose
 * errors others would meet too?
 */
extern bool work_is_of_row(int sqlstate);

extern WorkResult work_run(const char *activity, bool cancellable,
						   void (*work) (void *argument), void *argument,
						   WorkError *error);

/* Has a cancellable transaction that is under way fail; for a signal handler. */
extern void work_cancel(void);

/* Lets reading statements see what writing ones have done in it. */
extern void work_see_writes(void);

/*
 * Does a part of the transaction that may fail, in the caller's memory context.  If
 * it does, all else stands, and the message of the error is returned, palloc'd in
 * that context; otherwise NULL.  A cancelled one cancels the transaction.
 */
extern char *work_try(void (*work) (void *argument), void *argument);

/*
 * The same for what is done with a row that is given up if it fails: errors that may
 * pass (of locks, memory, the disk) or that ask us to end are raised again.
 */
extern char *work_try_row(void (*work) (void *argument), void *argument);

/*
 * Commits it.  PostgreSQL's statistics take reports once a second; what is left
 * for later work_report() tells when the deadline, DT_NOEND for none, has passed.
 */
extern void work_commit(void);
extern TimestampTz work_report_deadline(void);
extern void work_report(void);

/*
 * Runs a statement.  A reading one sees what was committed when the
 * transaction began; at most "limit" rows, 0 for all.  Rows are in
 * SPI_tuptable until the transaction ends or statement_free() is called;
 * returns their number.  nulls[i] is true for NULL; NULL means none is.
 */
extern uint64 statement_read(Statement *statement, Datum *values,
							 const bool *nulls, long limit);
extern uint64 statement_write(Statement *statement, Datum *values,
							  const bool *nulls);

/* A column of the row-th row; columns count from 1. */
extern Datum statement_value(uint64 row, int column, bool *isnull);

/* The same for text, palloc'd in CurrentMemoryContext; NULL for NULL. */
extern char *statement_text(uint64 row, int column);

/*
 * The same with its length in bytes, for a text that can be long: no zero byte need
 * follow it, since what was compressed or lay elsewhere is not copied once more.
 */
extern const char *statement_long_text(uint64 row, int column, size_t *length);

/* Gathers parameters that are arrays, element by element. */
typedef struct ArrayParameter
{
	Oid			type;			/* of an element */
	ArrayBuildState *state;
} ArrayParameter;

/*
 * Adds an element, in CurrentMemoryContext; of a text NULL and of a time 0 are SQL's NULL.
 * array_result() makes the array of them there, an empty one if there are none.
 */
extern void array_add(ArrayParameter *array, Datum value, bool isnull);
extern void array_add_text(ArrayParameter *array, const char *value);
extern void array_add_time(ArrayParameter *array, TimestampTz value);
extern void array_add_int(ArrayParameter *array, int32 value);
extern Datum array_result(ArrayParameter *array);

#endif							/* WEBHOOK_STATEMENT_H */
