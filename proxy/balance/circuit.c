/* SPDX-License-Identifier: Apache-2.0 */
/* circuit.c: counters by service, and the token bucket of retries. */
#include "proxy/balance/circuit.h"

#include "lib/mem.h"

#include <pthread.h>
#include <string.h>

#define MILLI 1000

struct circuits {
	pthread_mutex_t lock; /* of the map, and of the step from one reference to none */
	struct map map;
};

struct circuits *circuits_new(void)
{
	struct circuits *t = NEW(struct circuits);
	MUST(pthread_mutex_init(&t->lock, NULL) == 0);
	map_init(&t->map);
	return t;
}

void circuits_free(struct circuits **tp)
{
	struct circuits *t = *tp;
	if (t == NULL)
		return;
	MUST(t->map.len == 0);
	map_done(&t->map);
	pthread_mutex_destroy(&t->lock);
	FREE(tp);
}

size_t circuits_len(struct circuits *t)
{
	pthread_mutex_lock(&t->lock);
	size_t len = t->map.len;
	pthread_mutex_unlock(&t->lock);
	return len;
}

static json_t *dump_one(const struct circuit *c)
{
	int64_t milli = __atomic_load_n(&c->retries_milli, __ATOMIC_RELAXED);
	return json_pack("{s:s, s:I, s:I, s:I, s:f}", "service", c->name, "active",
			 (json_int_t)circuit_count(&c->active), "pending", (json_int_t)circuit_count(&c->pending),
			 "connections", (json_int_t)circuit_count(&c->conns), "retriesLeft", (double)milli / MILLI);
}

json_t *circuits_dump(struct circuits *t)
{
	json_t *out = json_array();
	pthread_mutex_lock(&t->lock);
	map_for_each (n, &t->map)
		json_array_append_new(out, dump_one(CONTAINER_OF(n, struct circuit, node)));
	pthread_mutex_unlock(&t->lock);
	return out;
}

/* --- one --- */

static struct circuit *make(struct circuits *t, const char *service, uint64_t now_ms)
{
	size_t len = strlen(service);
	struct circuit *c = mem_zalloc(sizeof(*c) + len + 1);
	memcpy(c->name, service, len);
	c->table = t;
	c->refs = 1;
	c->retries_milli = (int64_t)(RETRY_PER_SECOND * RETRY_SAVED_S * MILLI);
	c->filled_ms = now_ms;
	map_put(&t->map, &c->node, str_make(c->name, len));
	return c;
}

struct circuit *circuit_get(struct circuits *t, const char *service, uint64_t now_ms)
{
	pthread_mutex_lock(&t->lock);
	struct map_node *n = map_get(&t->map, str_of(service));
	struct circuit *c = n != NULL ? circuit_ref(CONTAINER_OF(n, struct circuit, node)) : make(t, service, now_ms);
	pthread_mutex_unlock(&t->lock);
	return c;
}

struct circuit *circuit_ref(struct circuit *c)
{
	if (c != NULL)
		MUST(__atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED) > 0);
	return c;
}

/* Gives a reference back that is not the last one. */
static bool unref_shared(struct circuit *c)
{
	uint32_t refs = __atomic_load_n(&c->refs, __ATOMIC_RELAXED);
	while (refs > 1)
		if (__atomic_compare_exchange_n(&c->refs, &refs, refs - 1, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			return true;
	MUST(refs == 1);
	return false;
}

void circuit_unref(struct circuit **cp)
{
	struct circuit *c = *cp;
	if (c == NULL)
		return;
	*cp = NULL;
	if (unref_shared(c))
		return;
	/* Perhaps the last one: nobody can find it in the table while that is decided. */
	struct circuits *t = c->table;
	pthread_mutex_lock(&t->lock);
	bool last = __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) == 0;
	if (last)
		map_del(&t->map, &c->node);
	pthread_mutex_unlock(&t->lock);
	if (!last)
		return;
	MUST(c->conns == 0 && c->pending == 0 && c->active == 0);
	mem_free(c);
}

/* --- what is on its way --- */

bool circuit_take(uint32_t *count, uint32_t max)
{
	uint32_t n = __atomic_load_n(count, __ATOMIC_RELAXED);
	while (n < max)
		if (__atomic_compare_exchange_n(count, &n, n + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
	return false;
}

void circuit_give(uint32_t *count)
{
	MUST(__atomic_fetch_sub(count, 1, __ATOMIC_RELAXED) > 0);
}

uint32_t circuit_count(const uint32_t *count)
{
	return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/* --- retries --- */

/* Many active requests may all fail at once: as large as their share the bucket is at least. */
static int64_t bucket(const struct circuit *c)
{
	return (int64_t)(MAX(RETRY_PER_SECOND * RETRY_SAVED_S, RETRY_SHARE * (double)circuit_count(&c->active)) *
			 MILLI);
}

static void fill(struct circuit *c, int64_t milli)
{
	int64_t max = bucket(c), n = __atomic_load_n(&c->retries_milli, __ATOMIC_RELAXED);
	while (MIN(n + milli, max) != n)
		if (__atomic_compare_exchange_n(&c->retries_milli, &n, MIN(n + milli, max), true, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return;
}

void circuit_request(struct circuit *c)
{
	fill(c, (int64_t)(RETRY_SHARE * MILLI));
}

bool circuit_retry(struct circuit *c, uint64_t now_ms)
{
	/* Each moment is counted by one thread alone; the clocks of two may differ by a turn. */
	uint64_t then = __atomic_load_n(&c->filled_ms, __ATOMIC_RELAXED);
	while (now_ms > then &&
	       !__atomic_compare_exchange_n(&c->filled_ms, &then, now_ms, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	if (now_ms > then)
		fill(c, (int64_t)MIN((double)(now_ms - then) * RETRY_PER_SECOND, 1e15));
	int64_t n = __atomic_load_n(&c->retries_milli, __ATOMIC_RELAXED);
	while (n >= MILLI)
		if (__atomic_compare_exchange_n(&c->retries_milli, &n, n - MILLI, true, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return true;
	return false;
}
