/* SPDX-License-Identifier: Apache-2.0 */
/* map.c: chained hash map. SipHash-1-3 with a key drawn once a process, so that a peer cannot aim keys at one slot. */
#include "lib/map.h"

#include "lib/mem.h"

#include <pthread.h>
#include <sys/random.h>

#define FIRST_CAP 16

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void draw_seed(void)
{
	MUST(getrandom(seed, sizeof(seed), 0) == (ssize_t)sizeof(seed));
}

static inline uint64_t rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline void sip_round(uint64_t v[static 4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static uint64_t hash(struct str key)
{
	uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du, seed[0] ^ 0x6c7967656e657261u,
			 seed[1] ^ 0x7465646279746573u};
	uint64_t last = (uint64_t)key.len << 56, word;
	const char *p = key.p, *end = key.p + (key.len & ~(size_t)7);

	for (; p != end; p += 8) {
		memcpy(&word, p, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; i < (key.len & 7); i++)
		last |= (uint64_t)(uint8_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *m)
{
	pthread_once(&seed_once, draw_seed);
	*m = (struct map){0};
}

void map_done(struct map *m)
{
	mem_free(m->slots);
	*m = (struct map){0};
}

static struct map_node *find(const struct map *m, struct str key, uint64_t h)
{
	for (struct map_node *n = m->slots[h & (m->cap - 1)]; n; n = n->next)
		if (n->hash == h && str_eq(n->key, key))
			return n;
	return NULL;
}

struct map_node *map_get(const struct map *m, struct str key)
{
	return m->len ? find(m, key, hash(key)) : NULL;
}

static void grow(struct map *m)
{
	size_t cap = m->cap ? m->cap * 2 : FIRST_CAP;
	struct map_node **slots = mem_zalloc(cap * sizeof(struct map_node *));

	for (size_t i = 0; i < m->cap; i++) {
		for (struct map_node *n = m->slots[i], *next; n; n = next) {
			next = n->next;
			n->next = slots[n->hash & (cap - 1)];
			slots[n->hash & (cap - 1)] = n;
		}
	}
	mem_free(m->slots);
	m->slots = slots;
	m->cap = cap;
}

void map_put(struct map *m, struct map_node *n, struct str key)
{
	n->key = key;
	n->hash = hash(key);
	if (m->len >= m->cap)
		grow(m);
	MUST(!find(m, key, n->hash));
	struct map_node **slot = &m->slots[n->hash & (m->cap - 1)];
	n->next = *slot;
	*slot = n;
	m->len++;
}

void map_del(struct map *m, struct map_node *n)
{
	MUST(m->len > 0);
	struct map_node **at = &m->slots[n->hash & (m->cap - 1)];
	while (*at && *at != n)
		at = &(*at)->next;
	MUST(*at == n);
	*at = n->next;
	n->next = NULL;
	m->len--;
}

struct map_node *map_next(const struct map *m, const struct map_node *n)
{
	size_t slot = 0;

	if (n) {
		if (n->next)
			return n->next;
		slot = (n->hash & (m->cap - 1)) + 1;
	}
	for (; slot < m->cap; slot++)
		if (m->slots[slot])
			return m->slots[slot];
	return NULL;
}
