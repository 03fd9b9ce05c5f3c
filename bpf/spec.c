/* SPDX-License-Identifier: Apache-2.0 */
/* spec.c: see spec.h. Every refusal names the option and the value. */
#include "bpf/spec.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

static bool label(const char *option, const char *value, char out[static WEFT_NAME_MAX], struct err *err)
{
	if (!value)
		return err_set(err, ERR_INVALID, "--%s is missing: how is the workload called?", option);
	if (!str_is_dns_label(str_of(value)))
		return err_set(err, ERR_INVALID, "--%s: %s is not a name (a-z, 0-9 and -, at most 63)", option, value);
	snprintf(out, WEFT_NAME_MAX, "%s", value);
	return true;
}

bool spec_identify(const struct options *o, struct spec *ret, struct err *err)
{
	if (!label("name", o->v[OPT_NAME], ret->name, err) || !label("namespace", o->v[OPT_NAMESPACE], ret->ns, err))
		return false;
	snprintf(ret->instance, sizeof(ret->instance), "%s-%s", ret->ns, ret->name);
	return true;
}

static bool add_port(struct spec *s, uint16_t port, uint32_t bits, struct err *err)
{
	for (size_t i = 0; i < s->n_ports; i++) {
		if (s->ports[i].port == port) {
			s->ports[i].bits |= bits;
			return true;
		}
	}
	if (s->n_ports == SPEC_PORTS_MAX)
		return err_set(err, ERR_LIMIT, "more than %d ports in all; exclude addresses instead", SPEC_PORTS_MAX);
	s->ports[s->n_ports++] = (struct spec_port){port, bits};
	return true;
}

static bool port_number(struct str text, uint64_t *ret)
{
	return str_to_u64(text, 65535, ret) && *ret > 0;
}

/* "80" or "80-90" for exclusions; "80" or "80/http" for what is served: the protocol's name is the proxy's business. */
static bool port_item(struct spec *s, struct str item, uint32_t bits, struct err *err)
{
	struct str first, last;
	uint64_t from, to;
	bool range = str_cut(item, bits == WEFT_PORT_DECLARED ? '/' : '-', &first, &last);

	if (!port_number(first, &from))
		return err_set(err, ERR_INVALID, STR_FMT " is not a port (1 to 65535)", STR_ARG(first));
	to = from;
	if (range && bits != WEFT_PORT_DECLARED && (!port_number(last, &to) || to < from))
		return err_set(err, ERR_INVALID, STR_FMT " is not a range of ports", STR_ARG(item));
	if (range && bits == WEFT_PORT_DECLARED && !str_is_dns_label(last))
		return err_set(err, ERR_INVALID, STR_FMT ": the part behind / is not a protocol", STR_ARG(item));
	for (uint64_t p = from; p <= to; p++) {
		if (!add_port(s, (uint16_t)p, bits, err))
			return false;
	}
	return true;
}

static bool cidr_item(struct spec *s, struct str item, uint32_t dir, struct err *err)
{
	struct spec_cidr c = {.dir = dir};

	if (!cidr_parse(item, &c.cidr)) {
		if (!ip_parse(item, &c.cidr.ip))
			return err_set(err, ERR_INVALID, STR_FMT " is not an address or prefix (10.0.0.0/8, fd00::/8)",
				       STR_ARG(item));
		c.cidr.bits = (uint8_t)(c.cidr.ip.len * 8);
	}
	if (s->n_cidrs == ARRAY_LEN(s->cidrs))
		return err_set(err, ERR_LIMIT, "more than %zu prefixes in all", ARRAY_LEN(s->cidrs));
	s->cidrs[s->n_cidrs++] = c;
	return true;
}

typedef bool item_fn(struct spec *s, struct str item, uint32_t what, struct err *err);

static bool each(const struct options *o, enum option_id id, const char *name, item_fn *fn, uint32_t what,
		 struct spec *s, struct err *err)
{
	struct str rest = str_of(o->v[id]), item;

	while (rest.len) {
		str_cut(rest, ',', &item, &rest);
		item = str_trim(item);
		if (item.len && !fn(s, item, what, err))
			return err_prefix(err, "--%s", name);
	}
	return true;
}

/* The last colon divides host and port; an IPv6 address stands in brackets. */
static bool control_split(struct str text, char host[static 256], char port[static 8])
{
	const char *colon = memrchr(text.p, ':', text.len);
	struct str name = {text.p, colon ? (size_t)(colon - text.p) : 0};
	uint64_t n;

	if (!name.len || !port_number(str_make(colon + 1, text.len - name.len - 1), &n))
		return false;
	if (name.len > 2 && name.p[0] == '[' && name.p[name.len - 1] == ']')
		name = str_make(name.p + 1, name.len - 2);
	else if (memchr(name.p, ':', name.len))
		return false;
	snprintf(host, 256, STR_FMT, STR_ARG(name));
	snprintf(port, 8, "%u", (unsigned)n);
	return name.len < 256;
}

static bool control_item(struct spec *s, struct str item, uint32_t unused, struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
	char host[256], port[8];
	int rc;

	if (!control_split(item, host, port))
		return err_set(err, ERR_INVALID, STR_FMT " is not HOST:PORT", STR_ARG(item));
	rc = getaddrinfo(host, port, &hints, &found);
	if (rc)
		return err_set(err, ERR_NOT_FOUND, "%s: %s; give an address or fix the resolver", host,
			       gai_strerror(rc));
	for (struct addrinfo *a = found; a && s->n_control < SPEC_CONTROL_MAX; a = a->ai_next)
		addr_from_sockaddr(a->ai_addr, &s->control[s->n_control++]);
	freeaddrinfo(found);
	return true;
}

static bool undo_after(const struct options *o, struct spec *ret, struct err *err)
{
	const char *text = o->v[OPT_UNDO_AFTER];
	uint64_t s = 0;

	if (text && (!str_to_u64(str_of(text), SPEC_UNDO_MAX, &s) || s < SPEC_UNDO_MIN))
		return err_set(err, ERR_INVALID, "--undo-after: %s is not a number of seconds (%d to %d)", text,
			       SPEC_UNDO_MIN, SPEC_UNDO_MAX);
	ret->undo_s = (uint32_t)s;
	return true;
}

bool spec_read(const struct options *o, struct spec *ret, struct err *err)
{
	return spec_identify(o, ret, err) && undo_after(o, ret, err) &&
	       each(o, OPT_PORTS, "ports", port_item, WEFT_PORT_DECLARED, ret, err) &&
	       each(o, OPT_EXCLUDE_IN_PORTS, "exclude-in-ports", port_item, WEFT_PORT_EXCLUDE_IN, ret, err) &&
	       each(o, OPT_EXCLUDE_OUT_PORTS, "exclude-out-ports", port_item, WEFT_PORT_EXCLUDE_OUT, ret, err) &&
	       each(o, OPT_EXCLUDE_IN_CIDRS, "exclude-in-cidrs", cidr_item, WEFT_DIR_IN, ret, err) &&
	       each(o, OPT_EXCLUDE_OUT_CIDRS, "exclude-out-cidrs", cidr_item, WEFT_DIR_OUT, ret, err) &&
	       each(o, OPT_CAPTURE_OUT_PORTS, "capture-out-ports", port_item, WEFT_PORT_LIST_OUT, ret, err) &&
	       each(o, OPT_CAPTURE_OUT_CIDRS, "capture-out-cidrs", cidr_item, WEFT_DIR_LIST_OUT, ret, err) &&
	       each(o, OPT_CONTROL, "control", control_item, 0, ret, err);
}
