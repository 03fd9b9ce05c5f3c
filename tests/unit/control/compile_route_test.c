/* SPDX-License-Identifier: Apache-2.0 */
/* compile_route_test.c: what routes make of the manifests of the services that they name. */
#include "control/compile_route.h"

#include "lib/mem.h"
#include "tests/unit/control/compiled.h"

#include <stdio.h>
#include <stdlib.h>

#define SERVICE_OF(name, port)                                                                                   \
	"{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"" name "\", \"namespace\": " \
	"\"shop\"}, \"spec\": {\"ports\": [{\"name\": \"http\", \"port\": " #port "}]}}"
#define ROUTE_OF(name, parents, backends)                                                                              \
	"{\"apiVersion\": \"gateway.networking.k8s.io/v1\", \"kind\": \"HTTPRoute\", \"metadata\": {\"name\": \"" name \
	"\", \"namespace\": \"shop\"}, \"spec\": {\"parentRefs\": [" parents                                           \
	"], \"rules\": [{\"backendRefs\": [" backends "]}]}}"
#define PARENT(name)         "{\"kind\": \"Service\", \"name\": \"" name "\"}"
#define PARENT_PORT(name, p) "{\"kind\": \"Service\", \"name\": \"" name "\", \"port\": " #p "}"
#define BACKEND(name, w)     "{\"name\": \"" name "\", \"port\": 80, \"weight\": " #w "}"

/* "Route/shop/r Service/shop/orders" of a manifest, each at the version that is there. */
static const char *listed(const char *service)
{
	static char text[512];
	text[0] = '\0';
	Weft__V1__Manifest *m =
	    compiled_open(compiled_there(PUSHED_MANIFEST, service), &weft__v1__manifest__descriptor);
	for (size_t i = 0; i < m->n_entries; i++) {
		enum pushed_type t;
		ck_assert(pushed_type_of(str_of(m->entries[i]->type_url), &t));
		ck_assert_str_eq(m->entries[i]->version, compiled_there(t, m->entries[i]->name)->version);
		size_t at = strlen(text);
		snprintf(text + at, sizeof(text) - at, "%s%s/%s", i ? " " : "", pushed_type_label(t),
			 m->entries[i]->name);
	}
	DONE(m);
	return text;
}

static bool missing(const char *route, size_t backend)
{
	Weft__V1__Route *r = compiled_open(compiled_there(PUSHED_ROUTE, route), &weft__v1__route__descriptor);
	bool yes = r->rules[0]->backends[backend]->missing;
	DONE(r);
	return yes;
}

static size_t parents(const char *route)
{
	Weft__V1__Route *r = compiled_open(compiled_there(PUSHED_ROUTE, route), &weft__v1__route__descriptor);
	size_t n = r->n_parents;
	DONE(r);
	return n;
}

START_TEST(a_manifest_lists_the_routes_of_a_service_and_where_they_lead)
{
	compiled_apply(SERVICE_OF("orders", 80), VIPS);
	compiled_apply(SERVICE_OF("orders-v1", 80), "[\"240.0.0.2\"]");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_str_eq(listed("shop/orders"), "Service/shop/orders");
	compiled_apply(ROUTE_OF("r", PARENT("orders"), BACKEND("orders-v1", 70) ", " BACKEND("orders-v2", 30)), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_str_eq(listed("shop/orders"), "Route/shop/r Service/shop/orders Service/shop/orders-v1");
	ck_assert_str_eq(listed("shop/orders-v1"), "Service/shop/orders-v1");
	ck_assert(!missing("shop/r", 0) && missing("shop/r", 1));
	/* the missing one comes */
	compiled_apply(SERVICE_OF("orders-v2", 80), "[\"240.0.0.3\"]");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_str_eq(listed("shop/orders"),
			 "Route/shop/r Service/shop/orders Service/shop/orders-v1 Service/shop/orders-v2");
	ck_assert(!missing("shop/r", 1));
	/* gets another port, and goes again */
	compiled_apply(SERVICE_OF("orders-v2", 81), "[\"240.0.0.3\"]");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_str_eq(listed("shop/orders"),
			 "Route/shop/r Service/shop/orders Service/shop/orders-v1 Service/shop/orders-v2");
	ck_assert(missing("shop/r", 1));
	compiled_delete("Service", "orders-v2");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_str_eq(listed("shop/orders"), "Route/shop/r Service/shop/orders Service/shop/orders-v1");
	/* without the route all is as before */
	compiled_delete("HTTPRoute", "r");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_str_eq(listed("shop/orders"), "Service/shop/orders");
	ck_assert(!compiled_is_there(PUSHED_ROUTE, "shop/r"));
}
END_TEST

START_TEST(a_route_may_come_before_the_services_that_it_names_and_lead_to_its_own_parent)
{
	compiled_apply(ROUTE_OF("r", PARENT("orders"), BACKEND("orders", 1)), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(parents("shop/r"), 0);
	compiled_apply(SERVICE_OF("orders", 80), VIPS);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(parents("shop/r"), 1);
	ck_assert(!missing("shop/r", 0));
	ck_assert_str_eq(listed("shop/orders"), "Route/shop/r Service/shop/orders");
	compiled_delete("Service", "orders");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(parents("shop/r"), 0);
	ck_assert(!compiled_is_there(PUSHED_MANIFEST, "shop/orders"));
}
END_TEST

START_TEST(a_route_that_moves_to_another_parent_leaves_the_first)
{
	compiled_apply(SERVICE_OF("orders", 80), VIPS);
	compiled_apply(SERVICE_OF("cart", 80), "[\"240.0.0.2\"]");
	compiled_apply(ROUTE_OF("r", PARENT("orders"), BACKEND("orders", 1)), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	compiled_apply(ROUTE_OF("r", PARENT("cart"), BACKEND("orders", 1)), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_str_eq(listed("shop/orders"), "Service/shop/orders");
	ck_assert_str_eq(listed("shop/cart"), "Route/shop/r Service/shop/cart Service/shop/orders");
}
END_TEST

START_TEST(a_route_is_not_attached_where_there_is_no_such_http_port)
{
	compiled_apply(
	    "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"db\", \"namespace\": \"shop\"},"
	    " \"spec\": {\"ports\": [{\"name\": \"sql\", \"port\": 5432, \"appProtocol\": \"tcp\"}, {\"name\": "
	    "\"web\", "
	    "\"port\": 80}]}}",
	    VIPS);
	compiled_apply(ROUTE_OF("r", PARENT_PORT("db", 81), BACKEND("db", 1)), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(parents("shop/r"), 0);
	compiled_apply(ROUTE_OF("r", PARENT_PORT("db", 5432), BACKEND("db", 1)), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(parents("shop/r"), 0);
	ck_assert_str_eq(listed("shop/db"), "Service/shop/db");
	compiled_apply(ROUTE_OF("r", PARENT_PORT("db", 80), BACKEND("db", 1)), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(parents("shop/r"), 1);
	ck_assert_str_eq(listed("shop/db"), "Route/shop/r Service/shop/db");
}
END_TEST

START_TEST(a_service_that_changes_nothing_for_its_routes_pushes_no_route_again)
{
	compiled_apply(SERVICE_OF("orders", 80), VIPS);
	compiled_apply(ROUTE_OF("r", PARENT("orders"), BACKEND("orders", 1)), NULL);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	compiled.sets = 0;
	compiled_apply(SERVICE_OF("orders", 80), VIPS);
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.sets, 0);
	compiled_apply(SERVICE_OF("orders", 80), "[\"240.0.0.9\"]");
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.sets, 3); /* service, manifest, endpoints */
}
END_TEST

START_TEST(of_too_many_routes_the_first_count_and_it_is_said)
{
	char text[1024];
	compiled_apply(SERVICE_OF("orders", 80), VIPS);
	for (unsigned i = 0; i < COMPILE_ROUTES_MAX + 2; i++) {
		snprintf(text, sizeof(text), ROUTE_OF("r%02u", PARENT("orders"), BACKEND("orders", 1)), i);
		compiled_apply(text, NULL);
	}
	ck_assert(compile_flush(compiled.c, UINT64_MAX));
	ck_assert_uint_eq(compiled.warns, 1);
	Weft__V1__Manifest *m =
	    compiled_open(compiled_there(PUSHED_MANIFEST, "shop/orders"), &weft__v1__manifest__descriptor);
	ck_assert_uint_eq(m->n_entries, COMPILE_ROUTES_MAX + 1);
	ck_assert_str_eq(m->entries[COMPILE_ROUTES_MAX - 1]->name, "shop/r63");
	DONE(m);
}
END_TEST

Suite *compile_route_suite(void);
Suite *compile_route_suite(void)
{
	Suite *s = suite_create("compile_route");
	TCase *t = tcase_create("compile_route");
	tcase_add_checked_fixture(t, compiled_setup, compiled_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_manifest_lists_the_routes_of_a_service_and_where_they_lead);
	tcase_add_test(t, a_route_may_come_before_the_services_that_it_names_and_lead_to_its_own_parent);
	tcase_add_test(t, a_route_that_moves_to_another_parent_leaves_the_first);
	tcase_add_test(t, a_route_is_not_attached_where_there_is_no_such_http_port);
	tcase_add_test(t, a_service_that_changes_nothing_for_its_routes_pushes_no_route_again);
	tcase_add_test(t, of_too_many_routes_the_first_count_and_it_is_said);
	suite_add_tcase(s, t);
	return s;
}
