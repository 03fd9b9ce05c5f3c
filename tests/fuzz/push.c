/* SPDX-License-Identifier: Apache-2.0 */
/* push.c: fuzzes what weftd pushes, against a proxy that follows two addresses: a sequence of responses of any bytes, of resources that
 * are as they should be and belong together, of removals, of streams that end and begin, of addresses let go. After each step what was
 * taken must be a snapshot that can be read: every endpoint meshed has an identity, every route leads somewhere or to nothing.
 *
 * An input is a sequence of steps: a byte that says which, and what that step reads. */
#include "lib/event.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/route.h"
#include "proxy/subscribe.h"
#include "tests/fuzz/input.h"
#include "tests/unit/proxy/feed.h"

#include "lib/proto/xds.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryResponse response_pb;
typedef Envoy__Service__Discovery__V3__Resource resource_pb;
typedef Envoy__Service__Discovery__V3__Any any_pb;

static const char *const services[] = {"shop/orders", "shop/items", "shop/none"};
static const char *const vips[] = {"10.9.0.1", "fd00::1", "10.9.0.3"};
static const char *const versions[] = {"1", "2", "x1", ""};

static void on_send(void *ctx, struct str message)
{
	MUST(message.len > 0);
}

static struct loop *the_loop(void)
{
	static struct loop *loop;
	struct err err;
	if (!loop) {
		event_set_level(EVENT_ERROR);
		loop = loop_new(&err);
		MUST(loop != NULL);
	}
	return loop;
}

#define PICK(table, n) ((table)[(n) % ARRAY_LEN(table)])
#define TEXT(p)        ((char *)(uintptr_t)(p))

/* The route that feed_list() lists, with one rule: match and backend as the input says. */
static void feed_route(struct feed *f, const char *version, struct input *in)
{
	static const char *const paths[] = {"/", "/a", "/a/b", "/a/"};
	Weft__V1__Route m = WEFT__V1__ROUTE__INIT;
	Weft__V1__RouteParent parent = WEFT__V1__ROUTE_PARENT__INIT, *parents[] = {&parent};
	Weft__V1__RouteRule rule = WEFT__V1__ROUTE_RULE__INIT, *rules[] = {&rule};
	Weft__V1__RouteMatch match = WEFT__V1__ROUTE_MATCH__INIT, *matches[] = {&match};
	Weft__V1__RouteField field = WEFT__V1__ROUTE_FIELD__INIT, *fields[] = {&field};
	Weft__V1__RouteBackend backend = WEFT__V1__ROUTE_BACKEND__INIT, *backends[] = {&backend, &backend};
	size_t how = input_byte(in);
	m.namespace_ = TEXT("shop"), m.name = TEXT("orders");
	m.parents = parents, m.n_parents = 1, m.rules = rules, m.n_rules = how & 1 ? 1 : 0;
	parent.service = TEXT(PICK(services, how >> 1 & 1)), parent.port = how & 4 ? 80 : 0;
	rule.matches = matches, rule.n_matches = how & 8 ? 1 : 0;
	rule.backends = backends, rule.n_backends = how >> 4 & 3 ? 1 + (how >> 4 & 1) : 0;
	match.path = TEXT(PICK(paths, how >> 5)), match.path_type = how & 0x80 ? 1 : 0;
	how = input_byte(in);
	match.method = TEXT(how & 1 ? "GET" : "");
	match.headers = match.query = fields, match.n_headers = how & 2 ? 1 : 0, match.n_query = how & 4 ? 1 : 0;
	field.name = TEXT("a"), field.value = TEXT("b c");
	backend.service = TEXT(PICK(services, how >> 3 & 3)), backend.port = how & 0x20 ? 80 : 81;
	backend.weight = how >> 6, backend.missing = how == 0xff;
	feed_message(f, RESOURCE_ROUTE, "shop/orders", version, &m.base);
}

/* Of the service itself, with the route below and another service if `n` says so; in order, as it must be. */
static void feed_list(struct feed *f, const char *name, const char *version, const char *vip, size_t n)
{
	Weft__V1__Manifest m = WEFT__V1__MANIFEST__INIT;
	Weft__V1__ManifestEntry e[3], *v[3];
	bool route = n & 16, other = n & 32 && strcmp(name, "shop/items") > 0;
	for (size_t i = 0; i < ARRAY_LEN(e); i++) {
		weft__v1__manifest_entry__init(&e[i]);
		e[i].type_url = TEXT(resource_type_url(route && i == 0 ? RESOURCE_ROUTE : RESOURCE_SERVICE));
		e[i].version = TEXT(route && i == 0 ? "x1" : PICK(versions, n >> 2 & 1));
		e[i].name = TEXT(route && i == 0 ? "shop/orders" : other && i == (size_t)route ? "shop/items" : name);
		v[i] = &e[i];
	}
	m.service = TEXT(name);
	m.entries = v;
	m.n_entries = 1u + route + other;
	feed_message(f, RESOURCE_MANIFEST, name, version, &m.base);
	feed_alias(f, vip);
}

static void feed_one(struct feed *f, struct input *in)
{
	size_t type = input_byte(in), what = input_byte(in), n = what >> 2;
	const char *name = PICK(services, what & 3), *vip = PICK(vips, what & 3), *version = PICK(versions, n);
	switch (type % RESOURCE_COUNT) {
	case RESOURCE_SERVICE:
		feed_service(f, name, version, vip, (enum protocol)(n % PROTOCOL_COUNT));
		break;
	case RESOURCE_ENDPOINTS:
		feed_endpoints(f, name, version, vip, n & 4 ? "10.1.0.1" : n & 8 ? "fd00::7" : NULL);
		break;
	case RESOURCE_MANIFEST:
		feed_list(f, name, version, vip, n);
		break;
	case RESOURCE_WORKLOAD:
		feed_workload(f, "shop/orders-1", version, vip);
		break;
	case RESOURCE_SELF:
		feed_self(f, version);
		break;
	case RESOURCE_MESH:
		feed_mesh(f, version, n & 4 ? "test.mesh" : "other.mesh");
		break;
	case RESOURCE_ROUTE:
		feed_route(f, version, in);
	}
}

/* The resource as weftd would say it; or its bytes with some others, or without any. */
static bool say_one(struct subscribe *s, struct input *in)
{
	static struct feed f;
	static uint8_t packed[FEED_BYTES_MAX + 4096];
	response_pb m = ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_RESPONSE__INIT;
	resource_pb r = ENVOY__SERVICE__DISCOVERY__V3__RESOURCE__INIT, *resources[] = {&r};
	any_pb any = ENVOY__SERVICE__DISCOVERY__V3__ANY__INIT;
	char *aliases[ARRAY_LEN(f.alias)];
	struct err err;
	feed_one(&f, in);
	size_t how = input_byte(in);
	if (how & 1) { /* one byte of the message is another */
		f.bytes[input_byte(in) % MAX(f.from.bytes.len, 1u)] = (uint8_t)input_byte(in);
	}
	for (size_t i = 0; i < f.from.n_aliases; i++)
		aliases[i] = f.alias[i];
	any.type_url = m.type_url = TEXT(resource_type_url(f.from.type));
	any.value = (ProtobufCBinaryData){f.from.bytes.len, f.bytes};
	m.nonce = TEXT("n");
	r.name = f.name, r.version = f.version, r.aliases = aliases;
	r.n_aliases = how & 2 ? 0 : f.from.n_aliases;
	r.resource = how & 4 ? NULL : &any;
	m.resources = resources, m.n_resources = how & 8 ? 0 : 1;
	m.removed_resources = how & 16 ? aliases : &r.name;
	m.n_removed_resources = how & 8 ? (how & 16 ? f.from.n_aliases : 1) : 0;
	size_t n = envoy__service__discovery__v3__delta_discovery_response__get_packed_size(&m);
	MUST(n <= sizeof(packed));
	envoy__service__discovery__v3__delta_discovery_response__pack(&m, packed);
	return subscribe_message(s, str_make(packed, n), &err);
}

static void ask_route(const struct target *t)
{
	static const char *const paths[] = {"/", "/a", "/a/b?a=b+c", "/ab?x&a=b%20c", "*", ""};
	struct arena arena;
	arena_init(&arena, 16u << 10);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct message m;
		struct route_choice choice;
		message_init(&m, &arena, true);
		m.method = STR("GET");
		m.path = str_of(paths[i]);
		MUST(message_add(&m, STR("A"), STR("b c"), true));
		enum reason why = route_pick(t->service->routes, t->port->port, &m, 0x80000000u, &choice);
		MUST(why != REASON_NONE || !choice.rule ||
		     (choice.backend && choice.backend->service && choice.backend->port));
	}
	arena_done(&arena);
}

static void look(struct config *c, const char *at)
{
	struct addr to;
	struct target t;
	MUST(addr_parse(str_of(at), &to));
	config_commit(c);
	snapshot_find(config_snapshot(c), &to, &t);
	if (t.kind == TARGET_SERVICE) {
		for (size_t i = 0; i < t.endpoints->len; i++)
			MUST(!t.endpoints->v[i].meshed || t.endpoints->v[i].identity);
		ask_route(&t);
	}
	if (t.kind == TARGET_WORKLOAD)
		MUST(!t.direct.meshed || t.direct.identity);
}

static bool step(struct config *c, struct subscribe *s, struct input *in)
{
	struct ip ip;
	struct err err;
	size_t what = input_byte(in);
	switch (what % 8) {
	case 0:
		return subscribe_message(s, input_long(in), &err);
	case 1:
		subscribe_stop(s);
		config_let_go(c, what & 8 ? 0 : 1000);
		subscribe_start(s, on_send, NULL);
		return true;
	case 2:
		config_let_go(c, 0);
		return true;
	case 3:
		MUST(ip_parse(str_of(PICK(vips, what >> 3)), &ip));
		config_follow(c, &ip);
		return true;
	case 4:
		look(c, "10.9.0.1:80");
		look(c, "[fd00::1]:80");
		look(c, "10.9.0.3:81");
		return true;
	default:
		return say_one(s, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct config *c = config_new(the_loop());
	struct subscribe *s = subscribe_new(the_loop(), c, "client-1", "shop/client");
	struct ip ip;
	for (size_t i = 0; i < 2; i++) {
		MUST(ip_parse(str_of(vips[i]), &ip));
		config_follow(c, &ip);
	}
	subscribe_start(s, on_send, NULL);
	for (size_t n = 0; in.left > 0 && n < 400 && step(c, s, &in); n++)
		;
	for (size_t i = 0; i < 2; i++)
		look(c, i ? "[fd00::1]:80" : "10.9.0.1:80");
	json_t *dump = config_dump(c);
	MUST(dump != NULL);
	json_decref(dump);
	subscribe_free(&s);
	config_free(&c);
	return 0;
}
