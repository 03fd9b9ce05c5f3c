/* SPDX-License-Identifier: Apache-2.0 */
/* config.c: what is known and asked for, by address. It owns the catalog of resources, the table of addresses that are
 * followed and the snapshot in force. It speaks no protocol: whoever can be asked is a config_source.
 *
 * Sizes: at most CONFIG_NAMES_MAX addresses (about 130 bytes each), of them CONFIG_NEGATIVE_MAX answered "nothing there";
 * resources are held only while an address of theirs is followed. Past a cap the longest unused address is let go. */
#include "proxy/config_build.h"

#include "certs/spiffe.h"
#include "lib/event.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "proxy/catalog.h"
#include "proxy/snapshot_build.h"
#include "proxy/snapshot_route.h"

#define IDLE_MS       (5 * 60 * 1000) /* an address not touched for so long is let go */
#define IDLE_SWEEP_MS (15 * 1000)

struct address { /* one that is followed; in the map and in one of the two lists */
	struct map_node node;
	struct list use; /* longest unused first */
	struct ip ip;
	uint64_t touched_ms;
	unsigned nothing; /* a bit for each type answered "nothing there" */
};

struct listed { /* a resource that a manifest lists: followed by its name */
	struct map_node node;
	enum resource_type type;
	unsigned round; /* of the last look at the manifests that found it */
	char key[1 + RESOURCE_NAME_MAX];
};

struct config {
	struct loop *loop;
	struct catalog *catalog;
	struct snapshot *snapshot;
	uint64_t serial;

	struct map addresses;
	struct list known, nothing; /* struct address by use: of the second kind nothing is there */
	size_t n_nothing;
	struct map names; /* struct listed */
	unsigned round;

	struct timer idle;
	struct task commit;
	struct list watchers; /* struct config_watcher */
	bool stale;           /* resources or addresses have changed since the snapshot was made */

	const struct config_source *source; /* NULL: nobody can be asked */
	void *source_ctx;
	bool linked;

	/* of MeshConfig or a hint, and Self */
	char trust_domain[TRUST_DOMAIN_MAX + 1];
	bool mesh_known, mesh_pushed, self_pushed;
	struct cidr cidrs[RESOURCE_CIDRS_MAX];
	size_t n_cidrs;
	struct inbound_port inbound[RESOURCE_PORTS_MAX];
	size_t n_inbound;
};

static void on_commit(struct task *t);
static void on_idle(struct timer *t);

static void stale(struct config *c)
{
	c->stale = true;
	loop_at_turn_end(c->loop, &c->commit);
}

static void snapshot_build(struct config *c);

struct config *config_new(struct loop *loop)
{
	struct config *c = NEW(struct config);
	c->loop = loop;
	c->catalog = catalog_new();
	map_init(&c->addresses);
	map_init(&c->names);
	list_init(&c->known);
	list_init(&c->nothing);
	list_init(&c->watchers);
	timer_init(&c->idle, loop, on_idle);
	task_init(&c->commit, on_commit);
	snapshot_build(c);
	return c;
}

static void address_free(struct config *c, struct address *a);
static void listed_free(struct config *c, struct listed *l);

void config_free(struct config **cp)
{
	struct config *c = *cp;
	*cp = NULL;
	if (!c)
		return;
	c->source = NULL;
	list_for_each_safe (w, &c->watchers, struct config_watcher, node)
		list_remove(&w->node);
	list_for_each_safe (a, &c->known, struct address, use)
		address_free(c, a);
	list_for_each_safe (a, &c->nothing, struct address, use)
		address_free(c, a);
	map_done(&c->addresses);
	map_for_each (it, &c->names)
		listed_free(c, CONTAINER_OF(it, struct listed, node));
	map_done(&c->names);
	timer_stop(&c->idle);
	task_cancel(&c->commit);
	catalog_free(&c->catalog);
	snapshot_unref(&c->snapshot);
	mem_free(c);
}

/* --- addresses --- */

#define NOTHING_THERE (1u << RESOURCE_SERVICE | 1u << RESOURCE_WORKLOAD)

static struct str ip_key(const struct ip *ip)
{
	return str_make(ip->b, ip->len);
}

static struct address *address_get(const struct config *c, const struct ip *ip)
{
	struct map_node *n = map_get(&c->addresses, ip_key(ip));
	return n ? CONTAINER_OF(n, struct address, node) : NULL;
}

static bool address_is_nothing(const struct address *a)
{
	return (a->nothing & NOTHING_THERE) == NOTHING_THERE;
}

/* Moves it to the used end of the list it belongs to. `was`: whether it stood among the "nothing there". */
static void address_file(struct config *c, struct address *a, bool was)
{
	bool is = address_is_nothing(a);
	list_remove(&a->use);
	list_push(is ? &c->nothing : &c->known, &a->use);
	c->n_nothing += (size_t)is - (size_t)was;
	if (is != was)
		stale(c);
}

static void address_set_nothing(struct config *c, struct address *a, enum resource_type t, bool nothing)
{
	bool was = address_is_nothing(a);
	a->nothing = nothing ? a->nothing | 1u << t : a->nothing & ~(1u << t);
	if (address_is_nothing(a) != was)
		address_file(c, a, was);
}

static void address_touch(struct config *c, struct address *a)
{
	a->touched_ms = loop_now_ms(c->loop);
	list_remove(&a->use);
	list_push(address_is_nothing(a) ? &c->nothing : &c->known, &a->use);
}

static void address_free(struct config *c, struct address *a)
{
	if (c->source)
		c->source->unfollow(c->source_ctx, &a->ip);
	if (address_is_nothing(a))
		c->n_nothing--;
	list_remove(&a->use);
	map_del(&c->addresses, &a->node);
	mem_free(a);
}

/* --- names that manifests list --- */

static struct listed *listed_get(const struct config *c, enum resource_type t, const char *name)
{
	char key[1 + RESOURCE_NAME_MAX];
	size_t n = strlen(name);
	MUST(n < RESOURCE_NAME_MAX);
	key[0] = (char)t;
	memcpy(key + 1, name, n);
	struct map_node *it = map_get(&c->names, str_make(key, 1 + n));
	return it ? CONTAINER_OF(it, struct listed, node) : NULL;
}

static void listed_free(struct config *c, struct listed *l)
{
	if (c->source)
		c->source->unfollow_name(c->source_ctx, l->type, l->key + 1);
	map_del(&c->names, &l->node);
	mem_free(l);
}

static void listed_add(void *ctx, enum resource_type t, const char *name)
{
	struct config *c = ctx;
	struct listed *l = listed_get(c, t, name);
	if (l || c->names.len >= CONFIG_LISTED_MAX) {
		if (l)
			l->round = c->round;
		return;
	}
	l = NEW(struct listed);
	l->type = t;
	l->round = c->round;
	l->key[0] = (char)t;
	strcpy(l->key + 1, name);
	map_put(&c->names, &l->node, str_make(l->key, 1 + strlen(name)));
	if (c->source)
		c->source->follow_name(c->source_ctx, t, name);
}

/* Whether anything here asked for it: an address, or a manifest. */
static bool is_followed(void *ctx, const struct resource *r)
{
	const struct config *c = ctx;
	for (size_t i = 0; i < r->n_aliases; i++)
		if (address_get(c, &r->aliases[i]))
			return true;
	return listed_get(c, r->type, r->name) != NULL;
}

/* Lets go what no manifest lists any more. */
static void listed_sweep(struct config *c)
{
	size_t before = c->names.len;
	c->round++;
	catalog_each_listed(c->catalog, listed_add, c);
	map_for_each (it, &c->names) {
		struct listed *l = CONTAINER_OF(it, struct listed, node);
		if (l->round != c->round)
			listed_free(c, l);
	}
	/* Without files: what they bring is held for good. */
	if (c->source && c->names.len < before)
		catalog_drop_unfollowed(c->catalog, is_followed, c);
}

/* After addresses were let go: so is what was held for them alone. */
static void drop_unfollowed(struct config *c)
{
	catalog_drop_unfollowed(c->catalog, is_followed, c);
	stale(c);
}

/* Keeps within the caps, making room for `more`. */
static void addresses_trim(struct config *c, size_t more)
{
	bool dropped = false;
	size_t max = CONFIG_NAMES_MAX - c->names.len;
	while (c->n_nothing > CONFIG_NEGATIVE_MAX || (c->addresses.len + more > max && c->n_nothing)) {
		address_free(c, list_first(&c->nothing, struct address, use));
		stale(c);
	}
	while (c->addresses.len + more > max) {
		address_free(c, list_first(&c->known, struct address, use));
		dropped = true;
	}
	if (dropped)
		drop_unfollowed(c);
}

static struct address *address_follow(struct config *c, const struct ip *ip)
{
	struct address *a = address_get(c, ip);
	if (a) {
		address_touch(c, a);
		return a;
	}
	addresses_trim(c, 1);
	a = NEW(struct address);
	a->ip = *ip;
	a->touched_ms = loop_now_ms(c->loop);
	map_put(&c->addresses, &a->node, ip_key(&a->ip));
	list_push(&c->known, &a->use);
	if (c->source)
		c->source->follow(c->source_ctx, ip);
	return a;
}

static bool idle_drop(struct config *c, struct list *from, uint64_t idle_ms)
{
	bool dropped = false;
	for (struct address *a; (a = list_first(from, struct address, use)) != NULL; dropped = true) {
		if (a->touched_ms + idle_ms > loop_now_ms(c->loop))
			break;
		address_free(c, a);
	}
	return dropped;
}

void config_let_go(struct config *c, uint64_t idle_ms)
{
	if (!c->linked)
		return;
	bool known = idle_drop(c, &c->known, idle_ms), nothing = idle_drop(c, &c->nothing, idle_ms);
	if (known || nothing)
		drop_unfollowed(c);
}

static void on_idle(struct timer *t)
{
	struct config *c = CONTAINER_OF(t, struct config, idle);
	timer_start(&c->idle, IDLE_SWEEP_MS);
	config_let_go(c, IDLE_MS);
}

void config_follow(struct config *c, const struct ip *ip)
{
	address_follow(c, ip);
}

void config_ask(struct config *c, const struct addr *to)
{
	struct target at;
	snapshot_find(c->snapshot, to, &at);
	if (c->source && (at.kind == TARGET_ASK || at.kind == TARGET_UNKNOWN))
		address_follow(c, &to->ip);
}

void config_touch(struct config *c, const struct addr *to)
{
	struct address *a = address_get(c, &to->ip);
	struct target at;
	if (a) {
		address_touch(c, a);
		return;
	}
	if (!c->source)
		return;
	/* A second address of something that is held for another: it is in use now, too. */
	snapshot_find(c->snapshot, to, &at);
	if (at.kind == TARGET_SERVICE || at.kind == TARGET_WORKLOAD)
		address_follow(c, &to->ip);
}

/* --- sources --- */

void config_set_source(struct config *c, const struct config_source *s, void *ctx)
{
	c->source = s;
	c->source_ctx = ctx;
	if (s)
		timer_start(&c->idle, IDLE_SWEEP_MS);
	else
		timer_stop(&c->idle);
	stale(c);
}

void config_set_linked(struct config *c, bool linked)
{
	c->linked = linked;
}

void config_hint_mesh(struct config *c, const char *trust_domain, const struct cidr *cidrs, size_t n_cidrs)
{
	MUST(strlen(trust_domain) <= TRUST_DOMAIN_MAX);
	strcpy(c->trust_domain, trust_domain);
	if (c->mesh_pushed || n_cidrs == 0)
		return;
	c->mesh_known = true;
	c->n_cidrs = MIN(n_cidrs, ARRAY_LEN(c->cidrs));
	memcpy(c->cidrs, cidrs, c->n_cidrs * sizeof(*cidrs));
	stale(c);
}

/* --- resources --- */

/* The trust domain is who we are: no push can change it. */
static bool check_trust_domain(const struct config *c, const struct resource *r, struct err *err)
{
	if (r->type != RESOURCE_MESH || !c->trust_domain[0])
		return true;
	Weft__V1__MeshConfig *m = resource_message(r);
	bool same = strcmp(m->trust_domain, c->trust_domain) == 0;
	if (!same)
		err_set(err, ERR_INVALID, "trust_domain: \"%s\", but this proxy is of \"%s\"", m->trust_domain,
			c->trust_domain);
	resource_message_free(r, m);
	return same;
}

/* Whether anything here asked for it. What nobody follows any more may still be on its way: that is no error. */
static bool wanted(const struct config *c, const struct resource *r)
{
	return !resource_on_demand(r->type) || r->origin == RESOURCE_FILE || is_followed((void *)(uintptr_t)c, r);
}

static void hold(struct config *c, struct resource *r)
{
	catalog_put(c->catalog, r);
	if (r->type == RESOURCE_MANIFEST && r->origin != RESOURCE_FILE)
		catalog_listed(r, listed_add, c);
	for (size_t i = 0; i < r->n_aliases; i++) {
		struct address *a = address_get(c, &r->aliases[i]);
		if (!a)
			continue;
		address_set_nothing(c, a, r->type, false);
		if (a->nothing & 1u << RESOURCE_ENDPOINTS) /* was said before the service came */
			catalog_no_endpoints(c->catalog, &a->ip);
	}
	stale(c);
}

bool config_apply(struct config *c, const struct resource_from *from, struct err *err)
{
	struct resource *r = resource_new(from, err);
	if (!r || !check_trust_domain(c, r, err)) {
		resource_unref(&r);
		catalog_refused(c->catalog, from->type, from->name, from->version);
		stale(c);
		return false;
	}
	if (!wanted(c, r)) {
		/* Held until now under another alias? Then that one is no longer its own. */
		catalog_remove(c->catalog, from->type, from->name);
		resource_unref(&r);
		stale(c);
		return true;
	}
	hold(c, r);
	return true;
}

void config_remove(struct config *c, enum resource_type t, struct str name)
{
	struct ip ip;
	stale(c);
	if (!resource_alias_parse(name, &ip)) {
		catalog_remove(c->catalog, t, name);
		return;
	}
	struct address *a = address_get(c, &ip);
	catalog_remove_at(c->catalog, t, &ip);
	if (t == RESOURCE_ENDPOINTS)
		catalog_no_endpoints(c->catalog, &ip);
	if (!a)
		return;
	address_set_nothing(c, a, t, true);
	addresses_trim(c, 0);
}

/* --- snapshot --- */

static void read_mesh(struct config *c)
{
	const struct resource *r = catalog_get(c->catalog, RESOURCE_MESH, STR("mesh"));
	c->mesh_pushed = r != NULL;
	if (!r)
		return; /* removed: what was known of the mesh's extent stays */
	Weft__V1__MeshConfig *m = resource_message(r);
	c->mesh_known = true;
	c->n_cidrs = m->n_cidrs;
	strcpy(c->trust_domain, m->trust_domain);
	for (size_t i = 0; i < m->n_cidrs; i++) {
		c->cidrs[i].bits = (uint8_t)m->cidrs[i]->bits;
		MUST(resource_ip(m->cidrs[i]->address.data, m->cidrs[i]->address.len, &c->cidrs[i].ip));
	}
	resource_message_free(r, m);
}

static void read_self(struct config *c)
{
	const struct resource *r = catalog_get(c->catalog, RESOURCE_SELF, STR("self"));
	c->self_pushed = r != NULL;
	c->n_inbound = 0;
	if (!r)
		return;
	Weft__V1__Self *m = resource_message(r);
	for (size_t i = 0; i < m->n_ports; i++)
		c->inbound[c->n_inbound++] = (struct inbound_port){
		    .port = (uint16_t)m->ports[i]->port,
		    .protocol = (enum protocol)m->ports[i]->protocol,
		    .http_policy = m->ports[i]->http_policy,
		};
	resource_message_free(r, m);
}

static struct ip *list_nothing(const struct config *c)
{
	struct ip *v = mem_alloc((c->n_nothing + 1) * sizeof(*v));
	size_t n = 0;
	list_for_each (a, &c->nothing, struct address, use)
		v[n++] = a->ip;
	MUST(n == c->n_nothing);
	return v;
}

static void snapshot_build(struct config *c)
{
	struct snapshot_parts p = {
	    .serial = ++c->serial,
	    .trust_domain = c->trust_domain,
	    .mesh_known = c->mesh_known,
	    .can_ask = c->source != NULL,
	    .cidrs = c->cidrs,
	    .n_cidrs = c->n_cidrs,
	    .inbound = c->inbound,
	    .n_inbound = c->n_inbound,
	    .n_nothing = c->n_nothing,
	};
	struct service **services = catalog_services(c->catalog, &p.n_services);
	struct workload **workloads = catalog_workloads(c->catalog, &p.n_workloads);
	struct ip *nothing = list_nothing(c);
	p.services = services;
	p.workloads = workloads;
	p.nothing = nothing;
	snapshot_unref(&c->snapshot);
	c->snapshot = snapshot_new(&p);
	mem_free(services);
	mem_free(workloads);
	mem_free(nothing);
}

struct snapshot *config_snapshot(const struct config *c)
{
	return c->snapshot;
}

/* --- commit --- */

static void swap(struct config *c)
{
	c->stale = false;
	if (catalog_settle(c->catalog)) {
		read_mesh(c);
		read_self(c);
	}
	listed_sweep(c);
	snapshot_build(c);
	event(EV_SNAPSHOT_SWAPPED, "serial=%llu services=%zu workloads=%zu", (unsigned long long)c->serial,
	      snapshot_services(c->snapshot), snapshot_workloads(c->snapshot));
	list_for_each_safe (w, &c->watchers, struct config_watcher, node)
		w->on_swap(w, c->snapshot);
}

void config_commit(struct config *c)
{
	if (c->stale)
		swap(c);
}

static void on_commit(struct task *t)
{
	config_commit(CONTAINER_OF(t, struct config, commit));
}

void config_watch(struct config *c, struct config_watcher *w)
{
	list_push(&c->watchers, &w->node);
}

void config_unwatch(struct config_watcher *w)
{
	if (w->node.next)
		list_remove(&w->node);
}

bool config_ready(const struct config *c)
{
	return c->mesh_pushed && c->self_pushed;
}

/* --- reading --- */

void config_each_address(const struct config *c, bool all, void (*fn)(void *ctx, const struct ip *ip), void *ctx)
{
	list_for_each (a, &c->known, struct address, use)
		fn(ctx, &a->ip);
	if (!all)
		return;
	list_for_each (a, &c->nothing, struct address, use)
		fn(ctx, &a->ip);
}

void config_each_name(const struct config *c, void (*fn)(void *ctx, enum resource_type t, const char *name), void *ctx)
{
	map_for_each (it, &c->names) {
		const struct listed *l = CONTAINER_OF(it, struct listed, node);
		fn(ctx, l->type, l->key + 1);
	}
}

void config_each_resource(const struct config *c, void (*fn)(void *ctx, const struct resource *r), void *ctx)
{
	catalog_each(c->catalog, fn, ctx);
}

void config_each_in_force(const struct config *c, void (*fn)(void *ctx, const struct resource *r), void *ctx)
{
	catalog_each_in_force(c->catalog, fn, ctx);
}

struct dump {
	const struct config *c;
	json_t *to;
};

static json_t *dump_endpoints(const struct resource *r)
{
	Weft__V1__Endpoints *m = resource_message(r);
	json_t *list = json_array();
	for (size_t i = 0; i < m->n_endpoints; i++) {
		const Weft__V1__Endpoint *e = m->endpoints[i];
		struct ip ip = {.len = (uint8_t)e->address.len};
		char text[IP_TEXT_MAX];
		memcpy(ip.b, e->address.data, MIN(e->address.len, sizeof(ip.b)));
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "address", ip_text(&ip, text), "workload",
						      e->workload, "identity", e->identity));
	}
	resource_message_free(r, m);
	return list;
}

static void dump_resource(void *ctx, const struct resource *r)
{
	struct dump *d = ctx;
	const char *pending = catalog_pending(d->c->catalog, r);
	json_t *j =
	    json_pack("{s:s, s:s, s:s}", "type", resource_type_name(r->type), "name", r->name, "version", r->version);
	if (pending[0])
		json_object_set_new(j, "pending", json_string(pending));
	if (r->type == RESOURCE_ENDPOINTS)
		json_object_set_new(j, "endpoints", dump_endpoints(r));
	json_array_append_new(d->to, j);
}

static void dump_address(void *ctx, const struct ip *ip)
{
	struct dump *d = ctx;
	const struct address *a = address_get(d->c, ip);
	char text[IP_TEXT_MAX];
	json_array_append_new(d->to, json_pack("{s:s, s:b, s:I}", "address", ip_text(ip, text), "nothingThere",
					       address_is_nothing(a), "idleMs",
					       (json_int_t)(loop_now_ms(d->c->loop) - a->touched_ms)));
}

/* {"shop/orders": [...]}: of each service that has routes, in force. */
static json_t *dump_routes(const struct config *c)
{
	size_t n;
	json_t *out = json_object();
	struct service **v = catalog_services(c->catalog, &n);
	for (size_t i = 0; i < n; i++)
		if (v[i]->routes)
			json_object_set_new(out, v[i]->name, route_table_dump(v[i]->routes));
	mem_free(v);
	return out;
}

json_t *config_dump(const struct config *c)
{
	struct dump resources = {c, json_array()}, addresses = {c, json_array()};
	json_t *cidrs = json_array();
	char text[IP_TEXT_MAX];
	catalog_each(c->catalog, dump_resource, &resources);
	config_each_address(c, true, dump_address, &addresses);
	for (size_t i = 0; i < c->n_cidrs; i++)
		json_array_append_new(cidrs, json_sprintf("%s/%u", ip_text(&c->cidrs[i].ip, text), c->cidrs[i].bits));
	return json_pack("{s:I, s:s, s:o, s:I, s:I, s:o, s:o, s:o}", "serial", (json_int_t)c->serial, "trustDomain",
			 c->trust_domain, "cidrs", cidrs, "services", (json_int_t)snapshot_services(c->snapshot),
			 "workloads", (json_int_t)snapshot_workloads(c->snapshot), "resources", resources.to,
			 "addresses", addresses.to, "routes", dump_routes(c));
}
