/* SPDX-License-Identifier: Apache-2.0 */
/* chunk.c: free lists a thread and size, and the count of what they took from malloc. */
#include "lib/chunk.h"

#include "lib/mem.h"

#include <pthread.h>
#include <stdatomic.h>

/* Free chunks of each size that the process keeps: 1.9 MiB in all. None where the sanitizer is to see each use. */
#ifdef __SANITIZE_ADDRESS__
#define CACHED_MAX 0u
#else
#define CACHED_MAX 64u
#endif
#define CACHED_LEAST 8u /* of a thread: fewer are no cache */

static unsigned cached_max = CACHED_MAX; /* of one thread */

struct free_chunk {
	struct free_chunk *next;
};

struct cache {
	struct free_chunk *head[CHUNK_CLASSES];
	unsigned len[CHUNK_CLASSES];
	int64_t
	    held; /* bytes taken from malloc less those given back; negative where others' were given back at the end */
	int64_t high; /* the most since chunk_trim() */
	bool known;   /* thread_done will run for this thread */
};

static _Thread_local struct cache cache;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static atomic_size_t total, footprint;
static atomic_size_t trip_total = SIZE_MAX, trip_footprint = SIZE_MAX;
static _Atomic(void (*)(void)) trip_fn;

void chunk_threads(unsigned n)
{
	MUST(n > 0);
	cached_max = MIN(CACHED_MAX, MAX(CACHED_MAX / n, CACHED_LEAST));
}

static void give_back(void *p, size_t size)
{
	atomic_fetch_sub_explicit(&total, size, memory_order_relaxed);
	cache.held -= (int64_t)size;
	mem_free(p);
}

static void empty(struct cache *c)
{
	for (enum chunk_class i = 0; i < CHUNK_CLASSES; i++) {
		for (struct free_chunk *f = c->head[i], *next; f; f = next) {
			next = f->next;
			give_back(f, CHUNK_HEADER + chunk_size(i));
		}
		c->head[i] = NULL;
		c->len[i] = 0;
	}
}

/* The heap of this thread keeps nothing for it. */
static void forget_high(struct cache *c)
{
	int64_t held = MAX(c->held, 0);

	if (c->high > held)
		atomic_fetch_sub_explicit(&footprint, (size_t)(c->high - held), memory_order_relaxed);
	c->high = held;
}

static void thread_done(void *arg)
{
	struct cache *c = arg;

	empty(c);
	forget_high(c);
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

static void count(size_t size)
{
	atomic_fetch_add_explicit(&total, size, memory_order_relaxed);
	cache.held += (int64_t)size;
	if (cache.held <= cache.high)
		return;
	atomic_fetch_add_explicit(&footprint, (size_t)(cache.held - cache.high), memory_order_relaxed);
	cache.high = cache.held;
}

static void *take(size_t size)
{
	count(size);
	if (chunk_tripped()) {
		void (*fn)(void) = atomic_exchange(&trip_fn, NULL);
		if (fn)
			fn();
	}
	return mem_alloc(size);
}

void *chunk_get(enum chunk_class c)
{
	struct free_chunk *f = cache.head[c];

	if (!f)
		return take(CHUNK_HEADER + chunk_size(c));
	cache.head[c] = f->next;
	cache.len[c]--;
	return f;
}

void chunk_put(void *p, enum chunk_class c)
{
	struct free_chunk *f = p;

	if (cache.len[c] >= cached_max) {
		give_back(p, CHUNK_HEADER + chunk_size(c));
		return;
	}
	if (!cache.known)
		make_known();
	f->next = cache.head[c];
	cache.head[c] = f;
	cache.len[c]++;
}

void chunk_trim(void)
{
	empty(&cache);
	forget_high(&cache);
}

size_t chunk_footprint(void)
{
	return atomic_load_explicit(&footprint, memory_order_relaxed);
}

size_t chunk_total(void)
{
	return atomic_load_explicit(&total, memory_order_relaxed);
}

static size_t from(size_t now, size_t more)
{
	return more < SIZE_MAX - now ? now + more : SIZE_MAX;
}

void chunk_trip(size_t more, void (*fn)(void))
{
	atomic_store(&trip_fn, fn);
	atomic_store(&trip_footprint, from(chunk_footprint(), more));
	atomic_store(&trip_total, from(chunk_total(), more));
}

void chunk_hold(void)
{
	atomic_store(&trip_fn, NULL);
	atomic_store(&trip_total, 0);
}

bool chunk_tripped(void)
{
	return chunk_total() > atomic_load_explicit(&trip_total, memory_order_relaxed) ||
	       chunk_footprint() > atomic_load_explicit(&trip_footprint, memory_order_relaxed);
}
