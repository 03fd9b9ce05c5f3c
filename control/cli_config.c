/* SPDX-License-Identifier: Apache-2.0 */
/* cli_config.c: `weft config dump`: what a proxy of this machine has, from its admin socket; `weft config render`: YAML into the
 * one JSON file that weft-proxy -f runs from, since the proxy links no YAML. */
#include "control/cli.h"
#include "control/document.h"
#include "control/kind.h"
#include "control/kind_httproute.h"
#include "control/kind_service.h"
#include "lib/http/client.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "lib/sock.h"

#include <stdlib.h>
#include <string.h>

#define DUMP_MAX    (256 * 1024 * 1024)
#define RENDER_VIPS 65535 /* addresses given out here, to services that say none */

/* --- dump --- */

static char *socket_path(const struct cli *c, struct err *err)
{
	const char *dir = c->run_dir ? c->run_dir : "/run/weft";

	if ((c->socket != NULL) == (c->words.len == 1) || c->words.len > 1) {
		err_set(err, ERR_INVALID, "config dump: NAME or --socket PATH; see `weft config dump --help`");
		return NULL;
	}
	if (c->socket)
		return mem_strdup(c->socket);
	if (!cli_name_ok(c->words.v[0], err) || (c->ns && !cli_name_ok(c->ns, err)))
		return NULL;
	return mem_printf("%s/%s-%s/admin.sock", dir, c->ns ? c->ns : "default", c->words.v[0]);
}

enum cli_exit cli_config_dump(struct cli *c, struct err *err)
{
	struct http_answer answer;
	uint64_t timeout_ms = 30000;

	if (c->timeout && (!str_to_ms(str_of(c->timeout), &timeout_ms) || timeout_ms == 0)) {
		err_set(err, ERR_INVALID, "--timeout %.40s: expected a time like 10s", c->timeout);
		return CLI_USAGE;
	}
	char *path = socket_path(c, err);
	if (!path)
		return CLI_USAGE;
	struct http_call call = {.dial = {.unix_path = path, .timeout_ms = MIN(timeout_ms, 10000)},
				 .method = "GET",
				 .authority = "admin",
				 .path = "/config",
				 .answer_max = DUMP_MAX,
				 .timeout_ms = timeout_ms};
	bool ok = http_call_wait(&call, &answer, err) || err_prefix(err, "%s", path);
	if (ok && answer.status != 200)
		ok = err_set(err, ERR_PROTOCOL, "%s: the proxy answered %u", path, answer.status);
	while (ok && answer.body.len) {
		struct str piece = buf_peek(&answer.body);
		fwrite(piece.p, 1, piece.len, stdout);
		buf_drain(&answer.body, piece.len);
	}
	if (ok) {
		putchar('\n');
		buf_done(&answer.body);
	}
	mem_free(path);
	return ok ? CLI_OK : CLI_FAILED;
}

/* --- render --- */

struct render {
	const struct cli *c;
	json_t *services; /* of the output */
	json_t *routes;   /* of the output */
	json_t *by_name;  /* "namespace/name" -> {"out": of services, "in": as applied} */
	unsigned vips;
	struct err *err;
};

/* As weftd declares it, in the words of -f; "" for none. */
static const char *declared(const json_t *port)
{
	static const char *const words[] = {[WEFT__V1__PROTOCOL__UNDECLARED] = "",
					    [WEFT__V1__PROTOCOL__HTTP] = "http",
					    [WEFT__V1__PROTOCOL__HTTP2] = "http2",
					    [WEFT__V1__PROTOCOL__TCP] = "tcp",
					    [WEFT__V1__PROTOCOL__TLS] = "tls"};
	const char *app = json_string_value(json_object_get(port, "appProtocol"));
	const char *name = json_string_value(json_object_get(port, "name"));
	Weft__V1__Protocol p = WEFT__V1__PROTOCOL__UNDECLARED;

	if (!app || !protocol_of(app, &p))
		(void)(name && protocol_of(name, &p));
	return words[p];
}

static json_t *vips_of(struct render *r, const json_t *spec)
{
	json_t *given = json_object_get(spec, "clusterIPs");
	unsigned n = ++r->vips;

	if (json_array_size(given))
		return json_incref(given);
	given = json_object_get(spec, "clusterIP");
	if (given)
		return json_pack("[O]", given);
	return json_pack("[o, o]", json_sprintf("240.0.%u.%u", n >> 8, n & 255),
			 json_sprintf("fd77:6566:7400:1::%x", n));
}

static bool add_service(struct render *r, const struct object *o)
{
	json_t *spec = json_object_get(o->body, "spec"), *ports = json_array(), *p;
	char *key = mem_printf("%s/%s", o->ns, o->name);
	size_t i;

	if (r->vips == RENDER_VIPS)
		return err_set(r->err, ERR_LIMIT, "more than %d services", RENDER_VIPS);
	json_array_foreach(json_object_get(spec, "ports"), i, p)
	{
		const char *protocol = declared(p);
		json_t *port = json_pack("{s:O}", "port", json_object_get(p, "port"));
		if (json_object_get(p, "name"))
			json_object_set(port, "name", json_object_get(p, "name"));
		if (*protocol)
			json_object_set_new(port, "protocol", json_string(protocol));
		json_array_append_new(ports, port);
	}
	json_t *out = json_pack("{s:s, s:s, s:o, s:o, s:[]}", "name", o->name, "namespace", o->ns, "vips",
				vips_of(r, spec), "ports", ports, "endpoints");
	json_array_append_new(r->services, out);
	json_object_set_new(r->by_name, key, json_pack("{s:O, s:O}", "out", out, "in", o->body));
	mem_free(key);
	return true;
}

/* The slice's port for a service's port: by name, as Kubernetes does. */
static json_t *slice_port(const json_t *slice, const json_t *service_port)
{
	const char *want = json_string_value(json_object_get(service_port, "name"));
	size_t i;
	json_t *p;

	json_array_foreach(json_object_get(slice, "ports"), i, p)
	{
		const char *name = json_string_value(json_object_get(p, "name"));
		if (strcmp(want ? want : "", name ? name : "") == 0)
			return json_object_get(p, "port");
	}
	return NULL;
}

static bool add_slice(struct render *r, const struct object *o)
{
	const char *of =
	    json_string_value(json_object_get(object_meta(o->body, "labels"), "kubernetes.io/service-name"));
	char *key = mem_printf("%s/%s", o->ns, of ? of : "");
	json_t *known = json_object_get(r->by_name, key), *e, *p, *address, *ports = json_object();
	size_t i, k;

	if (!known) {
		err_set(r->err, ERR_INVALID,
			"EndpointSlice %s/%s: metadata.labels: there is no Service %s in the files", o->ns, o->name,
			key);
		json_decref(ports);
		mem_free(key);
		return false;
	}
	mem_free(key);
	json_array_foreach(json_object_get(json_object_get(json_object_get(known, "in"), "spec"), "ports"), i, p)
	{
		char text[24];
		json_t *to = slice_port(o->body, p);
		snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(json_object_get(p, "port")));
		if (to)
			json_object_set(ports, text, to);
	}
	json_array_foreach(json_object_get(o->body, "endpoints"), i, e)
	    json_array_foreach(json_object_get(e, "addresses"), k, address)
		json_array_append_new(json_object_get(json_object_get(known, "out"), "endpoints"),
				      json_pack("{s:O, s:O, s:b}", "address", address, "ports", ports, "meshed", 0));
	json_decref(ports);
	return true;
}

/* --- routes --- */

/* The service of the files that a route names; *ret_key is "namespace/name", mem_free. */
static bool named_service(struct render *r, const struct object *o, const char *name, struct service *ret,
			  char **ret_key)
{
	char *key = mem_printf("%s/%s", o->ns, name);
	const json_t *known = json_object_get(r->by_name, key);

	if (!known)
		err_set(r->err, ERR_INVALID, "HTTPRoute %s/%s: there is no Service %s in the files", o->ns, o->name,
			key);
	if (!known || !service_read(json_object_get(known, "in"), ret, r->err)) {
		mem_free(key);
		return false;
	}
	*ret_key = key;
	return true;
}

static bool render_parents(struct render *r, const struct object *o, const struct httproute *route, json_t *list)
{
	for (size_t i = 0; i < route->parents_len; i++) {
		struct service s;
		uint16_t port = 0;
		char *key;
		if (!named_service(r, o, route->parents[i].name, &s, &key))
			return false;
		json_t *out = json_pack("{s:s}", "service", key);
		mem_free(key);
		json_array_append_new(list, out);
		if (!httproute_attach(&route->parents[i], &s, &port, r->err))
			return err_prefix(r->err, "HTTPRoute %s/%s: spec.parentRefs[%zu]", o->ns, o->name, i);
		if (port)
			json_object_set_new(out, "port", json_integer(port));
	}
	return true;
}

static bool render_backends(struct render *r, const struct object *o, const json_t *backends, json_t *list)
{
	size_t i;
	json_t *b;

	json_array_foreach((json_t *)(uintptr_t)backends, i, b)
	{
		struct service s;
		char *key;
		if (!named_service(r, o, json_string_value(json_object_get(b, "name")), &s, &key))
			return false;
		json_array_append_new(list,
				      json_pack("{s:s, s:O, s:O}", "service", key, "port", json_object_get(b, "port"),
						"weight", json_object_get(b, "weight")));
		mem_free(key);
		if (!httproute_resolve(b, &s, r->err))
			return err_prefix(r->err, "HTTPRoute %s/%s", o->ns, o->name);
	}
	return true;
}

/* As normalised; -f has no types of headers and parameters. */
static json_t *render_matches(const json_t *matches)
{
	static const char *const lists[] = {"headers", "queryParams"};
	json_t *out = json_deep_copy(matches), *m, *f;
	size_t i, k;

	json_array_foreach(out, i, m)
	{
		for (size_t l = 0; l < ARRAY_LEN(lists); l++)
			json_array_foreach(json_object_get(m, lists[l]), k, f) json_object_del(f, "type");
	}
	return out;
}

static bool add_route(struct render *r, const struct object *o)
{
	struct httproute route;
	json_t *rule, *parents = json_array(), *rules = json_array();
	size_t i;

	json_array_append_new(r->routes, json_pack("{s:s, s:s, s:o, s:o}", "name", o->name, "namespace", o->ns,
						   "parents", parents, "rules", rules));
	if (!httproute_read(o->body, &route, r->err) || !render_parents(r, o, &route, parents))
		return false;
	json_array_foreach((json_t *)(uintptr_t)route.rules, i, rule)
	{
		json_t *backends = json_array();
		json_array_append_new(rules, json_pack("{s:o, s:o}", "matches",
						       render_matches(json_object_get(rule, "matches")), "backends",
						       backends));
		if (!render_backends(r, o, json_object_get(rule, "backendRefs"), backends))
			return false;
	}
	return true;
}

static bool add_all(struct render *r, const json_t *objects, const struct kind *kind,
		    bool (*add)(struct render *, const struct object *))
{
	size_t i;
	json_t *body;

	json_array_foreach((json_t *)(uintptr_t)objects, i, body)
	{
		const json_t *meta = json_object_get(body, "metadata");
		struct object o = {kind, json_string_value(json_object_get(meta, "namespace")),
				   json_string_value(json_object_get(meta, "name")), body};
		if (strcmp(json_string_value(json_object_get(body, "kind")), kind->name) == 0 && !add(r, &o))
			return false;
	}
	return true;
}

/* What a file of -f cannot say must not be left out in silence. */
static bool all_renderable(const json_t *objects, struct err *err)
{
	size_t i;
	json_t *body;

	json_array_foreach((json_t *)(uintptr_t)objects, i, body)
	{
		const char *kind = json_string_value(json_object_get(body, "kind"));
		const json_t *meta = json_object_get(body, "metadata");
		if (strcmp(kind, kind_service.name) != 0 && strcmp(kind, kind_endpointslice.name) != 0 &&
		    strcmp(kind, kind_httproute.name) != 0)
			return err_set(err, ERR_UNSUPPORTED,
				       "%s %s/%s: a proxy that runs from a file takes Services, EndpointSlices and "
				       "HTTPRoutes only",
				       kind, json_string_value(json_object_get(meta, "namespace")),
				       json_string_value(json_object_get(meta, "name")));
	}
	return true;
}

static json_t *list_json(const struct option_list *l)
{
	json_t *list = json_array();

	for (size_t i = 0; i < l->len; i++)
		json_array_append_new(list, json_string(l->v[i]));
	return list;
}

static bool own_ports(const struct option_list *l, json_t *list, struct err *err)
{
	for (size_t i = 0; i < l->len; i++) {
		struct str number, protocol;
		uint64_t n;
		bool more = str_cut(str_of(l->v[i]), '/', &number, &protocol);
		if (!str_to_u64(number, 65535, &n) || n == 0)
			return err_set(err, ERR_INVALID, "--port %.40s: expected PORT or PORT/PROTOCOL, like 8080/http",
				       l->v[i]);
		json_t *port = json_pack("{s:I}", "port", (json_int_t)n);
		if (more)
			json_object_set_new(port, "protocol", json_stringn(protocol.p, protocol.len));
		json_array_append_new(list, port);
	}
	return true;
}

static json_t *head_json(const struct cli *c, struct err *err)
{
	json_t *ports = json_array();

	if (!own_ports(&c->ports, ports, err)) {
		json_decref(ports);
		return NULL;
	}
	json_t *out = json_pack("{s:s, s:o, s:{s:s, s:s, s:s, s:o}}", "trustDomain", c->trust_domain, "cidrs",
				list_json(&c->cidrs), "self", "name", c->name, "namespace", c->ns ? c->ns : "default",
				"serviceAccount", c->sa ? c->sa : "default", "ports", ports);
	if (!out) {
		err_set(err, ERR_INVALID, "config render: an option is not UTF-8");
		return NULL;
	}
	if (c->certificate)
		json_object_set_new(out, "certificate", json_string(c->certificate));
	if (c->key)
		json_object_set_new(out, "key", json_string(c->key));
	if (c->roots)
		json_object_set_new(out, "roots", json_string(c->roots));
	return out;
}

enum cli_exit cli_config_render(struct cli *c, struct err *err)
{
	struct documents d = {0};
	struct render r = {.c = c, .err = err};

	if (c->words.len || !c->files.len || !c->name || !c->trust_domain) {
		err_set(
		    err, ERR_INVALID,
		    "config render: -f FILE, --name and --trust-domain are wanted; see `weft config render --help`");
		return CLI_USAGE;
	}
	json_t *out = head_json(c, err);
	if (!out)
		return CLI_USAGE;
	json_t *objects = cli_read_files(c, &d, err) ? cli_checked_objects(c, &d) : NULL;
	r.services = json_array();
	r.routes = json_array();
	r.by_name = json_object();
	bool ok = objects && all_renderable(objects, err) && add_all(&r, objects, &kind_service, add_service) &&
		  add_all(&r, objects, &kind_endpointslice, add_slice) &&
		  add_all(&r, objects, &kind_httproute, add_route);
	if (ok) {
		json_object_set(out, "services", r.services);
		if (json_array_size(r.routes))
			json_object_set(out, "routes", r.routes);
		json_dumpf(out, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(r.services);
	json_decref(r.routes);
	json_decref(r.by_name);
	json_decref(objects);
	json_decref(out);
	documents_done(&d);
	return ok ? CLI_OK : CLI_FAILED;
}
