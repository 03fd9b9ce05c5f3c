/* SPDX-License-Identifier: Apache-2.0 */
/* compile.c: keeps services, slices and workloads by namespace and address, finds what a change touches, and hands finished
 * resources on. The messages themselves are made in compile_pack.c.
 *
 * A service's endpoints are the registered workloads of its namespace that its selector selects and that listen on the target
 * port, and the ready endpoints of the EndpointSlices that name it. A slice's endpoint is outside the mesh, unless a workload
 * registered from that address: then it is that workload, with its identity.
 *
 * A route is one resource; the manifest of each service that it is attached to lists it together with the services that it leads
 * to. So a flush goes in three steps: services, routes, then manifests and endpoints. */
#include "control/compile.h"

#include "control/compile_pack.h"
#include "control/compile_route.h"
#include "lib/loop.h"
#include "lib/mem.h"

#include <stdlib.h>

#define CLOCK_EVERY 16  /* compiled between two looks at the clock */
#define PIECES_MAX  100 /* 10,000 objects take 11 of 5 ms */

struct c_slice {
	struct map_node node; /* compile.slices, by "namespace/name" */
	struct list in_service;
	struct list in_all;        /* compile.slice_list */
	struct c_service *service; /* NULL: it names none */
	json_t *body;
	struct slice s; /* borrows from body */
	char key[];
};

/* Who registered from an address; the last who came is first. */
struct place {
	struct map_node node; /* compile.places, by the address's bytes */
	struct list holders;
	bool changed; /* within this turn */
	uint8_t b[16];
};

struct holder {
	struct list node;
	struct place *place; /* NULL: unused */
	struct c_workload *w;
};

struct c_workload {
	struct map_node node; /* compile.workloads, by key */
	struct list in_space;
	struct space *space;
	const struct registry_workload *w;
	json_t *labels; /* as they were at the last look */
	struct holder holders[2];
};

struct compile {
	struct compile_hooks hooks;
	void *ctx;
	struct map spaces, services, slices, places, workloads, routes;
	struct list dirty, dirty_routes, slice_list;
	struct list changed; /* services: what stands in them is another, `dirty` has them too */
	bool places_changed;
	unsigned pieces; /* since there was nothing left */
	size_t n_services;
};

/* --- namespaces --- */

static struct space *space_get(struct compile *c, const char *ns)
{
	struct map_node *n = map_get(&c->spaces, str_of(ns));
	if (n)
		return CONTAINER_OF(n, struct space, node);
	size_t len = strlen(ns);
	struct space *sp = mem_zalloc(sizeof(*sp) + len + 1);
	memcpy(sp->name, ns, len);
	list_init(&sp->services);
	list_init(&sp->workloads);
	map_put(&c->spaces, &sp->node, str_make(sp->name, len));
	return sp;
}

static void space_drop(struct compile *c, struct space *sp)
{
	if (!list_empty(&sp->services) || !list_empty(&sp->workloads))
		return;
	map_del(&c->spaces, &sp->node);
	mem_free(sp);
}

/* --- services --- */

/* Something of it is due at the flush: `changed`, `attached` or `moved`. */
static void service_due(struct compile *c, struct c_service *sv)
{
	if (!list_empty(&sv->dirty))
		return;
	list_push(&c->dirty, &sv->dirty);
	c->hooks.on_dirty(c->ctx);
}

/* Its endpoints may have changed. */
static void service_dirty(struct compile *c, struct c_service *sv)
{
	sv->moved = true;
	service_due(c, sv);
}

static void route_due(struct compile *c, struct c_route *route)
{
	if (!list_empty(&route->dirty))
		return;
	list_push(&c->dirty_routes, &route->dirty);
	c->hooks.on_dirty(c->ctx);
}

/* It came, went or has other ports: routes that speak of it may be others. */
static void refs_due(struct compile *c, struct c_service *sv)
{
	list_for_each (ref, &sv->refs, struct c_ref, in_service)
		route_due(c, ref->route);
}

static struct c_service *service_get(struct compile *c, const char *ns, const char *name)
{
	char *key = mem_printf("%s/%s", ns, name);
	struct map_node *n = map_get(&c->services, str_of(key));
	struct c_service *sv = n ? CONTAINER_OF(n, struct c_service, node) : NULL;
	if (!sv) {
		size_t len = strlen(key);
		sv = mem_zalloc(sizeof(*sv) + len + 1);
		memcpy(sv->key, key, len);
		list_init(&sv->dirty);
		list_init(&sv->changed);
		list_init(&sv->slices);
		list_init(&sv->refs);
		sv->space = space_get(c, ns);
		list_push(&sv->space->services, &sv->in_space);
		map_put(&c->services, &sv->node, str_make(sv->key, len));
	}
	mem_free(key);
	return sv;
}

static void service_drop(struct compile *c, struct c_service *sv)
{
	if (sv->body || !list_empty(&sv->slices) || !list_empty(&sv->refs))
		return;
	map_del(&c->services, &sv->node);
	list_remove(&sv->dirty);
	list_remove(&sv->changed);
	list_remove(&sv->in_space);
	space_drop(c, sv->space);
	mem_free(sv);
}

static void service_gone(struct compile *c, struct c_service *sv)
{
	if (sv->body) {
		c->n_services--;
		json_decref(sv->body);
		sv->body = NULL;
		pushed_unref(&sv->service);
		refs_due(c, sv);
		c->hooks.remove(c->ctx, PUSHED_MANIFEST, sv->key);
		c->hooks.remove(c->ctx, PUSHED_ENDPOINTS, sv->key);
		c->hooks.remove(c->ctx, PUSHED_SERVICE, sv->key);
	}
	service_drop(c, sv);
}

static bool service_set(struct compile *c, const char *ns, const char *name, json_t *body, struct err *err)
{
	struct service s;
	if (body && !service_read(body, &s, err))
		return false;
	struct c_service *sv = service_get(c, ns, name);
	if (!body) {
		service_gone(c, sv);
		return true;
	}
	json_incref(body);
	c->n_services += !sv->body;
	json_decref(sv->body);
	sv->body = body;
	sv->s = s;
	list_remove(&sv->changed);
	list_push(&c->changed, &sv->changed);
	service_dirty(c, sv);
	refs_due(c, sv);
	return true;
}

/* --- slices --- */

static void slice_forget(struct compile *c, struct c_slice *sl)
{
	struct c_service *sv = sl->service;
	map_del(&c->slices, &sl->node);
	list_remove(&sl->in_service);
	list_remove(&sl->in_all);
	slice_done(&sl->s);
	json_decref(sl->body);
	mem_free(sl);
	if (!sv)
		return;
	service_dirty(c, sv);
	service_drop(c, sv);
}

static bool slice_set(struct compile *c, const char *ns, const char *name, json_t *body, struct err *err)
{
	struct slice s;
	if (body && !slice_read(body, &s, err))
		return false;
	char *key = mem_printf("%s/%s", ns, name);
	struct map_node *n = map_get(&c->slices, str_of(key));
	/* The new one comes before the old one goes, so that what it serves is not dropped in between. */
	struct c_slice *old = n ? CONTAINER_OF(n, struct c_slice, node) : NULL;
	struct c_service *sv = body && s.service[0] ? service_get(c, ns, s.service) : NULL;
	struct c_slice *sl = NULL;
	if (body) {
		size_t len = strlen(key);
		sl = mem_zalloc(sizeof(*sl) + len + 1);
		memcpy(sl->key, key, len);
		list_init(&sl->in_service);
		sl->body = json_incref(body);
		sl->s = s;
		sl->service = sv;
		list_push(&c->slice_list, &sl->in_all);
		if (sv) {
			list_push(&sv->slices, &sl->in_service);
			service_dirty(c, sv);
		}
	}
	if (old)
		slice_forget(c, old);
	if (sl)
		map_put(&c->slices, &sl->node, str_of(sl->key));
	mem_free(key);
	return true;
}

/* --- routes --- */

static struct c_ref *ref_get(struct compile *c, struct c_route *route, const char *name)
{
	struct c_service *sv = service_get(c, route->r.ns, name);
	for (size_t i = 0; i < route->n_refs; i++)
		if (route->refs[i].service == sv)
			return &route->refs[i];
	struct c_ref *ref = &route->refs[route->n_refs++];
	*ref = (struct c_ref){.service = sv, .route = route};
	return ref;
}

static size_t refs_max(const struct httproute *r)
{
	size_t i, n = r->parents_len;
	json_t *rule;
	json_array_foreach((json_t *)r->rules, i, rule) n += json_array_size(json_object_get(rule, "backendRefs"));
	return n;
}

static void refs_make(struct compile *c, struct c_route *route)
{
	size_t i, k;
	json_t *rule, *backend;
	route->refs = mem_zalloc((refs_max(&route->r) + 1) * sizeof(*route->refs));
	for (i = 0; i < route->r.parents_len; i++)
		ref_get(c, route, route->r.parents[i].name)->parent = true;
	json_array_foreach((json_t *)route->r.rules, i, rule)
	{
		json_array_foreach(json_object_get(rule, "backendRefs"), k, backend)
		{
			const char *name = json_string_value(json_object_get(backend, "name"));
			if (name)
				ref_get(c, route, name)->backend = true;
		}
	}
	for (i = 0; i < route->n_refs; i++) /* they stay where they are from here on */
		list_push(&route->refs[i].service->refs, &route->refs[i].in_service);
}

static void refs_drop(struct compile *c, struct c_ref *refs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		list_remove(&refs[i].in_service);
	for (size_t i = 0; i < n; i++)
		service_drop(c, refs[i].service);
	mem_free(refs);
}

/* The manifests of its parents may be others. */
static void parents_due(struct compile *c, const struct c_route *route)
{
	for (size_t i = 0; i < route->n_refs; i++)
		if (route->refs[i].parent) {
			route->refs[i].service->attached = true;
			service_due(c, route->refs[i].service);
		}
}

static void route_gone(struct compile *c, struct c_route *route)
{
	parents_due(c, route);
	refs_drop(c, route->refs, route->n_refs);
	list_remove(&route->dirty);
	map_del(&c->routes, &route->node);
	if (route->resource)
		c->hooks.remove(c->ctx, PUSHED_ROUTE, route->key);
	pushed_unref(&route->resource);
	json_decref(route->body);
	mem_free(route);
}

static struct c_route *route_get(struct compile *c, const char *ns, const char *name, bool make)
{
	char *key = mem_printf("%s/%s", ns, name);
	struct map_node *n = map_get(&c->routes, str_of(key));
	struct c_route *route = n ? CONTAINER_OF(n, struct c_route, node) : NULL;
	if (!route && make) {
		size_t len = strlen(key);
		route = mem_zalloc(sizeof(*route) + len + 1);
		memcpy(route->key, key, len);
		list_init(&route->dirty);
		map_put(&c->routes, &route->node, str_make(route->key, len));
	}
	mem_free(key);
	return route;
}

static bool route_set(struct compile *c, const char *ns, const char *name, json_t *body, struct err *err)
{
	struct httproute r;
	if (body && !httproute_read(body, &r, err))
		return false;
	struct c_route *route = route_get(c, ns, name, body != NULL);
	if (!body) {
		if (route)
			route_gone(c, route);
		return true;
	}
	struct c_ref *refs = route->refs;
	size_t n_refs = route->n_refs;
	parents_due(c, route);
	json_incref(body);
	json_decref(route->body);
	route->body = body;
	route->r = r;
	route->refs = NULL;
	route->n_refs = 0;
	refs_make(c, route);
	refs_drop(c, refs, n_refs); /* after the new ones, so that what both name is not dropped in between */
	parents_due(c, route);
	route_due(c, route);
	return true;
}

bool compile_object(struct compile *c, const char *kind, const char *ns, const char *name, json_t *body,
		    struct err *err)
{
	if (strcmp(kind, kind_service.name) == 0)
		return service_set(c, ns, name, body, err);
	if (strcmp(kind, kind_endpointslice.name) == 0)
		return slice_set(c, ns, name, body, err);
	if (strcmp(kind, kind_httproute.name) == 0)
		return route_set(c, ns, name, body, err);
	return true;
}

/* --- places --- */

static struct place *place_find(struct compile *c, const struct ip *ip)
{
	struct map_node *n = map_get(&c->places, str_make(ip->b, ip->len));
	return n ? CONTAINER_OF(n, struct place, node) : NULL;
}

static void place_changed(struct compile *c, struct place *p)
{
	p->changed = true;
	if (c->places_changed)
		return;
	c->places_changed = true;
	c->hooks.on_dirty(c->ctx);
}

static void holder_leave(struct compile *c, struct holder *h)
{
	if (!h->place)
		return;
	list_remove(&h->node);
	place_changed(c, h->place); /* the empty ones go in the flush */
	h->place = NULL;
}

static void holder_set(struct compile *c, struct holder *h, const struct ip *ip)
{
	struct place *p = ip->len ? place_find(c, ip) : NULL;
	if (h->place && h->place == p)
		return;
	holder_leave(c, h);
	if (!ip->len)
		return;
	if (!p) {
		p = NEW(struct place);
		memcpy(p->b, ip->b, ip->len);
		list_init(&p->holders);
		map_put(&c->places, &p->node, str_make(p->b, ip->len));
	}
	h->place = p;
	list_push_front(&p->holders, &h->node);
	place_changed(c, p);
}

/* Slices that speak of an address whose holder changed. One pass over all of them a turn. */
static void flush_places(struct compile *c)
{
	if (!c->places_changed)
		return;
	c->places_changed = false;
	list_for_each (sl, &c->slice_list, struct c_slice, in_all) {
		for (size_t i = 0; sl->service && i < sl->s.endpoints_len; i++) {
			struct place *p = place_find(c, &sl->s.endpoints[i].ip);
			if (p && p->changed)
				service_dirty(c, sl->service);
		}
	}
	map_for_each (it, &c->places) {
		struct place *p = CONTAINER_OF(it, struct place, node);
		p->changed = false;
		if (!list_empty(&p->holders))
			continue;
		map_del(&c->places, &p->node);
		mem_free(p);
	}
}

/* --- workloads --- */

static void dirty_selected(struct compile *c, const struct c_workload *cw)
{
	list_for_each (sv, &cw->space->services, struct c_service, in_space) {
		if (sv->body && list_empty(&sv->dirty) && service_selects(&sv->s, cw->labels))
			service_dirty(c, sv);
	}
}

static struct c_workload *workload_get(struct compile *c, const struct registry_workload *w)
{
	struct map_node *n = map_get(&c->workloads, str_of(w->key));
	if (n)
		return CONTAINER_OF(n, struct c_workload, node);
	struct c_workload *cw = NEW(struct c_workload);
	cw->w = w;
	cw->space = space_get(c, w->ns);
	for (size_t i = 0; i < ARRAY_LEN(cw->holders); i++) {
		cw->holders[i].w = cw;
		list_init(&cw->holders[i].node);
	}
	list_push(&cw->space->workloads, &cw->in_space);
	map_put(&c->workloads, &cw->node, str_of(w->key));
	return cw;
}

static void set_and_drop(struct compile *c, struct pushed *res)
{
	c->hooks.set(c->ctx, res);
	pushed_unref(&res);
}

void compile_workload(struct compile *c, const struct registry_workload *w)
{
	struct c_workload *cw = workload_get(c, w);
	MUST(cw->w == w);
	if (cw->labels)
		dirty_selected(c, cw);
	json_decref(cw->labels);
	cw->labels = json_incref(w->labels);
	dirty_selected(c, cw);
	for (size_t i = 0; i < ARRAY_LEN(cw->holders); i++) {
		holder_set(c, &cw->holders[i], &w->addresses[i].ip);
		if (cw->holders[i].place)
			place_changed(c, cw->holders[i].place);
	}
	set_and_drop(c, pack_workload(w));
	set_and_drop(c, pack_self(w));
}

static void workload_free(struct compile *c, struct c_workload *cw)
{
	for (size_t i = 0; i < ARRAY_LEN(cw->holders); i++)
		holder_leave(c, &cw->holders[i]);
	map_del(&c->workloads, &cw->node);
	list_remove(&cw->in_space);
	space_drop(c, cw->space);
	json_decref(cw->labels);
	mem_free(cw);
}

void compile_workload_gone(struct compile *c, const struct registry_workload *w)
{
	struct map_node *n = map_get(&c->workloads, str_of(w->key));
	if (!n)
		return;
	struct c_workload *cw = CONTAINER_OF(n, struct c_workload, node);
	dirty_selected(c, cw);
	workload_free(c, cw);
	c->hooks.remove(c->ctx, PUSHED_WORKLOAD, w->key);
	c->hooks.remove(c->ctx, PUSHED_SELF, w->key);
}

/* --- endpoints of a service --- */

static void add_selected(struct c_service *sv, struct pack_endpoints *out)
{
	if (!sv->s.selector)
		return;
	list_for_each (cw, &sv->space->workloads, struct c_workload, in_space) {
		if (!service_selects(&sv->s, cw->labels))
			continue;
		for (size_t i = 0; i < ARRAY_LEN(cw->w->addresses); i++)
			if (cw->w->addresses[i].ip.len)
				pack_endpoints_add(out, &cw->w->addresses[i].ip, cw->w, NULL, NULL);
	}
}

static void add_slices(struct compile *c, struct c_service *sv, struct pack_endpoints *out)
{
	list_for_each (sl, &sv->slices, struct c_slice, in_service) {
		for (size_t i = 0; i < sl->s.endpoints_len; i++) {
			const struct slice_endpoint *e = &sl->s.endpoints[i];
			if (!e->ready)
				continue;
			struct place *p = place_find(c, &e->ip);
			struct holder *h = p ? list_first(&p->holders, struct holder, node) : NULL;
			pack_endpoints_add(out, &e->ip, h ? h->w->w : NULL, &sl->s, e);
		}
	}
}

static void warn_left_out(struct compile *c, const struct c_service *sv, size_t n, const char *what)
{
	if (n == 0)
		return;
	char *text =
	    mem_printf("service %s: %zu %s are more than one service can have; they are left out", sv->key, n, what);
	c->hooks.warn(c->ctx, text);
	mem_free(text);
}

static void flush_endpoints(struct compile *c, struct c_service *sv)
{
	struct pack_endpoints *out = pack_endpoints_new(&sv->s);
	add_selected(sv, out);
	add_slices(c, sv, out);
	size_t left_out;
	set_and_drop(c, pack_endpoints_finish(&out, &left_out));
	warn_left_out(c, sv, left_out, "endpoints");
}

static void flush_service(struct compile *c, struct c_service *sv)
{
	list_remove(&sv->changed);
	if (!sv->body)
		return;
	sv->attached = true;
	pushed_unref(&sv->service);
	sv->service = pack_service(&sv->s);
	c->hooks.set(c->ctx, sv->service);
}

static void flush_route(struct compile *c, struct c_route *route)
{
	list_remove(&route->dirty);
	/* Even when the route is the same: what it leads to may have another version. */
	if (route_pack(route))
		c->hooks.set(c->ctx, route->resource);
	parents_due(c, route);
}

static void flush_rest(struct compile *c, struct c_service *sv)
{
	bool attached = sv->attached, moved = sv->moved;
	list_remove(&sv->dirty);
	sv->attached = sv->moved = false;
	if (!sv->body)
		return;
	if (attached) {
		size_t left_out;
		set_and_drop(c, route_manifest(sv, &left_out));
		warn_left_out(c, sv, left_out, "routes");
	}
	if (moved)
		flush_endpoints(c, sv);
}

/* Services first: routes go by their versions, and manifests by both. False: there is nothing left. */
static bool flush_one(struct compile *c)
{
	struct c_service *changed = list_first(&c->changed, struct c_service, changed);
	struct c_route *route = list_first(&c->dirty_routes, struct c_route, dirty);
	struct c_service *dirty = list_first(&c->dirty, struct c_service, dirty);
	if (changed)
		flush_service(c, changed);
	else if (route)
		flush_route(c, route);
	else if (dirty)
		flush_rest(c, dirty);
	return changed || route || dirty;
}

/* Where changes come faster than pieces are compiled there would never be a whole to push: one turn does the rest then. */
bool compile_flush(struct compile *c, uint64_t budget_us)
{
	uint64_t began = loop_clock_us();
	bool whole = ++c->pieces > PIECES_MAX;
	flush_places(c);
	for (unsigned n = 1; flush_one(c); n++)
		if (!whole && n % CLOCK_EVERY == 0 && loop_clock_us() - began >= budget_us)
			return false;
	c->pieces = 0;
	return true;
}

/* --- the whole --- */

void compile_mesh(struct compile *c, const char *trust_domain, const struct cidr *cidrs, size_t n_cidrs,
		  const struct str *roots, size_t n_roots)
{
	set_and_drop(c, pack_mesh(trust_domain, cidrs, n_cidrs, roots, n_roots));
}

struct compile *compile_new(const struct compile_hooks *hooks, void *ctx)
{
	struct compile *c = NEW(struct compile);
	c->hooks = *hooks;
	c->ctx = ctx;
	map_init(&c->spaces);
	map_init(&c->services);
	map_init(&c->slices);
	map_init(&c->places);
	map_init(&c->workloads);
	map_init(&c->routes);
	list_init(&c->dirty);
	list_init(&c->dirty_routes);
	list_init(&c->changed);
	list_init(&c->slice_list);
	return c;
}

static void quiet_remove(void *ctx, enum pushed_type type, const char *key)
{
}

static void quiet_dirty(void *ctx)
{
}

void compile_free(struct compile **cp)
{
	struct compile *c = *cp;
	*cp = NULL;
	if (!c)
		return;
	c->hooks.remove = quiet_remove;
	c->hooks.on_dirty = quiet_dirty;
	map_for_each (it, &c->routes)
		route_gone(c, CONTAINER_OF(it, struct c_route, node));
	map_for_each (it, &c->slices)
		slice_forget(c, CONTAINER_OF(it, struct c_slice, node));
	map_for_each (it, &c->services)
		service_gone(c, CONTAINER_OF(it, struct c_service, node));
	map_for_each (it, &c->workloads)
		workload_free(c, CONTAINER_OF(it, struct c_workload, node));
	flush_places(c);
	MUST(c->spaces.len == 0 && c->places.len == 0);
	map_done(&c->spaces);
	map_done(&c->services);
	map_done(&c->routes);
	map_done(&c->slices);
	map_done(&c->places);
	map_done(&c->workloads);
	mem_free(c);
}

size_t compile_services(const struct compile *c)
{
	return c->n_services;
}
