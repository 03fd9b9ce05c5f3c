/* SPDX-License-Identifier: Apache-2.0 */
/* kind_service.c: the `v1` Service: a name, a selector, ports, and the virtual addresses that the store gives it. Accepts what
 * Kubernetes accepts where it means the same here; what Weft would ignore is refused. */
#include "control/kind_service.h"

#include "control/kind.h"
#include "control/kind_field.h"
#include "control/vip.h"
#include "lib/mem.h"

#include <stdio.h>
#include <strings.h>

static const char *const fields[] = {"spec", NULL};
static const char *const spec_fields[] = {"selector",   "ports",           "clusterIP",
					  "clusterIPs", "ipFamilies",      "ipFamilyPolicy",
					  "type",       "sessionAffinity", "internalTrafficPolicy",
					  NULL};
static const char *const spec_later[] = {"externalName",
					 "externalIPs",
					 "externalTrafficPolicy",
					 "loadBalancerIP",
					 "loadBalancerClass",
					 "loadBalancerSourceRanges",
					 "allocateLoadBalancerNodePorts",
					 "healthCheckNodePort",
					 "publishNotReadyAddresses",
					 "sessionAffinityConfig",
					 "trafficDistribution",
					 NULL};
static const char *const port_fields[] = {"name", "port", "targetPort", "protocol", "appProtocol", NULL};
static const char *const port_later[] = {"nodePort", NULL};

static const struct {
	const char *name;
	Weft__V1__Protocol protocol;
} protocols[] = {
#define PROTOCOL(name, protocol) {name, WEFT__V1__PROTOCOL__##protocol},
#include "control/protocol.tbl.h"
#undef PROTOCOL
};

static bool protocol_find(struct str name, Weft__V1__Protocol *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
		if (str_ieq(name, str_of(protocols[i].name))) {
			*ret = protocols[i].protocol;
			return true;
		}
	return false;
}

bool protocol_of(const char *name, Weft__V1__Protocol *ret)
{
	struct str head, rest;

	if (protocol_find(str_of(name), ret))
		return true;
	return str_cut(str_of(name), '-', &head, &rest) && protocol_find(head, ret);
}

/* --- ports --- */

/* A port of a workload by name needs names that only Kubernetes knows. */
static bool check_target(const json_t *port, const struct jpath *at, uint16_t *ret, struct err *err)
{
	const json_t *v = json_object_get(port, "targetPort");

	if (json_is_string(v))
		return field_bad(
		    at, "targetPort", err,
		    "\"%.64s\": a port's name is not supported outside Kubernetes; give its number (1 to 65535)",
		    json_string_value(v));
	return field_port(port, "targetPort", false, at, ret, err);
}

static bool check_port(const json_t *in, const struct jpath *at, json_t *out, struct err *err)
{
	static const char *const tcp[] = {"TCP", NULL};
	const char *name = NULL, *app = NULL, *transport = "TCP";
	uint16_t port = 0, target;

	if (!json_is_object(in))
		return field_bad(at, NULL, err, "it is not an object with port");
	if (!field_none_of(in, port_later, at, err) || !json_fields_known(in, port_fields, at, err) ||
	    !field_port(in, "port", true, at, &port, err))
		return false;
	target = port;
	if (!check_target(in, at, &target, err) || !json_get_str(in, "name", false, at, &name, err) ||
	    !json_get_str(in, "appProtocol", false, at, &app, err) ||
	    !field_word(in, "protocol", tcp, at, &transport, err))
		return false;
	if (name && *name && !field_label(name, at, "name", err))
		return false;
	if (app && strlen(app) > 127)
		return field_bad(at, "appProtocol", err, "it is longer than 127 bytes");
	json_t *p = json_pack("{s:i, s:i, s:s}", "port", (int)port, "targetPort", (int)target, "protocol", transport);
	if (name && *name)
		json_object_set_new(p, "name", json_string(name));
	if (app && *app)
		json_object_set_new(p, "appProtocol", json_string(app));
	json_array_append_new(out, p);
	return true;
}

static bool check_twice(const json_t *ports, const struct jpath *at, struct err *err)
{
	for (size_t i = 0; i < json_array_size(ports); i++) {
		struct jpath here = {.up = at, .index = i};
		const json_t *a = json_array_get(ports, i);
		const char *name = json_string_value(json_object_get(a, "name"));
		if (!name && json_array_size(ports) > 1)
			return field_bad(&here, "name", err, "it is missing; each of several ports needs a name");
		for (size_t k = 0; k < i; k++) {
			const json_t *b = json_array_get(ports, k);
			if (json_equal(json_object_get(a, "port"), json_object_get(b, "port")))
				return field_bad(&here, "port", err, "%lld is the port of spec.ports[%zu] too",
						 (long long)json_integer_value(json_object_get(a, "port")), k);
			if (name && json_equal(json_object_get(a, "name"), json_object_get(b, "name")))
				return field_bad(&here, "name", err, "\"%s\" is the name of spec.ports[%zu] too", name,
						 k);
		}
	}
	return true;
}

static bool check_ports(const json_t *spec, const struct jpath *spec_at, json_t *out, struct err *err)
{
	struct jpath at = {.up = spec_at, .field = "ports"};
	json_t *in = NULL, *ports = json_array();

	json_object_set_new(out, "ports", ports);
	if (!json_get_array(spec, "ports", true, SERVICE_PORTS_MAX, spec_at, &in, err))
		return false;
	if (json_array_size(in) == 0)
		return field_bad(&at, NULL, err, "it is empty; a service has at least one port");
	for (size_t i = 0; i < json_array_size(in); i++) {
		struct jpath here = {.up = &at, .index = i};
		if (!check_port(json_array_get(in, i), &here, ports, err))
			return false;
	}
	return check_twice(ports, &at, err);
}

/* --- addresses --- */

static const char *family_name(const struct ip *ip)
{
	return ip->len == 4 ? "IPv4" : "IPv6";
}

static bool has_text(const json_t *array, const char *text)
{
	size_t i;
	json_t *v;

	json_array_foreach((json_t *)(uintptr_t)array, i,
			   v) if (json_is_string(v) && strcmp(json_string_value(v), text) == 0) return true;
	return false;
}

/* clusterIPs as normalised text into out; *ret_headless for "None". */
static bool check_addresses(const json_t *spec, const struct jpath *at, json_t *out, bool *ret_headless,
			    struct err *err)
{
	struct jpath ips_at = {.up = at, .field = "clusterIPs"};
	json_t *ips = NULL, *all;
	const char *first = NULL;

	if (!json_get_str(spec, "clusterIP", false, at, &first, err) ||
	    !json_get_array(spec, "clusterIPs", false, SERVICE_VIPS_MAX, at, &ips, err))
		return false;
	all = json_array_size(ips) ? json_incref(ips) : json_array();
	if (json_array_size(all) == 0 && first && *first)
		json_array_append_new(all, json_string(first));
	const char *zeroth = json_string_value(json_array_get(all, 0));
	bool ok = !first || !*first || (zeroth && strcmp(first, zeroth) == 0) ||
		  field_bad(at, "clusterIP", err, "\"%.64s\" is not the first of clusterIPs", first);
	*ret_headless = ok && zeroth && json_array_size(all) == 1 && strcmp(zeroth, "None") == 0;
	for (size_t i = 0; ok && !*ret_headless && i < json_array_size(all); i++) {
		struct jpath here = {.up = &ips_at, .index = i};
		struct ip ip;
		char text[IP_TEXT_MAX];
		const char *v = json_string_value(json_array_get(all, i));
		ok = (v || field_bad(&here, NULL, err, "it is not text")) &&
		     field_ip(v, json_array_size(ips) ? &here : &(struct jpath){.up = at, .field = "clusterIP"}, &ip,
			      err);
		if (ok)
			json_array_append_new(out, json_string(ip_text(&ip, text)));
	}
	json_decref(all);
	return ok;
}

static bool ip_at(const json_t *array, size_t i, struct ip *ret)
{
	const char *text = json_string_value(json_array_get(array, i));

	return text && ip_parse(str_of(text), ret);
}

/* Which families the service shall have: said, or those of its addresses, or both. */
static bool check_families(const json_t *spec, const struct jpath *at, const json_t *ips, json_t *out, struct err *err)
{
	static const char *const policies[] = {"SingleStack", "PreferDualStack", "RequireDualStack", NULL};
	struct jpath families_at = {.up = at, .field = "ipFamilies"};
	json_t *said = NULL;
	const char *policy = NULL;
	struct ip ip;

	if (!json_get_array(spec, "ipFamilies", false, 2, at, &said, err) ||
	    !field_word(spec, "ipFamilyPolicy", policies, at, &policy, err))
		return false;
	for (size_t i = 0; i < json_array_size(said); i++) {
		struct jpath here = {.up = &families_at, .index = i};
		const char *v = json_string_value(json_array_get(said, i));
		if (!v || (strcmp(v, "IPv4") != 0 && strcmp(v, "IPv6") != 0))
			return field_bad(&here, NULL, err, "expected IPv4 or IPv6");
		if (has_text(out, v))
			return field_bad(&here, NULL, err, "%s is there twice", v);
		json_array_append_new(out, json_string(v));
	}
	for (size_t i = 0; i < json_array_size(ips) && ip_at(ips, i, &ip); i++) {
		if (json_array_size(said) && !has_text(said, family_name(&ip)))
			return field_bad(&families_at, NULL, err, "%s is missing, but clusterIPs has such an address",
					 family_name(&ip));
		if (!has_text(out, family_name(&ip)))
			json_array_append_new(out, json_string(family_name(&ip)));
	}
	bool single = policy && strcmp(policy, "SingleStack") == 0;
	if (single && json_array_size(out) > 1)
		return field_bad(at, "ipFamilyPolicy", err, "SingleStack has one family, not IPv4 and IPv6");
	if (json_array_size(out) == 0)
		json_array_append_new(out, json_string("IPv4"));
	else if (!policy && (json_array_size(said) || json_array_size(ips)))
		single = true; /* exactly what was said */
	if (!single && json_array_size(out) == 1)
		json_array_append_new(out, json_string(has_text(out, "IPv4") ? "IPv6" : "IPv4"));
	return true;
}

static bool check_network(const json_t *spec, const struct jpath *at, json_t *out, struct err *err)
{
	json_t *ips = json_array(), *families = json_array();
	bool headless = false;
	struct ip a, b;

	json_object_set_new(out, "clusterIPs", ips);
	json_object_set_new(out, "ipFamilies", families);
	if (!check_addresses(spec, at, ips, &headless, err))
		return false;
	if (ip_at(ips, 0, &a) && ip_at(ips, 1, &b) && a.len == b.len)
		return field_bad(at, "clusterIPs", err, "both are %s; at most one of each family", family_name(&a));
	if (!check_families(spec, at, ips, families, err))
		return false;
	json_object_set_new(out, "ipFamilyPolicy",
			    json_string(json_array_size(families) == 2 ? "RequireDualStack" : "SingleStack"));
	if (headless) {
		json_array_append_new(ips, json_string("None"));
		json_object_set_new(out, "clusterIP", json_string("None"));
	}
	return true;
}

static bool check(const json_t *in, json_t *out, struct err *err)
{
	static const struct jpath at = {.field = "spec"};
	static const struct jpath selector_at = {.up = &at, .field = "selector"};
	static const char *const types[] = {"ClusterIP", NULL}, *const affinities[] = {"None", NULL},
				 *const traffic[] = {"Cluster", NULL};
	json_t *spec = NULL, *selector = NULL, *s = json_object();
	const char *word = NULL;

	json_object_set_new(out, "spec", s);
	if (!json_get_object(in, "spec", true, NULL, &spec, err) || !field_none_of(spec, spec_later, &at, err) ||
	    !json_fields_known(spec, spec_fields, &at, err) || !field_word(spec, "type", types, &at, &word, err) ||
	    !field_word(spec, "sessionAffinity", affinities, &at, &word, err) ||
	    !field_word(spec, "internalTrafficPolicy", traffic, &at, &word, err) ||
	    !json_get_object(spec, "selector", false, &at, &selector, err))
		return false;
	if (selector && !field_labels(selector, &selector_at, err))
		return false;
	if (json_object_size(selector))
		json_object_set_new(s, "selector", json_deep_copy(selector));
	json_object_set_new(s, "type", json_string("ClusterIP"));
	if (!field_label(json_string_value(json_object_get(json_object_get(out, "metadata"), "name")),
			 &(struct jpath){.field = "metadata"}, "name", err))
		return false;
	return check_ports(spec, &at, s, err) && check_network(spec, &at, s, err);
}

/* --- within the store's transaction: virtual addresses --- */

static bool within_mesh(struct store *store, const struct ip *ip, struct err *err)
{
	struct store_mesh mesh;
	char text[IP_TEXT_MAX];

	if (!store_mesh_get(store, &mesh, err))
		return false;
	for (size_t i = 0; i < mesh.cidrs_len; i++)
		if (cidr_has(&mesh.cidrs[i], ip))
			return true;
	return err_set(err, ERR_INVALID, "spec.clusterIP: %s is not inside the mesh's CIDRs", ip_text(ip, text));
}

static bool claim_all(struct store *store, const char *service, const json_t *ips, struct err *err)
{
	struct ip ip;

	for (size_t i = 0; i < json_array_size(ips) && ip_at(ips, i, &ip); i++)
		if (!within_mesh(store, &ip, err) ||
		    (!vip_claim(store, service, &ip, err) && !err_prefix(err, "spec.clusterIPs[%zu]", i)))
			return false;
	return true;
}

/* One address for each family, in the order of ipFamilies: the one that was given, else one of the pool. */
static bool complete(struct store *store, const char *service, json_t *spec, struct ip *ret, size_t *ret_len,
		     struct err *err)
{
	const json_t *given = json_object_get(spec, "clusterIPs"), *families = json_object_get(spec, "ipFamilies");
	size_t n = 0;

	for (size_t f = 0; f < json_array_size(families) && n < SERVICE_VIPS_MAX; f++) {
		bool v4 = strcmp(json_string_value(json_array_get(families, f)), "IPv4") == 0, have = false;
		for (size_t i = 0; i < json_array_size(given) && !have; i++)
			have = ip_at(given, i, &ret[n]) && (ret[n].len == 4) == v4;
		if (!have && !vip_take(store, service, v4 ? AF_INET : AF_INET6, &ret[n], err))
			return false;
		n++;
	}
	*ret_len = n;
	return true;
}

static bool admit(struct store *store, const struct store_item *item, const json_t *before, json_t *body,
		  struct err *err)
{
	char service[STORE_NS_MAX + STORE_NAME_MAX + 1], text[IP_TEXT_MAX];
	json_t *spec = json_object_get(body, "spec");
	struct ip vips[SERVICE_VIPS_MAX];
	size_t n = 0;

	snprintf(service, sizeof(service), "%s/%s", item->ns, item->name);
	if (!body || json_object_get(spec, "clusterIP")) /* deleted, or headless */
		return vip_free(store, service, NULL, 0, err);
	if (!claim_all(store, service, json_object_get(spec, "clusterIPs"), err) ||
	    !complete(store, service, spec, vips, &n, err) || !vip_free(store, service, vips, n, err))
		return false;
	json_t *ips = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(ips, json_string(ip_text(&vips[i], text)));
	json_object_set(spec, "clusterIP", json_array_get(ips, 0));
	json_object_set_new(spec, "clusterIPs", ips);
	return true;
}

/* --- reading a normalised one --- */

static Weft__V1__Protocol declared(const json_t *port)
{
	const char *app = json_string_value(json_object_get(port, "appProtocol"));
	const char *name = json_string_value(json_object_get(port, "name"));
	Weft__V1__Protocol p = WEFT__V1__PROTOCOL__UNDECLARED;

	if (!app || !protocol_of(app, &p))
		(void)(name && protocol_of(name, &p));
	return p;
}

static bool read_port(const json_t *p, struct service_port *ret)
{
	json_int_t port = json_integer_value(json_object_get(p, "port")),
		   target = json_integer_value(json_object_get(p, "targetPort"));
	const char *name = json_string_value(json_object_get(p, "name"));

	*ret = (struct service_port){name ? name : "", (uint16_t)port, (uint16_t)target, declared(p)};
	return port >= 1 && port <= 65535 && target >= 1 && target <= 65535;
}

bool service_read(const json_t *object, struct service *ret, struct err *err)
{
	const json_t *meta = json_object_get(object, "metadata"), *spec = json_object_get(object, "spec");
	const json_t *ips = json_object_get(spec, "clusterIPs"), *ports = json_object_get(spec, "ports");
	struct service s = {.ns = json_string_value(json_object_get(meta, "namespace")),
			    .name = json_string_value(json_object_get(meta, "name")),
			    .selector = json_object_get(spec, "selector"),
			    .headless = has_text(ips, "None")};
	bool ok =
	    s.ns && s.name && json_array_size(ports) <= SERVICE_PORTS_MAX && json_array_size(ips) <= SERVICE_VIPS_MAX;

	for (size_t i = 0; ok && i < json_array_size(ports); i++)
		ok = read_port(json_array_get(ports, i), &s.ports[s.ports_len++]);
	for (size_t i = 0; ok && !s.headless && i < json_array_size(ips); i++)
		ok = ip_at(ips, i, &s.vips[s.vips_len++]);
	if (!ok)
		return err_set(err, ERR_STORE, "Service %s/%s is not as this version of Weft writes it",
			       s.ns ? s.ns : "?", s.name ? s.name : "?");
	*ret = s;
	return true;
}

bool service_selects(const struct service *s, const json_t *labels)
{
	const char *key;
	json_t *value;

	if (json_object_size(s->selector) == 0)
		return false;
	json_object_foreach((json_t *)(uintptr_t)s->selector, key,
			    value) if (!json_equal(json_object_get(labels, key), value)) return false;
	return true;
}

/* --- weft get --- */

static const char *const columns[] = {"CLUSTER-IP", "PORTS", "IPV6", "SELECTOR", NULL};

static void cell_ports(const json_t *ports, char *out, size_t size)
{
	size_t i, at = 0;
	json_t *p;

	json_array_foreach((json_t *)(uintptr_t)ports, i, p)
	{
		long long port = json_integer_value(json_object_get(p, "port")),
			  target = json_integer_value(json_object_get(p, "targetPort"));
		const char *app = json_string_value(json_object_get(p, "appProtocol"));
		const char *name = json_string_value(json_object_get(p, "name"));
		if (at < size)
			at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? "," : "", port);
		if (at < size && target != port)
			at += (size_t)snprintf(out + at, size - at, ">%lld", target);
		if (at < size && (app || name))
			at += (size_t)snprintf(out + at, size - at, "/%s", app ? app : name);
	}
}

static void cell_selector(const json_t *selector, char *out, size_t size)
{
	const char *key;
	json_t *v;
	size_t at = 0;

	json_object_foreach((json_t *)(uintptr_t)selector, key, v)
	{
		if (at < size)
			at +=
			    (size_t)snprintf(out + at, size - at, "%s%s=%s", at ? "," : "", key, json_string_value(v));
	}
}

static void cell(const json_t *object, size_t column, char *out, size_t size)
{
	const json_t *spec = json_object_get(object, "spec"), *ips = json_object_get(spec, "clusterIPs");

	snprintf(out, size, "-");
	switch (column) {
	case 0:
	case 2:
		for (size_t i = 0; i < json_array_size(ips); i++) {
			const char *ip = json_string_value(json_array_get(ips, i));
			if (ip && (strchr(ip, ':') != NULL) == (column == 2))
				snprintf(out, size, "%s", ip);
		}
		break;
	case 1:
		cell_ports(json_object_get(spec, "ports"), out, size);
		break;
	case 3:
		cell_selector(json_object_get(spec, "selector"), out, size);
		break;
	}
}

const struct kind kind_service = {
    .name = "Service",
    .plural = "services",
    .short_name = "svc",
    .api_version = "v1",
    .fields = fields,
    .check = check,
    .admit = admit,
    .columns = columns,
    .columns_short = 2,
    .cell = cell,
};
