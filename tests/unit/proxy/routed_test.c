/* SPDX-License-Identifier: Apache-2.0 */
/* Services with routes: what is followed by name, when a change is seen, what the copy on disk and -f need of them. */
#include "feed.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/file.h"
#include "proxy/route.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct loop *loop;
static struct config *config;
static struct feed f;
static char names[2048]; /* what was (un)followed by name since names_are() */

static void on_ip(void *ctx, const struct ip *ip)
{
}

static void note(char sign, enum resource_type t, const char *name)
{
	size_t n = strlen(names);
	snprintf(names + n, sizeof(names) - n, "%c%s:%s ", sign, resource_type_name(t), name);
}

static void on_name(void *ctx, enum resource_type t, const char *name)
{
	note('+', t, name);
}

static void off_name(void *ctx, enum resource_type t, const char *name)
{
	note('-', t, name);
}

static bool noted(const char *word)
{
	return strstr(names, word) != NULL;
}

static const struct config_source source = {on_ip, on_ip, on_name, off_name};

static void setup(void)
{
	struct ip vip;
	loop = loop_new(NULL);
	config = config_new(loop);
	config_set_source(config, &source, NULL);
	config_set_linked(config, true);
	names[0] = '\0';
	ck_assert(ip_parse(STR("10.9.0.1"), &vip));
	config_follow(config, &vip);
}

static void teardown(void)
{
	config_free(&config);
	loop_free(&loop);
}

static void apply(void)
{
	struct err err = {0};
	ck_assert_msg(config_apply(config, &f.from, &err), "%s", err.text);
}

/* A route of shop/orders with one rule that leads to port 80 of a service. */
static void push_route(const char *version, const char *to)
{
	Weft__V1__Route m = WEFT__V1__ROUTE__INIT;
	Weft__V1__RouteParent parent = WEFT__V1__ROUTE_PARENT__INIT, *parents[] = {&parent};
	Weft__V1__RouteRule rule = WEFT__V1__ROUTE_RULE__INIT, *rules[] = {&rule};
	Weft__V1__RouteBackend backend = WEFT__V1__ROUTE_BACKEND__INIT, *backends[] = {&backend};
	m.namespace_ = (char *)"shop";
	m.name = (char *)"r";
	parent.service = (char *)"shop/orders";
	m.parents = parents;
	m.n_parents = 1;
	backend.service = (char *)(uintptr_t)to;
	backend.port = 80;
	backend.weight = 1;
	rule.backends = backends;
	rule.n_backends = 1;
	m.rules = rules;
	m.n_rules = 1;
	feed_message(&f, RESOURCE_ROUTE, "shop/r", version, &m.base);
	apply();
}

/* The manifest of shop/orders at s1: the route and a backend, each at this version; NULL: not listed. */
static void push_manifest(const char *version, const char *route, const char *backend, const char *backend_version)
{
	Weft__V1__Manifest m = WEFT__V1__MANIFEST__INIT;
	Weft__V1__ManifestEntry e[3], *list[3];
	m.service = (char *)"shop/orders";
	for (size_t i = 0; i < 3; i++)
		e[i] = (Weft__V1__ManifestEntry)WEFT__V1__MANIFEST_ENTRY__INIT;
	if (route) {
		e[m.n_entries].type_url = (char *)resource_type_url(RESOURCE_ROUTE);
		e[m.n_entries].name = (char *)"shop/r";
		e[m.n_entries++].version = (char *)(uintptr_t)route;
	}
	e[m.n_entries].type_url = (char *)resource_type_url(RESOURCE_SERVICE);
	e[m.n_entries].name = (char *)"shop/orders";
	e[m.n_entries++].version = (char *)"s1";
	if (backend) {
		e[m.n_entries].type_url = (char *)resource_type_url(RESOURCE_SERVICE);
		e[m.n_entries].name = (char *)(uintptr_t)backend;
		e[m.n_entries++].version = (char *)(uintptr_t)backend_version;
	}
	for (size_t i = 0; i < 3; i++)
		list[i] = &e[i];
	m.entries = list;
	feed_message(&f, RESOURCE_MANIFEST, "shop/orders", version, &m.base);
	feed_alias(&f, "10.9.0.1");
	apply();
}

static void push_orders(void)
{
	feed_service(&f, "shop/orders", "s1", "10.9.0.1", PROTOCOL_UNDECLARED);
	apply();
	feed_endpoints(&f, "shop/orders", "e1", "10.9.0.1", "10.1.0.1");
	apply();
}

static void push_backend(const char *name, const char *version, const char *vip, const char *endpoint)
{
	feed_service(&f, name, version, vip, PROTOCOL_HTTP);
	apply();
	feed_endpoints(&f, name, "e1", vip, endpoint);
	apply();
}

/* The last number of the first endpoint that a request to 10.9.0.1:80 gets; 0: the service is not known, -1: no endpoint. */
static int reached(void)
{
	struct target t;
	struct route_choice choice;
	struct addr to;
	struct message m = {.request = true, .method = STR("GET"), .path = STR("/")};
	ck_assert(addr_parse(STR("10.9.0.1:80"), &to));
	config_commit(config);
	snapshot_find(config_snapshot(config), &to, &t);
	if (t.kind != TARGET_SERVICE)
		return 0;
	ck_assert_int_eq(route_pick(t.service->routes, 80, &m, 0, &choice), REASON_NONE);
	const struct endpoint_set *set = choice.backend ? choice.backend->port->endpoints : t.endpoints;
	return set->len ? set->v[0].addr.ip.b[3] : -1;
}

START_TEST(what_a_manifest_lists_is_followed_by_name_until_none_does)
{
	push_orders();
	push_manifest("m1", NULL, NULL, NULL);
	ck_assert_int_eq(reached(), 1);
	ck_assert_str_eq(names, "");
	push_manifest("m2", "r1", "shop/v2", "s1");
	ck_assert_str_eq(names, "+Route:shop/r +Service:shop/v2 +Endpoints:shop/v2 ");
	names[0] = '\0';
	push_route("r1", "shop/v2");
	push_backend("shop/v2", "s1", "10.9.0.2", "10.1.0.2");
	ck_assert_int_eq(reached(), 2);
	/* Held by name it is no answer to its address. */
	struct target t;
	struct addr to;
	ck_assert(addr_parse(STR("10.9.0.2:80"), &to));
	snapshot_find(config_snapshot(config), &to, &t);
	ck_assert_int_ne(t.kind, TARGET_SERVICE);
	push_manifest("m3", NULL, NULL, NULL);
	ck_assert_int_eq(reached(), 1);
	ck_assert(noted("-Route:shop/r ") && noted("-Service:shop/v2 ") && noted("-Endpoints:shop/v2 "));
	/* What still comes is nobody's any more. */
	push_backend("shop/v2", "s2", "10.9.0.2", "10.1.0.3");
	push_manifest("m4", "r1", "shop/v2", "s2");
	ck_assert_int_eq(reached(), 1);
}
END_TEST

START_TEST(a_route_to_a_new_backend_is_seen_when_its_endpoints_are_there)
{
	push_orders();
	push_manifest("m1", "r1", "shop/v1", "s1");
	ck_assert_int_eq(reached(), 0); /* never without its routes */
	push_route("r1", "shop/v1");
	ck_assert_int_eq(reached(), 0);
	push_backend("shop/v1", "s1", "10.9.0.2", "10.1.0.2");
	ck_assert_int_eq(reached(), 2);
	/* moves: in whatever order things come */
	push_route("r2", "shop/v2");
	ck_assert_int_eq(reached(), 2);
	push_manifest("m2", "r2", "shop/v2", "s1");
	ck_assert_int_eq(reached(), 2);
	ck_assert(!noted("-Service:shop/v1"));
	feed_service(&f, "shop/v2", "s1", "10.9.0.3", PROTOCOL_HTTP);
	apply();
	ck_assert_int_eq(reached(), 2);
	/* meanwhile the endpoints of the old one go on */
	feed_endpoints(&f, "shop/v1", "e2", "10.9.0.2", "10.1.0.22");
	apply();
	ck_assert_int_eq(reached(), 22);
	feed_endpoints(&f, "shop/v2", "e1", "10.9.0.3", "10.1.0.3");
	apply();
	ck_assert_int_eq(reached(), 3);
	ck_assert(noted("-Service:shop/v1 ") && noted("-Endpoints:shop/v1 "));
}
END_TEST

START_TEST(a_backend_that_changes_waits_for_the_manifest_and_keeps_its_sets)
{
	push_orders();
	push_manifest("m1", "r1", "shop/v1", "s1");
	push_route("r1", "shop/v1");
	push_backend("shop/v1", "s1", "10.9.0.2", "10.1.0.2");
	ck_assert_int_eq(reached(), 2);
	struct snapshot *old = snapshot_ref(config_snapshot(config));
	struct target before, after;
	struct addr to;
	ck_assert(addr_parse(STR("10.9.0.1:80"), &to));
	snapshot_find(old, &to, &before);
	ck_assert_int_eq(before.protocol, PROTOCOL_HTTP); /* undeclared, but routed */
	const struct endpoint_set *set = before.service->routes->matches[0].rule->backends[0].port->endpoints;
	feed_service(&f, "shop/v1", "s2", "10.9.0.2", PROTOCOL_HTTP2);
	apply();
	ck_assert_int_eq(reached(), 2);
	snapshot_find(config_snapshot(config), &to, &after);
	const struct service_port *port = after.service->routes->matches[0].rule->backends[0].port;
	ck_assert_int_eq(port->protocol, PROTOCOL_HTTP);
	ck_assert_ptr_eq(port->endpoints, set);
	push_manifest("m2", "r1", "shop/v1", "s2");
	ck_assert_int_eq(reached(), 2);
	snapshot_find(config_snapshot(config), &to, &after);
	port = after.service->routes->matches[0].rule->backends[0].port;
	ck_assert_int_eq(port->protocol, PROTOCOL_HTTP2);
	ck_assert_ptr_eq(port->endpoints, set);
	snapshot_unref(&old);
}
END_TEST

START_TEST(a_route_may_lead_to_its_own_parent)
{
	push_orders();
	push_manifest("m1", "r1", NULL, NULL);
	push_route("r1", "shop/orders");
	ck_assert_int_eq(reached(), 1);
	feed_endpoints(&f, "shop/orders", "e2", "10.9.0.1", "10.1.0.9");
	apply();
	ck_assert_int_eq(reached(), 9);
	feed_endpoints(&f, "shop/orders", "e3", "10.9.0.1", NULL);
	apply();
	ck_assert_int_eq(reached(), -1);
}
END_TEST

struct copy {
	struct feed v[16];
	size_t n;
};

static void take_copy(void *ctx, const struct resource *r)
{
	struct copy *c = ctx;
	struct feed *to = &c->v[c->n++];
	MUST(c->n <= ARRAY_LEN(c->v) && r->bytes.len <= sizeof(to->bytes));
	memset(to, 0, offsetof(struct feed, bytes));
	snprintf(to->name, sizeof(to->name), "%s", r->name);
	snprintf(to->version, sizeof(to->version), "%s", r->version);
	memcpy(to->bytes, r->bytes.p, r->bytes.len);
	to->from = (struct resource_from){.type = r->type,
					  .name = str_of(to->name),
					  .version = str_of(to->version),
					  .bytes = str_make(to->bytes, r->bytes.len),
					  .aliases = to->aliases};
	for (size_t i = 0; i < r->n_aliases; i++) {
		resource_alias(&r->aliases[i], to->alias[i]);
		to->aliases[i] = str_of(to->alias[i]);
		to->from.n_aliases++;
	}
}

START_TEST(what_is_in_force_read_back_in_its_order_is_in_force_again)
{
	struct copy *c = NEW(struct copy);
	struct err err = {0};
	push_orders();
	push_manifest("m1", "r1", "shop/v1", "s1");
	push_route("r1", "shop/v1");
	push_backend("shop/v1", "s1", "10.9.0.2", "10.1.0.2");
	ck_assert_int_eq(reached(), 2);
	/* a change that is not complete is not part of it */
	push_manifest("m2", "r2", "shop/v1", "s1");
	push_route("r3", "shop/v2");
	ck_assert_int_eq(reached(), 2);
	config_each_in_force(config, take_copy, c);
	teardown();
	setup();
	for (size_t i = 0; i < c->n; i++)
		ck_assert_msg(config_apply(config, &c->v[i].from, &err), "%s", err.text);
	ck_assert_int_eq(reached(), 2);
	mem_free(c);
}
END_TEST

/* --- -f --- */

#define FILE_HEAD                                                                                                   \
	"{\"trustDomain\": \"test.mesh\", \"cidrs\": [\"10.0.0.0/8\"], \"self\": {\"name\": \"a\", \"namespace\": " \
	"\"b\"},"                                                                                                   \
	" \"services\": [{\"name\": \"orders\", \"namespace\": \"shop\", \"vips\": [\"10.9.0.1\"], \"ports\": "     \
	"[{\"port\": 80}],"                                                                                         \
	" \"endpoints\": [{\"address\": \"10.1.0.1\"}]}, {\"name\": \"v2\", \"namespace\": \"shop\", \"ports\": "   \
	"[{\"port\": 80}],"                                                                                         \
	" \"endpoints\": [{\"address\": \"10.1.0.2\"}]}], \"routes\": [{\"name\": \"r\", \"namespace\": \"shop\", " \
	"\"parents\": "                                                                                             \
	"[{\"service\": \"shop/orders\"}], \"rules\": ["
#define FILE_TAIL "]}]}"

static bool load(const char *rule, struct err *err)
{
	char path[] = "/tmp/weft-routed-XXXXXX", text[4096];
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	int n = snprintf(text, sizeof(text), "%s%s%s", FILE_HEAD, rule, FILE_TAIL);
	ck_assert_int_eq(write(fd, text, (size_t)n), n);
	close(fd);
	bool ok = config_file_load(path, config, NULL, err);
	unlink(path);
	return ok;
}

START_TEST(a_file_has_routes)
{
	struct err err = {0};
	config_set_source(config, NULL, NULL);
	ck_assert_msg(
	    load("{\"matches\": [{\"path\": {\"type\": \"Exact\", \"value\": \"/x\"}}], \"backends\": [{\"service\": "
		 "\"shop/orders\", \"port\": 80}]}, {\"matches\": [{\"path\": {\"value\": \"/\"}, \"method\": "
		 "\"GET\"}], \"backends\": [{\"service\": \"shop/v2\", \"port\": 80, \"weight\": 5}]}",
		 &err),
	    "%s", err.text);
	ck_assert_int_eq(reached(), 2);
}
END_TEST

START_TEST(a_wrong_route_in_a_file_is_named_by_path_and_value)
{
	static const struct {
		const char *rule, *want;
	} rows[] = {
	    {"{\"backends\": [{\"service\": \"shop/v3\", \"port\": 80}]}",
	     "routes[0].rules[0].backends[0].service: \"shop/v3\" is not \"namespace/name\" of a service of this file"},
	    {"{\"backends\": [{\"service\": \"shop/v2\"}]}", "routes[0].rules[0].backends[0].port"},
	    {"{\"backends\": [{\"service\": \"shop/v2\", \"port\": 80, \"weight\": -1}]}",
	     "routes[0].rules[0].backends[0].weight: -1"},
	    {"{\"matches\": [{\"path\": {\"type\": \"Regex\", \"value\": \"/\"}}]}",
	     "routes[0].rules[0].matches[0].path.type: \"Regex\" is not Exact or PathPrefix"},
	    {"{\"matches\": [{\"path\": {\"value\": \"x\"}}]}", "rules[0]: matches[0]: path: must begin with /"},
	    {"{\"matches\": [{\"headers\": [{\"name\": \"a\"}]}]}", "routes[0].rules[0].matches[0].headers[0].value"},
	    {"{\"filters\": []}", "routes[0].rules[0].filters"},
	    {"7", "routes[0].rules[0]: must be an object"},
	};
	config_set_source(config, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err err = {0};
		ck_assert_msg(!load(rows[i].rule, &err), "taken: %s", rows[i].rule);
		ck_assert_msg(strstr(err.text, rows[i].want) != NULL, "got:  %s\nwant: %s", err.text, rows[i].want);
	}
}
END_TEST

/* --- what may stand in a Route --- */

START_TEST(a_route_that_is_not_understood_is_refused)
{
	struct err err = {0};
	Weft__V1__Route m = WEFT__V1__ROUTE__INIT;
	Weft__V1__RouteRule rule = WEFT__V1__ROUTE_RULE__INIT, *rules[] = {&rule};
	Weft__V1__RouteMatch match = WEFT__V1__ROUTE_MATCH__INIT, *matches[] = {&match};
	Weft__V1__RouteBackend backend = WEFT__V1__ROUTE_BACKEND__INIT, *backends[] = {&backend};
	m.namespace_ = (char *)"shop";
	m.name = (char *)"r";
	m.rules = rules;
	m.n_rules = 1;
	rule.matches = matches;
	rule.backends = backends;
	match.path = (char *)"/";
	backend.service = (char *)"shop/v1";
	backend.port = 80;
	for (unsigned i = 0; i < 8; i++) {
		rule.n_matches = rule.n_backends = 1;
		match.path_type = i == 0 ? (Weft__V1__RouteMatch__PathType)7 : WEFT__V1__ROUTE_MATCH__PATH_TYPE__EXACT;
		match.path = (char *)(uintptr_t)(i == 1 ? "" : "/");
		backend.port = i == 2 ? 0 : i == 3 ? 70000 : 80;
		backend.weight = i == 4 ? 1000001 : 1;
		backend.service = (char *)(uintptr_t)(i == 5 ? "v1" : "shop/v1");
		match.method = (char *)(uintptr_t)(i == 6 ? "GE\tT" : "GET");
		m.name = (char *)(uintptr_t)(i == 7 ? "other" : "r");
		feed_message(&f, RESOURCE_ROUTE, "shop/r", "r1", &m.base);
		struct resource *r = resource_new(&f.from, &err);
		ck_assert_msg(r == NULL, "row %u was taken", i);
	}
}
END_TEST

Suite *routed_suite(void);
Suite *routed_suite(void)
{
	Suite *s = suite_create("routed");
	TCase *t = tcase_create("config");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_a_manifest_lists_is_followed_by_name_until_none_does);
	tcase_add_test(t, a_route_to_a_new_backend_is_seen_when_its_endpoints_are_there);
	tcase_add_test(t, a_backend_that_changes_waits_for_the_manifest_and_keeps_its_sets);
	tcase_add_test(t, a_route_may_lead_to_its_own_parent);
	tcase_add_test(t, what_is_in_force_read_back_in_its_order_is_in_force_again);
	tcase_add_test(t, a_file_has_routes);
	tcase_add_test(t, a_wrong_route_in_a_file_is_named_by_path_and_value);
	tcase_add_test(t, a_route_that_is_not_understood_is_refused);
	suite_add_tcase(s, t);
	return s;
}
