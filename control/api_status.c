/* SPDX-License-Identifier: Apache-2.0 */
/* api_status.c: weftd as a whole: its version, how much it has, and what is not as it should be. */
#include "control/api_impl.h"
#include "control/kind.h"

#include <string.h>
#include <time.h>

bool api_version(struct call *c)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	c->answer = json_pack("{s:s, s:I}", "version", WEFT_VERSION, "nowMs",
			      (json_int_t)t.tv_sec * 1000 + t.tv_nsec / 1000000);
	return true;
}

struct tally {
	struct store *store;
	const struct kind *kind;
	json_int_t n;
	json_t *conditions; /* of objects that are not as they should be */
};

/* Every condition of its status that is not true, once. */
static void add_conditions(struct tally *t, const struct store_row *row)
{
	size_t i, k;
	json_t *parent, *c, *status = t->kind->status(t->store, row->body), *seen = json_object();
	json_array_foreach(json_object_get(status, "parents"), i, parent)
	{
		json_array_foreach(json_object_get(parent, "conditions"), k, c)
		{
			const char *message = json_string_value(json_object_get(c, "message"));
			if (strcmp(json_string_value(json_object_get(c, "status")), "True") == 0 ||
			    json_object_get(seen, message))
				continue;
			json_object_set_new(seen, message, json_true());
			json_array_append_new(t->conditions, json_pack("{s:s, s:s, s:s, s:O, s:O, s:O}", "kind",
								       row->kind, "namespace", row->ns, "name",
								       row->name, "type", json_object_get(c, "type"),
								       "reason", json_object_get(c, "reason"),
								       "message", json_object_get(c, "message")));
		}
	}
	json_decref(seen);
	json_decref(status);
}

static bool count_object(void *ctx, const struct store_row *row)
{
	struct tally *t = ctx;

	t->n++;
	if (t->kind->status)
		add_conditions(t, row);
	return true;
}

static bool finish_status(struct call *c)
{
	json_t *more = c->cfg->status ? c->cfg->status(c->cfg->ctx) : NULL;

	json_object_update_missing(c->answer, more);
	json_decref(more);
	return true;
}

bool api_status(struct call *c)
{
	struct store_mesh mesh;
	uint64_t revision = 0;
	json_t *objects = json_object(), *conditions = json_array();
	bool ok = store_mesh_get(c->store, &mesh, c->err) && store_revision(c->store, &revision, c->err);

	for (size_t i = 0; ok && kind_at(i); i++) {
		struct tally t = {c->store, kind_at(i), 0, conditions};
		ok = store_each(c->store, kind_at(i)->name, NULL, count_object, &t, c->err);
		json_object_set_new(objects, kind_at(i)->plural, json_integer(t.n));
	}
	if (!ok) {
		json_decref(objects);
		json_decref(conditions);
		return false;
	}
	c->answer = json_pack("{s:s, s:I, s:s, s:o, s:o}", "version", WEFT_VERSION, "revision", (json_int_t)revision,
			      "trustDomain", mesh.trust_domain, "objects", objects, "conditions", conditions);
	c->finish = finish_status;
	return true;
}
