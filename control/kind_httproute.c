/* SPDX-License-Identifier: Apache-2.0 */
/* kind_httproute.c: the HTTPRoute of the Gateway API, attached to a Service of its own namespace (GAMMA, producer route). What the
 * API has and Weft does not have yet is refused by name; nothing is ignored. */
#include "control/kind_httproute.h"

#include "control/kind.h"
#include "control/kind_field.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#define PATH_VALUE_MAX   1024
#define NAME_VALUE_MAX   256
#define HEADER_VALUE_MAX 4096
#define QUERY_VALUE_MAX  1024

static const char *const fields[] = {"spec", NULL};
static const char *const spec_fields[] = {"parentRefs", "rules", NULL};
static const char *const spec_later[] = {"hostnames", "useDefaultGateways", NULL};
static const char *const parent_fields[] = {"group", "kind", "namespace", "name", "port", "sectionName", NULL};
static const char *const rule_fields[] = {"name", "matches", "backendRefs", NULL};
static const char *const rule_later[] = {"filters", "timeouts", "retry", "sessionPersistence", NULL};
static const char *const match_fields[] = {"path", "headers", "queryParams", "method", NULL};
static const char *const value_fields[] = {"type", "value", NULL};
static const char *const named_fields[] = {"type", "name", "value", NULL};
static const char *const backend_fields[] = {"group", "kind", "namespace", "name", "port", "weight", NULL};
static const char *const backend_later[] = {"filters", NULL};
static const char *const methods[] = {"GET",     "HEAD",    "POST",  "PUT",   "DELETE",
				      "CONNECT", "OPTIONS", "TRACE", "PATCH", NULL};

/* --- references to services --- */

/* group, kind and namespace of a reference: only a Service of the route's own namespace. `kind_default`: what the API takes when
 * none is given. */
static bool check_service_ref(const json_t *in, const char *ns, const char *kind_default, const struct jpath *at,
			      const char **ret_name, struct err *err)
{
	const char *group = "", *kind = kind_default, *other = ns;

	if (!json_get_str(in, "group", false, at, &group, err) || !json_get_str(in, "kind", false, at, &kind, err) ||
	    !json_get_str(in, "namespace", false, at, &other, err) ||
	    !json_get_str(in, "name", true, at, ret_name, err))
		return false;
	if (strcmp(kind, "Service") != 0)
		return field_bad(at, "kind", err, "%.80s is not supported yet; expected Service", kind);
	if (*group && strcmp(group, "core") != 0)
		return field_bad(at, "group", err, "\"%.80s\" has no Service; expected \"\"", group);
	if (strcmp(other, ns) != 0)
		return field_bad(at, "namespace", err,
				 "\"%.80s\": a Service of another namespace is not supported yet; expected %s", other,
				 ns);
	return field_label(*ret_name, at, "name", err);
}

static bool check_parent(const json_t *in, const char *ns, const struct jpath *at, json_t *out, struct err *err)
{
	const char *name = NULL, *section = NULL;
	uint16_t port = 0;

	if (!json_is_object(in))
		return field_bad(at, NULL, err, "it is not an object with kind and name");
	if (!json_fields_known(in, parent_fields, at, err) || !check_service_ref(in, ns, "Gateway", at, &name, err) ||
	    !field_port(in, "port", false, at, &port, err) ||
	    !json_get_str(in, "sectionName", false, at, &section, err))
		return false;
	if (section && !field_label(section, at, "sectionName", err))
		return false;
	json_t *p = json_pack("{s:s, s:s, s:s}", "group", "", "kind", "Service", "name", name);
	if (port)
		json_object_set_new(p, "port", json_integer(port));
	if (section)
		json_object_set_new(p, "sectionName", json_string(section));
	for (size_t i = 0; i < json_array_size(out); i++)
		if (json_equal(json_array_get(out, i), p)) {
			json_decref(p);
			return field_bad(at, NULL, err, "it is the same as spec.parentRefs[%zu]", i);
		}
	json_array_append_new(out, p);
	return true;
}

static bool check_backend(const json_t *in, const char *ns, const struct jpath *at, json_t *out, struct err *err)
{
	const char *name = NULL;
	uint16_t port = 0;
	int64_t weight = 1;

	if (!json_is_object(in))
		return field_bad(at, NULL, err, "it is not an object with name and port");
	if (!field_none_of(in, backend_later, at, err) || !json_fields_known(in, backend_fields, at, err) ||
	    !check_service_ref(in, ns, "Service", at, &name, err) || !field_port(in, "port", true, at, &port, err) ||
	    !json_get_int(in, "weight", false, 0, HTTPROUTE_WEIGHT_MAX, at, &weight, err))
		return false;
	json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:i, s:I}", "group", "", "kind", "Service", "name", name,
					     "port", (int)port, "weight", (json_int_t)weight));
	return true;
}

/* --- matches --- */

/* The type of a match: one of the words, which may be left out; regular expressions later. */
static bool check_type(const json_t *in, const char *const *words, const struct jpath *at, const char **ret,
		       struct err *err)
{
	const char *type = NULL;

	if (!json_get_str(in, "type", false, at, &type, err))
		return false;
	if (type && strcmp(type, "RegularExpression") == 0)
		return field_bad(at, "type", err, "RegularExpression is not supported yet");
	return field_word(in, "type", words, at, ret, err);
}

static bool check_path_value(const char *v, const struct jpath *at, struct err *err)
{
	static const char *const never[] = {"//", "/./", "/../", "%2f", "%2F", "#"};
	size_t len = strlen(v);

	if (v[0] != '/' || len > PATH_VALUE_MAX)
		return field_bad(at, "value", err, "\"%.80s\" is not a path; expected / and at most %d bytes in all", v,
				 PATH_VALUE_MAX);
	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		if (strstr(v, never[i]))
			return field_bad(at, "value", err, "\"%.80s\" must not have %s in it", v, never[i]);
	if ((len >= 3 && strcmp(v + len - 3, "/..") == 0) || (len >= 2 && strcmp(v + len - 2, "/.") == 0))
		return field_bad(at, "value", err, "\"%.80s\" must not end with /. or /..", v);
	for (const char *p = v; *p; p++) {
		bool escape = *p == '%' && isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2]);
		if (!isalnum((unsigned char)*p) && !strchr("-/._~!$&'()*+,;=:@", *p) && !escape)
			return field_bad(at, "value", err, "\"%.80s\" has a byte that no path has; escape it (%%20)",
					 v);
	}
	return true;
}

static bool check_path(const json_t *match, const struct jpath *match_at, json_t *out, struct err *err)
{
	static const char *const types[] = {"PathPrefix", "Exact", NULL};
	struct jpath at = {.up = match_at, .field = "path"};
	const char *type = types[0], *value = "/";
	json_t *in = NULL;

	if (!json_get_object(match, "path", false, match_at, &in, err))
		return false;
	if (in && (!json_fields_known(in, value_fields, &at, err) || !check_type(in, types, &at, &type, err) ||
		   !json_get_str(in, "value", false, &at, &value, err) || !check_path_value(value, &at, err)))
		return false;
	json_object_set_new(out, "path", json_pack("{s:s, s:s}", "type", type, "value", value));
	return true;
}

static bool is_token(const char *s)
{
	for (const char *p = s; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
			return false;
	return *s && strlen(s) <= NAME_VALUE_MAX;
}

static bool check_named(const json_t *in, size_t value_max, const struct jpath *at, json_t *out, struct err *err)
{
	static const char *const types[] = {"Exact", NULL};
	const char *type = types[0], *name = NULL, *value = NULL;

	if (!json_is_object(in))
		return field_bad(at, NULL, err, "it is not an object with name and value");
	if (!json_fields_known(in, named_fields, at, err) || !check_type(in, types, at, &type, err) ||
	    !json_get_str(in, "name", true, at, &name, err) || !json_get_str(in, "value", true, at, &value, err))
		return false;
	if (!is_token(name))
		return field_bad(at, "name", err,
				 "\"%.80s\" is not a name (1 to %d of A-Z, a-z, 0-9 and !#$%%&'*+-.^_`|~)", name,
				 NAME_VALUE_MAX);
	if (!*value || strlen(value) > value_max)
		return field_bad(at, "value", err, "it has %zu bytes; expected 1 to %zu", strlen(value), value_max);
	for (size_t i = 0; i < json_array_size(out); i++)
		if (strcasecmp(json_string_value(json_object_get(json_array_get(out, i), "name")), name) == 0)
			return field_bad(at, "name", err, "%.80s is there twice", name);
	json_array_append_new(out, json_pack("{s:s, s:s, s:s}", "type", type, "name", name, "value", value));
	return true;
}

/* headers or queryParams */
static bool check_all_named(const json_t *match, const char *field, size_t value_max, const struct jpath *match_at,
			    json_t *out, struct err *err)
{
	struct jpath at = {.up = match_at, .field = field};
	json_t *in = NULL;

	if (!json_get_array(match, field, false, HTTPROUTE_FIELDS_MAX, match_at, &in, err))
		return false;
	if (json_array_size(in) == 0)
		return true;
	json_t *list = json_array();
	json_object_set_new(out, field, list);
	for (size_t i = 0; i < json_array_size(in); i++) {
		struct jpath here = {.up = &at, .index = i};
		if (!check_named(json_array_get(in, i), value_max, &here, list, err))
			return false;
	}
	return true;
}

static bool check_match(const json_t *in, const struct jpath *at, json_t *list, struct err *err)
{
	const char *method = NULL;
	json_t *out = json_object();

	json_array_append_new(list, out);
	if (!json_is_object(in))
		return field_bad(at, NULL, err, "it is not an object with path, method, headers or queryParams");
	if (!json_fields_known(in, match_fields, at, err) || !check_path(in, at, out, err) ||
	    !field_word(in, "method", methods, at, &method, err) ||
	    !check_all_named(in, "headers", HEADER_VALUE_MAX, at, out, err) ||
	    !check_all_named(in, "queryParams", QUERY_VALUE_MAX, at, out, err))
		return false;
	if (method)
		json_object_set_new(out, "method", json_string(method));
	return true;
}

/* --- rules --- */

static bool check_rule(const json_t *in, const char *ns, const struct jpath *at, json_t *list, struct err *err)
{
	struct jpath matches_at = {.up = at, .field = "matches"}, backends_at = {.up = at, .field = "backendRefs"};
	json_t *out = json_object(), *matches = NULL, *backends = NULL, *all_matches = json_array(),
	       *all_backends = json_array();
	const char *name = NULL;

	json_array_append_new(list, out);
	json_object_set_new(out, "matches", all_matches);
	json_object_set_new(out, "backendRefs", all_backends);
	if (!json_is_object(in))
		return field_bad(at, NULL, err, "it is not an object with matches and backendRefs");
	if (!field_none_of(in, rule_later, at, err) || !json_fields_known(in, rule_fields, at, err) ||
	    !json_get_str(in, "name", false, at, &name, err) ||
	    !json_get_array(in, "matches", false, HTTPROUTE_MATCHES_MAX, at, &matches, err) ||
	    !json_get_array(in, "backendRefs", false, HTTPROUTE_BACKENDS_MAX, at, &backends, err))
		return false;
	if (name && !field_subdomain(name, at, "name", err))
		return false;
	if (name)
		json_object_set_new(out, "name", json_string(name));
	for (size_t i = 0; i < json_array_size(matches); i++) {
		struct jpath here = {.up = &matches_at, .index = i};
		if (!check_match(json_array_get(matches, i), &here, all_matches, err))
			return false;
	}
	if (json_array_size(matches) == 0)
		json_array_append_new(all_matches,
				      json_pack("{s:{s:s, s:s}}", "path", "type", "PathPrefix", "value", "/"));
	for (size_t i = 0; i < json_array_size(backends); i++) {
		struct jpath here = {.up = &backends_at, .index = i};
		if (!check_backend(json_array_get(backends, i), ns, &here, all_backends, err))
			return false;
	}
	return true;
}

/* An array of the spec: at least one, each through `one`. */
static bool check_each(const json_t *spec, const char *field, size_t max, const char *ns, const struct jpath *spec_at,
		       bool (*one)(const json_t *, const char *, const struct jpath *, json_t *, struct err *),
		       json_t *out, struct err *err)
{
	struct jpath at = {.up = spec_at, .field = field};
	json_t *in = NULL, *list = json_array();

	json_object_set_new(out, field, list);
	if (!json_get_array(spec, field, true, max, spec_at, &in, err))
		return false;
	if (json_array_size(in) == 0)
		return field_bad(&at, NULL, err, "it is empty; expected 1 to %zu", max);
	for (size_t i = 0; i < json_array_size(in); i++) {
		struct jpath here = {.up = &at, .index = i};
		if (!one(json_array_get(in, i), ns, &here, list, err))
			return false;
	}
	return true;
}

static bool check(const json_t *in, json_t *out, struct err *err)
{
	static const struct jpath at = {.field = "spec"};
	json_t *spec = NULL, *s = json_object();
	const char *ns = json_string_value(json_object_get(json_object_get(out, "metadata"), "namespace"));

	json_object_set_new(out, "spec", s);
	return json_get_object(in, "spec", true, NULL, &spec, err) && field_none_of(spec, spec_later, &at, err) &&
	       json_fields_known(spec, spec_fields, &at, err) &&
	       check_each(spec, "parentRefs", HTTPROUTE_PARENTS_MAX, ns, &at, check_parent, s, err) &&
	       check_each(spec, "rules", HTTPROUTE_RULES_MAX, ns, &at, check_rule, s, err);
}

/* --- within the store's transaction: when it was made, which decides between rules that match equally well --- */

static bool admit(struct store *store, const struct store_item *item, const json_t *before, json_t *body,
		  struct err *err)
{
	const json_t *made = json_object_get(json_object_get(before, "metadata"), "creationTimestamp");
	json_t *meta = json_object_get(body, "metadata");
	char text[32];
	time_t now = time(NULL);
	struct tm tm;

	if (!body)
		return true;
	if (made)
		return json_object_set_new(meta, "creationTimestamp", json_deep_copy(made)) == 0;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	json_object_set_new(meta, "creationTimestamp", json_string(text));
	return true;
}

/* --- reading a normalised one --- */

static bool read_parent(const json_t *p, struct httproute_parent *ret)
{
	const char *section = json_string_value(json_object_get(p, "sectionName"));

	*ret = (struct httproute_parent){json_string_value(json_object_get(p, "name")), section ? section : "",
					 (uint16_t)json_integer_value(json_object_get(p, "port"))};
	return ret->name != NULL;
}

bool httproute_read(const json_t *object, struct httproute *ret, struct err *err)
{
	const json_t *meta = json_object_get(object, "metadata"), *spec = json_object_get(object, "spec");
	const json_t *parents = json_object_get(spec, "parentRefs");
	const char *created = json_string_value(json_object_get(meta, "creationTimestamp"));
	struct httproute r = {.ns = json_string_value(json_object_get(meta, "namespace")),
			      .name = json_string_value(json_object_get(meta, "name")),
			      .rules = json_object_get(spec, "rules")};
	struct tm tm = {0};
	bool ok = r.ns && r.name && json_array_size(parents) <= HTTPROUTE_PARENTS_MAX &&
		  json_array_size(r.rules) <= HTTPROUTE_RULES_MAX;

	if (created && strptime(created, "%Y-%m-%dT%H:%M:%SZ", &tm))
		r.created = (int64_t)timegm(&tm);
	for (size_t i = 0; ok && i < json_array_size(parents); i++)
		ok = read_parent(json_array_get(parents, i), &r.parents[r.parents_len++]);
	if (!ok)
		return err_set(err, ERR_STORE, "HTTPRoute %s/%s is not as this version of Weft writes it",
			       r.ns ? r.ns : "?", r.name ? r.name : "?");
	*ret = r;
	return true;
}

static bool speaks_http(const struct service_port *p)
{
	return p->protocol != WEFT__V1__PROTOCOL__TCP && p->protocol != WEFT__V1__PROTOCOL__TLS;
}

bool httproute_attach(const struct httproute_parent *p, const struct service *s, uint16_t *ret_port, struct err *err)
{
	bool found = false, http = false;

	if (!s)
		return err_set(err, ERR_NOT_FOUND, "there is no Service %s", p->name);
	for (size_t i = 0; i < s->ports_len; i++) {
		const struct service_port *port = &s->ports[i];
		if ((p->port && port->port != p->port) || (*p->section && strcmp(port->name, p->section) != 0))
			continue;
		found = true;
		http = http || speaks_http(port);
		*ret_port = p->port || *p->section ? port->port : 0;
	}
	if (!found)
		return err_set(err, ERR_NOT_FOUND, "Service %s has no such port", p->name);
	return http || err_set(err, ERR_INVALID, "the port of Service %s is declared as not HTTP", p->name);
}

bool httproute_resolve(const json_t *backend, const struct service *s, struct err *err)
{
	const char *name = json_string_value(json_object_get(backend, "name"));
	json_int_t port = json_integer_value(json_object_get(backend, "port"));

	if (!s)
		return err_set(err, ERR_NOT_FOUND, "there is no Service %s", name ? name : "?");
	for (size_t i = 0; i < s->ports_len; i++)
		if (s->ports[i].port == port)
			return true;
	return err_set(err, ERR_NOT_FOUND, "Service %s has no port %lld", name ? name : "?", (long long)port);
}

/* --- status --- */

/* The service of this name as it is in the store; *ret_object keeps it alive (json_decref). NULL: there is none. */
static const struct service *stored_service(struct store *store, const char *ns, const char *name, struct service *s,
					    json_t **ret_object)
{
	*ret_object = NULL;
	if (!store_get(store, kind_service.name, ns, name, ret_object, NULL, NULL) ||
	    !service_read(*ret_object, s, NULL))
		return NULL;
	return s;
}

static json_t *condition(const char *type, bool yes, const char *reason, const char *message)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "type", type, "status", yes ? "True" : "False", "reason", reason,
			 "message", message);
}

static json_t *accepted(struct store *store, const struct httproute *r, const struct httproute_parent *p)
{
	struct service s;
	struct err err = {0};
	json_t *object;
	uint16_t port;
	bool ok = httproute_attach(p, stored_service(store, r->ns, p->name, &s, &object), &port, &err);

	json_decref(object);
	return condition("Accepted", ok, ok ? "Accepted" : "NoMatchingParent", ok ? "" : err.text);
}

/* The first backend that is missing, with its path. */
static json_t *resolved(struct store *store, const struct httproute *r)
{
	size_t i, k;
	json_t *rule, *backend, *object;
	char text[ERR_TEXT_MAX + 128];

	json_array_foreach((json_t *)(uintptr_t)r->rules, i, rule)
	{
		json_array_foreach(json_object_get(rule, "backendRefs"), k, backend)
		{
			struct service s;
			struct err err = {0};
			const char *name = json_string_value(json_object_get(backend, "name"));
			bool ok =
			    name && httproute_resolve(backend, stored_service(store, r->ns, name, &s, &object), &err);
			if (name)
				json_decref(object);
			if (ok)
				continue;
			snprintf(text, sizeof(text), "spec.rules[%zu].backendRefs[%zu]: %s", i, k, err.text);
			return condition("ResolvedRefs", false, "BackendNotFound", text);
		}
	}
	return condition("ResolvedRefs", true, "ResolvedRefs", "");
}

static json_t *status(struct store *store, const json_t *object)
{
	const json_t *refs = json_object_get(json_object_get(object, "spec"), "parentRefs");
	struct httproute r;
	json_t *parents = json_array();

	if (!httproute_read(object, &r, NULL))
		return json_pack("{s:o}", "parents", parents);
	for (size_t i = 0; i < r.parents_len; i++)
		json_array_append_new(parents, json_pack("{s:O, s:s, s:[o, o]}", "parentRef", json_array_get(refs, i),
							 "controllerName", "weft.dev/mesh", "conditions",
							 accepted(store, &r, &r.parents[i]), resolved(store, &r)));
	return json_pack("{s:o}", "parents", parents);
}

/* --- weft get --- */

static const char *const columns[] = {"PARENTS", "RULES", "BACKENDS", "ACCEPTED", "RESOLVED", NULL};

/* "name" or "name:port", behind what is there */
static void put(char *out, size_t size, const char *text, long long port)
{
	size_t at = strlen(out);

	snprintf(out + at, size - at, "%s%s", at ? "," : "", text ? text : "?");
	at = strlen(out);
	if (port > 0)
		snprintf(out + at, size - at, ":%lld", port);
}

static void cell_parents(const json_t *parents, char *out, size_t size)
{
	size_t i;
	json_t *p;

	json_array_foreach((json_t *)(uintptr_t)parents, i, p) put(
	    out, size, json_string_value(json_object_get(p, "name")), json_integer_value(json_object_get(p, "port")));
}

/* "orders-v1:80=70,orders-v2:80=30" */
static void cell_backends(const json_t *rules, char *out, size_t size)
{
	size_t i, k;
	json_t *rule, *b;

	json_array_foreach((json_t *)(uintptr_t)rules, i, rule)
	{
		json_array_foreach(json_object_get(rule, "backendRefs"), k, b)
		{
			put(out, size, json_string_value(json_object_get(b, "name")),
			    json_integer_value(json_object_get(b, "port")));
			size_t at = strlen(out);
			snprintf(out + at, size - at, "=%lld",
				 (long long)json_integer_value(json_object_get(b, "weight")));
		}
	}
}

/* True when it is so for every parent. */
static void cell_condition(const json_t *object, size_t which, char *out, size_t size)
{
	const json_t *parents = json_object_get(json_object_get(object, "status"), "parents");
	bool yes = true;

	if (!parents)
		return;
	for (size_t i = 0; i < json_array_size(parents); i++) {
		const json_t *c = json_array_get(json_object_get(json_array_get(parents, i), "conditions"), which);
		const char *text = json_string_value(json_object_get(c, "status"));
		yes = yes && text && strcmp(text, "True") == 0;
	}
	snprintf(out, size, "%s", yes ? "True" : "False");
}

static void cell(const json_t *object, size_t column, char *out, size_t size)
{
	const json_t *spec = json_object_get(object, "spec"), *rules = json_object_get(spec, "rules");

	out[0] = '\0';
	switch (column) {
	case 0:
		cell_parents(json_object_get(spec, "parentRefs"), out, size);
		break;
	case 1:
		snprintf(out, size, "%zu", json_array_size(rules));
		break;
	case 2:
		cell_backends(rules, out, size);
		break;
	case 3:
	case 4:
		cell_condition(object, column - 3, out, size);
		break;
	}
	if (!out[0])
		snprintf(out, size, "-");
}

const struct kind kind_httproute = {
    .name = "HTTPRoute",
    .plural = "httproutes",
    .short_name = "httproute",
    .api_version = "gateway.networking.k8s.io/v1",
    .fields = fields,
    .check = check,
    .admit = admit,
    .status = status,
    .columns = columns,
    .columns_short = 5,
    .cell = cell,
};
