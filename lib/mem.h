/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h: allocation. Small allocations of our own abort on failure (a proxy that cannot get 100 bytes is dead);
 * whatever a peer can make big is capped by its owner before it comes here. */
#ifndef WEFT_LIB_MEM_H
#define WEFT_LIB_MEM_H

#include "lib/base.h"

void *mem_alloc(size_t n);                  /* uninitialised; never NULL */
void *mem_zalloc(size_t n);                 /* zeroed; never NULL */
void *mem_realloc(void *p, size_t n);       /* never NULL for n > 0 */
void *mem_dup(const void *p, size_t n);     /* copy of n bytes */
char *mem_strdup(const char *s);            /* NULL in, NULL out */
char *mem_strndup(const char *s, size_t n); /* n bytes and a NUL */
char *mem_printf(const char *fmt, ...) PRINTF_LIKE(1, 2);
void mem_free(void *p);                /* accepts NULL */
void mem_wipe(void *p, size_t n);      /* zeroes; not optimised away */
void mem_wipe_free(void *p, size_t n); /* wipe, then free: keys, tokens, passwords */

#define NEW(type) ((type *)mem_zalloc(sizeof(type)))
/* Frees what `pp` points to and nulls it, so that no reachable pointer is left to a dead thing. */
#define FREE(pp)  (mem_free(*(pp)), *(pp) = NULL)

#endif
