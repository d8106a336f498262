/*
 * fuzz.h
 *	  What the fuzzer and its stubs share.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <setjmp.h>

/* Where an ereport(ERROR) goes. */
extern jmp_buf fuzz_error;

/* Frees all that was allocated since the last call. */
extern void fuzz_free_all(void);

#endif							/* FUZZ_H */
