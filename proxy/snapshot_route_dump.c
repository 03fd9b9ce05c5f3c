/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_route_dump.c: a table in words, as the admin socket's /config shows it. */
#include "proxy/snapshot_route.h"

static json_t *fields_json(const struct route_field *v, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_sprintf(STR_FMT "=" STR_FMT, STR_ARG(v[i].name), STR_ARG(v[i].value)));
	return list;
}

static json_t *backend_json(const struct route_backend *b)
{
	if (!b->port)
		return json_pack("{s:b, s:I}", "missing", 1, "weight", (json_int_t)b->weight);
	return json_pack("{s:s, s:i, s:I, s:I}", "service", b->service->name, "port", (int)b->port->port, "weight",
			 (json_int_t)b->weight, "endpoints", (json_int_t)b->port->endpoints->len);
}

static json_t *match_json(const struct route_match *m)
{
	json_t *backends = json_array();
	json_t *out = json_pack(
	    "{s:s, s:o, s:o}", "route", m->rule->route, "path",
	    json_sprintf("%s " STR_FMT "%s", m->exact ? "exact" : "prefix", STR_ARG(m->path), m->path.len ? "" : "/"),
	    "backends", backends);
	for (size_t i = 0; i < m->rule->n_backends; i++)
		json_array_append_new(backends, backend_json(&m->rule->backends[i]));
	if (m->port)
		json_object_set_new(out, "port", json_integer(m->port));
	if (m->method.len)
		json_object_set_new(out, "method", json_stringn(m->method.p, m->method.len));
	if (m->n_headers)
		json_object_set_new(out, "headers", fields_json(m->headers, m->n_headers));
	if (m->n_query)
		json_object_set_new(out, "query", fields_json(m->query, m->n_query));
	return out;
}

json_t *route_table_dump(const struct route_table *t)
{
	json_t *list = json_array();
	for (size_t i = 0; t && i < t->n_matches; i++)
		json_array_append_new(list, match_json(&t->matches[i]));
	return list;
}
