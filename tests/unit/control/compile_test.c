/* SPDX-License-Identifier: Apache-2.0 */
/* compile_test.c: what proxies get for what was applied and registered; routes are compile_route_test.c's. */
#include "control/compile_route.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "tests/unit/control/compiled.h"

#include <stdio.h>
#include <stdlib.h>

static struct err err;

#define ORDERS                                                                                                 \
	"{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"orders\", \"namespace\": " \
	"\"shop\"},"                                                                                           \
	" \"spec\": {\"selector\": {\"app\": \"orders\"}, \"ports\": [{\"name\": \"http\", \"port\": 80, "     \
	"\"targetPort\": 8080}]}}"

/* A registered workload as the registry would show it. */
static struct registry_workload *workload(const char *instance, const char *app, const char *v4, const char *v6,
					  uint16_t port)
{
	struct registry_workload *w = NEW(struct registry_workload);
	w->key = mem_printf("shop/%s", instance);
	snprintf(w->ns, sizeof(w->ns), "shop");
	snprintf(w->instance, sizeof(w->instance), "%s", instance);
	snprintf(w->sa, sizeof(w->sa), "%s", app);
	snprintf(w->zone, sizeof(w->zone), "z1");
	w->identity = mem_printf("spiffe://td/ns/shop/sa/%s", app);
	w->labels = json_pack("{s:s}", "app", app);
	w->ports = NEW(struct registry_port);
	w->ports[0] = (struct registry_port){port, WEFT__V1__PROTOCOL__HTTP};
	w->n_ports = 1;
	if (v4)
		ck_assert(ip_parse(str_of(v4), &w->addresses[0].ip));
	if (v6)
		ck_assert(ip_parse(str_of(v6), &w->addresses[1].ip));
	return w;
}

static void workload_drop(struct registry_workload *w)
{
	json_decref(w->labels);
	mem_free(w->ports);
	mem_free(w->identity);
	mem_free(w->key);
	mem_free(w);
}

static Weft__V1__Endpoints *endpoints(void)
{
	return compiled_open(compiled_there(PUSHED_ENDPOINTS, "shop/orders"), &weft__v1__endpoints__descriptor);
}

START_TEST(service_has_its_addresses_ports_and_manifest)
{
	compiled_apply(ORDERS, VIPS);
	ck_assert_uint_ge(compiled.dirties, 1);
	ck_assert_uint_eq(compiled.n_there, 0); /* in the flush, not before */
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.n_there, 3);
	const struct pushed *r = compiled_there(PUSHED_SERVICE, "shop/orders");
	ck_assert_uint_eq(r->n_aliases, 2);
	ck_assert_str_eq(r->aliases[0], "addr:240.0.0.1");
	ck_assert_str_eq(r->aliases[1], "addr:fd77:6566:7400:1::1");
	Weft__V1__Service *s = compiled_open(r, &weft__v1__service__descriptor);
	ck_assert_str_eq(s->name, "orders");
	ck_assert_str_eq(s->namespace_, "shop");
	ck_assert_uint_eq(s->n_vips, 2);
	ck_assert_uint_eq(s->vips[0].len, 4);
	ck_assert_uint_eq(s->vips[1].len, 16);
	ck_assert_uint_eq(s->n_ports, 1);
	ck_assert_uint_eq(s->ports[0]->port, 80);
	ck_assert_int_eq(s->ports[0]->protocol, WEFT__V1__PROTOCOL__HTTP);
	DONE(s);
	Weft__V1__Manifest *m =
	    compiled_open(compiled_there(PUSHED_MANIFEST, "shop/orders"), &weft__v1__manifest__descriptor);
	ck_assert_str_eq(m->service, "shop/orders");
	ck_assert_uint_eq(m->n_entries, 1);
	ck_assert_str_eq(m->entries[0]->type_url, "type.googleapis.com/weft.v1.Service");
	ck_assert_str_eq(m->entries[0]->name, "shop/orders");
	ck_assert_str_eq(m->entries[0]->version, r->version);
	DONE(m);
	ck_assert_uint_eq(compiled_there(PUSHED_MANIFEST, "shop/orders")->n_aliases, 2);
	ck_assert_uint_eq(compiled_there(PUSHED_ENDPOINTS, "shop/orders")->n_aliases, 2);
	Weft__V1__Endpoints *e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 0);
	DONE(e);
	ck_assert_uint_eq(compile_services(compiled.c), 1);
}
END_TEST

/* Service shop/s<i>, on this port. */
static void apply_one_of_many(int i, int port)
{
	char *text = mem_printf(
	    "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"s%d\", \"namespace\":"
	    " \"shop\"}, \"spec\": {\"ports\": [{\"port\": %d}]}}",
	    i, port);
	compiled_apply(text, VIPS);
	mem_free(text);
}

START_TEST(many_changes_are_compiled_in_pieces_that_end_as_one_would)
{
	unsigned rounds = 1;
	for (int i = 0; i < 40; i++)
		apply_one_of_many(i, 80);
	ck_assert(!compile_flush(compiled.c, 0));
	ck_assert_uint_gt(compiled.n_there, 0);
	ck_assert_uint_lt(compiled.n_there, 3 * 40);
	apply_one_of_many(7, 81); /* in between */
	while (!compile_flush(compiled.c, 0))
		rounds++;
	ck_assert_uint_ge(rounds, 2);
	ck_assert_uint_eq(compiled.n_there, 3 * 40);
	for (int i = 0; i < 40; i++) {
		char name[20];
		snprintf(name, sizeof(name), "shop/s%d", i);
		Weft__V1__Manifest *m =
		    compiled_open(compiled_there(PUSHED_MANIFEST, name), &weft__v1__manifest__descriptor);
		ck_assert_str_eq(m->entries[0]->version, compiled_there(PUSHED_SERVICE, name)->version);
		DONE(m);
	}
	Weft__V1__Service *s = compiled_open(compiled_there(PUSHED_SERVICE, "shop/s7"), &weft__v1__service__descriptor);
	ck_assert_uint_eq(s->ports[0]->port, 81);
	DONE(s);
}
END_TEST

/* Else one workload that registers again and again, selected by many services, would keep every push from everybody. */
START_TEST(changes_that_come_faster_than_they_are_compiled_keep_nothing_back_for_ever)
{
	int calls = 0;
	do {
		ck_assert_int_lt(calls++, 500);
		for (int i = 0; i < 30; i++)
			apply_one_of_many(i, 80 + calls % 2);
	} while (!compile_flush(compiled.c, 0));
	ck_assert_int_gt(calls, 50);
	apply_one_of_many(1, 90);
	for (int i = 2; i < 40; i++)
		apply_one_of_many(i, 91);
	ck_assert(!compile_flush(compiled.c, 0)); /* it counts anew */
}
END_TEST

START_TEST(endpoints_are_the_selected_workloads_on_the_target_port)
{
	struct registry_workload *a = workload("orders-1", "orders", "10.0.0.2", "fd00::2", 8080);
	struct registry_workload *b = workload("pay-1", "pay", "10.0.0.3", NULL, 8080);
	struct registry_workload *d = workload("orders-2", "orders", "10.0.0.4", NULL, 9999); /* listens elsewhere */
	compiled_apply(ORDERS, VIPS);
	compile_workload(compiled.c, a);
	compile_workload(compiled.c, b);
	compile_workload(compiled.c, d);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	Weft__V1__Endpoints *e = endpoints();
	ck_assert_str_eq(e->service, "shop/orders");
	ck_assert_uint_eq(e->n_endpoints, 2);
	ck_assert_uint_eq(e->endpoints[0]->address.len, 4);
	ck_assert_uint_eq(e->endpoints[1]->address.len, 16);
	ck_assert(e->endpoints[0]->meshed);
	ck_assert_str_eq(e->endpoints[0]->identity, "spiffe://td/ns/shop/sa/orders");
	ck_assert_str_eq(e->endpoints[0]->workload, "shop/orders-1");
	ck_assert_str_eq(e->endpoints[0]->zone, "z1");
	ck_assert_uint_eq(e->endpoints[0]->n_ports, 1);
	ck_assert_uint_eq(e->endpoints[0]->ports[0]->service_port, 80);
	ck_assert_uint_eq(e->endpoints[0]->ports[0]->port, 8080);
	DONE(e);
	/* a label changes: it leaves, and comes again with the label */
	json_object_set_new(a->labels, "app", json_string("pay"));
	json_t *changed = json_pack("{s:s}", "app", "pay");
	json_object_set_new(a->labels, "app", json_string("orders"));
	json_t *before = a->labels;
	a->labels = changed;
	compile_workload(compiled.c, a);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 0);
	DONE(e);
	json_decref(a->labels);
	a->labels = before;
	compile_workload(compiled.c, a);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 2);
	DONE(e);
	compile_workload_gone(compiled.c, a);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 0);
	DONE(e);
	compile_workload_gone(compiled.c, b);
	compile_workload_gone(compiled.c, d);
	workload_drop(a);
	workload_drop(b);
	workload_drop(d);
}
END_TEST

START_TEST(change_touches_only_what_depends_on_it)
{
	compiled_apply(ORDERS, VIPS);
	compiled_apply(
	    "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"pay\", \"namespace\": "
	    "\"shop\"},"
	    " \"spec\": {\"selector\": {\"app\": \"pay\"}, \"ports\": [{\"port\": 80}]}}",
	    "[\"240.0.0.2\"]");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	unsigned before = compiled.sets;
	struct registry_workload *w = workload("orders-1", "orders", "10.0.0.2", NULL, 8080);
	compile_workload(compiled.c, w);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.sets, before + 3); /* Workload, Self, Endpoints of orders */
	compile_workload(compiled.c, w);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.sets, before + 3); /* same content, same version */
	compile_workload_gone(compiled.c, w);
	workload_drop(w);
}
END_TEST

START_TEST(order_of_arrival_does_not_show)
{
	struct registry_workload *a = workload("orders-1", "orders", "10.0.0.2", NULL, 8080);
	struct registry_workload *b = workload("orders-2", "orders", "10.0.0.3", NULL, 8080);
	char version[2][PUSHED_VERSION_LEN + 1];
	compiled_apply(ORDERS, VIPS);
	for (int round = 0; round < 2; round++) {
		compile_workload(compiled.c, round ? a : b);
		compile_workload(compiled.c, round ? b : a);
		ck_assert(compile_flush(compiled.c, UINT64_MAX));
		memcpy(version[round], compiled_there(PUSHED_ENDPOINTS, "shop/orders")->version, sizeof(version[0]));
		compile_workload_gone(compiled.c, a);
		compile_workload_gone(compiled.c, b);
		ck_assert(compile_flush(compiled.c, UINT64_MAX));
	}
	ck_assert_str_eq(version[0], version[1]);
	workload_drop(a);
	workload_drop(b);
}
END_TEST

START_TEST(workload_and_self_say_what_registered)
{
	struct registry_workload *w = workload("orders-1", "orders", "10.0.0.2", "fd00::2", 8080);
	compile_workload(compiled.c, w);
	const struct pushed *r = compiled_there(PUSHED_WORKLOAD, "shop/orders-1");
	ck_assert_uint_eq(r->n_aliases, 2);
	ck_assert_str_eq(r->aliases[0], "addr:10.0.0.2");
	Weft__V1__Workload *m = compiled_open(r, &weft__v1__workload__descriptor);
	ck_assert_str_eq(m->name, "orders-1");
	ck_assert(m->meshed);
	ck_assert_str_eq(m->identity, "spiffe://td/ns/shop/sa/orders");
	ck_assert_uint_eq(m->n_addresses, 2);
	ck_assert_uint_eq(m->ports[0]->port, 8080);
	ck_assert_int_eq(m->ports[0]->protocol, WEFT__V1__PROTOCOL__HTTP);
	DONE(m);
	r = compiled_there(PUSHED_SELF, "shop/orders-1");
	ck_assert_str_eq(r->name, "self");
	ck_assert_uint_eq(r->n_aliases, 0);
	Weft__V1__Self *s = compiled_open(r, &weft__v1__self__descriptor);
	ck_assert_str_eq(s->service_account, "orders");
	ck_assert_uint_eq(s->n_ports, 1);
	DONE(s);
	compile_workload_gone(compiled.c, w);
	ck_assert_uint_eq(compiled.n_there, 0);
	workload_drop(w);
}
END_TEST

#define SLICE(name, service, addresses)                                                                     \
	"{\"apiVersion\": \"discovery.k8s.io/v1\", \"kind\": \"EndpointSlice\", \"addressType\": \"IPv4\"," \
	" \"metadata\": {\"name\": \"" name "\", \"namespace\": \"shop\","                                  \
	" \"labels\": {\"kubernetes.io/service-name\": \"" service "\"}},"                                  \
	" \"ports\": [{\"name\": \"http\", \"port\": 9000}], \"endpoints\": [" addresses "]}"

START_TEST(slices_add_endpoints_outside_the_mesh)
{
	/* the slice may come before its service */
	compiled_apply(SLICE("s1", "orders",
			     "{\"addresses\": [\"192.168.7.1\"]}, {\"addresses\": [\"192.168.7.2\"], "
			     "\"conditions\": {\"ready\": false}}"),
		       NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.n_there, 0);
	compiled_apply(ORDERS, VIPS);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	Weft__V1__Endpoints *e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 1);
	ck_assert(!e->endpoints[0]->meshed);
	ck_assert_str_eq(e->endpoints[0]->identity, "");
	ck_assert_uint_eq(e->endpoints[0]->ports[0]->port, 9000);
	DONE(e);
	/* changed in place, then moved to another service, then gone */
	compiled_apply(SLICE("s1", "orders", "{\"addresses\": [\"192.168.7.1\"]}, {\"addresses\": [\"192.168.7.3\"]}"),
		       NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 2);
	DONE(e);
	compiled_apply(SLICE("s1", "other", "{\"addresses\": [\"192.168.7.1\"]}"), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 0);
	DONE(e);
	compiled_delete("EndpointSlice", "s1");
	compiled_delete("EndpointSlice", "s1");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
}
END_TEST

START_TEST(slice_address_of_a_registered_workload_is_meshed)
{
	struct registry_workload *w = workload("legacy-1", "legacy", "10.0.0.9", NULL, 9000);
	compiled_apply(ORDERS, VIPS);
	compiled_apply(SLICE("s1", "orders", "{\"addresses\": [\"10.0.0.9\"]}"), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	Weft__V1__Endpoints *e = endpoints();
	ck_assert(!e->endpoints[0]->meshed);
	DONE(e);
	compile_workload(compiled.c, w);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 1);
	ck_assert(e->endpoints[0]->meshed);
	ck_assert_str_eq(e->endpoints[0]->identity, "spiffe://td/ns/shop/sa/legacy");
	DONE(e);
	/* the address moves on to another one */
	ck_assert(ip_parse(STR("10.0.0.10"), &w->addresses[0].ip));
	compile_workload(compiled.c, w);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	e = endpoints();
	ck_assert(!e->endpoints[0]->meshed);
	DONE(e);
	ck_assert(ip_parse(STR("10.0.0.9"), &w->addresses[0].ip));
	compile_workload(compiled.c, w);
	compile_workload_gone(compiled.c, w);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	e = endpoints();
	ck_assert(!e->endpoints[0]->meshed);
	DONE(e);
	workload_drop(w);
}
END_TEST

START_TEST(address_found_twice_is_there_once)
{
	struct registry_workload *w = workload("orders-1", "orders", "10.0.0.2", NULL, 8080);
	compiled_apply(ORDERS, VIPS);
	compiled_apply(SLICE("s1", "orders", "{\"addresses\": [\"10.0.0.2\"]}, {\"addresses\": [\"10.0.0.3\"]}"), NULL);
	compiled_apply(SLICE("s2", "orders", "{\"addresses\": [\"10.0.0.3\"]}"), NULL);
	compile_workload(compiled.c, w);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	Weft__V1__Endpoints *e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 2);
	ck_assert_uint_eq(e->endpoints[0]->ports[0]->port, 8080); /* what registered goes first */
	DONE(e);
	compile_workload_gone(compiled.c, w);
	workload_drop(w);
}
END_TEST

START_TEST(deleted_service_takes_all_of_its_resources_away)
{
	compiled_apply(ORDERS, VIPS);
	compiled_apply(SLICE("s1", "orders", "{\"addresses\": [\"10.0.0.2\"]}"), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	compiled_delete("Service", "orders");
	ck_assert_uint_eq(compiled.removes, 3);
	ck_assert_uint_eq(compiled.n_there, 0);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.n_there, 0);
	ck_assert_uint_eq(compile_services(compiled.c), 0);
	compiled_delete("Service", "orders");
	compiled_apply(ORDERS, VIPS); /* and the slice is found again */
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	Weft__V1__Endpoints *e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, 1);
	DONE(e);
	compiled_delete("Service", "orders");
	compiled_apply(ORDERS, VIPS); /* gone and back within a turn */
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.n_there, 3);
}
END_TEST

START_TEST(too_many_endpoints_are_left_out_and_said)
{
	static struct registry_workload *w[COMPILE_ENDPOINTS_MAX + 5];
	char name[32], ip[32];
	compiled_apply(ORDERS, VIPS);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	unsigned before = compiled.n_there;
	/* their own resources do not matter here */
	for (size_t i = 0; i < ARRAY_LEN(w); i++) {
		snprintf(name, sizeof(name), "orders-%zu", i);
		snprintf(ip, sizeof(ip), "10.%zu.%zu.1", i / 256, i % 256);
		w[i] = workload(name, "orders", ip, NULL, 8080);
		compile_workload(compiled.c, w[i]);
		compiled_forget(before);
	}
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.warns, 1);
	Weft__V1__Endpoints *e = endpoints();
	ck_assert_uint_eq(e->n_endpoints, COMPILE_ENDPOINTS_MAX);
	DONE(e);
	compiled_teardown(); /* before the workloads that it borrows */
	compiled_setup();
	for (size_t i = 0; i < ARRAY_LEN(w); i++)
		workload_drop(w[i]);
}
END_TEST

START_TEST(mesh_has_ranges_and_roots)
{
	struct cidr cidrs[2];
	ck_assert(cidr_parse(STR("10.0.0.0/8"), &cidrs[0]));
	ck_assert(cidr_parse(STR("fd00::/8"), &cidrs[1]));
	struct str root = STR("der");
	compile_mesh(compiled.c, "td.example", cidrs, 2, &root, 1);
	Weft__V1__MeshConfig *m =
	    compiled_open(compiled_there(PUSHED_MESH, "mesh"), &weft__v1__mesh_config__descriptor);
	ck_assert_str_eq(m->trust_domain, "td.example");
	ck_assert_uint_eq(m->n_cidrs, 2);
	ck_assert_uint_eq(m->cidrs[0]->bits, 8);
	ck_assert_uint_eq(m->cidrs[1]->address.len, 16);
	ck_assert_uint_eq(m->n_roots, 1);
	ck_assert_uint_eq(m->roots[0].len, 3);
	DONE(m);
}
END_TEST

START_TEST(other_kinds_are_no_business_of_it)
{
	json_t *o = json_object();
	ck_assert(compile_object(compiled.c, "GRPCRoute", "shop", "x", o, &err));
	ck_assert(!compile_object(compiled.c, "Service", "shop", "x", o, &err));
	json_decref(o);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.n_there, 0);
}
END_TEST

Suite *compile_suite(void);
Suite *compile_suite(void)
{
	Suite *s = suite_create("compile");
	TCase *t = tcase_create("compile");
	tcase_add_checked_fixture(t, compiled_setup, compiled_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, many_changes_are_compiled_in_pieces_that_end_as_one_would);
	tcase_add_test(t, changes_that_come_faster_than_they_are_compiled_keep_nothing_back_for_ever);
	tcase_add_test(t, service_has_its_addresses_ports_and_manifest);
	tcase_add_test(t, endpoints_are_the_selected_workloads_on_the_target_port);
	tcase_add_test(t, change_touches_only_what_depends_on_it);
	tcase_add_test(t, order_of_arrival_does_not_show);
	tcase_add_test(t, workload_and_self_say_what_registered);
	tcase_add_test(t, slices_add_endpoints_outside_the_mesh);
	tcase_add_test(t, slice_address_of_a_registered_workload_is_meshed);
	tcase_add_test(t, address_found_twice_is_there_once);
	tcase_add_test(t, deleted_service_takes_all_of_its_resources_away);
	tcase_add_test(t, too_many_endpoints_are_left_out_and_said);
	tcase_add_test(t, mesh_has_ranges_and_roots);
	tcase_add_test(t, other_kinds_are_no_business_of_it);
	suite_add_tcase(s, t);
	return s;
}
