/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c: the immutable configuration: counted parts in one allocation each, and one sorted index from an IP address
 * to what is there. It is built on the main thread and read by any; only the counts change after that. It does not know
 * where the configuration came from or when it is complete: that is config.c. */
#include "proxy/snapshot_build.h"

#include "lib/mem.h"
#include "proxy/snapshot_route.h"

#include <stdlib.h>

static const char *const protocol_names[PROTOCOL_COUNT] = {
    [PROTOCOL_UNDECLARED] = "undeclared",
    [PROTOCOL_HTTP] = "http",
    [PROTOCOL_HTTP2] = "http2",
    [PROTOCOL_TCP] = "tcp",
    [PROTOCOL_TLS] = "tls",
};

const char *protocol_name(enum protocol p)
{
	MUST(p < PROTOCOL_COUNT);
	return protocol_names[p];
}

bool protocol_parse(struct str s, enum protocol *ret)
{
	static const struct {
		const char *name;
		enum protocol p;
	} also[] = {{"", PROTOCOL_UNDECLARED}, {"grpc", PROTOCOL_HTTP2}, {"h2c", PROTOCOL_HTTP2}};

	for (size_t i = 0; i < ARRAY_LEN(also); i++)
		if (str_is(s, also[i].name)) {
			*ret = also[i].p;
			return true;
		}
	for (size_t i = 0; i < PROTOCOL_COUNT; i++)
		if (str_is(s, protocol_names[i])) {
			*ret = (enum protocol)i;
			return true;
		}
	return false;
}

/* --- counts; the last reference may go on any thread --- */

static void count_up(unsigned *refs)
{
	MUST(__atomic_fetch_add(refs, 1, __ATOMIC_RELAXED) > 0);
}

static bool count_down(unsigned *refs)
{
	unsigned before = __atomic_fetch_sub(refs, 1, __ATOMIC_ACQ_REL);
	MUST(before > 0);
	return before == 1;
}

/* --- text behind a struct, in the same allocation --- */

static size_t text_size(const char *s)
{
	return s ? strlen(s) + 1 : 0;
}

/* Copies s to *at and moves on; NULL stays NULL. */
static const char *text_put(char **at, const char *s)
{
	if (!s)
		return NULL;
	char *to = *at;
	size_t n = strlen(s) + 1;
	memcpy(to, s, n);
	*at += n;
	return to;
}

static bool text_eq(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* --- endpoints --- */

/* Endpoints of one set mostly share their identity and zone: equal neighbours share the copy. */
static size_t endpoint_text_size(const struct endpoint *e, const struct endpoint *before)
{
	return (before && text_eq(e->identity, before->identity) ? 0 : text_size(e->identity)) +
	       (before && text_eq(e->zone, before->zone) ? 0 : text_size(e->zone)) + text_size(e->workload);
}

struct endpoint_set *endpoint_set_new(const struct endpoint *v, size_t n)
{
	size_t text = 0;
	for (size_t i = 0; i < n; i++)
		text += endpoint_text_size(&v[i], i ? &v[i - 1] : NULL);

	size_t head = sizeof(struct endpoint_set) + n * sizeof(struct endpoint);
	struct endpoint_set *s = mem_alloc(head + text);
	char *at = (char *)s + head;
	s->refs = 1;
	s->len = n;
	for (size_t i = 0; i < n; i++) {
		const struct endpoint *before = i ? &v[i - 1] : NULL;
		struct endpoint *e = &s->v[i];
		*e = v[i];
		e->identity = before && text_eq(v[i].identity, before->identity) ? s->v[i - 1].identity
										 : text_put(&at, v[i].identity);
		e->zone = before && text_eq(v[i].zone, before->zone) ? s->v[i - 1].zone : text_put(&at, v[i].zone);
		e->workload = text_put(&at, v[i].workload);
	}
	MUST(at == (char *)s + head + text);
	return s;
}

bool endpoint_set_eq(const struct endpoint_set *a, const struct endpoint_set *b)
{
	if (a->len != b->len)
		return false;
	for (size_t i = 0; i < a->len; i++) {
		const struct endpoint *x = &a->v[i], *y = &b->v[i];
		if (!addr_eq(&x->addr, &y->addr) || !text_eq(x->identity, y->identity) ||
		    !text_eq(x->workload, y->workload) || !text_eq(x->zone, y->zone) || x->weight != y->weight ||
		    x->meshed != y->meshed)
			return false;
	}
	return true;
}

struct endpoint_set *endpoint_set_ref(struct endpoint_set *s)
{
	count_up(&s->refs);
	return s;
}

void endpoint_set_unref(struct endpoint_set **s)
{
	if (*s && count_down(&(*s)->refs))
		mem_free(*s);
	*s = NULL;
}

/* --- services --- */

struct service *service_new(const struct service *like)
{
	size_t text = text_size(like->name) + text_size(like->version);
	for (size_t i = 0; i < like->n_ports; i++)
		text += text_size(like->ports[i].name);

	size_t ports = like->n_ports * sizeof(struct service_port), vips = like->n_vips * sizeof(struct ip);
	struct service *s = mem_alloc(sizeof(*s) + ports + vips + text);
	*s = *like;
	s->refs = 1;
	s->ports = (struct service_port *)(s + 1);
	s->vips = (struct ip *)((char *)s->ports + ports);
	if (vips)
		memcpy(s->vips, like->vips, vips);
	char *at = (char *)s->vips + vips;
	s->name = text_put(&at, like->name);
	s->version = text_put(&at, like->version);
	if (s->routes)
		route_table_ref(s->routes);
	for (size_t i = 0; i < like->n_ports; i++) {
		s->ports[i] = like->ports[i];
		s->ports[i].name = text_put(&at, like->ports[i].name);
		endpoint_set_ref(s->ports[i].endpoints);
		endpoint_set_ref(s->ports[i].endpoints6);
	}
	return s;
}

struct service *service_ref(struct service *s)
{
	count_up(&s->refs);
	return s;
}

void service_unref(struct service **s)
{
	if (*s && count_down(&(*s)->refs)) {
		for (size_t i = 0; i < (*s)->n_ports; i++) {
			endpoint_set_unref(&(*s)->ports[i].endpoints);
			endpoint_set_unref(&(*s)->ports[i].endpoints6);
		}
		route_table_unref(&(*s)->routes);
		mem_free(*s);
	}
	*s = NULL;
}

/* --- workloads --- */

struct workload *workload_new(const struct workload *like)
{
	size_t ports = like->n_ports * sizeof(struct inbound_port), addrs = like->n_addrs * sizeof(struct ip);
	struct workload *w = mem_alloc(sizeof(*w) + ports + addrs + text_size(like->name) + text_size(like->version) +
				       text_size(like->identity));
	*w = *like;
	w->refs = 1;
	w->ports = (struct inbound_port *)(w + 1);
	if (ports)
		memcpy(w->ports, like->ports, ports);
	w->addrs = (struct ip *)((char *)w->ports + ports);
	if (addrs)
		memcpy(w->addrs, like->addrs, addrs);
	char *at = (char *)w->addrs + addrs;
	w->name = text_put(&at, like->name);
	w->version = text_put(&at, like->version);
	w->identity = text_put(&at, like->identity);
	return w;
}

struct workload *workload_ref(struct workload *w)
{
	count_up(&w->refs);
	return w;
}

void workload_unref(struct workload **w)
{
	if (*w && count_down(&(*w)->refs))
		mem_free(*w);
	*w = NULL;
}

/* --- the snapshot --- */

enum place_kind { PLACE_SERVICE, PLACE_WORKLOAD, PLACE_NOTHING }; /* in the order of precedence */

struct place { /* what is at an address; the index holds them sorted by address, then precedence */
	struct ip ip;
	enum place_kind kind;
	size_t order; /* in its array: the later wins */
	union {
		const struct service *service;
		const struct workload *workload;
	};
};

struct snapshot { /* owns everything it points to; parts by their counts */
	unsigned refs;
	uint64_t serial;
	char *trust_domain;
	bool mesh_known, can_ask;
	struct cidr *cidrs;
	size_t n_cidrs;
	struct inbound_port *inbound;
	size_t n_inbound;
	struct service **services;
	size_t n_services;
	struct workload **workloads;
	size_t n_workloads;
	struct place *index;
	size_t n_index;
};

static int ip_cmp(const struct ip *a, const struct ip *b)
{
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->b, b->b, a->len);
}

static int place_cmp(const void *x, const void *y)
{
	const struct place *a = x, *b = y;
	int by_ip = ip_cmp(&a->ip, &b->ip);
	if (by_ip != 0)
		return by_ip;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return a->order > b->order ? -1 : a->order < b->order;
}

static void index_build(struct snapshot *s, const struct snapshot_parts *p)
{
	size_t n = p->n_nothing;
	for (size_t i = 0; i < p->n_services; i++)
		n += p->services[i]->n_vips;
	for (size_t i = 0; i < p->n_workloads; i++)
		n += p->workloads[i]->n_addrs;
	if (n == 0)
		return;

	struct place *at = s->index = mem_zalloc(n * sizeof(*s->index));
	for (size_t i = 0; i < p->n_services; i++)
		for (size_t k = 0; k < p->services[i]->n_vips; k++)
			*at++ = (struct place){.ip = p->services[i]->vips[k],
					       .kind = PLACE_SERVICE,
					       .order = i,
					       .service = p->services[i]};
	for (size_t i = 0; i < p->n_workloads; i++)
		for (size_t k = 0; k < p->workloads[i]->n_addrs; k++)
			*at++ = (struct place){.ip = p->workloads[i]->addrs[k],
					       .kind = PLACE_WORKLOAD,
					       .order = i,
					       .workload = p->workloads[i]};
	for (size_t i = 0; i < p->n_nothing; i++)
		*at++ = (struct place){.ip = p->nothing[i], .kind = PLACE_NOTHING, .order = i};
	s->n_index = n;
	qsort(s->index, n, sizeof(*s->index), place_cmp);
}

static void *copy(const void *p, size_t n)
{
	return n ? mem_dup(p, n) : NULL;
}

struct snapshot *snapshot_new(const struct snapshot_parts *p)
{
	struct snapshot *s = NEW(struct snapshot);
	s->refs = 1;
	s->serial = p->serial;
	s->trust_domain = mem_strdup(p->trust_domain ? p->trust_domain : "");
	s->mesh_known = p->mesh_known;
	s->can_ask = p->can_ask;
	s->cidrs = copy(p->cidrs, p->n_cidrs * sizeof(*p->cidrs));
	s->n_cidrs = p->n_cidrs;
	s->inbound = copy(p->inbound, p->n_inbound * sizeof(*p->inbound));
	s->n_inbound = p->n_inbound;
	s->services = copy(p->services, p->n_services * sizeof(*p->services));
	s->n_services = p->n_services;
	s->workloads = copy(p->workloads, p->n_workloads * sizeof(*p->workloads));
	s->n_workloads = p->n_workloads;
	for (size_t i = 0; i < s->n_services; i++)
		service_ref(s->services[i]);
	for (size_t i = 0; i < s->n_workloads; i++)
		workload_ref(s->workloads[i]);
	index_build(s, p);
	return s;
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
	count_up(&s->refs);
	return s;
}

void snapshot_unref(struct snapshot **sp)
{
	struct snapshot *s = *sp;
	*sp = NULL;
	if (!s || !count_down(&s->refs))
		return;
	for (size_t i = 0; i < s->n_services; i++)
		service_unref(&s->services[i]);
	for (size_t i = 0; i < s->n_workloads; i++)
		workload_unref(&s->workloads[i]);
	mem_free(s->services);
	mem_free(s->workloads);
	mem_free(s->index);
	mem_free(s->cidrs);
	mem_free(s->inbound);
	mem_free(s->trust_domain);
	mem_free(s);
}

/* The first place of this address in the order of precedence, or NULL. */
static const struct place *place_find(const struct snapshot *s, const struct ip *ip)
{
	size_t lo = 0, hi = s->n_index;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (ip_cmp(&s->index[mid].ip, ip) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->n_index && ip_cmp(&s->index[lo].ip, ip) == 0 ? &s->index[lo] : NULL;
}

static void find_service(const struct service *svc, const struct addr *to, struct target *ret)
{
	ret->service = svc;
	ret->kind = TARGET_NO_PORT;
	for (size_t i = 0; i < svc->n_ports; i++)
		if (svc->ports[i].port == to->port) {
			ret->kind = TARGET_SERVICE;
			ret->endpoints = service_port_endpoints(&svc->ports[i], &to->ip);
			ret->port = &svc->ports[i];
			ret->protocol = svc->ports[i].protocol;
			/* Routes are HTTP policy: a client that pauses must not get around them as opaque. */
			if (ret->protocol == PROTOCOL_UNDECLARED && route_has_port(svc->routes, to->port))
				ret->protocol = PROTOCOL_HTTP;
		}
}

static void find_workload(const struct workload *w, const struct addr *to, struct target *ret)
{
	ret->kind = TARGET_WORKLOAD;
	ret->workload = w;
	ret->direct = (struct endpoint){
	    .addr = *to,
	    .identity = w->identity,
	    .workload = w->name,
	    .zone = "",
	    .weight = 1,
	    .meshed = w->meshed,
	};
	for (size_t i = 0; i < w->n_ports; i++)
		if (w->ports[i].port == to->port)
			ret->protocol = w->ports[i].protocol;
}

/* Whether the address belongs to the mesh though no resource names it. */
static bool inside(const struct snapshot *s, const struct ip *ip)
{
	if (!s->mesh_known)
		return true;
	for (size_t i = 0; i < s->n_cidrs; i++)
		if (cidr_has(&s->cidrs[i], ip))
			return true;
	return false;
}

void snapshot_find(const struct snapshot *s, const struct addr *to, struct target *ret)
{
	*ret = (struct target){.protocol = PROTOCOL_UNDECLARED};
	const struct place *p = place_find(s, &to->ip);
	if (p && p->kind == PLACE_SERVICE)
		find_service(p->service, to, ret);
	else if (p && p->kind == PLACE_WORKLOAD)
		find_workload(p->workload, to, ret);
	else if (!inside(s, &to->ip))
		ret->kind = TARGET_EXTERNAL;
	else
		ret->kind = p || !s->can_ask ? TARGET_UNKNOWN : TARGET_ASK;
}

const struct inbound_port *snapshot_inbound(const struct snapshot *s, uint16_t port)
{
	for (size_t i = 0; i < s->n_inbound; i++)
		if (s->inbound[i].port == port)
			return &s->inbound[i];
	return NULL;
}

const char *snapshot_trust_domain(const struct snapshot *s)
{
	return s->trust_domain;
}

uint64_t snapshot_serial(const struct snapshot *s)
{
	return s->serial;
}

size_t snapshot_services(const struct snapshot *s)
{
	return s->n_services;
}

size_t snapshot_workloads(const struct snapshot *s)
{
	return s->n_workloads;
}
