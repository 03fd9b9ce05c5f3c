/* SPDX-License-Identifier: Apache-2.0 */
/* api_watch.c: calls that wait: for objects to change, and for proxies to have applied what changed. Each looks at what is now, and
 * says "later" while there is nothing to say; api.c keeps it and asks again: the store for changes, the loop's thread for proxies. */
#include "control/api_impl.h"
#include "control/kind.h"
#include "control/reach.h"
#include "control/store_history.h"
#include "lib/json.h"

#include <string.h>

#define CHANGES_MAX 10000 /* of one answer */

/* --- watch --- */

struct watching {
	json_t *changes;
	bool cut;
};

static bool append_change(void *ctx, const struct store_past *p)
{
	struct watching *w = ctx;

	if (!p->before && !p->after) /* came and went */
		return true;
	if (json_array_size(w->changes) == CHANGES_MAX) {
		w->cut = true;
		return false;
	}
	const char *type = !p->before ? "added" : !p->after ? "deleted" : "modified";
	json_array_append_new(w->changes,
			      json_pack("{s:s, s:O}", "type", type, "object", p->after ? p->after : p->before));
	return true;
}

bool api_watch(struct call *c)
{
	const struct kind *kind = kind_find(c->args[0], c->err);
	struct watching w = {.cut = false};
	uint64_t now = 0;

	if (!kind || !store_revision(c->store, &now, c->err))
		return false;
	if (c->seconds > API_SECONDS_MAX)
		return err_set(c->err, ERR_INVALID, "query seconds: %lld is not in 0 to %d", (long long)c->seconds,
			       API_SECONDS_MAX);
	struct store_past_filter f = {kind->name, c->ns[0] ? c->ns : NULL, NULL};
	w.changes = json_array();
	c->answer = json_pack("{s:I, s:o}", "revision", (json_int_t)now, "changes", w.changes);
	if ((uint64_t)c->revision != now &&
	    !store_past_since(c->store, (uint64_t)c->revision, &f, append_change, &w, c->err))
		return false;
	if (w.cut)
		return err_set(c->err, ERR_LIMIT, "more than %d objects changed since revision %lld: list them again",
			       CHANGES_MAX, (long long)c->revision);
	if (json_array_size(w.changes) == 0)
		api_later(c);
	return true;
}

/* --- wait --- */

static bool add_past(void *ctx, const struct store_past *p)
{
	reach_add(ctx, p->kind, p->ns, p->name, p->before);
	reach_add(ctx, p->kind, p->ns, p->name, p->after);
	return true;
}

static bool add_named(struct call *c, const json_t *in, json_t *services)
{
	const char *kind_name = json_string_value(json_object_get(in, "kind"));
	const char *name = json_string_value(json_object_get(in, "name"));
	const char *ns = json_string_value(json_object_get(in, "namespace"));
	json_t *body = NULL;

	if (!kind_name || !name || !ns)
		return err_set(c->err, ERR_INVALID, "an object to wait for needs kind, namespace and name");
	const struct kind *kind = kind_find(kind_name, c->err);
	if (!kind || !store_get(c->store, kind->name, ns, name, &body, NULL, c->err))
		return false;
	reach_add(services, kind->name, ns, name, body);
	json_decref(body);
	return true;
}

/* The services that are asked for; *ret NULL: all. */
static bool read_services(struct call *c, json_t **ret)
{
	static const char *const fields[] = {"revision", "objects", "seconds", NULL};
	json_t *objects = NULL, *services = NULL;
	int64_t revision = -1;

	if (!json_fields_known(c->body, fields, NULL, c->err) ||
	    !json_get_int(c->body, "revision", false, 0, INT64_MAX - 1, NULL, &revision, c->err) ||
	    !json_get_int(c->body, "seconds", false, 0, API_SECONDS_MAX, NULL, &c->seconds, c->err) ||
	    !json_get_array(c->body, "objects", false, API_OBJECTS_MAX, NULL, &objects, c->err))
		return false;
	if (revision >= 0 && objects)
		return err_set(c->err, ERR_INVALID, "revision and objects: one of them, not both");
	bool ok = true;
	if (revision >= 0 || objects)
		services = json_object();
	if (revision > 0) {
		ok = store_past_of(c->store, (uint64_t)revision, add_past, services, c->err);
		if (ok && json_object_size(services) == 0)
			ok = err_set(c->err, ERR_NOT_FOUND, "revision %lld: there is none", (long long)revision);
	}
	for (size_t i = 0; ok && i < json_array_size(objects); i++)
		if (!(ok = add_named(c, json_array_get(objects, i), services)))
			c->object = (json_int_t)i;
	if (!ok)
		json_decref(services);
	else
		*ret = services;
	return ok;
}

/* Answers when everybody applied it, when those who did not have refused it, or when the time is over. */
static bool finish_wait(struct call *c)
{
	if (!c->cfg->progress)
		return err_set(c->err, ERR_UNSUPPORTED, "this weftd serves no proxies");
	json_decref(c->answer);
	c->answer = c->cfg->progress(c->cfg->ctx, c->services);
	if (json_integer_value(json_object_get(c->answer, "waiting")) > 0)
		api_later(c);
	return true;
}

bool api_wait(struct call *c)
{
	c->finish = finish_wait;
	return read_services(c, &c->services);
}
