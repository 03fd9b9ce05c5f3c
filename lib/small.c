/* SPDX-License-Identifier: Apache-2.0 */
/* small.c: a header of 16 bytes before each block says its size; free lists by power of two. */
#include "lib/small.h"

#include "lib/mem.h"

#include <pthread.h>
#include <string.h>

#define CLASSES 5 /* 64 << class */
#define LARGE   CLASSES

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool pooled = false; /* a use after free inside the library must be seen */
#else
static const bool pooled = true;
#endif

struct block {
	union {
		size_t size;        /* in use: bytes behind the header */
		struct block *next; /* free */
	};
	size_t class;
};
_Static_assert(sizeof(struct block) == 16, "what follows is aligned as malloc(3) aligns");

struct lists {
	struct block *head[CLASSES];
	unsigned len[CLASSES];
	bool known; /* thread_done will run for this thread */
};

static _Thread_local struct lists lists;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void thread_done(void *arg)
{
	struct lists *l = arg;
	for (unsigned c = 0; c < CLASSES; c++) {
		for (struct block *b = l->head[c], *next; b; b = next) {
			next = b->next;
			mem_free(b);
		}
		l->head[c] = NULL;
		l->len[c] = 0;
	}
	l->known = false;
}

static void make_key(void)
{
	MUST(pthread_key_create(&key, thread_done) == 0);
}

static size_t class_of(size_t size)
{
	size_t c = size <= 64 ? 0 : 58 - (size_t)__builtin_clzl(size - 1);
	return pooled ? MIN(c, (size_t)LARGE) : LARGE;
}

static size_t room(const struct block *b)
{
	return b->class < LARGE ? (size_t)64 << b->class : b->size;
}

void *small_alloc(size_t size)
{
	size_t c = class_of(MAX(size, (size_t)1));
	struct block *b = c < LARGE ? lists.head[c] : NULL;
	if (b != NULL) {
		lists.head[c] = b->next;
		lists.len[c]--;
	} else {
		b = mem_alloc(sizeof(*b) + (c < LARGE ? (size_t)64 << c : MAX(size, (size_t)1)));
	}
	b->size = size;
	b->class = c;
	return b + 1;
}

void *small_zalloc(size_t size)
{
	return memset(small_alloc(size), 0, size);
}

void small_free(void *p)
{
	if (p == NULL)
		return;
	struct block *b = (struct block *)p - 1;
	size_t c = b->class;
	if (c == LARGE || (size_t)lists.len[c] * ((size_t)64 << c) >= SMALL_KEPT) {
		mem_free(b);
		return;
	}
	if (!lists.known) {
		pthread_once(&key_once, make_key);
		MUST(pthread_setspecific(key, &lists) == 0);
		lists.known = true;
	}
	b->next = lists.head[c];
	lists.head[c] = b;
	lists.len[c]++;
}

void *small_realloc(void *p, size_t size)
{
	if (p == NULL)
		return small_alloc(size);
	struct block *b = (struct block *)p - 1;
	if (b->class < LARGE && size <= room(b)) {
		b->size = size;
		return p;
	}
	void *to = small_alloc(size);
	memcpy(to, p, MIN(b->size, size));
	small_free(p);
	return to;
}
