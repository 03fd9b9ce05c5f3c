/* SPDX-License-Identifier: Apache-2.0 */
/* chunk.c: free lists a thread and size. */
#include "lib/chunk.h"

#include "lib/mem.h"

#include <pthread.h>

#ifdef __SANITIZE_ADDRESS__
static const unsigned cached_max = 0;
#else
static const unsigned cached_max = 64;
#endif

struct free_chunk {
	struct free_chunk *next;
};

struct cache {
	struct free_chunk *head[CHUNK_CLASSES];
	unsigned len[CHUNK_CLASSES];
	bool known; /* thread_done will run for this thread */
};

static _Thread_local struct cache cache;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void thread_done(void *arg)
{
	struct cache *c = arg;

	for (unsigned i = 0; i < CHUNK_CLASSES; i++) {
		for (struct free_chunk *f = c->head[i], *next; f; f = next) {
			next = f->next;
			mem_free(f);
		}
		c->head[i] = NULL;
		c->len[i] = 0;
	}
	c->known = false;
}

static void make_key(void)
{
	MUST(pthread_key_create(&key, thread_done) == 0);
}

static void make_known(void)
{
	pthread_once(&key_once, make_key);
	MUST(pthread_setspecific(key, &cache) == 0);
	cache.known = true;
}

void *chunk_get(enum chunk_class c)
{
	struct free_chunk *f = cache.head[c];

	if (!f)
		return mem_alloc(CHUNK_HEADER + chunk_size(c));
	cache.head[c] = f->next;
	cache.len[c]--;
	return f;
}

void chunk_put(void *p, enum chunk_class c)
{
	struct free_chunk *f = p;

	if (cache.len[c] >= cached_max) {
		mem_free(p);
		return;
	}
	if (!cache.known)
		make_known();
	f->next = cache.head[c];
	cache.head[c] = f;
	cache.len[c]++;
}
