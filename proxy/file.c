/* SPDX-License-Identifier: Apache-2.0 */
/* file.c: JSON of -f into the messages that weftd would push, and from there through the same checks. Strict: a field that
 * is not known is refused with its path. Memory: one arena, bounded by the file's size (CONFIG_FILE_MAX). */
#include "proxy/file.h"

#include "lib/arena.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "proxy/config_build.h"
#include "proxy/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader {
	const char *path;
	struct arena arena;
	struct config *config; /* NULL: only check */
	const json_t *root;
	Weft__V1__Route **routes; /* in the arena */
	size_t n_routes;
	struct err *err;
};

static void *take(struct reader *r, size_t n)
{
	void *p = arena_alloc(&r->arena, n ? n : 1);
	MUST(p != NULL); /* no cap: bounded by the file */
	return memset(p, 0, n);
}

/* --- files --- */

/* Whole file, at most max bytes; NUL-terminated, mem_wipe_free(*ret, *ret_len). */
static bool slurp(const char *path, size_t max, char **ret, size_t *ret_len, struct err *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, "%s", path);
	bool ok = fstat(fd, &st) == 0;
	if (!ok || !S_ISREG(st.st_mode) || (uint64_t)st.st_size > max) {
		close(fd);
		return err_set(err, ERR_INVALID, "%s: must be a plain file of at most %zu bytes", path, max);
	}
	size_t len = 0, size = (size_t)st.st_size;
	char *text = mem_alloc(size + 1);
	for (ssize_t got; len < size && (got = read(fd, text + len, size - len)) != 0; len += (size_t)got)
		if (got < 0) {
			err_errno(err, "%s", path);
			close(fd);
			mem_wipe_free(text, size);
			return false;
		}
	close(fd);
	text[len] = '\0';
	*ret = text;
	*ret_len = len;
	return true;
}

/* "key" names a file (from the configuration file's folder on), "keyPem" holds the text. */
static bool read_pem(struct reader *r, const json_t *root, const char *field, const char *inline_field, struct str *ret)
{
	const char *path = NULL, *text = NULL;
	char *got;
	size_t len;
	if (!json_get_str(root, field, false, NULL, &path, r->err) ||
	    !json_get_str(root, inline_field, false, NULL, &text, r->err))
		return false;
	if (path && text)
		return err_set(r->err, ERR_INVALID, "%s: stands beside %s, only one may", field, inline_field);
	if (text) {
		*ret = str_of(text);
		return true;
	}
	if (!path)
		return true;
	const char *slash = strrchr(r->path, '/');
	int dir = slash && path[0] != '/' ? (int)(slash - r->path) + 1 : 0;
	char *whole = mem_printf("%.*s%s", dir, r->path, path);
	bool ok = slurp(whole, 1u << 20, &got, &len, r->err) || err_prefix(r->err, "%s", field);
	mem_free(whole);
	if (!ok)
		return false;
	char *copy = take(r, len + 1);
	memcpy(copy, got, len);
	mem_wipe_free(got, len);
	*ret = str_make(copy, len);
	return true;
}

static bool read_identity(struct reader *r, const json_t *root, struct identity *id)
{
	struct str cert = {0}, key = {0}, roots = {0};
	bool ok = read_pem(r, root, "certificate", "certificatePem", &cert) &&
		  read_pem(r, root, "key", "keyPem", &key) && read_pem(r, root, "roots", "rootsPem", &roots);
	if (!ok || (!cert.p && !key.p && !roots.p))
		return ok;
	if (!cert.p || !key.p || !roots.p)
		return err_set(r->err, ERR_INVALID, "%s: missing; certificate, key and roots come together",
			       !cert.p  ? "certificate"
			       : !key.p ? "key"
					: "roots");
	struct credential *c = credential_from_pem(cert, key, roots, r->err);
	mem_wipe((char *)(uintptr_t)key.p, key.len);
	if (!c)
		return err_prefix(r->err, "certificate");
	ok = !id || identity_set(id, c, r->err);
	credential_unref(&c);
	return ok;
}

/* --- parts --- */

static bool bad(struct reader *r, const struct jpath *at, const char *value, const char *expected)
{
	char text[256];
	return err_set(r->err, ERR_INVALID, "%s: \"%.128s\" is not %s", jpath_text(at, text, sizeof(text)), value,
		       expected);
}

static bool read_ip(struct reader *r, const char *text, const struct jpath *at, ProtobufCBinaryData *ret)
{
	struct ip *ip = take(r, sizeof(*ip));
	if (!ip_parse(str_of(text), ip))
		return bad(r, at, text, "an IP address");
	ret->data = ip->b;
	ret->len = ip->len;
	return true;
}

/* An array of IP addresses. */
static bool read_ips(struct reader *r, const json_t *obj, const char *field, const struct jpath *up, size_t *ret_n,
		     ProtobufCBinaryData **ret)
{
	json_t *list = NULL;
	if (!json_get_array(obj, field, false, RESOURCE_VIPS_MAX, up, &list, r->err))
		return false;
	*ret = take(r, json_array_size(list) * sizeof(**ret));
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct jpath in = {.up = up, .field = field}, at = {.up = &in, .index = i};
		const json_t *v = json_array_get(list, i);
		if (!json_is_string(v))
			return bad(r, &at, "", "an IP address");
		if (!read_ip(r, json_string_value(v), &at, &(*ret)[i]))
			return false;
	}
	*ret_n = json_array_size(list);
	return true;
}

/* Text of a field; protobuf-c wants it writable and never NULL. */
static bool read_text(struct reader *r, const json_t *obj, const char *field, bool required, const struct jpath *up,
		      char **ret)
{
	const char *text = "";
	if (!json_get_str(obj, field, required, up, &text, r->err))
		return false;
	*ret = memcpy(take(r, strlen(text) + 1), text, strlen(text) + 1);
	return true;
}

static bool read_port(struct reader *r, const json_t *obj, const struct jpath *at, uint32_t *ret_port,
		      Weft__V1__Protocol *ret_protocol)
{
	int64_t port = 0;
	char *text;
	enum protocol p;
	if (!json_get_int(obj, "port", true, 1, 65535, at, &port, r->err) ||
	    !read_text(r, obj, "protocol", false, at, &text))
		return false;
	if (!protocol_parse(str_of(text), &p)) {
		struct jpath here = {.up = at, .field = "protocol"};
		return bad(r, &here, text, "http, http2, grpc, tcp, tls or absent");
	}
	*ret_port = (uint32_t)port;
	*ret_protocol = (Weft__V1__Protocol)p;
	return true;
}

static bool read_object(struct reader *r, const json_t *v, const char *const *names, const struct jpath *at)
{
	char text[256];
	if (!json_is_object(v))
		return err_set(r->err, ERR_INVALID, "%s: must be an object", jpath_text(at, text, sizeof(text)));
	return json_fields_known(v, names, at, r->err);
}

static bool read_workload_ports(struct reader *r, const json_t *obj, const struct jpath *up, size_t *ret_n,
				Weft__V1__WorkloadPort ***ret)
{
	static const char *const names[] = {"port", "protocol", "httpPolicy", NULL};
	json_t *list = NULL;
	if (!json_get_array(obj, "ports", false, RESOURCE_PORTS_MAX, up, &list, r->err))
		return false;
	*ret = take(r, json_array_size(list) * sizeof(**ret));
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct jpath in = {.up = up, .field = "ports"}, at = {.up = &in, .index = i};
		const json_t *v = json_array_get(list, i);
		Weft__V1__WorkloadPort *p = (*ret)[i] = take(r, sizeof(*p));
		bool http_policy = false;
		weft__v1__workload_port__init(p);
		if (!read_object(r, v, names, &at) || !read_port(r, v, &at, &p->port, &p->protocol) ||
		    !json_get_bool(v, "httpPolicy", false, &at, &http_policy, r->err))
			return false;
		p->http_policy = http_policy;
	}
	*ret_n = json_array_size(list);
	return true;
}

/* --- one resource --- */

static bool apply(struct reader *r, enum resource_type t, const char *name, const ProtobufCMessage *m,
		  const struct jpath *at)
{
	char text[256];
	size_t len = protobuf_c_message_get_packed_size(m);
	uint8_t *bytes = take(r, len);
	protobuf_c_message_pack(m, bytes);
	struct resource_from from = {
	    .type = t,
	    .origin = RESOURCE_FILE,
	    .name = str_of(name),
	    .version = STR("file"),
	    .bytes = str_make(bytes, len),
	};
	bool ok;
	if (r->config) {
		ok = config_apply(r->config, &from, r->err);
	} else {
		struct resource *checked = resource_new(&from, r->err);
		ok = checked != NULL;
		resource_unref(&checked);
	}
	return ok || err_prefix(r->err, "%s", jpath_text(at, text, sizeof(text)));
}

static char *full_name(struct reader *r, const char *ns, const char *name)
{
	struct str s = arena_printf(&r->arena, "%s/%s", ns, name);
	MUST(s.p != NULL);
	return (char *)(uintptr_t)s.p;
}

/* --- services --- */

/* "ports": {"80": 8080}: the service's port and where this endpoint listens. Absent: the same numbers. */
static bool read_endpoint_ports(struct reader *r, const json_t *obj, const struct jpath *up, const Weft__V1__Service *s,
				Weft__V1__Endpoint *e)
{
	json_t *map = NULL;
	if (!json_get_object(obj, "ports", false, up, &map, r->err))
		return false;
	size_t n = map ? json_object_size(map) : s->n_ports, i = 0;
	const char *key;
	json_t *value;
	e->ports = take(r, n * sizeof(*e->ports));
	for (i = 0; i < n; i++) {
		e->ports[i] = take(r, sizeof(*e->ports[i]));
		weft__v1__endpoint_port__init(e->ports[i]);
		if (!map)
			e->ports[i]->service_port = e->ports[i]->port = s->ports[i]->port;
	}
	e->n_ports = n;
	i = 0;
	json_object_foreach(map, key, value)
	{
		struct jpath in = {.up = up, .field = "ports"}, at = {.up = &in, .field = key};
		uint64_t service_port;
		int64_t port = 0;
		if (!str_to_u64(str_of(key), 65535, &service_port))
			return bad(r, &in, key, "a port of the service");
		if (!json_get_int(map, key, true, 1, 65535, &in, &port, r->err))
			return false;
		bool known = false;
		for (size_t k = 0; k < s->n_ports; k++)
			known = known || s->ports[k]->port == service_port;
		if (!known)
			return bad(r, &at, key, "a port of the service");
		e->ports[i]->service_port = (uint32_t)service_port;
		e->ports[i++]->port = (uint32_t)port;
	}
	return true;
}

static bool read_endpoint(struct reader *r, const json_t *v, const struct jpath *at, const Weft__V1__Service *s,
			  Weft__V1__Endpoint *e)
{
	static const char *const names[] = {"address", "ports",  "identity", "meshed",
					    "zone",    "weight", "workload", NULL};
	char *address;
	int64_t weight = 1;
	weft__v1__endpoint__init(e);
	if (!read_object(r, v, names, at) || !read_text(r, v, "address", true, at, &address) ||
	    !read_text(r, v, "identity", false, at, &e->identity) || !read_text(r, v, "zone", false, at, &e->zone) ||
	    !read_text(r, v, "workload", false, at, &e->workload) ||
	    !json_get_int(v, "weight", false, 1, RESOURCE_WEIGHT_MAX, at, &weight, r->err))
		return false;
	bool meshed = e->identity[0] != '\0'; /* said by the identity unless it says otherwise */
	struct jpath here = {.up = at, .field = "address"};
	if (!json_get_bool(v, "meshed", false, at, &meshed, r->err) || !read_ip(r, address, &here, &e->address))
		return false;
	e->meshed = meshed;
	e->weight = (uint32_t)weight;
	return read_endpoint_ports(r, v, at, s, e);
}

static bool read_endpoints(struct reader *r, const json_t *obj, const struct jpath *up, const Weft__V1__Service *s,
			   char *name)
{
	json_t *list = NULL;
	Weft__V1__Endpoints m = WEFT__V1__ENDPOINTS__INIT;
	if (!json_get_array(obj, "endpoints", false, RESOURCE_ENDPOINTS_MAX, up, &list, r->err))
		return false;
	m.service = name;
	m.n_endpoints = json_array_size(list);
	m.endpoints = take(r, m.n_endpoints * sizeof(*m.endpoints));
	for (size_t i = 0; i < m.n_endpoints; i++) {
		struct jpath in = {.up = up, .field = "endpoints"}, at = {.up = &in, .index = i};
		m.endpoints[i] = take(r, sizeof(*m.endpoints[i]));
		if (!read_endpoint(r, json_array_get(list, i), &at, s, m.endpoints[i]))
			return false;
	}
	return apply(r, RESOURCE_ENDPOINTS, name, &m.base, up);
}

static bool read_service_ports(struct reader *r, const json_t *obj, const struct jpath *up, Weft__V1__Service *s)
{
	static const char *const names[] = {"name", "port", "protocol", NULL};
	json_t *list = NULL;
	if (!json_get_array(obj, "ports", true, RESOURCE_PORTS_MAX, up, &list, r->err))
		return false;
	s->n_ports = json_array_size(list);
	s->ports = take(r, s->n_ports * sizeof(*s->ports));
	for (size_t i = 0; i < s->n_ports; i++) {
		struct jpath in = {.up = up, .field = "ports"}, at = {.up = &in, .index = i};
		const json_t *v = json_array_get(list, i);
		Weft__V1__ServicePort *p = s->ports[i] = take(r, sizeof(*p));
		weft__v1__service_port__init(p);
		if (!read_object(r, v, names, &at) || !read_text(r, v, "name", false, &at, &p->name) ||
		    !read_port(r, v, &at, &p->port, &p->protocol))
			return false;
	}
	return true;
}

static void entry_add(struct reader *r, Weft__V1__Manifest *m, size_t *cap, enum resource_type t, char *name)
{
	static char version[] = "file";
	const char *url = resource_type_url(t);
	for (size_t i = 0; i < m->n_entries; i++)
		if (strcmp(m->entries[i]->type_url, url) == 0 && strcmp(m->entries[i]->name, name) == 0)
			return;
	if (m->n_entries == *cap) {
		Weft__V1__ManifestEntry **before = m->entries;
		*cap = *cap ? 2 * *cap : 8;
		m->entries = take(r, *cap * sizeof(*m->entries));
		if (m->n_entries)
			memcpy(m->entries, before, m->n_entries * sizeof(*m->entries));
	}
	Weft__V1__ManifestEntry *e = m->entries[m->n_entries++] = take(r, sizeof(*e));
	weft__v1__manifest_entry__init(e);
	e->type_url = (char *)(uintptr_t)url;
	e->name = name;
	e->version = version;
}

static int entry_cmp(const void *x, const void *y)
{
	const Weft__V1__ManifestEntry *a = *(Weft__V1__ManifestEntry *const *)x,
				      *b = *(Weft__V1__ManifestEntry *const *)y;
	int d = strcmp(a->type_url, b->type_url);
	return d ? d : strcmp(a->name, b->name);
}

static bool is_parent(const Weft__V1__Route *route, const char *service)
{
	for (size_t i = 0; i < route->n_parents; i++)
		if (strcmp(route->parents[i]->service, service) == 0)
			return true;
	return false;
}

/* The service, the routes of the file that are attached to it, and the services that these lead to. */
static bool apply_manifest(struct reader *r, char *name, const struct jpath *at)
{
	Weft__V1__Manifest m = WEFT__V1__MANIFEST__INIT;
	size_t cap = 0;
	m.service = name;
	entry_add(r, &m, &cap, RESOURCE_SERVICE, name);
	for (size_t i = 0; i < r->n_routes; i++) {
		const Weft__V1__Route *route = r->routes[i];
		if (!is_parent(route, name))
			continue;
		entry_add(r, &m, &cap, RESOURCE_ROUTE, full_name(r, route->namespace_, route->name));
		for (size_t k = 0; k < route->n_rules; k++)
			for (size_t j = 0; j < route->rules[k]->n_backends; j++)
				entry_add(r, &m, &cap, RESOURCE_SERVICE, route->rules[k]->backends[j]->service);
	}
	qsort(m.entries, m.n_entries, sizeof(*m.entries), entry_cmp);
	return apply(r, RESOURCE_MANIFEST, name, &m.base, at);
}

static bool read_service(struct reader *r, const json_t *v, const struct jpath *at)
{
	static const char *const names[] = {"name", "namespace", "vips", "ports", "endpoints", NULL};
	Weft__V1__Service s = WEFT__V1__SERVICE__INIT;
	if (!read_object(r, v, names, at) || !read_text(r, v, "name", true, at, &s.name) ||
	    !read_text(r, v, "namespace", true, at, &s.namespace_) || !read_ips(r, v, "vips", at, &s.n_vips, &s.vips) ||
	    !read_service_ports(r, v, at, &s))
		return false;

	char *name = full_name(r, s.namespace_, s.name);
	return apply(r, RESOURCE_SERVICE, name, &s.base, at) && read_endpoints(r, v, at, &s, name) &&
	       apply_manifest(r, name, at);
}

/* --- routes --- */

/* An array of objects: each through `one`, which makes its message; *ret_n of *ret. */
static bool read_each(struct reader *r, const json_t *obj, const char *field, size_t max, const struct jpath *up,
		      void *(*one)(struct reader *r, const json_t *v, const struct jpath *at), size_t *ret_n, void *ret)
{
	json_t *list = NULL;
	if (!json_get_array(obj, field, false, max, up, &list, r->err))
		return false;
	void **v = take(r, json_array_size(list) * sizeof(*v));
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct jpath in = {.up = up, .field = field}, at = {.up = &in, .index = i};
		v[i] = one(r, json_array_get(list, i), &at);
		if (!v[i])
			return false;
	}
	*ret_n = json_array_size(list);
	memcpy(ret, &v, sizeof(v));
	return true;
}

static void *read_route_field(struct reader *r, const json_t *v, const struct jpath *at)
{
	static const char *const names[] = {"name", "value", NULL};
	Weft__V1__RouteField *f = take(r, sizeof(*f));
	weft__v1__route_field__init(f);
	return read_object(r, v, names, at) && read_text(r, v, "name", true, at, &f->name) &&
		       read_text(r, v, "value", true, at, &f->value)
		   ? f
		   : NULL;
}

static bool read_route_path(struct reader *r, const json_t *obj, const struct jpath *up, Weft__V1__RouteMatch *m)
{
	static const char *const names[] = {"type", "value", NULL};
	static char all[] = "/";
	struct jpath at = {.up = up, .field = "path"}, type_at = {.up = &at, .field = "type"};
	json_t *v = NULL;
	char *type;
	m->path = all;
	if (!json_get_object(obj, "path", false, up, &v, r->err))
		return false;
	if (!v)
		return true;
	if (!read_object(r, v, names, &at) || !read_text(r, v, "type", false, &at, &type) ||
	    !read_text(r, v, "value", true, &at, &m->path))
		return false;
	if (strcmp(type, "Exact") == 0)
		m->path_type = WEFT__V1__ROUTE_MATCH__PATH_TYPE__EXACT;
	else if (type[0] && strcmp(type, "PathPrefix") != 0)
		return bad(r, &type_at, type, "Exact or PathPrefix");
	return true;
}

static void *read_route_match(struct reader *r, const json_t *v, const struct jpath *at)
{
	static const char *const names[] = {"path", "method", "headers", "queryParams", NULL};
	Weft__V1__RouteMatch *m = take(r, sizeof(*m));
	weft__v1__route_match__init(m);
	return read_object(r, v, names, at) && read_route_path(r, v, at, m) &&
		       read_text(r, v, "method", false, at, &m->method) &&
		       read_each(r, v, "headers", RESOURCE_FIELDS_MAX, at, read_route_field, &m->n_headers,
				 &m->headers) &&
		       read_each(r, v, "queryParams", RESOURCE_FIELDS_MAX, at, read_route_field, &m->n_query, &m->query)
		   ? m
		   : NULL;
}

static bool is_service(const struct reader *r, const char *full)
{
	const json_t *v, *all = json_object_get(r->root, "services");
	for (size_t i = 0; (v = json_array_get(all, i)) != NULL; i++) {
		const char *ns = json_string_value(json_object_get(v, "namespace"));
		const char *name = json_string_value(json_object_get(v, "name"));
		size_t n = ns ? strlen(ns) : 0;
		if (ns && name && strncmp(full, ns, n) == 0 && full[n] == '/' && strcmp(full + n + 1, name) == 0)
			return true;
	}
	return false;
}

static bool read_service_name(struct reader *r, const json_t *v, const struct jpath *at, char **ret)
{
	struct jpath here = {.up = at, .field = "service"};
	return read_text(r, v, "service", true, at, ret) &&
	       (is_service(r, *ret) || bad(r, &here, *ret, "\"namespace/name\" of a service of this file"));
}

static void *read_route_backend(struct reader *r, const json_t *v, const struct jpath *at)
{
	static const char *const names[] = {"service", "port", "weight", NULL};
	Weft__V1__RouteBackend *b = take(r, sizeof(*b));
	int64_t port = 0, weight = 1;
	weft__v1__route_backend__init(b);
	if (!read_object(r, v, names, at) || !read_service_name(r, v, at, &b->service) ||
	    !json_get_int(v, "port", true, 1, 65535, at, &port, r->err) ||
	    !json_get_int(v, "weight", false, 0, RESOURCE_WEIGHT_MAX, at, &weight, r->err))
		return NULL;
	b->port = (uint32_t)port;
	b->weight = (uint32_t)weight;
	return b;
}

static void *read_route_rule(struct reader *r, const json_t *v, const struct jpath *at)
{
	static const char *const names[] = {"matches", "backends", NULL};
	Weft__V1__RouteRule *rule = take(r, sizeof(*rule));
	weft__v1__route_rule__init(rule);
	return read_object(r, v, names, at) &&
		       read_each(r, v, "matches", RESOURCE_MATCHES_MAX, at, read_route_match, &rule->n_matches,
				 &rule->matches) &&
		       read_each(r, v, "backends", RESOURCE_BACKENDS_MAX, at, read_route_backend, &rule->n_backends,
				 &rule->backends)
		   ? rule
		   : NULL;
}

static void *read_route_parent(struct reader *r, const json_t *v, const struct jpath *at)
{
	static const char *const names[] = {"service", "port", NULL};
	Weft__V1__RouteParent *p = take(r, sizeof(*p));
	int64_t port = 0;
	weft__v1__route_parent__init(p);
	if (!read_object(r, v, names, at) || !read_service_name(r, v, at, &p->service) ||
	    !json_get_int(v, "port", false, 1, 65535, at, &port, r->err))
		return NULL;
	p->port = (uint32_t)port;
	return p;
}

static void *read_route(struct reader *r, const json_t *v, const struct jpath *at)
{
	static const char *const names[] = {"name", "namespace", "created", "parents", "rules", NULL};
	Weft__V1__Route *route = take(r, sizeof(*route));
	weft__v1__route__init(route);
	bool ok = read_object(r, v, names, at) && read_text(r, v, "name", true, at, &route->name) &&
		  read_text(r, v, "namespace", true, at, &route->namespace_) &&
		  json_get_int(v, "created", false, 0, INT64_MAX, at, &route->created, r->err) &&
		  read_each(r, v, "parents", RESOURCE_PARENTS_MAX, at, read_route_parent, &route->n_parents,
			    &route->parents) &&
		  read_each(r, v, "rules", RESOURCE_RULES_MAX, at, read_route_rule, &route->n_rules, &route->rules) &&
		  apply(r, RESOURCE_ROUTE, full_name(r, route->namespace_, route->name), &route->base, at);
	return ok ? route : NULL;
}

/* --- the other kinds --- */

static bool read_workload(struct reader *r, const json_t *v, const struct jpath *at)
{
	static const char *const names[] = {"name", "namespace", "addresses", "identity", "meshed", "ports", NULL};
	Weft__V1__Workload w = WEFT__V1__WORKLOAD__INIT;
	if (!read_object(r, v, names, at) || !read_text(r, v, "name", true, at, &w.name) ||
	    !read_text(r, v, "namespace", true, at, &w.namespace_) ||
	    !read_text(r, v, "identity", false, at, &w.identity) ||
	    !read_ips(r, v, "addresses", at, &w.n_addresses, &w.addresses) ||
	    !read_workload_ports(r, v, at, &w.n_ports, &w.ports))
		return false;
	bool meshed = w.identity[0] != '\0';
	if (!json_get_bool(v, "meshed", false, at, &meshed, r->err))
		return false;
	w.meshed = meshed;
	return apply(r, RESOURCE_WORKLOAD, full_name(r, w.namespace_, w.name), &w.base, at);
}

static bool read_self(struct reader *r, const json_t *root)
{
	static const char *const names[] = {"name", "namespace", "serviceAccount", "ports", NULL};
	struct jpath at = {.field = "self"};
	json_t *v = NULL;
	Weft__V1__Self s = WEFT__V1__SELF__INIT;
	return json_get_object(root, "self", true, NULL, &v, r->err) && read_object(r, v, names, &at) &&
	       read_text(r, v, "name", true, &at, &s.name) && read_text(r, v, "namespace", true, &at, &s.namespace_) &&
	       read_text(r, v, "serviceAccount", false, &at, &s.service_account) &&
	       read_workload_ports(r, v, &at, &s.n_ports, &s.ports) && apply(r, RESOURCE_SELF, "self", &s.base, &at);
}

static bool read_mesh(struct reader *r, const json_t *root)
{
	struct jpath at = {.field = "cidrs"};
	json_t *list = NULL;
	Weft__V1__MeshConfig m = WEFT__V1__MESH_CONFIG__INIT;
	if (!read_text(r, root, "trustDomain", true, NULL, &m.trust_domain) ||
	    !json_get_array(root, "cidrs", false, RESOURCE_CIDRS_MAX, NULL, &list, r->err))
		return false;
	m.n_cidrs = json_array_size(list);
	m.cidrs = take(r, m.n_cidrs * sizeof(*m.cidrs));
	for (size_t i = 0; i < m.n_cidrs; i++) {
		struct jpath here = {.up = &at, .index = i};
		const char *text = json_string_value(json_array_get(list, i));
		struct cidr *c = take(r, sizeof(*c));
		if (!cidr_parse(str_of(text), c))
			return bad(r, &here, text ? text : "",
				   "a CIDR such as 10.0.0.0/8 without bits behind the prefix");
		m.cidrs[i] = take(r, sizeof(*m.cidrs[i]));
		weft__v1__mesh_cidr__init(m.cidrs[i]);
		m.cidrs[i]->address.data = c->ip.b;
		m.cidrs[i]->address.len = c->ip.len;
		m.cidrs[i]->bits = c->bits;
	}
	return apply(r, RESOURCE_MESH, "mesh", &m.base, &(struct jpath){.field = "trustDomain"});
}

static bool read_list(struct reader *r, const json_t *root, const char *field,
		      bool (*one)(struct reader *r, const json_t *v, const struct jpath *at))
{
	struct jpath in = {.field = field};
	json_t *list = NULL;
	if (!json_get_array(root, field, false, CONFIG_NAMES_MAX, NULL, &list, r->err))
		return false;
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct jpath at = {.up = &in, .index = i};
		if (!one(r, json_array_get(list, i), &at))
			return false;
	}
	return true;
}

static bool read_root(struct reader *r, const json_t *root, struct identity *id)
{
	static const char *const names[] = {"trustDomain", "cidrs",     "certificate", "certificatePem", "key",
					    "keyPem",      "roots",     "rootsPem",    "self",           "services",
					    "routes",      "workloads", NULL};
	if (!json_is_object(root))
		return err_set(r->err, ERR_INVALID, "must be a JSON object");
	r->root = root;
	return json_fields_known(root, names, NULL, r->err) && read_mesh(r, root) && read_self(r, root) &&
	       read_each(r, root, "routes", CONFIG_LISTED_MAX, NULL, read_route, &r->n_routes, &r->routes) &&
	       read_list(r, root, "services", read_service) && read_list(r, root, "workloads", read_workload) &&
	       read_identity(r, root, id);
}

bool config_file_load(const char *path, struct config *c, struct identity *id, struct err *err)
{
	struct reader r = {.path = path, .config = c, .err = err};
	char *text;
	size_t len;
	if (!slurp(path, CONFIG_FILE_MAX, &text, &len, err))
		return false;
	arena_init(&r.arena, SIZE_MAX);
	json_t *root = json_read(str_make(text, len), err);
	bool ok = root && read_root(&r, root, id);
	json_decref(root);
	mem_wipe_free(text, len);
	arena_done(&r.arena);
	if (!ok)
		return err_prefix(err, "%s", path);
	if (c)
		config_commit(c);
	return true;
}
