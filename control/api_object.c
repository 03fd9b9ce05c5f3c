/* SPDX-License-Identifier: Apache-2.0 */
/* api_object.c: objects: applying and deleting them, many in one transaction; listing them, and showing one. */
#include "control/api_impl.h"
#include "control/kind.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdio.h>
#include <string.h>

struct batch {
	json_t *objects;
	bool dry_run, bodies;
	const char *what;
};

static bool read_batch(struct call *c, struct batch *b)
{
	static const char *const fields[] = {"objects", "dryRun", "bodies", "what", NULL};

	return json_fields_known(c->body, fields, NULL, c->err) &&
	       json_get_array(c->body, "objects", true, API_OBJECTS_MAX, NULL, &b->objects, c->err) &&
	       json_get_bool(c->body, "dryRun", false, NULL, &b->dry_run, c->err) &&
	       json_get_bool(c->body, "bodies", false, NULL, &b->bodies, c->err) &&
	       json_get_str(c->body, "what", false, NULL, &b->what, c->err);
}

static const char *result_text(enum store_result r)
{
	static const char *const texts[] = {[STORE_CREATED] = "created",
					    [STORE_CHANGED] = "changed",
					    [STORE_UNCHANGED] = "unchanged",
					    [STORE_DELETED] = "deleted"};
	return texts[r];
}

/* The item that failed is found by its name in the error. */
static bool batch_failed(struct call *c, const struct store_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char name[STORE_NS_MAX + STORE_NAME_MAX + 80];
		int len = snprintf(name, sizeof(name), "%s %s/%s:", items[i].kind, items[i].ns, items[i].name);
		if (strncmp(c->err->text, name, (size_t)len) == 0)
			c->object = (json_int_t)i;
	}
	return false;
}

static json_t *item_json(const struct store_item *it, bool bodies)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "kind", it->kind, "namespace", it->ns, "name", it->name, "result",
			      result_text(it->result));

	if (bodies && it->result != STORE_UNCHANGED) {
		json_object_set_new(o, "before", it->before ? json_incref(it->before) : json_null());
		json_object_set_new(o, "after", it->body ? json_incref(it->body) : json_null());
	}
	return o;
}

bool api_batch(struct call *c, struct store_item *items, size_t n, const char *what, bool dry_run, bool bodies)
{
	char line[256];
	uint64_t revision = 0;

	for (size_t i = 0; i < n; i++)
		items[i].want_before = bodies;
	snprintf(line, sizeof(line), "%.200s", what);
	bool ok =
	    store_apply(c->store, items, n, c->who, line, dry_run, &revision, c->err) || batch_failed(c, items, n);
	json_t *results = json_array();
	for (size_t i = 0; i < n; i++) {
		if (ok)
			json_array_append_new(results, item_json(&items[i], bodies));
		json_decref(items[i].before);
	}
	c->answer =
	    json_pack("{s:I, s:b, s:o}", "revision", (json_int_t)revision, "dryRun", dry_run, "objects", results);
	return ok;
}

bool api_apply(struct call *c)
{
	struct batch b = {.what = "apply"};

	if (!read_batch(c, &b))
		return false;
	size_t n = json_array_size(b.objects), checked = 0;
	struct object *o = mem_zalloc((n + 1) * sizeof(*o));
	struct store_item *items = mem_zalloc((n + 1) * sizeof(*items));
	bool ok = true;
	for (; ok && checked < n; checked += ok) {
		ok = object_check(json_array_get(b.objects, checked), "default", &o[checked], c->err);
		if (ok)
			items[checked] = (struct store_item){.kind = o[checked].kind->name,
							     .ns = o[checked].ns,
							     .name = o[checked].name,
							     .body = o[checked].body,
							     .admit = o[checked].kind->admit};
		else
			c->object = (json_int_t)checked;
	}
	ok = ok && api_batch(c, items, n, b.what, b.dry_run, b.bodies);
	for (size_t i = 0; i < checked; i++)
		json_decref(o[i].body);
	mem_free(items);
	mem_free(o);
	return ok;
}

/* {kind, namespace, name}, or a whole object as it was applied. */
static bool name_of(const json_t *in, struct store_item *ret, struct err *err)
{
	const json_t *meta = json_object_get(in, "metadata");
	const char *kind_name = json_string_value(json_object_get(in, "kind"));
	const char *ns = json_string_value(json_object_get(meta ? meta : in, "namespace"));
	const char *name = json_string_value(json_object_get(meta ? meta : in, "name"));

	if (!kind_name || !name)
		return err_set(err, ERR_INVALID, "an object to delete needs kind and name");
	const struct kind *kind = kind_find(kind_name, err);
	*ret = (struct store_item){.kind = kind ? kind->name : "",
				   .ns = ns ? ns : "default",
				   .name = name,
				   .admit = kind ? kind->admit : NULL};
	return kind != NULL;
}

bool api_remove_many(struct call *c)
{
	struct batch b = {.what = "delete"};
	bool ok = true;

	if (!read_batch(c, &b))
		return false;
	size_t n = json_array_size(b.objects);
	struct store_item *items = mem_zalloc((n + 1) * sizeof(*items));
	for (size_t i = 0; ok && i < n; i++) {
		ok = name_of(json_array_get(b.objects, i), &items[i], c->err);
		if (!ok)
			c->object = (json_int_t)i;
	}
	ok = ok && api_batch(c, items, n, b.what, b.dry_run, b.bodies);
	mem_free(items);
	return ok;
}

bool api_remove_one(struct call *c)
{
	const struct kind *kind = kind_find(c->args[0], c->err);

	if (!kind)
		return false;
	struct store_item it = {.kind = kind->name, .ns = c->args[1], .name = c->args[2], .admit = kind->admit};
	return api_batch(c, &it, 1, "delete", false, false);
}

/* What weftd says of it goes with it. */
static void add_status(struct store *s, const struct kind *kind, json_t *object)
{
	if (kind->status)
		json_object_set_new(object, "status", kind->status(s, object));
}

struct listing {
	struct store *store;
	const struct kind *kind;
	json_t *items;
};

static bool append_object(void *ctx, const struct store_row *row)
{
	struct listing *l = ctx;

	add_status(l->store, l->kind, row->body);
	json_array_append(l->items, row->body);
	return true;
}

bool api_list(struct call *c)
{
	const struct kind *kind = kind_find(c->args[0], c->err);

	if (!kind)
		return false;
	json_t *items = json_array();
	uint64_t revision = 0;
	struct listing l = {c->store, kind, items};
	c->answer = json_pack("{s:s, s:s, s:o}", "apiVersion", "v1", "kind", "List", "items", items);
	if (!store_revision(c->store, &revision, c->err) ||
	    !store_each(c->store, kind->name, c->ns[0] ? c->ns : NULL, append_object, &l, c->err))
		return false;
	/* where a watch goes on from */
	json_object_set_new(c->answer, "metadata",
			    json_pack("{s:o}", "resourceVersion", json_sprintf("%llu", (unsigned long long)revision)));
	return true;
}

bool api_get(struct call *c)
{
	const struct kind *kind = kind_find(c->args[0], c->err);

	if (!kind || !store_get(c->store, kind->name, c->args[1], c->args[2], &c->answer, NULL, c->err))
		return false;
	add_status(c->store, kind, c->answer);
	return true;
}
