/* SPDX-License-Identifier: Apache-2.0 */
/* sync.c: follows the store. A change that cannot be read (a store written by a later version) leaves in force what was there before. */
#include "control/sync.h"

#include "control/kind.h"
#include "lib/event.h"
#include "lib/mem.h"

struct sync {
	struct store_watch watch;
	struct store *store;
	struct compile *compile;
};

static const struct kind *const kinds[] = {&kind_service, &kind_endpointslice, &kind_httproute};

static void take(struct sync *s, const char *kind, const char *ns, const char *name, json_t *body)
{
	struct err err;
	if (!compile_object(s->compile, kind, ns, name, body, &err))
		event(EV_CONFIG_WARNING, "kind=%s name=\"%s/%s\" error=\"%s\"", kind, ns, name, err.text);
}

static bool take_row(void *ctx, const struct store_row *row)
{
	take(ctx, row->kind, row->ns, row->name, row->body);
	return true;
}

static bool load(struct sync *s, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (!store_each(s->store, kinds[i]->name, NULL, take_row, s, err))
			return false;
	return true;
}

static bool followed(const char *kind)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (strcmp(kind, kinds[i]->name) == 0)
			return true;
	return false;
}

static void on_change(struct store_watch *w, uint64_t revision, const struct store_change *changes, size_t n)
{
	struct sync *s = CONTAINER_OF(w, struct sync, watch);
	for (size_t i = 0; i < n; i++)
		if (followed(changes[i].kind))
			take(s, changes[i].kind, changes[i].ns, changes[i].name, changes[i].body);
}

struct sync *sync_new(struct store *store, struct compile *compile, struct err *err)
{
	struct sync *s = NEW(struct sync);
	s->store = store;
	s->compile = compile;
	list_init(&s->watch.node);
	s->watch.on_change = on_change;
	if (!load(s, err)) {
		mem_free(s);
		return NULL;
	}
	store_watch(store, &s->watch);
	return s;
}

void sync_free(struct sync **sp)
{
	if (*sp)
		store_unwatch(&(*sp)->watch);
	FREE(sp);
}
