/* SPDX-License-Identifier: Apache-2.0 */
/* api_describe.c: one object with all that weftd knows about it. */
#include "control/api_impl.h"
#include "control/kind.h"
#include "control/reach.h"

#include <string.h>

struct finding {
	const char *name;
	json_t *answer;
};

/* store_get() knows no times, so the row is looked for among its namespace's. */
static bool take_row(void *ctx, const struct store_row *row)
{
	struct finding *f = ctx;

	if (strcmp(row->name, f->name) != 0)
		return true;
	f->answer = json_pack("{s:O, s:I, s:I, s:I}", "object", row->body, "revision", (json_int_t)row->revision,
			      "createdMs", (json_int_t)row->created_ms, "changedMs", (json_int_t)row->changed_ms);
	return false;
}

static bool finish_describe(struct call *c)
{
	json_t *known = c->cfg->reach ? c->cfg->reach(c->cfg->ctx, c->services)
				      : json_pack("{s:[], s:[]}", "endpoints", "resources");

	json_object_update(c->answer, known);
	json_decref(known);
	return true;
}

bool api_describe(struct call *c)
{
	const struct kind *kind = kind_find(c->args[0], c->err);
	struct finding f = {.name = c->args[2]};

	if (!kind || !store_each(c->store, kind->name, c->args[1], take_row, &f, c->err))
		return false;
	if (!f.answer)
		return err_set(c->err, ERR_NOT_FOUND, "%s %s/%s: there is no such object", kind->name, c->args[1],
			       c->args[2]);
	json_t *object = json_object_get(f.answer, "object");
	if (kind->status)
		json_object_set_new(object, "status", kind->status(c->store, object));
	c->services = json_object();
	reach_add(c->services, kind->name, c->args[1], c->args[2], object);
	c->answer = f.answer;
	c->finish = finish_describe;
	return true;
}
