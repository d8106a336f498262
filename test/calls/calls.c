/*-------------------------------------------------------------------------
 *
 * calls.c
 *	  Errors where any can come from: for tests.
 *
 * Whatever the library calls of PostgreSQL can raise an error, as when there is no memory.
 * This module stands between the two: it puts itself into the table by which the dynamic
 * linker has tied the library to the server.  While it is armed, by calls_arm(), each
 * place in the library from which processes of a kind make such a call fails the first time
 * that it is come by.  A place is the call with the so many functions of the library that led
 * to it.
 *
 * What was broken is in memory that all processes share, and outlives their crashes.
 *
 * IDENTIFICATION
 *	  test/calls/calls.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <link.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(calls_arm);
PG_FUNCTION_INFO_V1(calls_broken);
PG_FUNCTION_INFO_V1(calls_pass);

#define MAX_PLACES 65536
#define MAX_FRAMES 64

typedef struct Shared
{
	volatile int code;			/* of the errors; 0: not armed */
	volatile int depth;			/* functions that make a place */
	volatile int broken;		/* places */
	volatile int tied;			/* entries of the linker's table that lead here */
	volatile int passed;		/* milliseconds that time is ahead */
	char		process[BGW_MAXLEN];
	uint64		places[MAX_PLACES];
} Shared;

static Shared *shared;
static uintptr_t library_base;
static uintptr_t library_end;

/* Is this place new?  Then it is not any more. */
static bool
note_place(uint64 key)
{
	for (uint64 i = key; i < key + MAX_PLACES; i++)
	{
		uint64	   *place = &shared->places[i % MAX_PLACES];
		uint64		none = 0;

		if (*place == key)
			return false;
		if (__atomic_compare_exchange_n(place, &none, key, false,
										__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return true;
		if (*place == key)
			return false;
	}
	return false;
}

static bool
is_in_library(void *address)
{
	return (uintptr_t) address >= library_base && (uintptr_t) address < library_end;
}

/* Says where a place is, from the outermost function to the innermost. */
static void
describe(char *text, size_t size, void **frames, int count)
{
	text[0] = '\0';
	for (int i = count - 1; i >= 0; i--)
		snprintf(text + strlen(text), size - strlen(text), " 0x%lx",
				 (unsigned long) ((uintptr_t) frames[i] - library_base));
}

/* Is a call to fail here? */
static bool
breaks(const char *what)
{
	static bool is_busy = false;
	void	   *frames[MAX_FRAMES];
	void	   *own[MAX_FRAMES];
	int			nown = 0;
	int			count;
	int			code = shared->code;
	uint64		key = 14695981039346656037U;
	char		text[1024];
	bool		result;

	if (code == 0 || is_busy || CritSectionCount > 0 || proc_exit_inprogress ||
		strcmp(MyBgworkerEntry ? MyBgworkerEntry->bgw_type : "session", shared->process) != 0)
		return false;
	is_busy = true;
	count = backtrace(frames, MAX_FRAMES);
	for (int i = 0; i < count && nown < shared->depth; i++)
	{
		if (!is_in_library(frames[i]))
			continue;
		own[nown++] = frames[i];
		key = (key ^ ((uintptr_t) frames[i] - library_base)) * 1099511628211U;
	}
	key ^= (uint64) code << 1;
	result = nown > 0 && key != 0 && note_place(key);
	if (result)
	{
		__atomic_add_fetch(&shared->broken, 1, __ATOMIC_SEQ_CST);
		describe(text, sizeof(text), own, nown);
		ereport(LOG, (errmsg("broken: %s at%s", what, text)));
	}
	is_busy = false;
	return result;
}

static void
maybe_fail(const char *what)
{
	if (breaks(what))
		ereport(ERROR, (errcode(shared->code), errmsg("%s was broken", what)));
}

/* What stands in the way: each breaks, or does what its namesake does. */
#define WRAP(type, name, parameters, ...) \
static type \
broken_##name parameters \
{ \
	maybe_fail(#name); \
	return name(__VA_ARGS__); \
}

#define WRAP_VOID(name, parameters, ...) \
static void \
broken_##name parameters \
{ \
	maybe_fail(#name); \
	name(__VA_ARGS__); \
}

WRAP(void *, palloc, (Size size), size)
WRAP(void *, palloc0, (Size size), size)
WRAP(void *, repalloc, (void *old, Size size), old, size)
WRAP(void *, repalloc_huge, (void *old, Size size), old, size)
WRAP(void *, MemoryContextAlloc, (MemoryContext context, Size size), context, size)
WRAP(void *, MemoryContextAllocZero, (MemoryContext context, Size size), context, size)
WRAP(void *, MemoryContextAllocHuge, (MemoryContext context, Size size), context, size)
#if PG_VERSION_NUM < 170000
WRAP(void *, MemoryContextAllocZeroAligned, (MemoryContext context, Size size), context, size)
#endif
WRAP(char *, MemoryContextStrdup, (MemoryContext context, const char *text), context, text)
WRAP(char *, pstrdup, (const char *text), text)
WRAP(char *, pnstrdup, (const char *text, Size size), text, size)
WRAP(MemoryContext, AllocSetContextCreateInternal,
	 (MemoryContext parent, const char *name, Size least, Size first, Size most),
	 parent, name, least, first, most)
WRAP(List *, lappend, (List *list, void *item), list, item)
WRAP(List *, list_make1_impl, (NodeTag type, ListCell item), type, item)
WRAP_VOID(initStringInfo, (StringInfo text), text)
WRAP_VOID(enlargeStringInfo, (StringInfo text, int size), text, size)
WRAP_VOID(appendStringInfoString, (StringInfo text, const char *more), text, more)
WRAP_VOID(appendBinaryStringInfo, (StringInfo text, const void *more, int size), text, more, size)
WRAP(HTAB *, hash_create, (const char *name, long size, const HASHCTL *info, int flags),
	 name, size, info, flags)
WRAP(text *, cstring_to_text, (const char *value), value)
WRAP(text *, cstring_to_text_with_len, (const char *value, int size), value, size)
WRAP(char *, text_to_cstring, (const text *value), value)
WRAP(struct varlena *, pg_detoast_datum, (struct varlena *value), value)
WRAP(struct varlena *, pg_detoast_datum_packed, (struct varlena *value), value)
WRAP(ArrayBuildState *, accumArrayResult,
	 (ArrayBuildState *state, Datum value, bool isnull, Oid type, MemoryContext context),
	 state, value, isnull, type, context)
WRAP(pairingheap *, pairingheap_allocate, (pairingheap_comparator compare, void *argument),
	 compare, argument)
WRAP(int, SPI_connect, (void))
WRAP(SPIPlanPtr, SPI_prepare, (const char *sql, int count, Oid *types), sql, count, types)
WRAP_VOID(StartTransactionCommand, (void))
WRAP_VOID(CommitTransactionCommand, (void))
WRAP_VOID(CommandCounterIncrement, (void))
WRAP_VOID(BeginInternalSubTransaction, (const char *name), name)
WRAP_VOID(ReleaseCurrentSubTransaction, (void))
WRAP(Snapshot, GetTransactionSnapshot, (void))
WRAP(Snapshot, RegisterSnapshot, (Snapshot snapshot), snapshot)
WRAP_VOID(PushActiveSnapshot, (Snapshot snapshot), snapshot)
WRAP_VOID(LockDatabaseObject, (Oid class, Oid object, uint16 part, LOCKMODE mode),
		  class, object, part, mode)
WRAP(Oid, get_extension_oid, (const char *name, bool missing_ok), name, missing_ok)
WRAP(Relation, table_open, (Oid id, LOCKMODE mode), id, mode)
WRAP(Relation, relation_open, (Oid id, LOCKMODE mode), id, mode)
WRAP(Relation, index_open, (Oid id, LOCKMODE mode), id, mode)
WRAP(HeapTuple, SearchSysCache1, (int cache, Datum key), cache, key)
WRAP(HeapTuple, heap_form_tuple, (TupleDesc desc, Datum *values, bool *isnull),
	 desc, values, isnull)

static void *
broken_MemoryContextAllocExtended(MemoryContext context, Size size, int flags)
{
	if (flags & MCXT_ALLOC_NO_OOM && breaks("MemoryContextAllocExtended"))
		return NULL;
	if (!(flags & MCXT_ALLOC_NO_OOM))
		maybe_fail("MemoryContextAllocExtended");
	return MemoryContextAllocExtended(context, size, flags);
}

static void *
broken_hash_search(HTAB *table, const void *key, HASHACTION action, bool *found)
{
	if (action == HASH_ENTER)
		maybe_fail("hash_search");
	return hash_search(table, key, action, found);
}

/* Before it, and when it has done its work. */
static int
broken_SPI_execute_plan(SPIPlanPtr plan, Datum *values, const char *nulls, bool read_only,
						long count)
{
	int			result;

	maybe_fail("SPI_execute_plan");
	result = SPI_execute_plan(plan, values, nulls, read_only, count);
	maybe_fail("the end of SPI_execute_plan");
	return result;
}

static char *broken_psprintf(const char *format,...) pg_attribute_printf(1, 2);
static void broken_appendStringInfo(StringInfo text, const char *format,...)
			pg_attribute_printf(2, 3);

static char *
broken_psprintf(const char *format,...)
{
	size_t		size = 128;

	maybe_fail("psprintf");
	for (;;)
	{
		char	   *result = palloc(size);
		va_list		arguments;
		size_t		needed;

		va_start(arguments, format);
		needed = pvsnprintf(result, size, format, arguments);
		va_end(arguments);
		if (needed < size)
			return result;
		pfree(result);
		size = needed;
	}
}

static void
broken_appendStringInfo(StringInfo text, const char *format,...)
{
	maybe_fail("appendStringInfo");
	for (;;)
	{
		va_list		arguments;
		int			needed;

		va_start(arguments, format);
		needed = appendStringInfoVA(text, format, arguments);
		va_end(arguments);
		if (needed == 0)
			return;
		enlargeStringInfo(text, needed);
	}
}

/* The library's clock that nobody can set. */
static int
broken_clock_gettime(clockid_t clock, struct timespec *time)
{
	int			result = clock_gettime(clock, time);

	if (clock == CLOCK_BOOTTIME)
		time->tv_sec += shared->passed / 1000;
	return result;
}

#define WRAPPER(name) {#name, (void *) broken_##name}

static const struct
{
	const char *name;
	void	   *function;
}			wrappers[] = {
	WRAPPER(palloc), WRAPPER(palloc0), WRAPPER(repalloc), WRAPPER(repalloc_huge),
	WRAPPER(MemoryContextAlloc), WRAPPER(MemoryContextAllocZero),
	WRAPPER(MemoryContextAllocHuge), WRAPPER(MemoryContextAllocExtended),
#if PG_VERSION_NUM < 170000
	WRAPPER(MemoryContextAllocZeroAligned),
#endif
	WRAPPER(MemoryContextStrdup), WRAPPER(pstrdup), WRAPPER(pnstrdup), WRAPPER(psprintf),
	WRAPPER(AllocSetContextCreateInternal), WRAPPER(lappend), WRAPPER(list_make1_impl),
	WRAPPER(initStringInfo), WRAPPER(enlargeStringInfo), WRAPPER(appendStringInfo),
	WRAPPER(appendStringInfoString), WRAPPER(appendBinaryStringInfo),
	WRAPPER(hash_create), WRAPPER(hash_search), WRAPPER(cstring_to_text),
	WRAPPER(cstring_to_text_with_len), WRAPPER(text_to_cstring), WRAPPER(pg_detoast_datum),
	WRAPPER(pg_detoast_datum_packed), WRAPPER(accumArrayResult),
	WRAPPER(pairingheap_allocate), WRAPPER(SPI_connect), WRAPPER(SPI_prepare),
	WRAPPER(SPI_execute_plan), WRAPPER(StartTransactionCommand),
	WRAPPER(CommitTransactionCommand), WRAPPER(CommandCounterIncrement),
	WRAPPER(BeginInternalSubTransaction), WRAPPER(ReleaseCurrentSubTransaction),
	WRAPPER(GetTransactionSnapshot), WRAPPER(RegisterSnapshot),
	WRAPPER(PushActiveSnapshot), WRAPPER(LockDatabaseObject), WRAPPER(get_extension_oid),
	WRAPPER(table_open), WRAPPER(relation_open), WRAPPER(index_open),
	WRAPPER(SearchSysCache1), WRAPPER(heap_form_tuple), WRAPPER(clock_gettime)
};

static void
set_entry(void **entry, void *function)
{
	uintptr_t	page = (uintptr_t) entry & ~((uintptr_t) sysconf(_SC_PAGESIZE) - 1);

	if (mprotect((void *) page, (uintptr_t) (entry + 1) - page, PROT_READ | PROT_WRITE) != 0)
		elog(ERROR, "could not write the table of the dynamic linker: %m");
	*entry = function;
}

/* Ties one entry, if it is one of ours. */
static void
tie(const char *name, void **entry)
{
	for (int i = 0; i < (int) lengthof(wrappers); i++)
	{
		if (strcmp(name, wrappers[i].name) != 0)
			continue;
		set_entry(entry, wrappers[i].function);
		shared->tied++;
	}
}

static void
tie_table(const ElfW(Rela) *table, size_t size, const ElfW(Sym) *symbols,
		  const char *names, uintptr_t base)
{
	for (size_t i = 0; i < size / sizeof(*table); i++)
	{
		const ElfW(Sym) *symbol = &symbols[ELF64_R_SYM(table[i].r_info)];

		if (ELF64_R_SYM(table[i].r_info) != 0 && symbol->st_shndx == SHN_UNDEF &&
			table[i].r_addend == 0)
			tie(names + symbol->st_name, (void **) (base + table[i].r_offset));
	}
}

static int
tie_library(struct dl_phdr_info *info, size_t size pg_attribute_unused(), void *argument)
{
	const ElfW(Sym) *symbols = NULL;
	const char *names = NULL;
	const ElfW(Rela) *tables[2] = {NULL, NULL};
	size_t		sizes[2] = {0, 0};
	const ElfW(Dyn) *entry = NULL;

	if (strstr(info->dlpi_name, argument) == NULL)
		return 0;
	library_base = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];

		if (header->p_type == PT_LOAD)
			library_end = Max(library_end, library_base + header->p_vaddr + header->p_memsz);
		if (header->p_type == PT_DYNAMIC)
			entry = (const ElfW(Dyn) *) (library_base + header->p_vaddr);
	}
	for (; entry != NULL && entry->d_tag != DT_NULL; entry++)
	{
		switch (entry->d_tag)
		{
			case DT_SYMTAB:
				symbols = (const ElfW(Sym) *) entry->d_un.d_ptr;
				break;
			case DT_STRTAB:
				names = (const char *) entry->d_un.d_ptr;
				break;
			case DT_JMPREL:
				tables[0] = (const ElfW(Rela) *) entry->d_un.d_ptr;
				break;
			case DT_PLTRELSZ:
				sizes[0] = entry->d_un.d_val;
				break;
			case DT_RELA:
				tables[1] = (const ElfW(Rela) *) entry->d_un.d_ptr;
				break;
			case DT_RELASZ:
				sizes[1] = entry->d_un.d_val;
				break;
		}
	}
	for (int i = 0; i < 2; i++)
	{
		if (tables[i] != NULL)
			tie_table(tables[i], sizes[i], symbols, names, library_base);
	}
	return 1;
}

/*
 * calls_arm(process text, code text, depth int): no code disarms.  The process is the type
 * of a background worker, or "session".
 */
Datum
calls_arm(PG_FUNCTION_ARGS)
{
	strlcpy(shared->process, text_to_cstring(PG_GETARG_TEXT_PP(0)), BGW_MAXLEN);
	shared->depth = PG_GETARG_INT32(2);
	if (VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) == 0)
		shared->code = 0;
	else
	{
		char	   *code = text_to_cstring(PG_GETARG_TEXT_PP(1));

		shared->code = MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]);
	}
	PG_RETURN_VOID();
}

/* calls_broken() RETURNS int: how many places were. */
Datum
calls_broken(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(shared->broken);
}

/* calls_pass(seconds int): so much time passes at once. */
Datum
calls_pass(PG_FUNCTION_ARGS)
{
	shared->passed += 1000 * PG_GETARG_INT32(0);
	PG_RETURN_VOID();
}

/* After the library, in the server's first process. */
void
_PG_init(void)
{
	void	   *frame;

	shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		elog(ERROR, "could not get shared memory: %m");
	(void) backtrace(&frame, 1);	/* loads what it needs */
	dl_iterate_phdr(tie_library, "/webhook_events.so");
	if (shared->tied < (int) lengthof(wrappers) / 2)
		elog(ERROR, "the library is not tied to the server by a table");
}
