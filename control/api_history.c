/* SPDX-License-Identifier: Apache-2.0 */
/* api_history.c: revisions: listing them, showing one, and going back to one. Going back is a new revision made of the bodies that
 * were in force then; they are checked again, since what was right for an older weftd may not be for this one. */
#include "control/api_impl.h"
#include "control/kind.h"
#include "control/store_history.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <string.h>

#define LIMIT_DEFAULT 50
#define LIMIT_MAX     1000
#define BODIES_MAX    (8 * 1024 * 1024) /* bytes of the objects that one answer shows */

/* Lines of the history were cut to their size, perhaps within a character. */
static json_t *text_json(const char *text)
{
	json_t *j = json_string(text);

	for (size_t len = strlen(text); !j && len > 0; len--)
		j = json_stringn(text, len - 1);
	return j;
}

static json_t *revision_json(const struct store_revision *r)
{
	return json_pack("{s:I, s:I, s:o, s:o, s:I}", "revision", (json_int_t)r->id, "atMs", (json_int_t)r->at_ms,
			 "who", text_json(r->who), "what", text_json(r->what), "changed", (json_int_t)r->objects);
}

static bool append_revision(void *ctx, const struct store_revision *r)
{
	json_array_append_new(ctx, revision_json(r));
	return true;
}

static const char *or_null(const char *text)
{
	return text[0] ? text : NULL;
}

bool api_revisions(struct call *c)
{
	const struct kind *kind = c->kind[0] ? kind_find(c->kind, c->err) : NULL;
	struct store_past_filter f = {kind ? kind->name : NULL, or_null(c->ns), or_null(c->name)};
	json_t *items;

	if (c->kind[0] && !kind)
		return false;
	if (c->limit > LIMIT_MAX)
		return err_set(c->err, ERR_INVALID, "query limit: %lld is not in 1 to %d", (long long)c->limit,
			       LIMIT_MAX);
	items = json_array();
	c->answer = json_pack("{s:o}", "items", items);
	return store_revision_each(c->store, &f, (uint64_t)c->before, (uint64_t)(c->limit ? c->limit : LIMIT_DEFAULT),
				   append_revision, items, c->err);
}

/* --- one revision --- */

struct showing {
	json_t *objects;
	size_t bytes;
	bool cut;
};

static bool take_revision(void *ctx, const struct store_revision *r)
{
	*(json_t **)ctx = revision_json(r);
	return true;
}

static bool append_past(void *ctx, const struct store_past *p)
{
	struct showing *s = ctx;
	json_t *o = json_pack("{s:s, s:s, s:s}", "kind", p->kind, "namespace", p->ns, "name", p->name);

	json_object_set_new(o, "result", json_string(!p->before ? "created" : !p->after ? "deleted" : "changed"));
	s->bytes += (p->before ? json_dumpb(p->before, NULL, 0, JSON_COMPACT) : 0) +
		    (p->after ? json_dumpb(p->after, NULL, 0, JSON_COMPACT) : 0);
	s->cut = s->cut || s->bytes > BODIES_MAX;
	if (!s->cut) {
		json_object_set_new(o, "before", p->before ? json_incref(p->before) : json_null());
		json_object_set_new(o, "after", p->after ? json_incref(p->after) : json_null());
	}
	json_array_append_new(s->objects, o);
	return true;
}

static bool revision_of(struct str text, uint64_t *ret, struct err *err)
{
	return str_to_u64(text, INT64_MAX - 1, ret) ||
	       err_set(err, ERR_INVALID, "\"" STR_FMT "\" is not the number of a revision", (int)MIN(text.len, 40),
		       text.p);
}

bool api_revision(struct call *c)
{
	struct showing s = {.objects = NULL};
	uint64_t id;

	if (!revision_of(str_of(c->args[0]), &id, c->err) ||
	    !store_revision_get(c->store, id, take_revision, &c->answer, c->err))
		return false;
	s.objects = json_array();
	json_object_set_new(c->answer, "objects", s.objects);
	if (!store_past_of(c->store, id, append_past, &s, c->err))
		return false;
	json_object_set_new(c->answer, "bodiesLeftOut", json_boolean(s.cut));
	return true;
}

/* --- rollback --- */

struct going_back {
	struct object *objects;
	struct store_item *items;
	size_t len;
	char (*names)[STORE_NAME_MAX + STORE_NS_MAX];
	struct err *err;
	bool failed;
};

static bool take_past(void *ctx, const struct store_past *p)
{
	struct going_back *g = ctx;
	struct store_item *it = &g->items[g->len];
	struct object *o = &g->objects[g->len];

	if (!p->before && !p->after) /* came and went since */
		return true;
	if (g->len == API_OBJECTS_MAX) {
		g->failed = true;
		return err_set(g->err, ERR_LIMIT, "more than %d objects changed since; name one of them",
			       API_OBJECTS_MAX);
	}
	const struct kind *kind = kind_find(p->kind, g->err);
	if (!kind || (p->before && !object_check(p->before, p->ns, o, g->err))) {
		g->failed = true;
		return false;
	}
	/* The store's own strings end with the row. */
	char *ns = g->names[g->len], *name = ns + STORE_NS_MAX;
	snprintf(ns, STORE_NS_MAX, "%s", p->ns);
	snprintf(name, STORE_NAME_MAX, "%s", p->name);
	*it = (struct store_item){.kind = kind->name, .ns = ns, .name = name, .body = o->body, .admit = kind->admit};
	g->len++;
	return true;
}

/* What goes makes room: an address of then may be another's now. */
static void deletions_first(struct store_item *items, size_t n)
{
	struct store_item *all = mem_dup(items, MAX(n, 1) * sizeof(*all));
	size_t at = 0;

	for (size_t i = 0; i < n; i++)
		if (!all[i].body)
			items[at++] = all[i];
	for (size_t i = 0; i < n; i++)
		if (all[i].body)
			items[at++] = all[i];
	mem_free(all);
}

struct rollback_wish {
	struct store_past_filter filter;
	int64_t revision;
	bool dry_run, bodies;
};

static bool read_wish(struct call *c, struct rollback_wish *w)
{
	static const char *const fields[] = {"revision", "kind", "namespace", "name", "dryRun", "bodies", NULL};
	const struct kind *kind = NULL;
	const char *kind_name = NULL;

	if (!json_fields_known(c->body, fields, NULL, c->err) ||
	    !json_get_int(c->body, "revision", true, 0, INT64_MAX - 1, NULL, &w->revision, c->err) ||
	    !json_get_str(c->body, "kind", false, NULL, &kind_name, c->err) ||
	    !json_get_str(c->body, "namespace", false, NULL, &w->filter.ns, c->err) ||
	    !json_get_str(c->body, "name", false, NULL, &w->filter.name, c->err) ||
	    !json_get_bool(c->body, "dryRun", false, NULL, &w->dry_run, c->err) ||
	    !json_get_bool(c->body, "bodies", false, NULL, &w->bodies, c->err))
		return false;
	if (kind_name && !(kind = kind_find(kind_name, c->err)))
		return false;
	if (w->filter.name && (!kind || !w->filter.ns))
		return err_set(c->err, ERR_INVALID, "name: wants kind and namespace beside it");
	w->filter.kind = kind ? kind->name : NULL;
	return true;
}

bool api_rollback(struct call *c)
{
	struct rollback_wish w = {.revision = 0};
	char what[64];

	if (!read_wish(c, &w))
		return false;
	struct going_back g = {.err = c->err};
	g.objects = mem_zalloc(API_OBJECTS_MAX * sizeof(*g.objects));
	g.items = mem_zalloc(API_OBJECTS_MAX * sizeof(*g.items));
	g.names = mem_zalloc(API_OBJECTS_MAX * sizeof(*g.names));
	bool ok = store_past_since(c->store, (uint64_t)w.revision, &w.filter, take_past, &g, c->err) && !g.failed;
	deletions_first(g.items, g.len);
	snprintf(what, sizeof(what), "rollback to revision %lld", (long long)w.revision);
	ok = ok && api_batch(c, g.items, g.len, what, w.dry_run, w.bodies);
	c->object = -1; /* indices are of our own list */
	for (size_t i = 0; i < g.len; i++)
		json_decref(g.objects[i].body);
	mem_free(g.objects);
	mem_free(g.items);
	mem_free(g.names);
	return ok;
}
