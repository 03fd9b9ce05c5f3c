/* SPDX-License-Identifier: Apache-2.0 */
/* push_index.c: the maps of names and resources behind push.c, by which a change finds its subscribers without looking at any
 * proxy that did not ask. Where two resources claim one name (an address taken over while the old lease still runs) the newest
 * claim answers, and the older one again when the newest is gone. */
#include "control/push_index.h"

#include "lib/mem.h"

void push_index_init(struct push_index *x)
{
	for (size_t t = 0; t < PUSHED_TYPES; t++) {
		map_init(&x->slots[t]);
		map_init(&x->entries[t]);
	}
}

static void touch_nobody(void *ctx, struct slot *slot)
{
}

void push_index_done(struct push_index *x)
{
	for (size_t t = 0; t < PUSHED_TYPES; t++) {
		map_for_each (it, &x->entries[t]) {
			struct entry *e = CONTAINER_OF(it, struct entry, node);
			push_index_remove(x, (enum pushed_type)t, e->node.key, touch_nobody, NULL);
		}
		MUST(x->entries[t].len == 0 && x->slots[t].len == 0);
		map_done(&x->slots[t]);
		map_done(&x->entries[t]);
	}
}

struct slot *push_index_slot(struct push_index *x, enum pushed_type type, struct str name)
{
	struct map_node *n = map_get(&x->slots[type], name);
	if (n)
		return CONTAINER_OF(n, struct slot, node);
	struct slot *slot = mem_zalloc(sizeof(*slot) + name.len + 1);
	memcpy(slot->name, name.p, name.len);
	slot->type = type;
	list_init(&slot->subs);
	list_init(&slot->claims);
	map_put(&x->slots[type], &slot->node, str_make(slot->name, name.len));
	return slot;
}

void push_index_slot_drop(struct push_index *x, struct slot *slot)
{
	if (!list_empty(&slot->subs) || !list_empty(&slot->claims))
		return;
	map_del(&x->slots[slot->type], &slot->node);
	mem_free(slot);
}

struct entry *push_index_entry_find(const struct push_index *x, enum pushed_type type, struct str key)
{
	struct map_node *n = map_get(&x->entries[type], key);
	return n ? CONTAINER_OF(n, struct entry, node) : NULL;
}

struct entry *push_index_entry(struct push_index *x, enum pushed_type type, struct str key)
{
	struct entry *e = push_index_entry_find(x, type, key);
	if (e)
		return e;
	e = mem_zalloc(sizeof(*e) + key.len + 1);
	memcpy(e->key, key.p, key.len);
	e->type = type;
	list_init(&e->helds);
	map_put(&x->entries[type], &e->node, str_make(e->key, key.len));
	return e;
}

void push_index_entry_drop(struct push_index *x, struct entry *e)
{
	if (e->res || !list_empty(&e->helds))
		return;
	MUST(e->n_claims == 0);
	map_del(&x->entries[e->type], &e->node);
	mem_free(e->claims);
	mem_free(e);
}

struct entry *slot_owner(const struct slot *slot)
{
	struct claim *c = list_first(&slot->claims, struct claim, in_slot);
	return c ? c->entry : NULL;
}

static void want(struct push_index *x, struct entry *e, const char *name)
{
	for (size_t i = 0; i < e->n_claims; i++)
		if (strcmp(e->claims[i]->slot->name, name) == 0) {
			e->claims[i]->wanted = true;
			return;
		}
	struct claim *c = NEW(struct claim);
	c->slot = push_index_slot(x, e->type, str_of(name));
	c->entry = e;
	c->wanted = true;
	list_push_front(&c->slot->claims, &c->in_slot);
	e->claims = mem_realloc(e->claims, (e->n_claims + 1) * sizeof(*e->claims));
	e->claims[e->n_claims++] = c;
}

/* Every slot that the entry had or has is touched; those that it no longer claims are let go. */
static void settle(struct push_index *x, struct entry *e, void (*touched)(void *ctx, struct slot *slot), void *ctx)
{
	size_t kept = 0;
	for (size_t i = 0; i < e->n_claims; i++) {
		struct claim *c = e->claims[i];
		touched(ctx, c->slot);
		if (c->wanted) {
			c->wanted = false;
			e->claims[kept++] = c;
			continue;
		}
		list_remove(&c->in_slot);
		push_index_slot_drop(x, c->slot);
		mem_free(c);
	}
	e->n_claims = kept;
}

bool push_index_set(struct push_index *x, struct pushed *res, void (*touched)(void *ctx, struct slot *slot), void *ctx)
{
	struct entry *e = push_index_entry(x, res->type, str_of(res->key));
	if (e->res && strcmp(e->res->version, res->version) == 0)
		return false;
	pushed_ref(res);
	pushed_unref(&e->res);
	e->res = res;
	want(x, e, res->key);
	for (size_t i = 0; i < res->n_aliases; i++)
		want(x, e, res->aliases[i]);
	if (res->type == PUSHED_MESH)
		want(x, e, "*");
	settle(x, e, touched, ctx);
	return true;
}

bool push_index_remove(struct push_index *x, enum pushed_type type, struct str key,
		       void (*touched)(void *ctx, struct slot *slot), void *ctx)
{
	struct entry *e = push_index_entry_find(x, type, key);
	if (!e || !e->res)
		return false;
	pushed_unref(&e->res);
	settle(x, e, touched, ctx);
	push_index_entry_drop(x, e);
	return true;
}
