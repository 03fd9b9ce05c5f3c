/* SPDX-License-Identifier: Apache-2.0 */
/* verdict.c: a map and a list in order of use. Bound: 4,096 entries of about 120 bytes and their keys, below 3 MiB at the worst
 * (longest names), 0.6 MiB as names are. */
#include "proxy/verdict.h"

#include "lib/list.h"
#include "lib/map.h"
#include "lib/mem.h"

#include <stdio.h>

struct entry {
	struct map_node node;
	struct list used; /* in verdicts.used, the longest unused first */
	enum known is;
	uint64_t confirmed_ms;
	char key[];
};

struct verdicts {
	struct map map;
	struct list used;
};

static void set_len(struct verdict_key *k, int n)
{
	k->len = MIN((size_t)MAX(n, 0), sizeof(k->text) - 1);
}

void verdict_key_service(struct verdict_key *k, const char *name, const char *version, uint16_t port)
{
	set_len(k, snprintf(k->text, sizeof(k->text), "%u %s %s", port, name, version));
}

void verdict_key_addr(struct verdict_key *k, const struct addr *a)
{
	char text[ADDR_TEXT_MAX];
	set_len(k, snprintf(k->text, sizeof(k->text), "%s", addr_text(a, text)));
}

void verdict_key_ip(struct verdict_key *k, const struct ip *ip)
{
	memcpy(k->text, ip->b, ip->len);
	k->len = ip->len;
}

struct verdicts *verdicts_new(void)
{
	struct verdicts *v = NEW(struct verdicts);
	map_init(&v->map);
	list_init(&v->used);
	return v;
}

static void drop(struct verdicts *v, struct entry *e)
{
	map_del(&v->map, &e->node);
	list_remove(&e->used);
	mem_free(e);
}

void verdicts_free(struct verdicts **vp)
{
	struct verdicts *v = *vp;
	if (v == NULL)
		return;
	list_for_each_safe (e, &v->used, struct entry, used)
		drop(v, e);
	map_done(&v->map);
	FREE(vp);
}

size_t verdicts_len(const struct verdicts *v)
{
	return v->map.len;
}

static struct entry *find(const struct verdicts *v, const struct verdict_key *k)
{
	struct map_node *n = map_get(&v->map, str_make(k->text, k->len));
	return n != NULL ? CONTAINER_OF(n, struct entry, node) : NULL;
}

static void touch(struct verdicts *v, struct entry *e)
{
	list_remove(&e->used);
	list_push(&v->used, &e->used);
}

enum known verdict_get(struct verdicts *v, const struct verdict_key *k, uint64_t now_ms)
{
	struct entry *e = find(v, k);
	if (e == NULL)
		return KNOWN_NOTHING;
	if (now_ms - e->confirmed_ms >= VERDICT_MS) {
		drop(v, e);
		return KNOWN_NOTHING;
	}
	touch(v, e);
	return e->is;
}

bool verdict_learn(struct verdicts *v, const struct verdict_key *k, enum known is, uint64_t now_ms)
{
	MUST(is != KNOWN_NOTHING);
	struct entry *e = find(v, k);
	if (e == NULL) {
		if (v->map.len >= VERDICT_MAX)
			drop(v, list_first(&v->used, struct entry, used));
		e = mem_zalloc(sizeof(*e) + k->len);
		memcpy(e->key, k->text, k->len);
		list_init(&e->used);
		map_put(&v->map, &e->node, str_make(e->key, k->len));
	}
	bool news = e->is != is || now_ms - e->confirmed_ms >= VERDICT_MS;
	e->is = is;
	e->confirmed_ms = now_ms;
	touch(v, e);
	return news;
}

void verdict_forget(struct verdicts *v, const struct verdict_key *k)
{
	struct entry *e = find(v, k);
	if (e != NULL)
		drop(v, e);
}

void verdict_doubt(struct verdicts *v, const struct verdict_key *k, uint64_t now_ms)
{
	struct entry *e = find(v, k);
	if (e != NULL && now_ms - e->confirmed_ms >= VERDICT_DOUBT_MS)
		drop(v, e);
}
