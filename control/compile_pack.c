/* SPDX-License-Identifier: Apache-2.0 */
/* compile_pack.c: fills protobuf-c structs that borrow everything, packs them, and forgets them. */
#include "control/compile_pack.h"

#include "control/push.h"
#include "lib/arena.h"
#include "lib/mem.h"

#include <stdio.h>
#include <stdlib.h>

#define KEY_MAX (STORE_NS_MAX + STORE_NAME_MAX)

static struct pushed *finish(enum pushed_type type, const char *key, const char *name, const struct ip *ips, size_t n,
			     const ProtobufCMessage *m)
{
	char text[SERVICE_VIPS_MAX][PUSHED_ALIAS_MAX];
	const char *aliases[SERVICE_VIPS_MAX];
	MUST(n <= ARRAY_LEN(text));
	for (size_t i = 0; i < n; i++)
		aliases[i] = pushed_alias(&ips[i], text[i]);
	size_t len = protobuf_c_message_get_packed_size(m);
	uint8_t *bytes = mem_alloc(len + 1);
	protobuf_c_message_pack(m, bytes);
	struct pushed *res = pushed_new(type, key, name, aliases, n, str_make(bytes, len));
	mem_free(bytes);
	return res;
}

static const char *service_key(const struct service *s, char out[static KEY_MAX])
{
	snprintf(out, KEY_MAX, "%s/%s", s->ns, s->name);
	return out;
}

static ProtobufCBinaryData ip_bytes(const struct ip *ip)
{
	return (ProtobufCBinaryData){ip->len, (uint8_t *)ip->b};
}

/* --- service and manifest --- */

struct pushed *pack_service(const struct service *s)
{
	Weft__V1__Service m = WEFT__V1__SERVICE__INIT;
	ProtobufCBinaryData vips[SERVICE_VIPS_MAX];
	Weft__V1__ServicePort ports[SERVICE_PORTS_MAX], *list[SERVICE_PORTS_MAX];
	char key[KEY_MAX];
	m.name = (char *)s->name;
	m.namespace_ = (char *)s->ns;
	for (m.n_vips = 0; m.n_vips < s->vips_len; m.n_vips++)
		vips[m.n_vips] = ip_bytes(&s->vips[m.n_vips]);
	m.vips = vips;
	for (size_t i = 0; i < s->ports_len; i++) {
		ports[i] = (Weft__V1__ServicePort)WEFT__V1__SERVICE_PORT__INIT;
		ports[i].name = (char *)s->ports[i].name;
		ports[i].port = s->ports[i].port;
		ports[i].protocol = s->ports[i].protocol;
		list[i] = &ports[i];
	}
	m.n_ports = s->ports_len;
	m.ports = list;
	return finish(PUSHED_SERVICE, NULL, service_key(s, key), s->vips, s->vips_len, &m.base);
}

struct pushed *pack_manifest(const struct service *s, const struct pushed *const *entries, size_t n)
{
	Weft__V1__Manifest m = WEFT__V1__MANIFEST__INIT;
	Weft__V1__ManifestEntry *v = mem_alloc((n + 1) * sizeof(*v)), **list = mem_alloc((n + 1) * sizeof(*list));
	char key[KEY_MAX];
	m.service = (char *)service_key(s, key);
	for (size_t i = 0; i < n; i++) {
		v[i] = (Weft__V1__ManifestEntry)WEFT__V1__MANIFEST_ENTRY__INIT;
		v[i].type_url = (char *)pushed_type_url(entries[i]->type);
		v[i].name = (char *)entries[i]->name;
		v[i].version = (char *)entries[i]->version;
		list[i] = &v[i];
	}
	m.n_entries = n;
	m.entries = list;
	struct pushed *res = finish(PUSHED_MANIFEST, NULL, key, s->vips, s->vips_len, &m.base);
	mem_free(v);
	mem_free(list);
	return res;
}

/* --- routes --- */

struct route_packer {
	struct arena arena; /* no cap: the store bounds an object */
	const struct httproute *r;
	const struct service *(*find)(const void *ctx, const char *name);
	const void *ctx;
};

static void *take(struct route_packer *p, size_t n)
{
	void *v = arena_alloc(&p->arena, n ? n : 1);
	MUST(v != NULL);
	return memset(v, 0, n);
}

static char *full_name(struct route_packer *p, const char *name)
{
	struct str s = arena_printf(&p->arena, "%s/%s", p->r->ns, name);
	MUST(s.p != NULL);
	return (char *)s.p;
}

/* A string field of a normalised object; "" when it is not there. */
static char *text_of(const json_t *o, const char *field)
{
	const char *v = json_string_value(json_object_get(o, field));
	return (char *)(v ? v : "");
}

static Weft__V1__RouteField **pack_fields(struct route_packer *p, const json_t *list, size_t *ret_n)
{
	size_t n = *ret_n = json_array_size(list);
	Weft__V1__RouteField **v = take(p, n * sizeof(*v)), *f = take(p, n * sizeof(*f));
	for (size_t i = 0; i < n; i++) {
		f[i] = (Weft__V1__RouteField)WEFT__V1__ROUTE_FIELD__INIT;
		f[i].name = text_of(json_array_get(list, i), "name");
		f[i].value = text_of(json_array_get(list, i), "value");
		v[i] = &f[i];
	}
	return v;
}

static Weft__V1__RouteMatch *pack_match(struct route_packer *p, const json_t *in)
{
	Weft__V1__RouteMatch *m = take(p, sizeof(*m));
	const json_t *path = json_object_get(in, "path");
	*m = (Weft__V1__RouteMatch)WEFT__V1__ROUTE_MATCH__INIT;
	m->path_type = strcmp(text_of(path, "type"), "Exact") == 0 ? WEFT__V1__ROUTE_MATCH__PATH_TYPE__EXACT
								   : WEFT__V1__ROUTE_MATCH__PATH_TYPE__PREFIX;
	m->path = text_of(path, "value");
	m->method = text_of(in, "method");
	m->headers = pack_fields(p, json_object_get(in, "headers"), &m->n_headers);
	m->query = pack_fields(p, json_object_get(in, "queryParams"), &m->n_query);
	return m;
}

static Weft__V1__RouteBackend *pack_backend(struct route_packer *p, const json_t *in)
{
	Weft__V1__RouteBackend *b = take(p, sizeof(*b));
	const char *name = text_of(in, "name");
	*b = (Weft__V1__RouteBackend)WEFT__V1__ROUTE_BACKEND__INIT;
	b->service = full_name(p, name);
	b->port = (uint32_t)json_integer_value(json_object_get(in, "port"));
	b->weight = (uint32_t)json_integer_value(json_object_get(in, "weight"));
	b->missing = !httproute_resolve(in, p->find(p->ctx, name), NULL);
	return b;
}

static Weft__V1__RouteRule *pack_rule(struct route_packer *p, const json_t *in)
{
	Weft__V1__RouteRule *r = take(p, sizeof(*r));
	const json_t *matches = json_object_get(in, "matches"), *backends = json_object_get(in, "backendRefs");
	*r = (Weft__V1__RouteRule)WEFT__V1__ROUTE_RULE__INIT;
	r->n_matches = json_array_size(matches);
	r->matches = take(p, r->n_matches * sizeof(*r->matches));
	for (size_t i = 0; i < r->n_matches; i++)
		r->matches[i] = pack_match(p, json_array_get(matches, i));
	r->n_backends = json_array_size(backends);
	r->backends = take(p, r->n_backends * sizeof(*r->backends));
	for (size_t i = 0; i < r->n_backends; i++)
		r->backends[i] = pack_backend(p, json_array_get(backends, i));
	return r;
}

struct pushed *pack_route(const struct httproute *r, const struct pack_parent *parents, size_t n_parents,
			  const struct service *(*find)(const void *ctx, const char *name), const void *ctx)
{
	struct route_packer p = {.r = r, .find = find, .ctx = ctx};
	Weft__V1__Route m = WEFT__V1__ROUTE__INIT;
	arena_init(&p.arena, SIZE_MAX);
	m.name = (char *)r->name;
	m.namespace_ = (char *)r->ns;
	m.created = r->created;
	m.n_parents = n_parents;
	m.parents = take(&p, n_parents * sizeof(*m.parents));
	for (size_t i = 0; i < n_parents; i++) {
		m.parents[i] = take(&p, sizeof(*m.parents[i]));
		*m.parents[i] = (Weft__V1__RouteParent)WEFT__V1__ROUTE_PARENT__INIT;
		m.parents[i]->service = full_name(&p, parents[i].service);
		m.parents[i]->port = parents[i].port;
	}
	m.n_rules = json_array_size(r->rules);
	m.rules = take(&p, m.n_rules * sizeof(*m.rules));
	for (size_t i = 0; i < m.n_rules; i++)
		m.rules[i] = pack_rule(&p, json_array_get(r->rules, i));
	struct pushed *res = finish(PUSHED_ROUTE, NULL, full_name(&p, r->name), NULL, 0, &m.base);
	arena_done(&p.arena);
	return res;
}

/* --- workload and self --- */

struct workload_ports {
	Weft__V1__WorkloadPort ports[REGISTRY_PORTS_MAX], *list[REGISTRY_PORTS_MAX];
};

static Weft__V1__WorkloadPort **workload_ports(struct workload_ports *p, const struct registry_workload *w)
{
	for (size_t i = 0; i < w->n_ports; i++) {
		p->ports[i] = (Weft__V1__WorkloadPort)WEFT__V1__WORKLOAD_PORT__INIT;
		p->ports[i].port = w->ports[i].port;
		p->ports[i].protocol = w->ports[i].protocol;
		p->list[i] = &p->ports[i];
	}
	return p->list;
}

struct pushed *pack_workload(const struct registry_workload *w)
{
	Weft__V1__Workload m = WEFT__V1__WORKLOAD__INIT;
	struct workload_ports ports;
	ProtobufCBinaryData addresses[2];
	struct ip ips[2];
	m.name = (char *)w->instance;
	m.namespace_ = (char *)w->ns;
	for (size_t i = 0; i < ARRAY_LEN(w->addresses); i++) {
		if (!w->addresses[i].ip.len)
			continue;
		ips[m.n_addresses] = w->addresses[i].ip;
		addresses[m.n_addresses++] = ip_bytes(&w->addresses[i].ip);
	}
	m.addresses = addresses;
	m.identity = w->identity;
	m.meshed = true; /* it registered: not whether its link is alive */
	m.n_ports = w->n_ports;
	m.ports = workload_ports(&ports, w);
	return finish(PUSHED_WORKLOAD, NULL, w->key, ips, m.n_addresses, &m.base);
}

struct pushed *pack_self(const struct registry_workload *w)
{
	Weft__V1__Self m = WEFT__V1__SELF__INIT;
	struct workload_ports ports;
	m.name = (char *)w->instance;
	m.namespace_ = (char *)w->ns;
	m.service_account = (char *)w->sa;
	m.n_ports = w->n_ports;
	m.ports = workload_ports(&ports, w);
	return finish(PUSHED_SELF, w->key, "self", NULL, 0, &m.base);
}

struct pushed *pack_mesh(const char *trust_domain, const struct cidr *cidrs, size_t n_cidrs, const struct str *roots,
			 size_t n_roots)
{
	Weft__V1__MeshConfig m = WEFT__V1__MESH_CONFIG__INIT;
	Weft__V1__MeshCidr *list = mem_zalloc((n_cidrs + 1) * sizeof(*list));
	m.cidrs = mem_zalloc((n_cidrs + 1) * sizeof(*m.cidrs));
	m.roots = mem_zalloc((n_roots + 1) * sizeof(*m.roots));
	m.trust_domain = (char *)trust_domain;
	for (m.n_cidrs = 0; m.n_cidrs < n_cidrs; m.n_cidrs++) {
		list[m.n_cidrs] = (Weft__V1__MeshCidr)WEFT__V1__MESH_CIDR__INIT;
		list[m.n_cidrs].address = ip_bytes(&cidrs[m.n_cidrs].ip);
		list[m.n_cidrs].bits = cidrs[m.n_cidrs].bits;
		m.cidrs[m.n_cidrs] = &list[m.n_cidrs];
	}
	for (m.n_roots = 0; m.n_roots < n_roots; m.n_roots++)
		m.roots[m.n_roots] = (ProtobufCBinaryData){roots[m.n_roots].len, (uint8_t *)roots[m.n_roots].p};
	struct pushed *res = finish(PUSHED_MESH, NULL, "mesh", NULL, 0, &m.base);
	mem_free(list);
	mem_free(m.cidrs);
	mem_free(m.roots);
	return res;
}

/* --- endpoints --- */

struct candidate {
	struct ip ip;
	const struct registry_workload *w;
	const struct slice *slice;
	const struct slice_endpoint *e;
};

struct pack_endpoints {
	const struct service *s;
	struct candidate *v;
	size_t len, cap;
};

struct pack_endpoints *pack_endpoints_new(const struct service *s)
{
	struct pack_endpoints *p = NEW(struct pack_endpoints);
	p->s = s;
	return p;
}

void pack_endpoints_add(struct pack_endpoints *p, const struct ip *ip, const struct registry_workload *w,
			const struct slice *slice, const struct slice_endpoint *e)
{
	if (p->len == p->cap) {
		p->cap = p->cap ? 2 * p->cap : 8;
		p->v = mem_realloc(p->v, p->cap * sizeof(*p->v));
	}
	p->v[p->len++] = (struct candidate){*ip, w, slice, e};
}

/* By address; what the selector found goes before what a slice says of the same address, then by name, so that the order does
 * not depend on who came first. */
static int candidate_cmp(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	int d = x->ip.len != y->ip.len ? x->ip.len - y->ip.len : memcmp(x->ip.b, y->ip.b, x->ip.len);
	if (d == 0)
		d = (x->slice != NULL) - (y->slice != NULL);
	if (d == 0 && x->slice)
		d = strcmp(x->slice->name, y->slice->name);
	if (d == 0 && x->w && y->w)
		d = strcmp(x->w->key, y->w->key);
	return d;
}

/* Where this endpoint listens for a port of the service; 0: nowhere. */
static uint16_t port_of(const struct candidate *k, const struct service_port *port)
{
	if (!k->slice) {
		for (size_t i = 0; i < k->w->n_ports; i++)
			if (k->w->ports[i].port == port->target)
				return port->target;
		return 0;
	}
	for (size_t i = 0; i < k->slice->ports_len; i++)
		if (strcmp(k->slice->ports[i].name, port->name) == 0)
			return k->slice->ports[i].port;
	return 0;
}

/* One endpoint with its ports in one allocation; NULL: none of the service's ports leads there. */
static Weft__V1__Endpoint *endpoint_make(const struct service *s, const struct candidate *k)
{
	size_t n = 0;
	for (size_t i = 0; i < s->ports_len; i++)
		n += port_of(k, &s->ports[i]) != 0;
	if (n == 0)
		return NULL;
	size_t head = sizeof(Weft__V1__Endpoint) + n * sizeof(Weft__V1__EndpointPort *);
	char *bytes = mem_zalloc(head + n * sizeof(Weft__V1__EndpointPort));
	Weft__V1__Endpoint *m = (Weft__V1__Endpoint *)bytes;
	Weft__V1__EndpointPort *ports = (Weft__V1__EndpointPort *)(bytes + head);
	*m = (Weft__V1__Endpoint)WEFT__V1__ENDPOINT__INIT;
	m->ports = (Weft__V1__EndpointPort **)(m + 1);
	for (size_t i = 0; i < s->ports_len; i++) {
		uint16_t port = port_of(k, &s->ports[i]);
		if (!port)
			continue;
		ports[m->n_ports] = (Weft__V1__EndpointPort)WEFT__V1__ENDPOINT_PORT__INIT;
		ports[m->n_ports].service_port = s->ports[i].port;
		ports[m->n_ports].port = port;
		m->ports[m->n_ports] = &ports[m->n_ports];
		m->n_ports++;
	}
	m->address = ip_bytes(&k->ip);
	if (k->w) {
		m->identity = k->w->identity;
		m->workload = k->w->key;
		m->meshed = true;
		m->zone = (char *)k->w->zone;
	}
	if (k->e && k->e->zone)
		m->zone = (char *)k->e->zone;
	return m;
}

struct pushed *pack_endpoints_finish(struct pack_endpoints **pp, size_t *ret_left_out)
{
	struct pack_endpoints *p = *pp;
	*pp = NULL;
	Weft__V1__Endpoints m = WEFT__V1__ENDPOINTS__INIT;
	char key[KEY_MAX];
	size_t bytes = 0, ports = 0;
	m.service = (char *)service_key(p->s, key);
	m.endpoints = mem_alloc((p->len + 1) * sizeof(*m.endpoints));
	*ret_left_out = 0;
	if (p->len)
		qsort(p->v, p->len, sizeof(*p->v), candidate_cmp);
	const struct candidate *last = NULL;
	for (size_t i = 0; i < p->len; i++) {
		if (last && ip_eq(&last->ip, &p->v[i].ip) && (p->v[i].slice || last->slice))
			continue; /* said already by the selector or another slice */
		Weft__V1__Endpoint *e = endpoint_make(p->s, &p->v[i]);
		if (!e)
			continue;
		size_t size = 4 + protobuf_c_message_get_packed_size(&e->base);
		if (m.n_endpoints == COMPILE_ENDPOINTS_MAX || ports + e->n_ports > COMPILE_ENDPOINT_PORTS_MAX ||
		    bytes + size > PUSH_RESOURCE_MAX - (64u << 10)) {
			++*ret_left_out;
			mem_free(e);
			continue;
		}
		last = &p->v[i];
		bytes += size;
		ports += e->n_ports;
		m.endpoints[m.n_endpoints++] = e;
	}
	struct pushed *res = finish(PUSHED_ENDPOINTS, NULL, key, p->s->vips, p->s->vips_len, &m.base);
	for (size_t i = 0; i < m.n_endpoints; i++)
		mem_free(m.endpoints[i]);
	mem_free(m.endpoints);
	mem_free(p->v);
	mem_free(p);
	return res;
}
