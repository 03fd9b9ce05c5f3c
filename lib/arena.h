/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h: bump memory with a cap, freed as one. A request's bytes live in its arena, a connection's in its own.
 * First block 2 KiB, then doubling to 16 KiB; blocks come back to a bounded per-thread cache (64 blocks). */
#ifndef WEFT_LIB_ARENA_H
#define WEFT_LIB_ARENA_H

#include "lib/str.h"

struct arena {
	struct arena_block *head;
	size_t used; /* bytes handed out */
	size_t cap;  /* most that may be handed out */
};

void arena_init(struct arena *a, size_t cap);
void arena_done(struct arena *a); /* frees everything; the arena may be used again after arena_init */
/* n bytes aligned to 16; NULL when the cap would be passed (the caller refuses the peer with a reason). */
void *arena_alloc(struct arena *a, size_t n) MUST_USE;
/* A copy with a NUL behind it (not counted in len); p NULL when the cap would be passed. */
struct str arena_str(struct arena *a, struct str s) MUST_USE;
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
