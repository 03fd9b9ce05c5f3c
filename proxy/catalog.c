/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.c: resources held, and services made of them.
 *
 * A service is made of three resources of one name: Service, Endpoints and Manifest. The manifest lists the version of the
 * Service, of the routes attached to it and of the services that these lead to (later of policies); until all that it lists is
 * held, the service stays as it was, or unknown. Endpoints change freely, but must be there for each service. So a change that touches several resources is seen whole or not at all, and a
 * policy that comes late never fails open. */
#include "proxy/catalog.h"

#include "lib/list.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "proxy/snapshot_route.h"
#include "proxy/snapshot_build.h"

#define KEY_MAX (1 + RESOURCE_NAME_MAX)

struct held { /* in the map by type and name, in the list in the order of coming; owns all it points to */
	struct map_node node;
	struct list order;
	char key[KEY_MAX];
	struct resource *good;
	char *refused; /* the version refused since `good` came, NULL when none was */
	bool dirty;
	/* of a Service */
	struct resource *visible;  /* the version that its manifest made visible, NULL while none did */
	struct resource *manifest; /* and that manifest */
	struct resource **parts;   /* and the routes and other services that it lists, as they were then */
	size_t n_parts;
	bool no_endpoints;       /* known to have none */
	struct service *service; /* made of `visible` and its endpoints */
	/* of a Manifest */
	bool lists_more; /* than its own service */
	/* of a Workload */
	struct workload *workload;
};

struct catalog {
	struct map map;
	struct list order;
	bool changed;       /* something was removed since the last settle */
	bool parts_changed; /* something that a manifest of another service may list */
};

struct catalog *catalog_new(void)
{
	struct catalog *c = NEW(struct catalog);
	map_init(&c->map);
	list_init(&c->order);
	return c;
}

/* --- finding --- */

static struct held *held_get(const struct catalog *c, enum resource_type t, struct str name)
{
	char key[KEY_MAX];
	if (name.len >= RESOURCE_NAME_MAX)
		return NULL;
	key[0] = (char)t;
	memcpy(key + 1, name.p, name.len);
	struct map_node *n = map_get(&c->map, str_make(key, 1 + name.len));
	return n ? CONTAINER_OF(n, struct held, node) : NULL;
}

static struct held *held_make(struct catalog *c, const struct resource *r)
{
	struct held *h = held_get(c, r->type, str_of(r->name));
	if (h)
		return h;
	size_t n = strlen(r->name);
	MUST(n < RESOURCE_NAME_MAX);
	h = NEW(struct held);
	h->key[0] = (char)r->type;
	memcpy(h->key + 1, r->name, n);
	map_put(&c->map, &h->node, str_make(h->key, 1 + n));
	list_push(&c->order, &h->order);
	return h;
}

static bool at_address(const struct resource *r, const struct ip *ip)
{
	for (size_t i = 0; i < r->n_aliases; i++)
		if (ip_eq(&r->aliases[i], ip))
			return true;
	return false;
}

/* What else is made of a resource of this name must be made anew. */
static void mark_dirty(struct catalog *c, struct held *h)
{
	h->dirty = true;
	if (h->good->type == RESOURCE_ROUTE || h->good->type == RESOURCE_SERVICE || h->good->type == RESOURCE_ENDPOINTS)
		c->parts_changed = true;
	if (h->good->type != RESOURCE_ENDPOINTS && h->good->type != RESOURCE_MANIFEST)
		return;
	struct held *service = held_get(c, RESOURCE_SERVICE, str_of(h->good->name));
	if (service)
		service->dirty = true;
}

/* --- coming and going --- */

static void parts_clear(struct held *h)
{
	for (size_t i = 0; i < h->n_parts; i++)
		resource_unref(&h->parts[i]);
	FREE(&h->parts);
	h->n_parts = 0;
}

static void held_free(struct catalog *c, struct held *h)
{
	mark_dirty(c, h);
	c->changed = true;
	map_del(&c->map, &h->node);
	list_remove(&h->order);
	resource_unref(&h->good);
	resource_unref(&h->visible);
	resource_unref(&h->manifest);
	parts_clear(h);
	service_unref(&h->service);
	workload_unref(&h->workload);
	mem_free(h->refused);
	mem_free(h);
}

void catalog_free(struct catalog **cp)
{
	struct catalog *c = *cp;
	*cp = NULL;
	if (!c)
		return;
	list_for_each_safe (h, &c->order, struct held, order)
		held_free(c, h);
	map_done(&c->map);
	mem_free(c);
}

static void count_listed(void *ctx, enum resource_type t, const char *name)
{
	*(bool *)ctx = true;
}

bool catalog_put(struct catalog *c, struct resource *r)
{
	struct held *h = held_make(c, r);
	bool same = h->good && strcmp(h->good->version, r->version) == 0 && str_eq(h->good->bytes, r->bytes);
	resource_unref(&h->good);
	h->good = r;
	FREE(&h->refused);
	h->lists_more = false;
	if (r->type == RESOURCE_MANIFEST)
		catalog_listed(r, count_listed, &h->lists_more);
	list_remove(&h->order);
	list_push(&c->order, &h->order);
	mark_dirty(c, h);
	return !same;
}

void catalog_refused(struct catalog *c, enum resource_type t, struct str name, struct str version)
{
	struct held *h = held_get(c, t, name);
	if (!h || version.len > RESOURCE_VERSION_MAX)
		return;
	mem_free(h->refused);
	h->refused = mem_strndup(version.p, version.len);
	mark_dirty(c, h);
}

void catalog_remove(struct catalog *c, enum resource_type t, struct str name)
{
	struct held *h = held_get(c, t, name);
	if (h)
		held_free(c, h);
}

void catalog_remove_at(struct catalog *c, enum resource_type t, const struct ip *ip)
{
	list_for_each_safe (h, &c->order, struct held, order)
		if (h->good->type == t && at_address(h->good, ip))
			held_free(c, h);
}

void catalog_no_endpoints(struct catalog *c, const struct ip *ip)
{
	list_for_each (h, &c->order, struct held, order)
		if (h->good->type == RESOURCE_SERVICE && at_address(h->good, ip))
			h->no_endpoints = h->dirty = true;
}

void catalog_drop_unfollowed(struct catalog *c, bool (*followed)(void *ctx, const struct resource *r), void *ctx)
{
	list_for_each_safe (h, &c->order, struct held, order)
		if (resource_on_demand(h->good->type) && !followed(ctx, h->good))
			held_free(c, h);
}

/* --- what manifests list --- */

static bool own_entry(const struct resource *manifest, enum resource_type t, const char *name)
{
	return t == RESOURCE_SERVICE && strcmp(name, manifest->name) == 0;
}

static enum resource_type entry_type(const Weft__V1__ManifestEntry *e)
{
	enum resource_type t;
	bool known = resource_type_parse(str_of(e->type_url), &t);
	MUST(known); /* resource_check.c refuses others */
	return t;
}

void catalog_listed(const struct resource *manifest, void (*fn)(void *ctx, enum resource_type t, const char *name),
		    void *ctx)
{
	Weft__V1__Manifest *m = resource_message(manifest);
	for (size_t i = 0; i < m->n_entries; i++) {
		enum resource_type t = entry_type(m->entries[i]);
		if (own_entry(manifest, t, m->entries[i]->name))
			continue;
		fn(ctx, t, m->entries[i]->name);
		if (t == RESOURCE_SERVICE)
			fn(ctx, RESOURCE_ENDPOINTS, m->entries[i]->name);
	}
	resource_message_free(manifest, m);
}

void catalog_each_listed(const struct catalog *c, void (*fn)(void *ctx, enum resource_type t, const char *name),
			 void *ctx)
{
	list_for_each (h, &c->order, struct held, order) {
		if (h->lists_more)
			catalog_listed(h->good, fn, ctx);
		/* What the data path goes by until a new manifest is complete. */
		if (h->n_parts)
			catalog_listed(h->manifest, fn, ctx);
	}
}

/* --- completeness --- */

/* One entry is held: at the listed version, or refused there and held at its last good one. */
static bool entry_held(const struct catalog *c, const struct resource *manifest, const Weft__V1__ManifestEntry *e)
{
	enum resource_type t = entry_type(e);
	const struct held *h = held_get(c, t, str_of(e->name));
	if (!h || (strcmp(h->good->version, e->version) != 0 && !(h->refused && strcmp(h->refused, e->version) == 0)))
		return false;
	/* Where a route leads to the endpoints must be there too, else the first requests would find none. */
	return t != RESOURCE_SERVICE || own_entry(manifest, t, e->name) || h->no_endpoints ||
	       held_get(c, RESOURCE_ENDPOINTS, str_of(e->name));
}

static bool manifest_complete(const struct catalog *c, const struct resource *manifest)
{
	Weft__V1__Manifest *m = resource_message(manifest);
	bool complete = true;
	for (size_t i = 0; complete && i < m->n_entries; i++)
		complete = entry_held(c, manifest, m->entries[i]);
	resource_message_free(manifest, m);
	return complete;
}

/* --- building --- */

/* The endpoints behind one port of a service: those of one address family (`ip_len` 4 or 16; 0: all). */
static struct endpoint_set *collect(const Weft__V1__Endpoints *from, uint32_t port, size_t ip_len)
{
	size_t n = 0;
	struct endpoint *v = mem_alloc((from ? from->n_endpoints : 0) * sizeof(*v) + 1);
	for (size_t i = 0; from && i < from->n_endpoints; i++) {
		const Weft__V1__Endpoint *e = from->endpoints[i];
		size_t k = 0;
		while (k < e->n_ports && e->ports[k]->service_port != port)
			k++;
		if (k == e->n_ports || (ip_len && e->address.len != ip_len))
			continue;
		struct endpoint *to = &v[n++];
		*to = (struct endpoint){
		    .addr.port = (uint16_t)e->ports[k]->port,
		    .identity = e->identity[0] ? e->identity : NULL,
		    .workload = e->workload,
		    .zone = e->zone,
		    .weight = e->weight ? e->weight : 1,
		    .meshed = e->meshed,
		};
		MUST(resource_ip(e->address.data, e->address.len, &to->addr.ip));
	}
	struct endpoint_set *made = endpoint_set_new(v, n);
	mem_free(v);
	return made;
}

/* Of this family, or all where there is none of it; shares the old set when nothing changed. */
static struct endpoint_set *build_port(const Weft__V1__Endpoints *from, uint32_t port, size_t ip_len,
				       const struct service *before)
{
	struct endpoint_set *made = collect(from, port, ip_len);
	if (made->len == 0) {
		endpoint_set_unref(&made);
		made = collect(from, port, 0);
	}
	for (size_t i = 0; before && i < before->n_ports; i++) {
		const struct service_port *p = &before->ports[i];
		struct endpoint_set *old = ip_len == 16 ? p->endpoints6 : p->endpoints;
		if (p->port == port && endpoint_set_eq(old, made)) {
			endpoint_set_unref(&made);
			return endpoint_set_ref(old);
		}
	}
	return made;
}

static struct service *build_service(const struct resource *service, const struct resource *endpoints,
				     const struct service *before)
{
	Weft__V1__Service *s = resource_message(service);
	Weft__V1__Endpoints *e = endpoints ? resource_message(endpoints) : NULL;
	struct ip vips[RESOURCE_VIPS_MAX];
	struct service_port ports[RESOURCE_PORTS_MAX];
	struct service like = {
	    .name = service->name,
	    .version = service->version,
	    .n_vips = s->n_vips,
	    .n_ports = s->n_ports,
	    .vips = vips,
	    .ports = ports,
	};
	MUST(s->n_vips <= ARRAY_LEN(vips) && s->n_ports <= ARRAY_LEN(ports));
	for (size_t i = 0; i < s->n_vips; i++)
		MUST(resource_ip(s->vips[i].data, s->vips[i].len, &vips[i]));
	for (size_t i = 0; i < s->n_ports; i++)
		ports[i] = (struct service_port){
		    .port = (uint16_t)s->ports[i]->port,
		    .protocol = (enum protocol)s->ports[i]->protocol,
		    .name = s->ports[i]->name,
		    .endpoints = build_port(e, s->ports[i]->port, 4, before),
		    .endpoints6 = build_port(e, s->ports[i]->port, 16, before),
		};
	struct service *made = service_new(&like);
	for (size_t i = 0; i < s->n_ports; i++) {
		endpoint_set_unref(&ports[i].endpoints);
		endpoint_set_unref(&ports[i].endpoints6);
	}
	resource_message_free(service, s);
	if (e)
		resource_message_free(endpoints, e);
	return made;
}

static struct workload *build_workload(const struct resource *r)
{
	Weft__V1__Workload *w = resource_message(r);
	struct ip addrs[RESOURCE_VIPS_MAX];
	struct inbound_port ports[RESOURCE_PORTS_MAX];
	struct workload like = {
	    .name = r->name,
	    .version = r->version,
	    .identity = w->identity[0] ? w->identity : NULL,
	    .meshed = w->meshed,
	    .n_addrs = w->n_addresses,
	    .n_ports = w->n_ports,
	    .addrs = addrs,
	    .ports = ports,
	};
	MUST(w->n_addresses <= ARRAY_LEN(addrs) && w->n_ports <= ARRAY_LEN(ports));
	for (size_t i = 0; i < w->n_addresses; i++)
		MUST(resource_ip(w->addresses[i].data, w->addresses[i].len, &addrs[i]));
	for (size_t i = 0; i < w->n_ports; i++)
		ports[i] = (struct inbound_port){
		    .port = (uint16_t)w->ports[i]->port,
		    .protocol = (enum protocol)w->ports[i]->protocol,
		    .http_policy = w->ports[i]->http_policy,
		};
	struct workload *made = workload_new(&like);
	resource_message_free(r, w);
	return made;
}

/* A service that a route leads to, as it was listed, with its endpoints of now. */
static struct service *build_backend(const struct catalog *c, const struct held *h, const struct resource *part)
{
	const struct held *endpoints = held_get(c, RESOURCE_ENDPOINTS, str_of(part->name));
	const struct route_table *t = h->service ? h->service->routes : NULL;
	const struct service *before = NULL;
	for (size_t i = 0; t && i < t->n_backends; i++)
		if (strcmp(t->backends[i]->name, part->name) == 0)
			before = t->backends[i];
	return build_service(part, endpoints ? endpoints->good : NULL, before);
}

/* The routes of a service. `self` is the service itself, which they may lead to as well. */
static struct route_table *build_routes(const struct catalog *c, const struct held *h, struct service *self)
{
	struct route_part *routes = mem_alloc((h->n_parts + 1) * sizeof(*routes));
	struct service **backends = mem_alloc((h->n_parts + 1) * sizeof(struct service *));
	size_t n_routes = 0, n_backends = 0;
	backends[n_backends++] = service_ref(self);
	for (size_t i = 0; i < h->n_parts; i++) {
		const struct resource *p = h->parts[i];
		if (p->type == RESOURCE_ROUTE)
			routes[n_routes++] = (struct route_part){p->name, resource_message(p)};
		else
			backends[n_backends++] = build_backend(c, h, p);
	}
	struct route_table *t = route_table_new(self->name, routes, n_routes, backends, n_backends);
	for (size_t i = 0; i < n_routes; i++)
		protobuf_c_message_free_unpacked((ProtobufCMessage *)(uintptr_t)&routes[i].route->base, NULL);
	for (size_t i = 0; i < n_backends; i++)
		service_unref(&backends[i]);
	mem_free(routes);
	mem_free(backends);
	return t;
}

/* What the manifest lists beside its own service, as it is held now. */
static void take_parts(const struct catalog *c, struct held *h, const struct resource *manifest)
{
	Weft__V1__Manifest *m = resource_message(manifest);
	parts_clear(h);
	h->parts = mem_alloc((m->n_entries + 1) * sizeof(*h->parts));
	for (size_t i = 0; i < m->n_entries; i++) {
		enum resource_type t = entry_type(m->entries[i]);
		if (!own_entry(manifest, t, m->entries[i]->name))
			h->parts[h->n_parts++] = resource_ref(held_get(c, t, str_of(m->entries[i]->name))->good);
	}
	resource_message_free(manifest, m);
}

static bool settle_service(struct catalog *c, struct held *h)
{
	const struct held *manifest = held_get(c, RESOURCE_MANIFEST, str_of(h->good->name));
	const struct held *endpoints = held_get(c, RESOURCE_ENDPOINTS, str_of(h->good->name));
	if (manifest && manifest_complete(c, manifest->good)) {
		resource_unref(&h->visible);
		resource_unref(&h->manifest);
		h->visible = resource_ref(h->good);
		h->manifest = resource_ref(manifest->good);
		take_parts(c, h, h->manifest);
	}
	if (!h->visible || !(endpoints || h->no_endpoints || h->service))
		return false;
	struct service *made = build_service(h->visible, endpoints ? endpoints->good : NULL, h->service);
	struct route_table *routes = h->n_parts ? build_routes(c, h, made) : NULL;
	if (routes) {
		struct service like = *made, *routed;
		like.routes = routes;
		routed = service_new(&like);
		service_unref(&made);
		route_table_unref(&routes);
		made = routed;
	}
	service_unref(&h->service);
	h->service = made;
	return true;
}

/* Services with routes are made anew when a resource changed that may be part of theirs. */
static void spread_dirt(struct catalog *c)
{
	if (!c->parts_changed)
		return;
	c->parts_changed = false;
	list_for_each (h, &c->order, struct held, order) {
		struct held *service = h->lists_more ? held_get(c, RESOURCE_SERVICE, str_of(h->good->name)) : NULL;
		if (service)
			service->dirty = true;
		if (h->n_parts)
			h->dirty = true;
	}
}

bool catalog_settle(struct catalog *c)
{
	bool changed = c->changed;
	c->changed = false;
	spread_dirt(c);
	list_for_each (h, &c->order, struct held, order) {
		if (!h->dirty)
			continue;
		h->dirty = false;
		if (h->good->type == RESOURCE_SERVICE) {
			changed = settle_service(c, h) || changed;
		} else if (h->good->type == RESOURCE_WORKLOAD) {
			workload_unref(&h->workload);
			h->workload = build_workload(h->good);
			changed = true;
		} else if (!resource_on_demand(h->good->type)) {
			changed = true;
		}
	}
	return changed;
}

/* --- reading --- */

const struct resource *catalog_get(const struct catalog *c, enum resource_type t, struct str name)
{
	const struct held *h = held_get(c, t, name);
	return h ? h->good : NULL;
}

size_t catalog_len(const struct catalog *c)
{
	return c->map.len;
}

void catalog_each(const struct catalog *c, void (*fn)(void *ctx, const struct resource *r), void *ctx)
{
	list_for_each (h, &c->order, struct held, order)
		fn(ctx, h->good);
}

void catalog_each_in_force(const struct catalog *c, void (*fn)(void *ctx, const struct resource *r), void *ctx)
{
	/* Manifests first: who reads them back follows what they list, and holds only what is followed. */
	list_for_each (h, &c->order, struct held, order)
		if (h->visible)
			fn(ctx, h->manifest);
	list_for_each (h, &c->order, struct held, order) {
		bool apart = h->good->type == RESOURCE_MANIFEST || h->good->type == RESOURCE_SERVICE ||
			     h->good->type == RESOURCE_ROUTE;
		if (!apart)
			fn(ctx, h->good);
		if (h->visible)
			fn(ctx, h->visible);
		for (size_t i = 0; i < h->n_parts; i++)
			fn(ctx, h->parts[i]);
	}
}

struct service **catalog_services(const struct catalog *c, size_t *ret_n)
{
	struct service **v = mem_alloc((c->map.len + 1) * sizeof(struct service *));
	size_t n = 0;
	list_for_each (h, &c->order, struct held, order)
		if (h->service)
			v[n++] = h->service;
	*ret_n = n;
	return v;
}

struct workload **catalog_workloads(const struct catalog *c, size_t *ret_n)
{
	struct workload **v = mem_alloc((c->map.len + 1) * sizeof(struct workload *));
	size_t n = 0;
	list_for_each (h, &c->order, struct held, order)
		if (h->workload)
			v[n++] = h->workload;
	*ret_n = n;
	return v;
}

const char *catalog_pending(const struct catalog *c, const struct resource *r)
{
	const struct held *h = held_get(c, r->type, str_of(r->name));
	if (!h || r->type != RESOURCE_SERVICE)
		return "";
	if (h->visible != h->good)
		return held_get(c, RESOURCE_MANIFEST, str_of(r->name)) ? "what its manifest lists is not all here"
								       : "its manifest is not here";
	return h->service ? "" : "its endpoints are not here";
}
