/* SPDX-License-Identifier: Apache-2.0 */
/* route.c: asks a table. A path is compared as it was sent: no decoding, no "..", as upstream gets it too. */
#include "proxy/route.h"

/* "/foo" matches /foo, /foo/ and /foo/bar, not /foobar. */
static bool path_matches(const struct route_match *r, struct str path)
{
	if (r->exact)
		return str_eq(path, r->path);
	return r->path.len == 0 ||
	       (str_starts(path, r->path) && (path.len == r->path.len || path.p[r->path.len] == '/'));
}

/* A field that stands there several times matches when one of them does. */
static bool header_matches(const struct message *m, const struct route_field *want)
{
	if (str_ieq(want->name, STR("host")))
		return str_ieq(m->authority, want->value);
	for (size_t i = 0; i < m->fields.len; i++)
		if (str_ieq(m->fields.v[i].name, want->name) && str_eq(m->fields.v[i].value, want->value))
			return true;
	return false;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The next byte of form-encoded text: "+" and "%2F" are decoded, what is no escape stays as it is. */
static char form_next(struct str s, size_t *at)
{
	char c = s.p[(*at)++];
	if (c == '+')
		return ' ';
	if (c != '%' || s.len - *at < 2 || hex(s.p[*at]) < 0 || hex(s.p[*at + 1]) < 0)
		return c;
	c = (char)(hex(s.p[*at]) << 4 | hex(s.p[*at + 1]));
	*at += 2;
	return c;
}

static bool form_eq(struct str raw, struct str want)
{
	size_t at = 0, n = 0;
	while (at < raw.len && n < want.len)
		if (form_next(raw, &at) != want.p[n++])
			return false;
	return at == raw.len && n == want.len;
}

/* The first parameter of that name counts. */
static bool query_matches(struct str query, const struct route_field *want)
{
	struct str pair, name, value;
	while (query.len) {
		str_cut(query, '&', &pair, &query);
		str_cut(pair, '=', &name, &value);
		if (form_eq(name, want->name))
			return form_eq(value, want->value);
	}
	return false;
}

static bool matches(const struct route_match *r, const struct message *m, struct str path, struct str query)
{
	if (!path_matches(r, path) || (r->method.len && !str_eq(r->method, m->method)))
		return false;
	for (size_t i = 0; i < r->n_headers; i++)
		if (!header_matches(m, &r->headers[i]))
			return false;
	for (size_t i = 0; i < r->n_query; i++)
		if (!query_matches(query, &r->query[i]))
			return false;
	return true;
}

/* --- the table --- */

/* Of the sum of the weights the point that `random` falls on. */
static const struct route_backend *by_weight(const struct route_rule *rule, uint32_t random)
{
	uint64_t at = (uint64_t)random * rule->total >> 32;
	for (size_t i = 0; i < rule->n_backends; i++) {
		if (at < rule->backends[i].weight)
			return &rule->backends[i];
		at -= rule->backends[i].weight;
	}
	return NULL; /* no backend, or none with weight */
}

enum reason route_pick(const struct route_table *t, uint16_t port, const struct message *m, uint32_t random,
		       struct route_choice *ret)
{
	struct str path, query;
	bool any = false;
	*ret = (struct route_choice){NULL, NULL};
	str_cut(m->path, '?', &path, &query);
	for (size_t i = 0; t && i < t->n_matches; i++) {
		const struct route_match *r = &t->matches[i];
		if (r->port && r->port != port)
			continue;
		any = true;
		if (!matches(r, m, path, query))
			continue;
		ret->rule = r->rule;
		ret->backend = by_weight(r->rule, random);
		return ret->backend && ret->backend->port ? REASON_NONE : REASON_NO_BACKEND;
	}
	return any ? REASON_NO_ROUTE : REASON_NONE;
}
