/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c: registrations, leases and the guard. One struct a workload, in a map by name; a handful of links each. The store
 * learns of a registration when its content changes, and of renewed leases in one batch, at most every third of a lease. */
#include "control/registry.h"

#include "certs/spiffe.h"
#include "control/kind.h"
#include "control/kind_service.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "lib/utf8.h"

#include <stdio.h>

#define LABELS_MAX 64

struct registry {
	struct registry_hooks hooks;
	void *ctx;
	char *trust_domain;
	uint64_t lease_ms;
	struct map workloads;
	size_t guarded;      /* kept though their leases are over */
	uint64_t stormy_ms;  /* when too many were about to vanish last */
	struct ended *ended; /* n_ended, at most REGISTRY_WORKLOADS_MAX; the store does not know yet */
	size_t n_ended;
	uint64_t *lapsed_ms; /* when workloads went by their lease, for the guard's window; the last n_lapsed */
	size_t n_lapsed;
};

/* A workload that said goodbye while the store was busy. */
struct ended {
	char ns[STORE_NS_MAX], instance[STORE_NS_MAX];
};

static uint64_t now_of(const struct registry *r)
{
	return r->hooks.now_ms(r->ctx);
}

/* --- workloads --- */

static struct registry_workload *workload_make(struct registry *r, const char *ns, const char *instance, const char *sa,
					       struct err *err)
{
	struct spiffe id;
	if (!spiffe_make(str_of(r->trust_domain), str_of(ns), str_of(sa), &id, err))
		return NULL;
	if (r->workloads.len >= REGISTRY_WORKLOADS_MAX) {
		err_set(err, ERR_LIMIT, "%d workloads are registered already", REGISTRY_WORKLOADS_MAX);
		return NULL;
	}
	struct registry_workload *w = NEW(struct registry_workload);
	w->key = mem_printf("%s/%s", ns, instance);
	snprintf(w->ns, sizeof(w->ns), "%s", ns);
	snprintf(w->instance, sizeof(w->instance), "%s", instance);
	snprintf(w->sa, sizeof(w->sa), "%s", sa);
	w->identity = mem_strdup(id.id);
	w->labels = json_object();
	list_init(&w->links);
	map_put(&r->workloads, &w->node, str_of(w->key));
	return w;
}

static void content_done(struct registry_workload *w)
{
	json_decref(w->labels);
	mem_free(w->ports);
}

static void workload_free(struct registry *r, struct registry_workload *w)
{
	list_for_each_safe (l, &w->links, struct registry_link, node) {
		l->workload = NULL;
		list_remove(&l->node);
	}
	map_del(&r->workloads, &w->node);
	content_done(w);
	mem_free(w->identity);
	mem_free(w->key);
	mem_free(w);
}

static void workload_gone(struct registry *r, struct registry_workload *w, const char *why)
{
	r->hooks.on_gone(r->ctx, w, why);
	workload_free(r, w);
}

static struct registry_workload *find(const struct registry *r, const char *ns, const char *instance)
{
	char *key = mem_printf("%s/%s", ns, instance);
	struct map_node *n = map_get(&r->workloads, str_of(key));
	mem_free(key);
	return n ? CONTAINER_OF(n, struct registry_workload, node) : NULL;
}

const struct registry_workload *registry_find(const struct registry *r, const char *ns, const char *instance)
{
	return find(r, ns, instance);
}

const struct registry_workload *registry_next(const struct registry *r, const struct registry_workload *w)
{
	struct map_node *n = map_next(&r->workloads, w ? &w->node : NULL);
	return n ? CONTAINER_OF(n, struct registry_workload, node) : NULL;
}

bool registry_alive(const struct registry *r, const struct registry_workload *w)
{
	return now_of(r) < w->until_ms;
}

static struct registry_address *address_of(struct registry_workload *w, const struct ip *ip)
{
	return &w->addresses[ip->len == 4 ? 0 : 1];
}

/* A link that was heard of within the lease. */
static bool link_alive(const struct registry *r, const struct registry_link *l)
{
	return now_of(r) - l->heard_ms < r->lease_ms;
}

static bool workload_linked(const struct registry *r, const struct registry_workload *w)
{
	list_for_each (l, &w->links, struct registry_link, node)
		if (link_alive(r, l))
			return true;
	return false;
}

/* --- the workload as the store keeps it --- */

static const char *protocol_text(Weft__V1__Protocol p)
{
	switch (p) {
	case WEFT__V1__PROTOCOL__HTTP:
		return "http";
	case WEFT__V1__PROTOCOL__HTTP2:
		return "http2";
	case WEFT__V1__PROTOCOL__TCP:
		return "tcp";
	case WEFT__V1__PROTOCOL__TLS:
		return "tls";
	default:
		return NULL;
	}
}

static json_t *ports_json(const struct registry_port *ports, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++) {
		json_t *o = json_pack("{s:i}", "port", (int)ports[i].port);
		const char *text = protocol_text(ports[i].protocol);
		if (text)
			json_object_set_new(o, "protocol", json_string(text));
		json_array_append_new(list, o);
	}
	return list;
}

json_t *registry_addresses_json(const struct registry_workload *w)
{
	json_t *list = json_array();
	char text[IP_TEXT_MAX];
	for (size_t i = 0; i < ARRAY_LEN(w->addresses); i++)
		if (w->addresses[i].ip.len)
			json_array_append_new(list, json_string(ip_text(&w->addresses[i].ip, text)));
	return list;
}

static int64_t lease_wall_ms(const struct registry *r, const struct registry_workload *w)
{
	return r->hooks.wall_ms(r->ctx) + (int64_t)(w->until_ms - now_of(r));
}

static bool workload_save(struct registry *r, struct registry_workload *w, struct err *err)
{
	struct store_instance i = {.labels = w->labels,
				   .ports = ports_json(w->ports, w->n_ports),
				   .addresses = registry_addresses_json(w),
				   .lease_ms = lease_wall_ms(r, w)};
	snprintf(i.ns, sizeof(i.ns), "%s", w->ns);
	snprintf(i.name, sizeof(i.name), "%s", w->instance);
	snprintf(i.sa, sizeof(i.sa), "%s", w->sa);
	snprintf(i.zone, sizeof(i.zone), "%s", w->zone);
	snprintf(i.version, sizeof(i.version), "%s", w->version);
	bool ok = r->hooks.save(r->ctx, &i, err);
	json_decref(i.ports);
	json_decref(i.addresses);
	if (ok) {
		w->written_ms = now_of(r);
		w->renewed = false;
	}
	return ok;
}

static bool load_ports(struct registry_workload *w, const json_t *ports, struct err *err)
{
	size_t n = json_array_size(ports);
	if (n > REGISTRY_PORTS_MAX)
		return err_set(err, ERR_STORE, "workload %s: %zu ports are stored", w->key, n);
	w->ports = mem_zalloc((n + 1) * sizeof(*w->ports));
	for (w->n_ports = 0; w->n_ports < n; w->n_ports++) {
		const json_t *o = json_array_get(ports, w->n_ports);
		struct registry_port *p = &w->ports[w->n_ports];
		json_int_t port = json_integer_value(json_object_get(o, "port"));
		const char *protocol = json_string_value(json_object_get(o, "protocol"));
		if (port < 1 || port > 65535)
			return err_set(err, ERR_STORE, "workload %s: a stored port is not one", w->key);
		p->port = (uint16_t)port;
		p->protocol = WEFT__V1__PROTOCOL__UNDECLARED;
		if (protocol)
			(void)protocol_of(protocol, &p->protocol);
	}
	return true;
}

static void load_addresses(struct registry_workload *w, const json_t *list, uint64_t until_ms)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));
		struct ip ip;
		if (text && ip_parse(str_of(text), &ip))
			*address_of(w, &ip) = (struct registry_address){.ip = ip, .until_ms = until_ms, .said = true};
	}
}

bool registry_load(struct registry *r, const struct store_instance *i, struct err *err)
{
	if (i->lease_ms == 0 || !i->ports)
		return true;
	MUST(!find(r, i->ns, i->name));
	struct registry_workload *w = workload_make(r, i->ns, i->name, i->sa, err);
	if (!w)
		return false;
	if (!load_ports(w, i->ports, err)) {
		workload_free(r, w);
		return false;
	}
	w->until_ms = now_of(r) + r->lease_ms;
	load_addresses(w, i->addresses, w->until_ms);
	if (i->labels)
		json_object_update(w->labels, i->labels);
	snprintf(w->zone, sizeof(w->zone), "%s", i->zone);
	snprintf(w->version, sizeof(w->version), "%s", i->version);
	r->hooks.on_change(r->ctx, w);
	return true;
}

/* --- what is claimed, checked --- */

static bool claim_ports(const struct registry_claim *c, struct registry_port *out, struct err *err)
{
	if (c->n_ports > REGISTRY_PORTS_MAX)
		return err_set(err, ERR_LIMIT, "ports: %zu, at most %d", c->n_ports, REGISTRY_PORTS_MAX);
	for (size_t i = 0; i < c->n_ports; i++) {
		uint32_t port = c->ports[i]->port;
		if (port < 1 || port > 65535)
			return err_set(err, ERR_INVALID, "ports[%zu].port: %u is not in 1 to 65535", i, port);
		for (size_t k = 0; k < i; k++)
			if (out[k].port == port)
				return err_set(err, ERR_INVALID, "ports[%zu].port: %u is there twice", i, port);
		if (!protobuf_c_enum_descriptor_get_value(&weft__v1__protocol__descriptor, (int)c->ports[i]->protocol))
			return err_set(err, ERR_UNSUPPORTED, "ports[%zu].protocol: %d is not known to this weftd", i,
				       (int)c->ports[i]->protocol);
		out[i] = (struct registry_port){(uint16_t)port, c->ports[i]->protocol};
	}
	return true;
}

/* May this service account speak as this instance, with these labels? */
static bool claim_allowed(struct registry *r, const struct registry_claim *c, struct err *err)
{
	const struct jpath at = {.field = "labels"};
	struct store_instance i = {0};
	if (!str_is_dns_label(str_of(c->instance)))
		return err_set(err, ERR_INVALID, "instance: \"%.64s\" is not a DNS label", c->instance);
	if (c->labels && json_object_size(c->labels) > LABELS_MAX)
		return err_set(err, ERR_LIMIT, "labels: %zu, at most %d", json_object_size(c->labels), LABELS_MAX);
	if (c->labels && !labels_check(c->labels, &at, err))
		return false;
	if (strlen(c->zone) >= sizeof(((struct registry_workload *)0)->zone))
		return err_set(err, ERR_LIMIT, "zone: longer than 63 bytes");
	if (!r->hooks.instance(r->ctx, c->ns, c->instance, &i, err))
		return err_prefix(err, "instance %s/%s", c->ns, c->instance);
	bool ok = strcmp(i.sa, c->sa) == 0;
	if (!ok)
		err_set(err, ERR_DENIED, "instance %s/%s was issued to service account %s, not to %s", c->ns,
			c->instance, i.sa, c->sa);
	ok = ok &&
	     (!c->labels || json_object_size(c->labels) == 0 || store_labels_allowed(i.allowed_labels, c->labels, err));
	store_instance_done(&i);
	return ok;
}

/* Two living links from two addresses of one family are two workloads under one name. */
static bool claim_unique(struct registry *r, const struct registry_workload *w, const struct registry_link *self,
			 const struct registry_claim *c, struct err *err)
{
	size_t links = 0;
	list_for_each (l, &w->links, struct registry_link, node) {
		char text[IP_TEXT_MAX];
		links++;
		if (l == self || !link_alive(r, l) || l->source.len != c->source.len || ip_eq(&l->source, &c->source))
			continue;
		return err_set(err, ERR_EXISTS,
			       "instance %s is linked from %s already; give each workload its own name", w->key,
			       ip_text(&l->source, text));
	}
	return self->workload == w || links < REGISTRY_LINKS_MAX ||
	       err_set(err, ERR_LIMIT, "instance %s has %d links already", w->key, REGISTRY_LINKS_MAX);
}

/* --- registering --- */

/* An address belongs to the last who came from it: a workload without a link that still has it is a leftover. */
static void take_over(struct registry *r, const struct registry_workload *by, const struct ip *ip)
{
	map_for_each (it, &r->workloads) {
		struct registry_workload *w = CONTAINER_OF(it, struct registry_workload, node);
		struct registry_address *a = address_of(w, ip);
		if (w == by || !ip_eq(&a->ip, ip) || workload_linked(r, w))
			continue;
		*a = (struct registry_address){0};
		if (w->addresses[0].ip.len || w->addresses[1].ip.len) {
			r->hooks.on_change(r->ctx, w);
			continue;
		}
		struct store_lease over = {w->ns, w->instance, 0};
		(void)r->hooks.leases(r->ctx, &over, 1, NULL); /* if it fails: back at the next start, for one lease */
		workload_gone(r, w, "its address went to another workload");
	}
}

static bool says(const struct registry_claim *c, const struct ip *ip)
{
	for (size_t i = 0; i < c->n_more; i++)
		if (ip_eq(&c->more[i], ip))
			return true;
	return ip_eq(&c->source, ip);
}

/* The source of the link is an address; of what was said besides, only what a link came from before. */
static void next_addresses(struct registry_workload *next, const struct registry_claim *c)
{
	struct registry_address *a = address_of(next, &c->source);
	a->ip = c->source;
	a->until_ms = next->until_ms;
	for (size_t i = 0; i < ARRAY_LEN(next->addresses); i++)
		next->addresses[i].said = says(c, &next->addresses[i].ip);
}

static void copy_clean(char *out, size_t out_size, const char *text)
{
	snprintf(out, out_size, "%.*s", (int)utf8_cut(text, MIN(strlen(text), out_size - 1)), text);
	utf8_clean(out);
}

/* The workload as it is to be: a copy of w with content of its own, so that a store that fails leaves w as it is. */
static void next_make(struct registry *r, const struct registry_workload *w, const struct registry_claim *c,
		      const struct registry_port *ports, struct registry_workload *next)
{
	*next = *w;
	next->until_ms = now_of(r) + r->lease_ms;
	next->labels = c->labels ? json_deep_copy(c->labels) : json_object();
	next->ports = mem_zalloc((c->n_ports + 1) * sizeof(*ports));
	memcpy(next->ports, ports, c->n_ports * sizeof(*ports));
	next->n_ports = c->n_ports;
	copy_clean(next->zone, sizeof(next->zone), c->zone);
	copy_clean(next->version, sizeof(next->version), c->version);
	next_addresses(next, c);
}

static bool content_eq(const struct registry_workload *a, const struct registry_workload *b)
{
	for (size_t i = 0; i < a->n_ports && a->n_ports == b->n_ports; i++)
		if (a->ports[i].port != b->ports[i].port || a->ports[i].protocol != b->ports[i].protocol)
			return false;
	return a->n_ports == b->n_ports && json_equal(a->labels, b->labels) && strcmp(a->zone, b->zone) == 0 &&
	       strcmp(a->version, b->version) == 0 && ip_eq(&a->addresses[0].ip, &b->addresses[0].ip) &&
	       ip_eq(&a->addresses[1].ip, &b->addresses[1].ip);
}

/* Takes next's content over. */
static void adopt(struct registry *r, struct registry_workload *w, const struct registry_workload *next,
		  const struct ip *source)
{
	if (!ip_eq(&address_of(w, source)->ip, source))
		take_over(r, w, source);
	content_done(w);
	w->labels = next->labels;
	w->ports = next->ports;
	w->n_ports = next->n_ports;
	memcpy(w->addresses, next->addresses, sizeof(w->addresses));
	memcpy(w->zone, next->zone, sizeof(w->zone));
	memcpy(w->version, next->version, sizeof(w->version));
	w->until_ms = next->until_ms;
	w->written_ms = next->written_ms;
	w->renewed = true;
}

static void link_to(struct registry *r, struct registry_link *l, struct registry_workload *w, const struct ip *source)
{
	if (l->workload != w)
		registry_link_down(l);
	l->registry = r;
	l->source = *source;
	l->heard_ms = now_of(r);
	if (l->workload == w)
		return;
	l->workload = w;
	list_push(&w->links, &l->node);
}

bool registry_register(struct registry *r, struct registry_link *l, const struct registry_claim *c, struct err *err)
{
	struct registry_port ports[REGISTRY_PORTS_MAX];
	memset(ports, 0, sizeof(ports));
	MUST(c->source.len);
	if (!claim_allowed(r, c, err) || !claim_ports(c, ports, err))
		return false;
	struct registry_workload *w = find(r, c->ns, c->instance);
	bool made = !w;
	if (w && !claim_unique(r, w, l, c, err))
		return false;
	if (!w && !(w = workload_make(r, c->ns, c->instance, c->sa, err)))
		return false;

	struct registry_workload next;
	next_make(r, w, c, ports, &next);
	bool changed = made || !content_eq(&next, w);
	if (changed && !workload_save(r, &next, err)) {
		/* What the store does not keep is not promised. */
		content_done(&next);
		if (made)
			workload_free(r, w);
		return false;
	}
	adopt(r, w, &next, &c->source);
	link_to(r, l, w, &c->source);
	if (changed)
		r->hooks.on_change(r->ctx, w);
	return true;
}

/* --- links --- */

void registry_link_init(struct registry_link *l)
{
	*l = (struct registry_link){0};
	list_init(&l->node);
}

void registry_heartbeat(struct registry_link *l)
{
	struct registry_workload *w = l->workload;
	if (!w)
		return;
	struct registry *r = l->registry;
	l->heard_ms = now_of(r);
	w->until_ms = l->heard_ms + r->lease_ms;
	w->renewed = true;
	struct registry_address *a = address_of(w, &l->source);
	if (ip_eq(&a->ip, &l->source))
		a->until_ms = w->until_ms;
}

void registry_link_down(struct registry_link *l)
{
	l->workload = NULL;
	list_remove(&l->node);
}

static void end_later(struct registry *r, const struct registry_workload *w)
{
	r->ended = mem_realloc(r->ended, (r->n_ended + 1) * sizeof(*r->ended));
	struct ended *e = &r->ended[r->n_ended++];
	memcpy(e->ns, w->ns, sizeof(e->ns));
	memcpy(e->instance, w->instance, sizeof(e->instance));
}

void registry_goodbye(struct registry_link *l)
{
	struct registry_workload *w = l->workload;
	if (!w)
		return;
	struct registry *r = l->registry;
	struct store_lease over = {w->ns, w->instance, 0};
	if (r->n_ended < REGISTRY_WORKLOADS_MAX && r->hooks.busy && r->hooks.busy(r->ctx))
		end_later(r, w);
	else
		(void)r->hooks.leases(r->ctx, &over, 1, NULL); /* the store says so itself; after a restart it lapses */
	workload_gone(r, w, "it stopped");
}

/* --- leases --- */

/* Who registered again since then has a new lease. */
static void write_ended(struct registry *r)
{
	if (!r->n_ended)
		return;
	struct store_lease *batch = mem_zalloc(r->n_ended * sizeof(*batch));
	size_t n = 0;
	for (size_t i = 0; i < r->n_ended; i++)
		if (!find(r, r->ended[i].ns, r->ended[i].instance))
			batch[n++] = (struct store_lease){r->ended[i].ns, r->ended[i].instance, 0};
	if (n)
		(void)r->hooks.leases(r->ctx, batch, n, NULL);
	mem_free(batch);
	mem_free(r->ended);
	r->ended = NULL;
	r->n_ended = 0;
}

static void write_renewals(struct registry *r)
{
	uint64_t now = now_of(r);
	struct store_lease *batch = NULL;
	size_t n = 0;
	map_for_each (it, &r->workloads) {
		struct registry_workload *w = CONTAINER_OF(it, struct registry_workload, node);
		if (!w->renewed || now - w->written_ms < r->lease_ms / 3)
			continue;
		if (!batch)
			batch = mem_alloc(r->workloads.len * sizeof(*batch));
		batch[n++] = (struct store_lease){w->ns, w->instance, lease_wall_ms(r, w)};
		w->written_ms = now; /* also when it fails: tried again after another third */
		w->renewed = false;
	}
	if (n)
		(void)r->hooks.leases(r->ctx, batch, n, NULL);
	mem_free(batch);
}

/* An address of a family from which nobody comes any more, while the workload lives by its other one. */
static void drop_addresses(struct registry *r, struct registry_workload *w)
{
	uint64_t now = now_of(r);
	for (size_t i = 0; i < ARRAY_LEN(w->addresses); i++) {
		struct registry_address *a = &w->addresses[i], *other = &w->addresses[1 - i];
		if (!a->ip.len || a->said || now < a->until_ms || !other->ip.len)
			continue;
		*a = (struct registry_address){0};
		r->hooks.on_change(r->ctx, w);
	}
}

static size_t lapsed_lately(struct registry *r)
{
	uint64_t now = now_of(r);
	size_t kept = 0;
	for (size_t i = 0; i < r->n_lapsed; i++)
		if (now - r->lapsed_ms[i] < r->lease_ms)
			r->lapsed_ms[kept++] = r->lapsed_ms[i];
	return r->n_lapsed = kept;
}

static void expire(struct registry *r, struct registry_workload **over, size_t n)
{
	struct store_lease *batch = mem_zalloc((n + 1) * sizeof(*batch));
	for (size_t i = 0; i < n; i++)
		batch[i] = (struct store_lease){over[i]->ns, over[i]->instance, 0};
	(void)r->hooks.leases(r->ctx, batch, n, NULL); /* the store says so itself; after a restart they lapse again */
	mem_free(batch);
	r->lapsed_ms = mem_realloc(r->lapsed_ms, (r->n_lapsed + n) * sizeof(*r->lapsed_ms));
	for (size_t i = 0; i < n; i++) {
		r->lapsed_ms[r->n_lapsed++] = now_of(r);
		workload_gone(r, over[i], "its lease ran out");
	}
}

/* Who missed two heartbeats counts as about to go: of workloads that are lost together, the first lease ends seconds before
 * the last. */
static bool failing(const struct registry *r, const struct registry_workload *w)
{
	return w->until_ms < now_of(r) + r->lease_ms / 3 + 1;
}

static void set_guarded(struct registry *r, size_t kept, size_t of)
{
	if (kept > r->guarded || (kept == 0 && r->guarded))
		r->hooks.on_guard(r->ctx, kept, of);
	r->guarded = kept;
}

/* Once it holds it lets go only after a whole lease of calm: those who come back do not come back in the same second. */
static bool guard_holds(struct registry *r, bool many)
{
	if (many || !r->guarded)
		r->stormy_ms = now_of(r);
	return many || (r->guarded && now_of(r) - r->stormy_ms < r->lease_ms);
}

static void end_leases(struct registry *r)
{
	uint64_t now = now_of(r);
	size_t over = 0, weak = 0, lately = lapsed_lately(r), all = r->workloads.len + lately;
	map_for_each (it, &r->workloads) {
		struct registry_workload *w = CONTAINER_OF(it, struct registry_workload, node);
		over += w->until_ms <= now;
		weak += failing(r, w);
		drop_addresses(r, w);
	}
	weak += lately;
	bool guard = over && guard_holds(r, weak >= GUARD_MIN && weak * 100 > all * GUARD_PERCENT);
	size_t kept = 0, n = 0;
	struct registry_workload **gone = over ? mem_alloc(over * sizeof(struct registry_workload *)) : NULL;
	map_for_each (it, &r->workloads) {
		struct registry_workload *w = CONTAINER_OF(it, struct registry_workload, node);
		if (w->until_ms > now)
			continue;
		if (guard && now - w->until_ms < GUARD_MAX_MS)
			kept++;
		else
			gone[n++] = w;
	}
	if (n)
		expire(r, gone, n);
	mem_free(gone);
	set_guarded(r, kept, all);
}

void registry_tick(struct registry *r)
{
	write_ended(r);
	write_renewals(r);
	end_leases(r);
}

void registry_grace(struct registry *r, uint64_t ms)
{
	uint64_t began = now_of(r) - MIN(ms, now_of(r));
	map_for_each (it, &r->workloads) {
		struct registry_workload *w = CONTAINER_OF(it, struct registry_workload, node);
		if (w->until_ms > began)
			w->until_ms += ms;
		for (size_t i = 0; i < ARRAY_LEN(w->addresses); i++)
			if (w->addresses[i].until_ms > began)
				w->addresses[i].until_ms += ms;
	}
}

/* --- the whole --- */

struct registry *registry_new(const struct registry_hooks *hooks, void *ctx, const char *trust_domain,
			      uint64_t lease_ms)
{
	MUST(lease_ms >= 1000);
	struct registry *r = NEW(struct registry);
	r->hooks = *hooks;
	r->ctx = ctx;
	r->trust_domain = mem_strdup(trust_domain);
	r->lease_ms = lease_ms;
	map_init(&r->workloads);
	return r;
}

void registry_free(struct registry **rp)
{
	struct registry *r = *rp;
	*rp = NULL;
	if (!r)
		return;
	write_ended(r);
	map_for_each (it, &r->workloads)
		workload_free(r, CONTAINER_OF(it, struct registry_workload, node));
	map_done(&r->workloads);
	mem_free(r->lapsed_ms);
	mem_free(r->trust_domain);
	mem_free(r);
}

uint64_t registry_lease_ms(const struct registry *r)
{
	return r->lease_ms;
}

size_t registry_count(const struct registry *r)
{
	return r->workloads.len;
}

size_t registry_guarded(const struct registry *r)
{
	return r->guarded;
}
