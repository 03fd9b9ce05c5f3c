/* SPDX-License-Identifier: Apache-2.0 */
/* compile_route.c: Route resources, with references resolved, and manifests that list what belongs together. */
#include "control/compile_route.h"

#include "lib/mem.h"

#include <stdlib.h>

static const struct service *find_service(const void *ctx, const char *name)
{
	return route_service(ctx, name);
}

const struct service *route_service(const struct c_route *route, const char *name)
{
	for (size_t i = 0; i < route->n_refs; i++) {
		const struct c_service *sv = route->refs[i].service;
		if (strcmp(strchr(sv->key, '/') + 1, name) == 0)
			return sv->body ? &sv->s : NULL;
	}
	return NULL;
}

/* Whether it is attached to this service, by any of its parents. */
static bool route_attached(const struct c_route *route, const struct c_service *sv)
{
	uint16_t port;
	for (size_t i = 0; sv->body && i < route->r.parents_len; i++)
		if (strcmp(route->r.parents[i].name, sv->s.name) == 0 &&
		    httproute_attach(&route->r.parents[i], &sv->s, &port, NULL))
			return true;
	return false;
}

bool route_pack(struct c_route *route)
{
	struct pack_parent parents[HTTPROUTE_PARENTS_MAX];
	size_t n = 0;
	for (size_t i = 0; i < route->r.parents_len; i++) {
		const struct httproute_parent *p = &route->r.parents[i];
		uint16_t port = 0;
		if (httproute_attach(p, route_service(route, p->name), &port, NULL))
			parents[n++] = (struct pack_parent){p->name, port};
	}
	struct pushed *made = pack_route(&route->r, parents, n, find_service, route);
	bool same = route->resource && strcmp(route->resource->version, made->version) == 0;
	pushed_unref(&route->resource);
	route->resource = made;
	return !same;
}

/* --- manifests --- */

/* The older first, then by name: as proxies order them. */
static int older(const void *a, const void *b)
{
	const struct c_route *x = *(struct c_route *const *)a, *y = *(struct c_route *const *)b;
	if (x->r.created != y->r.created)
		return x->r.created < y->r.created ? -1 : 1;
	return strcmp(x->key, y->key);
}

static int by_name(const void *a, const void *b)
{
	const struct pushed *x = *(const struct pushed *const *)a, *y = *(const struct pushed *const *)b;
	int d = strcmp(pushed_type_url(x->type), pushed_type_url(y->type));
	return d ? d : strcmp(x->name, y->name);
}

/* Attached routes, the oldest COMPILE_ROUTES_MAX of them; mem_free. */
static struct c_route **attached_routes(const struct c_service *sv, size_t *ret_n, size_t *ret_left_out)
{
	size_t n = 0, all = 0;
	list_for_each (ref, &sv->refs, struct c_ref, in_service)
		all++;
	struct c_route **v = mem_alloc((all + 1) * sizeof(*v));
	list_for_each (ref, &sv->refs, struct c_ref, in_service)
		if (ref->parent && route_attached(ref->route, sv))
			v[n++] = ref->route;
	qsort(v, n, sizeof(*v), older);
	*ret_n = MIN(n, (size_t)COMPILE_ROUTES_MAX);
	*ret_left_out = n - *ret_n;
	return v;
}

struct pushed *route_manifest(const struct c_service *sv, size_t *ret_left_out)
{
	size_t n_routes, n = 0, max = 1, kept = 0;
	struct c_route **routes = attached_routes(sv, &n_routes, ret_left_out);
	for (size_t i = 0; i < n_routes; i++)
		max += 1 + routes[i]->n_refs;
	const struct pushed **v = mem_alloc(max * sizeof(*v));
	v[n++] = sv->service;
	for (size_t i = 0; i < n_routes; i++) {
		v[n++] = routes[i]->resource;
		for (size_t k = 0; k < routes[i]->n_refs; k++)
			if (routes[i]->refs[k].backend && routes[i]->refs[k].service->body)
				v[n++] = routes[i]->refs[k].service->service;
	}
	qsort(v, n, sizeof(*v), by_name);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || v[i] != v[kept - 1])
			v[kept++] = v[i];
	struct pushed *res = pack_manifest(&sv->s, v, kept);
	mem_free(v);
	mem_free(routes);
	return res;
}
