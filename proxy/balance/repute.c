/* SPDX-License-Identifier: Apache-2.0 */
/* repute.c: the table, by key under a lock, and the atomics of each entry. */
#include "proxy/balance/repute.h"

#include "lib/mem.h"

#include <pthread.h>
#include <string.h>

struct reputes {
	pthread_mutex_t lock; /* of the map, of ejections, and of the step from one reference to none */
	struct map map;
	unsigned epoch; /* atomic */
	uint32_t order; /* atomic */
};

struct reputes *reputes_new(void)
{
	struct reputes *t = NEW(struct reputes);
	MUST(pthread_mutex_init(&t->lock, NULL) == 0);
	map_init(&t->map);
	return t;
}

void reputes_free(struct reputes **tp)
{
	struct reputes *t = *tp;
	if (t == NULL)
		return;
	MUST(t->map.len == 0);
	map_done(&t->map);
	pthread_mutex_destroy(&t->lock);
	FREE(tp);
}

void reputes_lock(struct reputes *t)
{
	pthread_mutex_lock(&t->lock);
}

void reputes_unlock(struct reputes *t)
{
	pthread_mutex_unlock(&t->lock);
}

size_t reputes_len(struct reputes *t)
{
	reputes_lock(t);
	size_t len = t->map.len;
	reputes_unlock(t);
	return len;
}

unsigned reputes_epoch(const struct reputes *t)
{
	return __atomic_load_n(&t->epoch, __ATOMIC_ACQUIRE);
}

uint32_t reputes_order(struct reputes *t)
{
	return __atomic_add_fetch(&t->order, 1, __ATOMIC_RELAXED);
}

/* --- entries --- */

struct repute *repute_new(struct reputes *t, struct str key)
{
	struct repute *r = mem_zalloc(sizeof(*r) + key.len + 1);
	memcpy(r->key, key.p, key.len);
	r->table = t;
	r->refs = 1;
	return r;
}

struct repute *repute_get(struct reputes *t, struct str key, const struct addr *addr)
{
	reputes_lock(t);
	struct map_node *n = map_get(&t->map, key);
	struct repute *r = n != NULL ? CONTAINER_OF(n, struct repute, node) : repute_new(t, key);
	if (n != NULL) {
		MUST(__atomic_fetch_add(&r->refs, 1, __ATOMIC_RELAXED) > 0);
	} else {
		r->addr = *addr;
		map_put(&t->map, &r->node, str_make(r->key, key.len));
	}
	reputes_unlock(t);
	return r;
}

void repute_unref(struct repute **rp)
{
	struct repute *r = *rp;
	if (r == NULL)
		return;
	*rp = NULL;
	struct reputes *t = r->table;
	reputes_lock(t); /* nobody can find it meanwhile */
	bool last = __atomic_sub_fetch(&r->refs, 1, __ATOMIC_ACQ_REL) == 0;
	if (last && r->node.key.p != NULL)
		map_del(&t->map, &r->node);
	reputes_unlock(t);
	if (last)
		mem_free(r);
}

/* --- failures --- */

uint32_t repute_failed(struct repute *r)
{
	REPUTE_WRITE(r, failed_at, reputes_order(r->table));
	return __atomic_add_fetch(&r->failures, 1, __ATOMIC_RELAXED);
}

/* Looked at before it is written: all threads read it. */
void repute_good(struct repute *r)
{
	if (REPUTE_READ(r, failures) != 0)
		REPUTE_WRITE(r, failures, 0);
	if (REPUTE_READ(r, last_choice_ms) != 0)
		REPUTE_WRITE(r, last_choice_ms, 0);
}

void repute_eject(struct repute *r, const void *by, uint64_t until_ms)
{
	MUST(!r->ejected);
	REPUTE_WRITE(r, by, by);
	REPUTE_WRITE(r, until_ms, until_ms);
	REPUTE_WRITE(r, ejections, r->ejections + 1);
	REPUTE_WRITE(r, last_choice_ms, 0);
	REPUTE_WRITE(r, ejected, true);
	__atomic_fetch_add(&r->table->epoch, 1, __ATOMIC_RELEASE);
}

void repute_return(struct repute *r)
{
	MUST(r->ejected);
	REPUTE_WRITE(r, by, NULL);
	REPUTE_WRITE(r, failures, 0);
	REPUTE_WRITE(r, ejected, false);
	__atomic_fetch_add(&r->table->epoch, 1, __ATOMIC_RELEASE);
}

/* --- times --- */

/* Without a library of its own. */
double repute_decayed(double us, uint64_t dt_us)
{
	double x = 1 - (double)dt_us / REPUTE_DECAY_US / 16;
	if (x <= 0)
		return 0;
	x *= x;
	x *= x;
	x *= x;
	x *= x;
	us *= x;
	return us < 1 ? 0 : us;
}

static uint64_t since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
}

double repute_slowest(const struct repute *r, uint64_t now_us)
{
	return repute_decayed((double)REPUTE_READ(r, answer_us), since(now_us, REPUTE_READ(r, heard_us)));
}

/* Two threads that come at once may lose the one or the other answer: the next one says it again. */
void repute_heard(struct repute *r, uint64_t now_us, double took_us)
{
	double slowest = repute_slowest(r, now_us);
	uint64_t heard = REPUTE_READ(r, heard_us);
	if (took_us <= slowest && since(now_us, heard) < REPUTE_HEARD_US)
		return;
	REPUTE_WRITE(r, answer_us, (uint64_t)MAX(took_us, slowest));
	REPUTE_WRITE(r, heard_us, MAX(now_us, heard));
}

uint64_t repute_hung(const struct repute *r, uint64_t now_us)
{
	uint64_t seen = REPUTE_READ(r, hangs_seen_us), began = REPUTE_READ(r, hangs_us);
	if (seen == 0 || since(now_us, seen) >= REPUTE_HANGS_US || began < REPUTE_READ(r, heard_us))
		return 0;
	return since(now_us, began);
}

/* The oldest one counts; whoever has that says so again, or it is forgotten. */
void repute_hangs(struct repute *r, uint64_t now_us, uint64_t began_us)
{
	uint64_t hung = repute_hung(r, now_us);
	if (hung != 0 && REPUTE_READ(r, hangs_us) < began_us)
		return;
	REPUTE_WRITE(r, hangs_us, began_us);
	REPUTE_WRITE(r, hangs_seen_us, now_us);
}
