/*-------------------------------------------------------------------------
 *
 * shared.h
 *	  Shared memory, and who wakes whom; slots.h has who works for which database.
 *
 * It exists only if the library was loaded at server start; shared_available()
 * tells.  Nothing in it survives the server, and nothing in it needs to.
 *
 * IDENTIFICATION
 *	  src/server/shared.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef WEBHOOK_SHARED_H
#define WEBHOOK_SHARED_H

/* What a worker is woken for; bits. */
#define WAKE_EVENTS		0x01	/* the outbox has new rows */
#define WAKE_COMMANDS	0x02	/* the table of commands has */
#define WAKE_STOP		0x04	/* exit, so that others get at the database */
#define WAKE_RUNS		0x08	/* the table of runs to check has new rows */
#define WAKE_UNWANTED	0x10	/* exit, so that nobody is there */

/* Asks for the memory; called in the postmaster while libraries are loaded. */
extern void shared_request(void);

/* Was the library loaded at server start? */
extern bool shared_available(void);

/*
 * Waking.  shared_wake_worker() wakes the worker of this backend's database if
 * there is one; shared_announce_extension() tells the launcher that this
 * database has the extension now; shared_list_databases() has it list what there is.
 * They raise nothing and take no lock that could be waited for, so that they can be called
 * while a commit ends.
 */
extern void shared_wake_worker(uint32 wake);
extern void shared_announce_extension(void);
extern void shared_list_databases(void);
extern void shared_wake_launcher(void);

/*
 * Asynchronous commits of sessions that have something for a worker: each is told
 * before its commit record is written and after it can be seen.  What was seen
 * of other sessions before the call is on disk if none is under way and all WAL
 * that was inserted when as many had ended was flushed.
 */
extern void shared_begin_async_commit(void);
extern void shared_end_async_commit(void);
extern bool shared_async_commits(uint64 *nended);

/*
 * Keeps workers out of a database while it is dropped or copied: stops the one
 * that runs and waits until it is gone.  Raises an error if too many databases
 * are held, or on an interrupt; the hold can stand then.
 *
 * shared_release_databases() undoes all holds of this session, and must be
 * called before it ends.  It wakes the launcher.
 */
extern void shared_hold_database(Oid database);
extern void shared_release_databases(void);

/* Is there a launcher? */
extern bool shared_launcher_running(void);

/*
 * What the configuration itself, which the launcher sees as no session does, keeps from
 * raising events: bits.
 */
#define SILENCED_EMIT	0x01	/* webhook_events.emit is off */
#define SILENCED_REPLICA 0x02	/* session_replication_role is replica */
extern uint32 shared_silenced(void);

/*
 * For the launcher.
 */
extern void shared_attach_launcher(void);
extern void shared_tell_silenced(uint32 silenced);

/* Takes the announced databases; true if there were more than fit. */
#define MAX_ANNOUNCED 32
extern bool shared_take_announced(Oid announced[MAX_ANNOUNCED], int *count);

/* Have databases come or gone?  Takes the note of it. */
extern bool shared_take_must_list(void);

#endif							/* WEBHOOK_SHARED_H */
