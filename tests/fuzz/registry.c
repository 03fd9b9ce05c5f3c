/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz registry: what proxies say of themselves over their links (any LinkUp), by several identities, while leases run out and links go.
 * Nobody becomes a workload of another identity, or has labels that its token did not allow; every change is told, and nothing is left.
 * An input is a sequence of link, what, and what that reads. */
#include "control/registry.h"
#include "lib/mem.h"
#include "lib/proto_arena.h"
#include "tests/fuzz/input.h"

#define LINKS 4
#define STEPS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct world {
	struct registry *registry;
	struct registry_link link[LINKS];
	uint64_t now;
	bool store_fails, store_is_busy;
	size_t changed, gone;
} w;

static uint64_t now_ms(void *ctx)
{
	return w.now;
}

static int64_t wall_ms(void *ctx)
{
	return 1700000000000 + (int64_t)w.now;
}

/* a-* joined as shop/a, b as shop/b; others never did. */
static bool instance(void *ctx, const char *ns, const char *name, struct store_instance *ret, struct err *err)
{
	if (strcmp(ns, "shop") != 0 || (name[0] != 'a' && name[0] != 'b'))
		return err_set(err, ERR_NOT_FOUND, "it never joined");
	*ret = (struct store_instance){.sa = {name[0]}};
	ret->allowed_labels = json_pack("{s:s, s:s}", "app", "a", "version", "v*");
	return true;
}

static bool save(void *ctx, const struct store_instance *i, struct err *err)
{
	MUST(json_is_object(i->labels) && json_is_array(i->ports) && json_array_size(i->addresses) <= 2);
	return !w.store_fails || err_set(err, ERR_STORE, "full");
}

static bool leases(void *ctx, const struct store_lease *l, size_t n, struct err *err)
{
	return !w.store_fails || err_set(err, ERR_STORE, "full");
}

static bool busy(void *ctx)
{
	return w.store_is_busy;
}

/* Whatever was said, this holds of a workload. */
static void check(const struct registry_workload *x)
{
	const char *key;
	json_t *v;
	MUST(strcmp(x->ns, "shop") == 0 && x->instance[0] == x->sa[0] && x->sa[1] == 0);
	MUST(str_is_dns_label(str_of(x->instance)));
	json_object_foreach(x->labels, key, v)
	    MUST((strcmp(key, "app") == 0 && strcmp(json_string_value(v), "a") == 0) ||
		 (strcmp(key, "version") == 0 && json_string_value(v)[0] == 'v'));
	for (size_t i = 0; i < x->n_ports; i++)
		MUST(x->ports[i].port > 0 && x->ports[i].protocol <= WEFT__V1__PROTOCOL__TLS);
	MUST(x->addresses[0].ip.len == 0 || x->addresses[0].ip.len == 4);
	MUST(x->addresses[1].ip.len == 0 || x->addresses[1].ip.len == 16);
}

static void on_change(void *ctx, const struct registry_workload *x)
{
	w.changed++;
	check(x);
}

static void on_gone(void *ctx, const struct registry_workload *x, const char *why)
{
	w.gone++;
	MUST(why[0] && w.gone <= w.changed);
}

static void on_guard(void *ctx, size_t kept, size_t of)
{
	MUST(kept <= of);
}

static void say(struct registry_link *l, struct str bytes, bool other)
{
	static const char *const sources[] = {"10.1.0.1", "10.1.0.2", "fd00::1", "127.0.0.1"};
	struct proto_arena arena;
	struct err err;
	struct ip more[2] = {{0}};
	size_t n = (size_t)(l - w.link);
	proto_arena_init(&arena, 64u << 10);
	const Weft__V1__Register *r = proto_unpack(&arena, &weft__v1__register__descriptor, bytes, &err);
	json_t *labels = json_object();
	for (size_t i = 0; r && i < r->n_labels; i++)
		json_object_set_new(labels, r->labels[i]->key, json_string(r->labels[i]->value));
	struct registry_claim c = {
	    .ns = other ? "bank" : "shop", .sa = n % 2 ? "b" : "a", .labels = labels, .more = more};
	MUST(ip_parse(str_of(sources[n]), &c.source));
	if (r) {
		c.instance = r->instance, c.version = r->version, c.zone = r->zone;
		c.ports = (const Weft__V1__WorkloadPort *const *)r->ports, c.n_ports = r->n_ports;
		for (; c.n_more < MIN(r->n_addresses, 2u); c.n_more++) {
			more[c.n_more].len = r->addresses[c.n_more].len > 4 ? 16 : 4;
			if (r->addresses[c.n_more].len >= more[c.n_more].len)
				memcpy(more[c.n_more].b, r->addresses[c.n_more].data, more[c.n_more].len);
		}
		if (registry_register(w.registry, l, &c, &err)) {
			MUST(l->workload && strcmp(l->workload->sa, c.sa) == 0 &&
			     strcmp(l->workload->instance, c.instance) == 0);
			MUST(!other && registry_find(w.registry, "shop", c.instance) == l->workload);
		} else
			MUST(err.text[0]);
	}
	json_decref(labels);
	proto_arena_done(&arena);
}

static void step(struct input *in)
{
	size_t what = input_byte(in);
	struct registry_link *l = &w.link[what & 3];
	switch (what >> 2 & 7) {
	case 0:
	case 1:
		say(l, input_short(in), what & 128);
		break;
	case 2:
		registry_heartbeat(l);
		break;
	case 3:
		registry_goodbye(l);
		break;
	case 4:
		registry_link_down(l);
		registry_link_init(l);
		break;
	case 5:
		w.now += 1000 * input_byte(in);
		break;
	case 6:
		w.store_fails = what & 128;
		w.store_is_busy = what & 64;
		break;
	default:
		registry_grace(w.registry, what & 128 ? 5000 : 0);
		registry_tick(w.registry);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct registry_hooks hooks = {.now_ms = now_ms,
						    .wall_ms = wall_ms,
						    .instance = instance,
						    .save = save,
						    .leases = leases,
						    .busy = busy,
						    .on_change = on_change,
						    .on_gone = on_gone,
						    .on_guard = on_guard};
	struct input in = {data, size};
	w = (struct world){.now = 1000000, .registry = registry_new(&hooks, NULL, "weft.test", 15000)};
	for (size_t i = 0; i < LINKS; i++)
		registry_link_init(&w.link[i]);
	for (size_t i = 0; i < STEPS && in.left > 0; i++)
		step(&in);
	registry_tick(w.registry); /* what the guard keeps is counted there */
	size_t n = 0;
	for (const struct registry_workload *x = NULL; (x = registry_next(w.registry, x)) != NULL; n++)
		check(x);
	MUST(n == registry_count(w.registry) && registry_guarded(w.registry) <= n);
	for (size_t i = 0; i < LINKS; i++)
		registry_link_down(&w.link[i]);
	w.store_fails = false;
	for (int i = 0; i < 3; i++) { /* longer than leases, and than the guard holds */
		w.now += GUARD_MAX_MS + 15000;
		registry_tick(w.registry);
	}
	MUST(registry_count(w.registry) == 0);
	registry_free(&w.registry);
	return 0;
}
