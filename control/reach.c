/* SPDX-License-Identifier: Apache-2.0 */
/* reach.c: a Service is itself, an EndpointSlice is about the service of its label, what is attached (parentRefs, targetRefs) is
 * about what it is attached to and what it leads to. */
#include "control/reach.h"

#include "lib/mem.h"

#include <string.h>

static void add(json_t *services, const char *ns, const char *name)
{
	char *key = mem_printf("%s/%s", ns, name);

	json_object_set_new(services, key, json_true());
	mem_free(key);
}

static void add_refs(json_t *services, const char *ns, const json_t *refs)
{
	size_t i;
	json_t *ref;

	json_array_foreach((json_t *)(uintptr_t)refs, i, ref)
	{
		const char *kind = json_string_value(json_object_get(ref, "kind"));
		const char *name = json_string_value(json_object_get(ref, "name"));
		const char *other = json_string_value(json_object_get(ref, "namespace"));
		if (name && (!kind || strcmp(kind, "Service") == 0))
			add(services, other ? other : ns, name);
	}
}

void reach_add(json_t *services, const char *kind, const char *ns, const char *name, const json_t *body)
{
	const json_t *spec = json_object_get(body, "spec"), *meta = json_object_get(body, "metadata");
	json_t *rule;
	size_t i;
	const char *of =
	    json_string_value(json_object_get(json_object_get(meta, "labels"), "kubernetes.io/service-name"));

	if (strcmp(kind, "EndpointSlice") == 0 && of)
		add(services, ns, of);
	else
		add(services, ns, name); /* a route's own resource has its own name */
	add_refs(services, ns, json_object_get(spec, "parentRefs"));
	add_refs(services, ns, json_object_get(spec, "targetRefs"));
	json_array_foreach(json_object_get(spec, "rules"), i, rule)
	    add_refs(services, ns, json_object_get(rule, "backendRefs")); /* it is in force when they are there */
}
