/* SPDX-License-Identifier: Apache-2.0 */
/* chunk.h: blocks of a few fixed sizes for arenas and buffers, with a small cache a thread so that a busy loop does not
 * go to malloc for each message. At most 64 blocks of each size wait in the caches of all threads (1.9 MiB in all; at least 8 in each); they
 * are freed when the thread ends. Under AddressSanitizer nothing is cached, so that a use after free is seen.
 *
 * What all threads took from malloc is counted where a cache is missed, so that who bounds memory (lib/pressure.h) sees a burst of buffers at
 * once: chunk_trip() sets a mark, and past it readers wait for the next turn (chunk_tripped) while the loop is told. Counted twice: what is held, and the
 * footprint. Each thread has a heap of its own, and what one gives back is no memory for another one until chunk_trim() and malloc_trim(3). */
#ifndef WEFT_LIB_CHUNK_H
#define WEFT_LIB_CHUNK_H

#include "lib/base.h"

/* Usable bytes are these and CHUNK_HEADER for the owner's own bookkeeping. */
#define CHUNK_HEADER 64
enum chunk_class { CHUNK_2K, CHUNK_4K, CHUNK_8K, CHUNK_16K, CHUNK_CLASSES };

static inline size_t chunk_size(enum chunk_class c)
{
	return (size_t)2048 << c;
}

void *chunk_get(enum chunk_class c); /* CHUNK_HEADER + chunk_size(c) bytes, uninitialised; never NULL */
void chunk_put(void *p, enum chunk_class c);
/* So many threads have a cache: what all of them may keep is what one may, in even parts. Before they run; 1 until then. */
void chunk_threads(unsigned n);
/* Gives this thread's cache back to malloc. malloc_trim() should follow: what was given back by then is not in the footprint any more. */
void chunk_trim(void);
/* Bytes that all threads hold, cached ones too. */
size_t chunk_total(void);
/* The most that each thread held since its last chunk_trim(), of all of them. */
size_t chunk_footprint(void);
/* Calls fn once, on whichever thread, when total or footprint have first grown by more than that (SIZE_MAX: never). Replaces what was set before. */
void chunk_trip(size_t more, void (*fn)(void));
/* As if they had, until the next chunk_trip(). */
void chunk_hold(void);
/* They have, whether fn was called yet or not: nothing that can wait should take more. */
bool chunk_tripped(void);

#endif
