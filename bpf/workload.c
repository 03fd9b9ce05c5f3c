/* SPDX-License-Identifier: Apache-2.0 */
/* workload.c: see workload.h. */
#include "bpf/workload.h"

#include "lib/mem.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const map_names[MAP_COUNT] = {
    [MAP_WORKLOADS] = "workloads", [MAP_TOKENS] = "tokens", [MAP_PORTS] = "ports",
    [MAP_CIDRS] = "cidrs",         [MAP_DIRECT] = "direct",
};

/* Keys of the maps that hold several rows for one namespace; each is compared and removed by its cookie. */
union any_key {
	struct weft_port_key port;
	struct weft_cidr_key cidr;
	struct weft_direct_key direct;
};

bool maps_open(const struct node *n, struct maps *ret, struct err *err)
{
	char path[NODE_PATH_MAX];

	for (int i = 0; i < MAP_COUNT; i++)
		ret->fd[i] = -1;
	for (int i = 0; i < MAP_COUNT; i++) {
		MUST(path_join(path, "%s/%s", n->pins, map_names[i]));
		ret->fd[i] = bpf_obj_get(path);
		if (ret->fd[i] < 0) {
			err_errno(err, "%s", path);
			maps_close(ret);
			return false;
		}
	}
	return true;
}

void maps_close(struct maps *m)
{
	for (int i = 0; i < MAP_COUNT; i++) {
		if (m->fd[i] >= 0)
			close(m->fd[i]);
		m->fd[i] = -1;
	}
}

void workload_addr(const struct ip *ip, uint32_t ret[4])
{
	memset(ret, 0, 16);
	if (ip->len == 16) {
		memcpy(ret, ip->b, 16);
	} else if (ip->len == 4) {
		memset((uint8_t *)ret + 10, 0xff, 2);
		memcpy(ret + 3, ip->b, 4);
	}
}

bool workload_ip(const uint32_t addr[4], struct ip *ret)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (!addr[3])
		return false;
	if (!memcmp(addr, mapped, sizeof(mapped))) {
		ret->len = 4;
		memcpy(ret->b, addr + 3, 4);
	} else {
		ret->len = 16;
		memcpy(ret->b, addr, 16);
	}
	return true;
}

static uint64_t cookie_of(enum workload_map map, const union any_key *key)
{
	if (map == MAP_PORTS)
		return key->port.cookie;
	if (map == MAP_DIRECT)
		return key->direct.cookie;
	return (uint64_t)key->cidr.cookie[0] << 32 | key->cidr.cookie[1];
}

/* Whether a row stays; NULL as function: none does. */
typedef bool keep_fn(const struct spec *s, uint64_t cookie, const union any_key *key);

/* Removes the rows of a namespace that `keep` does not want; adds their number to *ret_rows, if any. A row removed while going through a map
 * would restart the walk: the keys are gathered first. */
static bool clear_rows(const struct maps *m, enum workload_map map, uint64_t cookie, keep_fn *keep,
		       const struct spec *s, size_t *ret_rows, struct err *err)
{
	union any_key *found = NULL, key, *last = NULL;
	size_t n = 0, room = 0;
	bool ok = true;

	while (bpf_map_get_next_key(m->fd[map], last, &key) == 0) {
		last = &key;
		if (cookie_of(map, &key) != cookie || (keep && keep(s, cookie, &key)))
			continue;
		if (n == room)
			found = mem_realloc(found, (room = room ? room * 2 : 64) * sizeof(*found));
		found[n++] = key;
	}
	for (size_t i = 0; i < n; i++) {
		if (bpf_map_delete_elem(m->fd[map], &found[i]))
			ok = err_errno(err, "map %s", map_names[map]);
	}
	if (ret_rows)
		*ret_rows += n;
	mem_free(found);
	return ok;
}

static bool put(const struct maps *m, enum workload_map map, const void *key, const void *value, struct err *err)
{
	return bpf_map_update_elem(m->fd[map], key, value, BPF_ANY) == 0 || err_errno(err, "map %s", map_names[map]);
}

static struct weft_cidr_key cidr_key(uint64_t cookie, const struct spec_cidr *c)
{
	struct weft_cidr_key key = {
	    .prefixlen = WEFT_CIDR_PREFIX_FIXED + c->cidr.bits + (c->cidr.ip.len == 4 ? 96 : 0),
	    .dir = c->dir,
	    .cookie = {(uint32_t)(cookie >> 32), (uint32_t)cookie},
	};

	workload_addr(&c->cidr.ip, key.addr);
	return key;
}

static struct weft_direct_key direct_key(uint64_t cookie, const struct addr *a)
{
	struct weft_direct_key key = {.cookie = cookie, .port = htons(a->port)};

	workload_addr(&a->ip, key.addr);
	return key;
}

static bool keep_port(const struct spec *s, uint64_t cookie, const union any_key *key)
{
	for (size_t i = 0; i < s->n_ports; i++) {
		if (s->ports[i].port == key->port.port)
			return true;
	}
	return false;
}

static bool keep_cidr(const struct spec *s, uint64_t cookie, const union any_key *key)
{
	for (size_t i = 0; i < s->n_cidrs; i++) {
		struct weft_cidr_key wanted = cidr_key(cookie, &s->cidrs[i]);

		if (!memcmp(&wanted, &key->cidr, sizeof(wanted)))
			return true;
	}
	return false;
}

static bool keep_direct(const struct spec *s, uint64_t cookie, const union any_key *key)
{
	for (size_t i = 0; i < s->n_control; i++) {
		struct weft_direct_key wanted = direct_key(cookie, &s->control[i]);

		if (!memcmp(&wanted, &key->direct, sizeof(wanted)))
			return true;
	}
	return false;
}

bool workload_describe(const struct maps *m, const struct netns *ns, const struct spec *s,
		       const uint8_t token[WEFT_TOKEN_LEN], struct err *err)
{
	uint32_t one = 1;
	bool ok = true;

	for (size_t i = 0; ok && i < s->n_ports; i++) {
		struct weft_port_key key = {.cookie = ns->cookie, .port = s->ports[i].port};

		ok = put(m, MAP_PORTS, &key, &s->ports[i].bits, err);
	}
	for (size_t i = 0; ok && i < s->n_cidrs; i++) {
		struct weft_cidr_key key = cidr_key(ns->cookie, &s->cidrs[i]);

		ok = put(m, MAP_CIDRS, &key, &one, err);
	}
	for (size_t i = 0; ok && i < s->n_control; i++) {
		struct weft_direct_key key = direct_key(ns->cookie, &s->control[i]);

		ok = put(m, MAP_DIRECT, &key, &one, err);
	}
	return ok && clear_rows(m, MAP_PORTS, ns->cookie, keep_port, s, NULL, err) &&
	       clear_rows(m, MAP_CIDRS, ns->cookie, keep_cidr, s, NULL, err) &&
	       clear_rows(m, MAP_DIRECT, ns->cookie, keep_direct, s, NULL, err) &&
	       put(m, MAP_TOKENS, &ns->cookie, token, err);
}

static uint32_t flags_of(const struct netns *ns, const struct spec *s)
{
	static const uint32_t by_dir[] = {[WEFT_DIR_OUT] = WEFT_HAS_OUT_CIDRS,
					  [WEFT_DIR_IN] = WEFT_HAS_IN_CIDRS,
					  [WEFT_DIR_LIST_OUT] = WEFT_HAS_LIST_CIDRS};
	uint32_t flags =
	    (s->n_ports ? WEFT_HAS_PORTS : 0) | (s->n_control ? WEFT_HAS_DIRECT : 0) | (ns->host ? WEFT_LISTED : 0);

	for (size_t i = 0; i < s->n_cidrs; i++)
		flags |= by_dir[s->cidrs[i].dir];
	return flags;
}

bool workload_mesh(const struct maps *m, const struct netns *ns, const struct spec *s, uint64_t list,
		   uint64_t deadline_ns, struct err *err)
{
	struct weft_workload w = {0};

	(void)bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], &ns->cookie, &w); /* absent: counters begin at 0 */
	w.deadline_ns = deadline_ns;
	w.list = list;
	w.netns_ino = ns->ino;
	w.flags = flags_of(ns, s);
	workload_addr(&ns->addr4, w.addr4);
	workload_addr(&ns->addr6, w.addr6);
	snprintf(w.ns, sizeof(w.ns), "%s", s->ns);
	snprintf(w.name, sizeof(w.name), "%s", s->name);
	return put(m, MAP_WORKLOADS, &ns->cookie, &w, err);
}

bool workload_forget(const struct maps *m, uint64_t cookie, size_t *ret_rows, struct err *err)
{
	*ret_rows = 0;
	*ret_rows += bpf_map_delete_elem(m->fd[MAP_WORKLOADS], &cookie) == 0;
	*ret_rows += bpf_map_delete_elem(m->fd[MAP_TOKENS], &cookie) == 0;
	return clear_rows(m, MAP_PORTS, cookie, NULL, NULL, ret_rows, err) &&
	       clear_rows(m, MAP_CIDRS, cookie, NULL, NULL, ret_rows, err) &&
	       clear_rows(m, MAP_DIRECT, cookie, NULL, NULL, ret_rows, err);
}

bool workload_next(const struct maps *m, uint64_t *cookie, struct weft_workload *ret)
{
	uint64_t last = *cookie;

	while (bpf_map_get_next_key(m->fd[MAP_WORKLOADS], last ? &last : NULL, cookie) == 0) {
		if (bpf_map_lookup_elem(m->fd[MAP_WORKLOADS], cookie, ret) == 0)
			return true;
		last = *cookie; /* removed meanwhile */
	}
	return false;
}

bool workload_find(const struct maps *m, const char *ns, const char *name, uint64_t *ret_cookie,
		   struct weft_workload *ret, struct err *err)
{
	*ret_cookie = 0;
	while (workload_next(m, ret_cookie, ret)) {
		if (!strcmp(ret->ns, ns) && !strcmp(ret->name, name))
			return true;
	}
	return err_set(err, ERR_NOT_FOUND, "%s/%s is not attached on this machine; weft-capture status lists what is",
		       ns, name);
}

static int by_number(const void *a, const void *b)
{
	return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

size_t workload_ports(const struct maps *m, uint64_t cookie, uint32_t bit, uint16_t *ret, size_t max)
{
	struct weft_port_key key, *last = NULL;
	uint32_t bits;
	size_t n = 0;

	while (bpf_map_get_next_key(m->fd[MAP_PORTS], last, &key) == 0) {
		last = &key;
		if (key.cookie != cookie || bpf_map_lookup_elem(m->fd[MAP_PORTS], &key, &bits) || !(bits & bit))
			continue;
		if (n < max)
			ret[n] = key.port;
		n++;
	}
	qsort(ret, MIN(n, max), sizeof(*ret), by_number);
	return n;
}

void workload_instance(const struct weft_workload *w, char ret[static SPEC_INSTANCE_MAX])
{
	snprintf(ret, SPEC_INSTANCE_MAX, "%.63s-%.63s", w->ns, w->name);
}
