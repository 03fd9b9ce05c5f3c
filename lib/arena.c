/* SPDX-License-Identifier: Apache-2.0 */
/* arena.c: bump allocation in chained blocks; what is larger than 16 KiB gets a block of its own. */
#include "lib/arena.h"

#include "lib/chunk.h"
#include "lib/mem.h"

#include <stdarg.h>
#include <stdio.h>

#define NO_CLASS CHUNK_CLASSES /* a block from mem_alloc */

struct arena_block {
	struct arena_block *next;
	enum chunk_class class;
};
_Static_assert(sizeof(struct arena_block) <= CHUNK_HEADER, "a block's header fits before a chunk's bytes");

static uint8_t *data(struct arena_block *b)
{
	return (uint8_t *)b + CHUNK_HEADER;
}

void arena_init(struct arena *a, size_t cap)
{
	*a = (struct arena){.cap = cap};
}

void arena_done(struct arena *a)
{
	for (struct arena_block *b = a->head, *next; b; b = next) {
		next = b->next;
		if (b->class == NO_CLASS)
			mem_free(b);
		else
			chunk_put(b, b->class);
	}
	a->head = NULL;
	a->at = a->end = NULL;
	a->used = 0;
}

/* The smallest class that is at least twice the last one's (2, 4, 8, 16 KiB) and holds n; the first n bytes are taken. */
static uint8_t *add_block(struct arena *a, size_t n)
{
	enum chunk_class c = a->head && a->head->class != NO_CLASS ? MIN(a->head->class + 1, CHUNK_16K) : CHUNK_2K;
	struct arena_block *b;

	while (c < NO_CLASS && chunk_size(c) < n)
		c++;
	if (c == NO_CLASS)
		b = mem_alloc(CHUNK_HEADER + n);
	else
		b = chunk_get(c);
	*b = (struct arena_block){.class = c};
	if (c == NO_CLASS && a->head) { /* full from the start: behind the head, whose room stays in use */
		b->next = a->head->next;
		a->head->next = b;
		return data(b);
	}
	b->next = a->head;
	a->head = b;
	a->at = data(b) + n;
	a->end = data(b) + (c == NO_CLASS ? n : chunk_size(c));
	return data(b);
}

void *arena_alloc_block(struct arena *a, size_t n)
{
	size_t rounded = (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	uint8_t *p = a->at;

	if (n == 0)
		rounded = ARENA_ALIGN;
	if (rounded < n || rounded > a->cap - a->used)
		return NULL;
	if (a->at == NULL || (size_t)(a->end - a->at) < rounded)
		p = add_block(a, rounded);
	else
		a->at += rounded;
	a->used += rounded;
	return p;
}

struct str arena_str(struct arena *a, struct str s)
{
	char *p = s.len < SIZE_MAX ? arena_alloc(a, s.len + 1) : NULL;

	if (!p)
		return (struct str){0};
	if (s.len > 0)
		memcpy(p, s.p, s.len);
	p[s.len] = 0;
	return str_make(p, s.len);
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	MUST(len >= 0);
	char *p = arena_alloc(a, (size_t)len + 1);
	if (!p)
		return (struct str){0};
	va_start(ap, fmt);
	vsnprintf(p, (size_t)len + 1, fmt, ap);
	va_end(ap);
	return str_make(p, (size_t)len);
}
