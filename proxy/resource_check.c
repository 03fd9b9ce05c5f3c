/* SPDX-License-Identifier: Apache-2.0 */
/* resource_check.c: what may stand in each pushed message, type by type: every list capped, every number in its range, every
 * address and identity well-formed, nothing named twice, no field that this proxy does not know. Errors name field, value
 * and what was expected. Checks one resource alone; what must fit together is the catalog's. */
#include "proxy/resource_check.h"

#include "certs/spiffe.h"
#include "lib/proto/weft.pb-c.h"

#include <ctype.h>

/* --- names --- */

/* DNS labels separated by dots; at most 253 bytes. */
static bool dns_name_valid(struct str s)
{
	struct str label, rest = s;
	if (s.len == 0 || s.len > 253)
		return false;
	for (bool more = true; more;) {
		more = str_cut(rest, '.', &label, &rest);
		if (!str_is_dns_label(label))
			return false;
	}
	return true;
}

bool resource_name_valid(struct str name)
{
	struct str ns, rest;
	return name.len < RESOURCE_NAME_MAX && str_cut(name, '/', &ns, &rest) && str_is_dns_label(ns) &&
	       dns_name_valid(rest);
}

static bool same_name(const struct resource_from *from, const char *ns, const char *name, struct err *err)
{
	struct str head, rest;
	if (str_cut(from->name, '/', &head, &rest) && str_is(head, ns) && str_is(rest, name))
		return true;
	return err_set(err, ERR_INVALID, "name: the content says \"%.64s/%.64s\"", ns, name);
}

static bool same_service(const struct resource_from *from, const char *service, struct err *err)
{
	if (str_is(from->name, service))
		return true;
	return err_set(err, ERR_INVALID, "service: the content says \"%.128s\"", service);
}

/* --- parts --- */

static bool count(const char *field, size_t n, size_t max, struct err *err)
{
	return n <= max || err_set(err, ERR_LIMIT, "%s: %zu, at most %zu", field, n, max);
}

static bool address(const char *field, size_t i, const ProtobufCBinaryData *b, bool loopback_ok, struct ip *ret,
		    struct err *err)
{
	char text[IP_TEXT_MAX];
	if (!resource_ip(b->data, b->len, ret))
		return err_set(err, ERR_INVALID, "%s[%zu]: %zu bytes, must be an IPv4 (4) or IPv6 (16) address", field,
			       i, b->len);
	bool any = true;
	for (size_t k = 0; k < ret->len; k++)
		any = any && ret->b[k] == 0;
	bool multicast = ret->len == 4 ? (ret->b[0] & 0xf0) == 0xe0 : ret->b[0] == 0xff;
	if (any || multicast || (ip_is_loopback(ret) && !loopback_ok))
		return err_set(err, ERR_INVALID, "%s[%zu]: %s cannot be reached from elsewhere", field, i,
			       ip_text(ret, text));
	return true;
}

/* Addresses of a service or workload: valid and different. `max` is small: quadratic is fine. */
static bool addresses(const char *field, const ProtobufCBinaryData *v, size_t n, size_t max, bool loopback_ok,
		      struct err *err)
{
	struct ip seen[RESOURCE_VIPS_MAX];
	char text[IP_TEXT_MAX];
	MUST(max <= ARRAY_LEN(seen));
	if (!count(field, n, max, err))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!address(field, i, &v[i], loopback_ok, &seen[i], err))
			return false;
		for (size_t k = 0; k < i; k++)
			if (ip_eq(&seen[i], &seen[k]))
				return err_set(err, ERR_INVALID, "%s[%zu]: %s is there twice", field, i,
					       ip_text(&seen[i], text));
	}
	return true;
}

/* A port number that was not there before; `seen` has a bit a port. */
static bool port(const char *field, size_t i, uint32_t p, uint8_t seen[static 8192], struct err *err)
{
	if (p < 1 || p > 65535)
		return err_set(err, ERR_INVALID, "%s[%zu].port: %u is not in 1 to 65535", field, i, p);
	if (seen[p / 8] & 1u << p % 8)
		return err_set(err, ERR_INVALID, "%s[%zu].port: %u is there twice", field, i, p);
	seen[p / 8] |= (uint8_t)(1u << p % 8);
	return true;
}

static bool protocol(const char *field, size_t i, int p, struct err *err)
{
	if (p >= 0 && p < PROTOCOL_COUNT)
		return true;
	return err_set(err, ERR_UNSUPPORTED, "%s[%zu].protocol: %d is not known to this proxy", field, i, p);
}

static bool printable(const char *field, const char *s, size_t max, struct err *err)
{
	size_t n = 0;
	for (; s[n]; n++)
		if (n >= max || !isprint((unsigned char)s[n]))
			return err_set(err, ERR_INVALID, "%s: must be at most %zu printable characters", field, max);
	return true;
}

/* Whom to expect behind an address: a SPIFFE ID where the mesh is, and none where it is not. */
static bool identity(const char *field, const char *id, bool meshed, struct err *err)
{
	struct spiffe parsed;
	if (!meshed && id[0] == '\0')
		return true;
	if (spiffe_parse(str_of(id), &parsed, err))
		return true;
	return err_prefix(err, "%s", field);
}

static bool workload_ports(Weft__V1__WorkloadPort *const *v, size_t n, struct err *err)
{
	uint8_t seen[8192] = {0};
	if (!count("ports", n, RESOURCE_PORTS_MAX, err))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!port("ports", i, v[i]->port, seen, err) || !protocol("ports", i, (int)v[i]->protocol, err))
			return false;
	return true;
}

/* --- messages --- */

static bool check_service(const struct resource_from *from, const ProtobufCMessage *m, struct err *err)
{
	const Weft__V1__Service *s = (const Weft__V1__Service *)m;
	uint8_t seen[8192] = {0};
	if (!same_name(from, s->namespace_, s->name, err) ||
	    !addresses("vips", s->vips, s->n_vips, RESOURCE_VIPS_MAX, from->origin == RESOURCE_FILE, err) ||
	    !count("ports", s->n_ports, RESOURCE_PORTS_MAX, err))
		return false;
	for (size_t i = 0; i < s->n_ports; i++)
		if (!port("ports", i, s->ports[i]->port, seen, err) ||
		    !protocol("ports", i, (int)s->ports[i]->protocol, err) ||
		    !printable("ports.name", s->ports[i]->name, 63, err))
			return false;
	return true;
}

static bool endpoint_ports(const Weft__V1__Endpoint *e, struct err *err)
{
	uint8_t seen[8192] = {0};
	if (!count("ports", e->n_ports, RESOURCE_PORTS_MAX, err))
		return false;
	for (size_t i = 0; i < e->n_ports; i++) {
		if (!port("ports", i, e->ports[i]->service_port, seen, err))
			return err_prefix(err, "service_port");
		if (e->ports[i]->port < 1 || e->ports[i]->port > 65535)
			return err_set(err, ERR_INVALID, "ports[%zu].port: %u is not in 1 to 65535", i,
				       e->ports[i]->port);
	}
	return true;
}

static bool check_endpoints(const struct resource_from *from, const ProtobufCMessage *m, struct err *err)
{
	const Weft__V1__Endpoints *s = (const Weft__V1__Endpoints *)m;
	struct ip ip;
	size_t ports = 0;
	if (!same_service(from, s->service, err) || !count("endpoints", s->n_endpoints, RESOURCE_ENDPOINTS_MAX, err))
		return false;
	for (size_t i = 0; i < s->n_endpoints; i++) {
		const Weft__V1__Endpoint *e = s->endpoints[i];
		if (!address("address", 0, &e->address, from->origin == RESOURCE_FILE, &ip, err) ||
		    !endpoint_ports(e, err) || !identity("identity", e->identity, e->meshed, err) ||
		    !printable("zone", e->zone, 63, err) ||
		    !printable("workload", e->workload, RESOURCE_NAME_MAX - 1, err) ||
		    !(e->weight <= RESOURCE_WEIGHT_MAX ||
		      err_set(err, ERR_INVALID, "weight: %u is more than %d", e->weight, RESOURCE_WEIGHT_MAX)))
			return err_prefix(err, "endpoints[%zu]", i);
		ports += e->n_ports;
	}
	return count("endpoints.ports", ports, RESOURCE_ENDPOINT_PORTS_MAX, err);
}

/* Sorted by type and name, so that nothing stands there twice. */
static bool entry_after(const Weft__V1__ManifestEntry *a, const Weft__V1__ManifestEntry *b)
{
	int d = strcmp(a->type_url, b->type_url);
	return d < 0 || (d == 0 && strcmp(a->name, b->name) < 0);
}

static bool check_manifest(const struct resource_from *from, const ProtobufCMessage *m, struct err *err)
{
	const Weft__V1__Manifest *s = (const Weft__V1__Manifest *)m;
	bool own = false;
	if (!same_service(from, s->service, err) || !count("entries", s->n_entries, RESOURCE_ENTRIES_MAX, err))
		return false;
	for (size_t i = 0; i < s->n_entries; i++) {
		const Weft__V1__ManifestEntry *e = s->entries[i];
		enum resource_type t;
		/* What is listed and not understood may be a policy that denies: without it the service must not be used. */
		if (!resource_type_parse(str_of(e->type_url), &t) || (t != RESOURCE_SERVICE && t != RESOURCE_ROUTE))
			return err_set(err, ERR_UNSUPPORTED,
				       "entries[%zu].type_url: \"%.128s\" is not known to this proxy; upgrade it", i,
				       e->type_url);
		if (!resource_name_valid(str_of(e->name)) || (i && !entry_after(s->entries[i - 1], e)))
			return err_set(err, ERR_INVALID,
				       "entries[%zu].name: \"%.128s\": must be \"namespace/name\", sorted, each once",
				       i, e->name);
		if (e->version[0] == '\0' || strlen(e->version) > RESOURCE_VERSION_MAX)
			return err_set(err, ERR_INVALID, "entries[%zu].version: must be 1 to %d bytes", i,
				       RESOURCE_VERSION_MAX);
		own = own || (t == RESOURCE_SERVICE && str_is(from->name, e->name));
	}
	return own || err_set(err, ERR_INVALID, "entries: the service itself is not listed");
}

/* --- routes --- */

static bool route_fields(const char *field, Weft__V1__RouteField *const *v, size_t n, struct err *err)
{
	if (!count(field, n, RESOURCE_FIELDS_MAX, err))
		return false;
	for (size_t i = 0; i < n; i++)
		if (v[i]->name[0] == '\0' || strlen(v[i]->name) > 256 || strlen(v[i]->value) > RESOURCE_MATCH_TEXT_MAX)
			return err_set(err, ERR_INVALID, "%s[%zu]: name must be 1 to 256 bytes, value at most %d",
				       field, i, RESOURCE_MATCH_TEXT_MAX);
	return true;
}

static bool route_match(const Weft__V1__RouteMatch *m, struct err *err)
{
	if (m->path_type != WEFT__V1__ROUTE_MATCH__PATH_TYPE__PREFIX &&
	    m->path_type != WEFT__V1__ROUTE_MATCH__PATH_TYPE__EXACT)
		return err_set(err, ERR_UNSUPPORTED, "path_type: %d is not known to this proxy; upgrade it",
			       (int)m->path_type);
	if (m->path[0] != '/' || strlen(m->path) > RESOURCE_MATCH_TEXT_MAX)
		return err_set(err, ERR_INVALID, "path: must begin with / and have at most %d bytes",
			       RESOURCE_MATCH_TEXT_MAX);
	return printable("method", m->method, 32, err) && route_fields("headers", m->headers, m->n_headers, err) &&
	       route_fields("query", m->query, m->n_query, err);
}

static bool route_backend(const Weft__V1__RouteBackend *b, struct err *err)
{
	if (!resource_name_valid(str_of(b->service)))
		return err_set(err, ERR_INVALID, "service: \"%.128s\" must be \"namespace/name\"", b->service);
	if (b->port < 1 || b->port > 65535)
		return err_set(err, ERR_INVALID, "port: %u is not in 1 to 65535", b->port);
	return b->weight <= RESOURCE_WEIGHT_MAX ||
	       err_set(err, ERR_INVALID, "weight: %u is more than %d", b->weight, RESOURCE_WEIGHT_MAX);
}

static bool route_rule(const Weft__V1__RouteRule *r, struct err *err)
{
	if (!count("matches", r->n_matches, RESOURCE_MATCHES_MAX, err) ||
	    !count("backends", r->n_backends, RESOURCE_BACKENDS_MAX, err))
		return false;
	for (size_t i = 0; i < r->n_matches; i++)
		if (!route_match(r->matches[i], err))
			return err_prefix(err, "matches[%zu]", i);
	for (size_t i = 0; i < r->n_backends; i++)
		if (!route_backend(r->backends[i], err))
			return err_prefix(err, "backends[%zu]", i);
	return true;
}

static bool check_route(const struct resource_from *from, const ProtobufCMessage *m, struct err *err)
{
	const Weft__V1__Route *r = (const Weft__V1__Route *)m;
	if (!same_name(from, r->namespace_, r->name, err) ||
	    !count("parents", r->n_parents, RESOURCE_PARENTS_MAX, err) ||
	    !count("rules", r->n_rules, RESOURCE_RULES_MAX, err))
		return false;
	for (size_t i = 0; i < r->n_parents; i++)
		if (!resource_name_valid(str_of(r->parents[i]->service)) || r->parents[i]->port > 65535)
			return err_set(err, ERR_INVALID,
				       "parents[%zu]: \"%.128s\" port %u: must be \"namespace/name\" and at most 65535",
				       i, r->parents[i]->service, r->parents[i]->port);
	for (size_t i = 0; i < r->n_rules; i++)
		if (!route_rule(r->rules[i], err))
			return err_prefix(err, "rules[%zu]", i);
	return true;
}

static bool check_workload(const struct resource_from *from, const ProtobufCMessage *m, struct err *err)
{
	const Weft__V1__Workload *w = (const Weft__V1__Workload *)m;
	return same_name(from, w->namespace_, w->name, err) &&
	       addresses("addresses", w->addresses, w->n_addresses, RESOURCE_VIPS_MAX, from->origin == RESOURCE_FILE,
			 err) &&
	       identity("identity", w->identity, w->meshed, err) && workload_ports(w->ports, w->n_ports, err);
}

static bool check_self(const struct resource_from *from, const ProtobufCMessage *m, struct err *err)
{
	const Weft__V1__Self *s = (const Weft__V1__Self *)m;
	if (!str_is_dns_label(str_of(s->namespace_)))
		return err_set(err, ERR_INVALID, "namespace: \"%.64s\" is not a DNS label", s->namespace_);
	if (!dns_name_valid(str_of(s->name)))
		return err_set(err, ERR_INVALID, "name: \"%.64s\" is not a DNS name", s->name);
	return printable("service_account", s->service_account, 253, err) && workload_ports(s->ports, s->n_ports, err);
}

static bool mesh_cidr(const Weft__V1__MeshCidr *c, struct err *err)
{
	struct ip ip;
	char text[IP_TEXT_MAX];
	if (!resource_ip(c->address.data, c->address.len, &ip))
		return err_set(err, ERR_INVALID, "address: %zu bytes, must be an IPv4 (4) or IPv6 (16) address",
			       c->address.len);
	if (c->bits > ip.len * 8u)
		return err_set(err, ERR_INVALID, "bits: %u is more than %u", c->bits, ip.len * 8u);
	for (uint32_t b = c->bits; b < ip.len * 8u; b++)
		if (ip.b[b / 8] & 0x80u >> b % 8)
			return err_set(err, ERR_INVALID, "%s/%u: has bits set behind the prefix", ip_text(&ip, text),
				       c->bits);
	return true;
}

static bool check_mesh(const struct resource_from *from, const ProtobufCMessage *m, struct err *err)
{
	const Weft__V1__MeshConfig *c = (const Weft__V1__MeshConfig *)m;
	if (!trust_domain_valid(str_of(c->trust_domain)))
		return err_set(err, ERR_INVALID, "trust_domain: \"%.128s\" is not a trust domain", c->trust_domain);
	if (!count("cidrs", c->n_cidrs, RESOURCE_CIDRS_MAX, err) ||
	    !count("roots", c->n_roots, RESOURCE_ROOTS_MAX, err))
		return false;
	for (size_t i = 0; i < c->n_cidrs; i++)
		if (!mesh_cidr(c->cidrs[i], err))
			return err_prefix(err, "cidrs[%zu]", i);
	for (size_t i = 0; i < c->n_roots; i++)
		if (c->roots[i].len == 0 || c->roots[i].len > 16384)
			return err_set(err, ERR_INVALID, "roots[%zu]: %zu bytes, must be 1 to 16384", i,
				       c->roots[i].len);
	return true;
}

/* --- unknown fields, at any depth: our messages do not nest themselves, so the descriptors bound the recursion --- */

static bool known(const ProtobufCMessage *m, struct err *err);

static bool field_known(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct err *err)
{
	const char *at = (const char *)m + f->offset;
	if (f->type != PROTOBUF_C_TYPE_MESSAGE)
		return true;
	if (f->label != PROTOBUF_C_LABEL_REPEATED) {
		const ProtobufCMessage *sub = *(const ProtobufCMessage *const *)at;
		return !sub || known(sub, err) || err_prefix(err, "%s", f->name);
	}
	size_t n = *(const size_t *)((const char *)m + f->quantifier_offset);
	const ProtobufCMessage *const *v = *(const ProtobufCMessage *const *const *)at;
	for (size_t i = 0; i < n; i++)
		if (!known(v[i], err))
			return err_prefix(err, "%s[%zu]", f->name, i);
	return true;
}

static bool known(const ProtobufCMessage *m, struct err *err)
{
	if (m->n_unknown_fields)
		return err_set(err, ERR_UNSUPPORTED, "field %u of %s is not known to this proxy; upgrade it",
			       m->unknown_fields[0].tag, m->descriptor->short_name);
	for (unsigned i = 0; i < m->descriptor->n_fields; i++)
		if (!field_known(m, &m->descriptor->fields[i], err))
			return false;
	return true;
}

bool resource_check(const struct resource_from *from, const ProtobufCMessage *m, struct err *err)
{
	static bool (*const checks[RESOURCE_COUNT])(const struct resource_from *, const ProtobufCMessage *,
						    struct err *) = {
	    [RESOURCE_SERVICE] = check_service,   [RESOURCE_ENDPOINTS] = check_endpoints,
	    [RESOURCE_MANIFEST] = check_manifest, [RESOURCE_WORKLOAD] = check_workload,
	    [RESOURCE_SELF] = check_self,         [RESOURCE_MESH] = check_mesh,
	    [RESOURCE_ROUTE] = check_route,
	};
	return known(m, err) && checks[from->type](from, m, err);
}
