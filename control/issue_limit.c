/* SPDX-License-Identifier: Apache-2.0 */
/* issue_limit.c: one bucket a source: `debt_ms` is what its refusals cost and time pays back. */
#include "control/issue_limit.h"

#include "lib/list.h"
#include "lib/map.h"
#include "lib/mem.h"

#define DEBT_MAX_MS ((uint64_t)ISSUE_LIMIT_BURST * ISSUE_LIMIT_EACH_MS)

struct source {
	struct map_node node;
	struct list age; /* the least recently refused first */
	uint8_t key[9];  /* length, then 4 bytes of IPv4 or 8 of IPv6 */
	uint64_t debt_ms, at_ms;
};

struct issue_limit {
	struct map map;
	struct list by_age;
};

struct issue_limit *issue_limit_new(void)
{
	struct issue_limit *l = NEW(struct issue_limit);
	map_init(&l->map);
	list_init(&l->by_age);
	return l;
}

static void drop(struct issue_limit *l, struct source *s)
{
	map_del(&l->map, &s->node);
	list_remove(&s->age);
	mem_free(s);
}

void issue_limit_free(struct issue_limit **pl)
{
	struct issue_limit *l = *pl;
	*pl = NULL;
	if (!l)
		return;
	for (struct source *s; (s = list_first(&l->by_age, struct source, age)) != NULL;)
		drop(l, s);
	map_done(&l->map);
	mem_free(l);
}

static struct str key_of(const struct ip *from, uint8_t key[static 9])
{
	uint8_t n = from->len == 16 ? 8 : from->len;
	key[0] = from->len;
	memcpy(key + 1, from->b, n);
	return str_make(key, (size_t)n + 1);
}

static struct source *find(struct issue_limit *l, const struct ip *from)
{
	uint8_t key[9];
	struct map_node *n = map_get(&l->map, key_of(from, key));
	return n ? CONTAINER_OF(n, struct source, node) : NULL;
}

static void pay_back(struct source *s, uint64_t now_ms)
{
	uint64_t passed = now_ms > s->at_ms ? now_ms - s->at_ms : 0;
	s->debt_ms -= MIN(s->debt_ms, passed);
	s->at_ms = now_ms;
}

uint64_t issue_limit_wait_ms(struct issue_limit *l, const struct ip *from, uint64_t now_ms)
{
	struct source *s = find(l, from);
	if (!s)
		return 0;
	pay_back(s, now_ms);
	return s->debt_ms + ISSUE_LIMIT_EACH_MS > DEBT_MAX_MS ? s->debt_ms + ISSUE_LIMIT_EACH_MS - DEBT_MAX_MS : 0;
}

void issue_limit_refused(struct issue_limit *l, const struct ip *from, uint64_t now_ms)
{
	struct source *s = find(l, from);
	if (s) {
		list_remove(&s->age);
	} else {
		if (l->map.len >= ISSUE_LIMIT_SOURCES)
			drop(l, list_first(&l->by_age, struct source, age));
		s = NEW(struct source);
		s->at_ms = now_ms;
		map_put(&l->map, &s->node, key_of(from, s->key));
	}
	list_push(&l->by_age, &s->age);
	pay_back(s, now_ms);
	s->debt_ms += ISSUE_LIMIT_EACH_MS;
}

size_t issue_limit_sources(const struct issue_limit *l)
{
	return l->map.len;
}
