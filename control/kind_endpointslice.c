/* SPDX-License-Identifier: Apache-2.0 */
/* kind_endpointslice.c: the `discovery.k8s.io/v1` EndpointSlice: static endpoints of a service. */
#include "control/kind_endpointslice.h"

#include "control/kind.h"
#include "control/kind_field.h"
#include "lib/mem.h"

#include <stdio.h>

#define SERVICE_LABEL "kubernetes.io/service-name"

static const char *const fields[] = {"addressType", "endpoints", "ports", NULL};
static const char *const endpoint_fields[] = {"addresses", "conditions", "hostname", "nodeName",
					      "zone",      "targetRef",  "hints",    NULL};
static const char *const condition_fields[] = {"ready", "serving", "terminating", NULL};
static const char *const port_fields[] = {"name", "port", "protocol", "appProtocol", NULL};

static bool check_addresses(const json_t *in, const char *type, const struct jpath *up, json_t *out, struct err *err)
{
	struct jpath at = {.up = up, .field = "addresses"};
	json_t *addresses = NULL, *list = json_array();

	json_object_set_new(out, "addresses", list);
	if (!json_get_array(in, "addresses", true, 100, up, &addresses, err))
		return false;
	if (json_array_size(addresses) == 0)
		return field_bad(&at, NULL, err, "it is empty; an endpoint has an address");
	for (size_t i = 0; i < json_array_size(addresses); i++) {
		struct jpath here = {.up = &at, .index = i};
		const char *v = json_string_value(json_array_get(addresses, i));
		char text[IP_TEXT_MAX];
		struct ip ip;
		if (!v)
			return field_bad(&here, NULL, err, "it is not text");
		if (!field_ip(v, &here, &ip, err))
			return false;
		if ((ip.len == 4) != (strcmp(type, "IPv4") == 0))
			return field_bad(&here, NULL, err, "%.64s is not %s, as addressType says", v, type);
		json_array_append_new(list, json_string(ip_text(&ip, text)));
	}
	return true;
}

static bool check_conditions(const json_t *in, const struct jpath *up, json_t *out, struct err *err)
{
	struct jpath at = {.up = up, .field = "conditions"};
	json_t *conditions = NULL;
	bool ready = true, other = false;

	if (!json_get_object(in, "conditions", false, up, &conditions, err))
		return false;
	if (conditions && (!json_fields_known(conditions, condition_fields, &at, err) ||
			   !json_get_bool(conditions, "ready", false, &at, &ready, err) ||
			   !json_get_bool(conditions, "serving", false, &at, &other, err) ||
			   !json_get_bool(conditions, "terminating", false, &at, &other, err)))
		return false;
	json_object_set_new(out, "conditions", json_pack("{s:b}", "ready", ready));
	return true;
}

static bool check_endpoint(const json_t *in, const char *type, const struct jpath *at, json_t *out, struct err *err)
{
	json_t *e = json_object();
	const char *zone = NULL;

	json_array_append_new(out, e);
	if (!json_is_object(in))
		return field_bad(at, NULL, err, "it is not an object with addresses");
	if (!json_fields_known(in, endpoint_fields, at, err) || !check_addresses(in, type, at, e, err) ||
	    !check_conditions(in, at, e, err) || !json_get_str(in, "zone", false, at, &zone, err))
		return false;
	if (zone && strlen(zone) > 63)
		return field_bad(at, "zone", err, "it is longer than 63 bytes");
	if (zone && *zone)
		json_object_set_new(e, "zone", json_string(zone));
	return true;
}

static bool check_endpoints(const json_t *in, const char *type, json_t *out, struct err *err)
{
	static const struct jpath at = {.field = "endpoints"};
	json_t *endpoints = NULL, *list = json_array();

	json_object_set_new(out, "endpoints", list);
	if (!json_get_array(in, "endpoints", false, SLICE_ENDPOINTS_MAX, NULL, &endpoints, err))
		return false;
	for (size_t i = 0; i < json_array_size(endpoints); i++) {
		struct jpath here = {.up = &at, .index = i};
		if (!check_endpoint(json_array_get(endpoints, i), type, &here, list, err))
			return false;
	}
	return true;
}

static bool check_port(const json_t *in, const struct jpath *at, json_t *out, struct err *err)
{
	static const char *const tcp[] = {"TCP", NULL};
	const char *name = NULL, *app = NULL, *transport = "TCP";
	uint16_t port = 0;
	size_t i;
	json_t *other;

	if (!json_is_object(in))
		return field_bad(at, NULL, err, "it is not an object with port");
	if (!json_fields_known(in, port_fields, at, err) || !field_port(in, "port", true, at, &port, err) ||
	    !json_get_str(in, "name", false, at, &name, err) ||
	    !json_get_str(in, "appProtocol", false, at, &app, err) ||
	    !field_word(in, "protocol", tcp, at, &transport, err))
		return false;
	if (name && *name && !field_label(name, at, "name", err))
		return false;
	json_array_foreach(out, i,
			   other) if (strcmp(json_string_value(json_object_get(other, "name")), name ? name : "") ==
				      0) return field_bad(at, "name", err, "\"%s\" is the name of ports[%zu] too",
							  name ? name : "", i);
	json_t *p = json_pack("{s:s, s:i, s:s}", "name", name ? name : "", "port", (int)port, "protocol", transport);
	if (app && *app)
		json_object_set_new(p, "appProtocol", json_string(app));
	json_array_append_new(out, p);
	return true;
}

static bool check_ports(const json_t *in, json_t *out, struct err *err)
{
	static const struct jpath at = {.field = "ports"};
	json_t *ports = NULL, *list = json_array();

	json_object_set_new(out, "ports", list);
	if (!json_get_array(in, "ports", true, SLICE_PORTS_MAX, NULL, &ports, err))
		return false;
	for (size_t i = 0; i < json_array_size(ports); i++) {
		struct jpath here = {.up = &at, .index = i};
		if (!check_port(json_array_get(ports, i), &here, list, err))
			return false;
	}
	return true;
}

static bool check(const json_t *in, json_t *out, struct err *err)
{
	static const char *const types[] = {"IPv4", "IPv6", NULL};
	static const struct jpath meta_at = {.field = "metadata"}, labels_at = {.up = &meta_at, .field = "labels"};
	const char *type = NULL,
		   *service = json_string_value(json_object_get(object_meta(out, "labels"), SERVICE_LABEL));

	if (!service)
		return field_bad(&labels_at, SERVICE_LABEL, err,
				 "it is missing; it says which Service of the namespace has these endpoints");
	if (!field_label(service, &labels_at, SERVICE_LABEL, err) ||
	    !field_word(in, "addressType", types, NULL, &type, err))
		return false;
	if (!type)
		return field_bad(NULL, "addressType", err, "it is missing; expected IPv4 or IPv6");
	json_object_set_new(out, "addressType", json_string(type));
	return check_endpoints(in, type, out, err) && check_ports(in, out, err);
}

/* --- reading a normalised one --- */

static bool read_endpoint(const json_t *e, struct slice_endpoint *ret)
{
	const char *ip = json_string_value(json_array_get(json_object_get(e, "addresses"), 0));

	ret->ready = !json_is_false(json_object_get(json_object_get(e, "conditions"), "ready"));
	ret->zone = json_string_value(json_object_get(e, "zone"));
	return ip && ip_parse(str_of(ip), &ret->ip);
}

bool slice_read(const json_t *object, struct slice *ret, struct err *err)
{
	const json_t *meta = json_object_get(object, "metadata"), *endpoints = json_object_get(object, "endpoints"),
		     *ports = json_object_get(object, "ports");
	const char *service = json_string_value(json_object_get(object_meta(object, "labels"), SERVICE_LABEL));
	struct slice s = {.ns = json_string_value(json_object_get(meta, "namespace")),
			  .name = json_string_value(json_object_get(meta, "name")),
			  .service = service ? service : ""};
	bool ok = s.ns && s.name && json_array_size(ports) <= SLICE_PORTS_MAX &&
		  json_array_size(endpoints) <= SLICE_ENDPOINTS_MAX;

	for (size_t i = 0; ok && i < json_array_size(ports); i++) {
		const json_t *p = json_array_get(ports, i);
		const char *name = json_string_value(json_object_get(p, "name"));
		json_int_t port = json_integer_value(json_object_get(p, "port"));
		ok = port >= 1 && port <= 65535;
		s.ports[s.ports_len++] = (struct slice_port){name ? name : "", (uint16_t)port};
	}
	if (ok && json_array_size(endpoints))
		s.endpoints = mem_zalloc(json_array_size(endpoints) * sizeof(*s.endpoints));
	for (size_t i = 0; ok && i < json_array_size(endpoints); i++)
		ok = read_endpoint(json_array_get(endpoints, i), &s.endpoints[s.endpoints_len++]);
	if (!ok) {
		slice_done(&s);
		return err_set(err, ERR_STORE, "EndpointSlice %s/%s is not as this version of Weft writes it",
			       s.ns ? s.ns : "?", s.name ? s.name : "?");
	}
	*ret = s;
	return true;
}

void slice_done(struct slice *s)
{
	FREE(&s->endpoints);
	s->endpoints_len = 0;
}

/* --- weft get --- */

static const char *const columns[] = {"SERVICE", "TYPE", "PORTS", "ENDPOINTS", "ADDRESSES", NULL};

static void cell_list(const json_t *list, bool ports, char *out, size_t size)
{
	size_t i, at = 0;
	json_t *v;

	json_array_foreach((json_t *)(uintptr_t)list, i, v)
	{
		if (at >= size)
			return;
		if (ports)
			at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? "," : "",
					       (long long)json_integer_value(json_object_get(v, "port")));
		else
			at += (size_t)snprintf(out + at, size - at, "%s%s", i ? "," : "",
					       json_string_value(json_array_get(json_object_get(v, "addresses"), 0)));
	}
}

static void cell(const json_t *object, size_t column, char *out, size_t size)
{
	const json_t *endpoints = json_object_get(object, "endpoints");
	const char *service = json_string_value(json_object_get(object_meta(object, "labels"), SERVICE_LABEL));

	snprintf(out, size, "-");
	switch (column) {
	case 0:
		snprintf(out, size, "%s", service ? service : "-");
		break;
	case 1:
		snprintf(out, size, "%s", json_string_value(json_object_get(object, "addressType")));
		break;
	case 2:
		cell_list(json_object_get(object, "ports"), true, out, size);
		break;
	case 3:
		snprintf(out, size, "%zu", json_array_size(endpoints));
		break;
	case 4:
		cell_list(endpoints, false, out, size);
		break;
	}
}

const struct kind kind_endpointslice = {
    .name = "EndpointSlice",
    .plural = "endpointslices",
    .short_name = "eps",
    .api_version = "discovery.k8s.io/v1",
    .fields = fields,
    .check = check,
    .columns = columns,
    .columns_short = 4,
    .cell = cell,
};
