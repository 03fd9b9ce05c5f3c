/* SPDX-License-Identifier: Apache-2.0 */
/* api_workload.c: workload instances: listing them, and forgetting one. */
#include "control/api_impl.h"

static bool append_workload(void *ctx, const struct store_instance *i)
{
	json_array_append_new(ctx,
			      json_pack("{s:s, s:s, s:s, s:O?, s:O?, s:O?, s:s, s:s, s:I, s:I}", "namespace", i->ns,
					"name", i->name, "serviceAccount", i->sa, "labels", i->labels, "ports",
					i->ports, "addresses", i->addresses, "zone", i->zone, "version", i->version,
					"joinedMs", (json_int_t)i->joined_ms, "leaseMs", (json_int_t)i->lease_ms));
	return true;
}

bool api_workloads(struct call *c)
{
	json_t *items = json_array();

	if (!store_instance_each(c->store, append_workload, items, c->err)) {
		json_decref(items);
		return false;
	}
	c->answer = json_pack("{s:o}", "items", items);
	return true;
}

bool api_workload_remove(struct call *c)
{
	c->answer = json_object();
	return store_instance_delete(c->store, c->args[0], c->args[1], c->err);
}
