/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h: bump memory with a cap, freed as one. A request's bytes live in its arena, a connection's in its own.
 * First block 2 KiB, then doubling to 16 KiB; blocks come back to a bounded per-thread cache (64 blocks). */
#ifndef WEFT_LIB_ARENA_H
#define WEFT_LIB_ARENA_H

#include "lib/str.h"

#define ARENA_ALIGN 16

struct arena {
	struct arena_block *head;
	uint8_t *at, *end; /* room in the last block; NULL: none */
	size_t used;       /* bytes handed out */
	size_t cap;        /* most that may be handed out */
};

void arena_init(struct arena *a, size_t cap);
void arena_done(struct arena *a); /* frees everything; the arena may be used again after arena_init */
void *arena_alloc_block(struct arena *a, size_t n) MUST_USE; /* arena_alloc() where the last block has no room */
/* n bytes aligned to 16; NULL when the cap would be passed (the caller refuses the peer with a reason). */
static inline void *arena_alloc(struct arena *a, size_t n)
{
	size_t rounded = (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	if (rounded == 0 || rounded > (size_t)(a->end - a->at) || rounded > a->cap - a->used)
		return arena_alloc_block(a, n);
	uint8_t *p = a->at;
	a->at += rounded;
	a->used += rounded;
	return p;
}
/* A copy with a NUL behind it (not counted in len); p NULL when the cap would be passed. */
struct str arena_str(struct arena *a, struct str s) MUST_USE;
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
