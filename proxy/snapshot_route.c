/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_route.c: makes the table of a service out of the Route resources attached to it. The order is that of the Gateway API:
 * the whole path, the longest prefix, a method, most headers, most parameters of the query, the oldest route, its name, the
 * order within the route. */
#include "proxy/snapshot_route.h"

#include "lib/mem.h"
#include "proxy/snapshot_build.h"

#include <stdlib.h>

struct builder {
	struct route_table *t;
	size_t cap; /* of t->matches, while they are on the heap */
};

static void *take(struct builder *b, size_t n)
{
	void *p = arena_alloc(&b->t->arena, n ? n : 1);
	MUST(p != NULL); /* no cap: resource_check.c bounds what comes here */
	return memset(p, 0, n);
}

static struct str copy(struct builder *b, const char *s)
{
	size_t n = strlen(s);
	char *p = take(b, n + 1);
	memcpy(p, s, n);
	return str_make(p, n);
}

/* --- rules --- */

static void find_backend(const struct builder *b, const Weft__V1__RouteBackend *from, struct route_backend *to)
{
	to->weight = from->weight;
	for (size_t i = 0; !from->missing && i < b->t->n_backends; i++) {
		const struct service *s = b->t->backends[i];
		if (strcmp(s->name, from->service) != 0)
			continue;
		for (size_t k = 0; k < s->n_ports; k++)
			if (s->ports[k].port == from->port) {
				to->service = s;
				to->port = &s->ports[k];
			}
	}
}

static const struct route_rule *make_rule(struct builder *b, const char *route, const Weft__V1__RouteRule *from)
{
	struct route_rule *r = take(b, sizeof(*r));
	r->route = route;
	r->n_backends = from->n_backends;
	r->backends = take(b, r->n_backends * sizeof(*r->backends));
	for (size_t i = 0; i < r->n_backends; i++) {
		find_backend(b, from->backends[i], &r->backends[i]);
		r->total += r->backends[i].weight;
	}
	return r;
}

/* --- matches --- */

static struct route_field *make_fields(struct builder *b, Weft__V1__RouteField *const *from, size_t n)
{
	struct route_field *v = take(b, n * sizeof(*v));
	for (size_t i = 0; i < n; i++)
		v[i] = (struct route_field){copy(b, from[i]->name), copy(b, from[i]->value)};
	return v;
}

static void make_match(struct builder *b, const Weft__V1__RouteMatch *from, struct route_match *to)
{
	to->exact = from->path_type == WEFT__V1__ROUTE_MATCH__PATH_TYPE__EXACT;
	to->path = copy(b, from->path);
	while (!to->exact && to->path.len && to->path.p[to->path.len - 1] == '/')
		to->path.len--;
	to->method = copy(b, from->method);
	to->n_headers = from->n_headers;
	to->headers = make_fields(b, from->headers, from->n_headers);
	to->n_query = from->n_query;
	to->query = make_fields(b, from->query, from->n_query);
}

static void add_match(struct builder *b, const Weft__V1__RouteMatch *from, const Weft__V1__Route *route, uint16_t port,
		      const struct route_rule *rule)
{
	struct route_table *t = b->t;
	if (t->n_matches == b->cap) {
		b->cap = b->cap ? 2 * b->cap : 16;
		t->matches = mem_realloc(t->matches, b->cap * sizeof(*t->matches));
	}
	struct route_match *m = &t->matches[t->n_matches];
	*m = (struct route_match){.port = port, .rule = rule, .created = route->created, .order = t->n_matches};
	t->n_matches++;
	if (from)
		make_match(b, from, m);
}

static void add_parent(struct builder *b, const struct route_part *part, uint16_t port)
{
	const char *name = copy(b, part->name).p;
	for (size_t i = 0; i < part->route->n_rules; i++) {
		const Weft__V1__RouteRule *from = part->route->rules[i];
		const struct route_rule *rule = make_rule(b, name, from);
		for (size_t k = 0; k < from->n_matches; k++)
			add_match(b, from->matches[k], part->route, port, rule);
		if (from->n_matches == 0)
			add_match(b, NULL, part->route, port, rule);
	}
}

/* More first. */
static int more(size_t a, size_t b)
{
	return a > b ? -1 : a < b;
}

static int match_cmp(const void *x, const void *y)
{
	const struct route_match *a = x, *b = y;
	int d = more(a->exact, b->exact);
	if (d == 0)
		d = more(a->path.len, b->path.len);
	if (d == 0)
		d = more(a->method.len > 0, b->method.len > 0);
	if (d == 0)
		d = more(a->n_headers, b->n_headers);
	if (d == 0)
		d = more(a->n_query, b->n_query);
	if (d == 0 && a->created != b->created)
		d = a->created < b->created ? -1 : 1;
	if (d == 0)
		d = strcmp(a->rule->route, b->rule->route);
	return d ? d : more(b->order, a->order);
}

struct route_table *route_table_new(const char *service, const struct route_part *routes, size_t n,
				    struct service *const *backends, size_t n_backends)
{
	struct arena arena;
	arena_init(&arena, SIZE_MAX);
	struct route_table *t = arena_alloc(&arena, sizeof(*t));
	MUST(t != NULL);
	*t = (struct route_table){.refs = 1, .arena = arena, .n_backends = n_backends};
	struct builder b = {.t = t};
	t->backends = take(&b, n_backends * sizeof(struct service *));
	for (size_t i = 0; i < n_backends; i++)
		t->backends[i] = service_ref(backends[i]);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < routes[i].route->n_parents; k++)
			if (strcmp(routes[i].route->parents[k]->service, service) == 0)
				add_parent(&b, &routes[i], (uint16_t)routes[i].route->parents[k]->port);
	if (t->n_matches == 0) {
		route_table_unref(&t);
		return NULL;
	}
	qsort(t->matches, t->n_matches, sizeof(*t->matches), match_cmp);
	struct route_match *v = take(&b, t->n_matches * sizeof(*v));
	memcpy(v, t->matches, t->n_matches * sizeof(*v));
	mem_free(t->matches);
	t->matches = v;
	return t;
}

struct route_table *route_table_ref(struct route_table *t)
{
	MUST(__atomic_fetch_add(&t->refs, 1, __ATOMIC_RELAXED) > 0);
	return t;
}

void route_table_unref(struct route_table **tp)
{
	struct route_table *t = *tp;
	*tp = NULL;
	if (!t || __atomic_fetch_sub(&t->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	for (size_t i = 0; i < t->n_backends; i++)
		service_unref(&t->backends[i]);
	struct arena arena = t->arena; /* the table lies in it */
	arena_done(&arena);
}

/* --- one match --- */

bool route_has_port(const struct route_table *t, uint16_t port)
{
	for (size_t i = 0; t && i < t->n_matches; i++)
		if (!t->matches[i].port || t->matches[i].port == port)
			return true;
	return false;
}
