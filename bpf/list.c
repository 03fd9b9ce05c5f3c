/* SPDX-License-Identifier: Apache-2.0 */
/* list.c: see list.h. */
#include "bpf/list.h"

#include <string.h>

/* Ports that no list may name. Weft's: captured, its parts would wait for each other. */
static const struct {
	uint16_t first, last;
	const char *what;
} never[] = {
    {WEFT_PORT_NEVER, WEFT_PORT_NEVER, "remote logins (SSH): captured, a mistake would lock you out"},
    {WEFT_PORT_INBOUND, WEFT_PORT_INBOUND, "the proxy itself"},
    {4810, 4811, "weftd"},
    {4814, 4814, "weftd"},
    {WEFT_PORT_STATUS, WEFT_PORT_STATUS, "the proxy itself"},
    {WEFT_PORT_OUT, WEFT_PORT_OUT + WEFT_OUT_PORTS - 1, "the proxy itself"},
};

static const char *whose(const struct spec *s, uint16_t port)
{
	for (size_t i = 0; i < ARRAY_LEN(never); i++) {
		if (port >= never[i].first && port <= never[i].last)
			return never[i].what;
	}
	for (size_t i = 0; i < s->n_control; i++) {
		if (port == s->control[i].port)
			return "weftd (--control)";
	}
	return NULL;
}

static bool has_port(const struct spec *s, uint32_t bits)
{
	for (size_t i = 0; i < s->n_ports; i++) {
		if (s->ports[i].bits & bits)
			return true;
	}
	return false;
}

bool list_has_cidrs(const struct spec *s)
{
	for (size_t i = 0; i < s->n_cidrs; i++) {
		if (s->cidrs[i].dir == WEFT_DIR_LIST_OUT)
			return true;
	}
	return false;
}

/* A workload's own namespace has no list: taken there, one would look like a promise that the rest is not captured. */
static bool check_elsewhere(const struct spec *s, struct err *err)
{
	if (has_port(s, WEFT_PORT_LIST_OUT) || list_has_cidrs(s))
		return err_set(err, ERR_UNSUPPORTED,
			       "--capture-out-ports and --capture-out-cidrs are for the machine's own network "
			       "namespace; in this one "
			       "everything is captured but what --exclude-out-ports and --exclude-out-cidrs name");
	if (s->undo_s)
		return err_set(err, ERR_UNSUPPORTED,
			       "--undo-after is for the machine's own network namespace; here only weft-capture detach "
			       "ends a capture");
	return true;
}

bool list_check(const struct spec *s, const char *host, struct err *err)
{
	if (!host)
		return check_elsewhere(s, err);
	if (!has_port(s, WEFT_PORT_DECLARED | WEFT_PORT_LIST_OUT))
		return err_set(err, ERR_INVALID,
			       "this is the machine's own network namespace (%s): only ports that you list are "
			       "captured here, and none is listed; "
			       "name what the workload serves by --ports, what it calls by --capture-out-ports, or run "
			       "the workload and "
			       "its proxy in a namespace of their own",
			       host);
	if (list_has_cidrs(s) && !has_port(s, WEFT_PORT_LIST_OUT))
		return err_set(err, ERR_INVALID,
			       "--capture-out-cidrs narrows --capture-out-ports, which is missing: which ports there?");
	for (size_t i = 0; i < s->n_ports; i++) {
		const struct spec_port *p = &s->ports[i];
		const char *what = whose(s, p->port);

		if (what && (p->bits & (WEFT_PORT_DECLARED | WEFT_PORT_LIST_OUT)))
			return err_set(err, ERR_INVALID,
				       "%s: %u is the port of %s; in the machine's own network namespace it is never "
				       "captured; take it off the list",
				       p->bits & WEFT_PORT_DECLARED ? "--ports" : "--capture-out-ports", p->port, what);
	}
	return true;
}

/* 64-bit finaliser of MurmurHash3: the sum of what comes out does not depend on the order of what goes in. */
static uint64_t mixed(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 33;
}

static uint64_t of_bytes(uint64_t seed, const void *bytes, size_t n)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < n; i++)
		seed = mixed(seed + b[i] + 1);
	return seed;
}

uint64_t list_sum(const struct spec *s)
{
	uint64_t sum = of_bytes(1, s->ns, strlen(s->ns)) + of_bytes(2, s->name, strlen(s->name));

	for (size_t i = 0; i < s->n_ports; i++)
		sum += mixed((uint64_t)s->ports[i].port << 32 | s->ports[i].bits);
	for (size_t i = 0; i < s->n_cidrs; i++)
		sum += of_bytes((uint64_t)s->cidrs[i].dir << 8 | s->cidrs[i].cidr.bits, s->cidrs[i].cidr.ip.b,
				s->cidrs[i].cidr.ip.len);
	return sum;
}
