/* SPDX-License-Identifier: Apache-2.0 */
/* kind_test.c: objects are checked with path, value and what was expected, and come out normalised. */
#include "control/kind.h"

#include "control/kind_endpointslice.h"
#include "control/kind_service.h"
#include "lib/mem.h"
#include "tests/unit/control/checked.h"

#include <check.h>
#include <stdio.h>

static void accepted(const char *yaml)
{
	ck_assert_msg(check_yaml(yaml), "%s", checked.err.text);
}

static void refused(const char *yaml, const char *expect)
{
	ck_assert_msg(!check_yaml(yaml), "accepted: %s", yaml);
	ck_assert_msg(strcmp(checked.err.text, expect) == 0, "got:  %s\nwant: %s", checked.err.text, expect);
}

#define HEAD    "apiVersion: v1\nkind: Service\nmetadata: {name: orders, namespace: shop}\n"
#define SERVICE HEAD "spec:\n  selector: {app: orders}\n"
#define SLICE                                                                                                \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: db-1\n  namespace: shop\n" \
	"  labels: {kubernetes.io/service-name: db}\n"

START_TEST(a_wrong_port_is_named_with_its_path)
{
	refused(SERVICE "  ports: [{port: 70000}]\n",
		"Service shop/orders: spec.ports[0].port: 70000 is not a port (1 to 65535)");
	refused(SERVICE "  ports: [{port: 80}, {name: b, port: \"x\"}]\n",
		"Service shop/orders: spec.ports[1].port: \"x\" is not a port (1 to 65535)");
	refused(SERVICE "  ports: [{port: 80, targetPort: 0}]\n",
		"Service shop/orders: spec.ports[0].targetPort: 0 is not a port (1 to 65535)");
	refused(SERVICE "  ports: [{targetPort: 80}]\n",
		"Service shop/orders: spec.ports[0].port: it is missing; a port (1 to 65535) is required");
	refused(SERVICE "  ports: []\n",
		"Service shop/orders: spec.ports: it is empty; a service has at least one port");
}
END_TEST

START_TEST(unknown_fields_are_refused_with_the_nearest)
{
	ck_assert(!check_yaml(SERVICE "  prots: [{port: 80}]\n"));
	ck_assert_msg(strstr(checked.err.text, "Service shop/orders: spec.prots") != NULL, "%s", checked.err.text);
	ck_assert_msg(strstr(checked.err.text, "ports") != NULL, "%s", checked.err.text);
	ck_assert(!check_yaml(SERVICE "  ports: [{port: 80, targetport: 8080}]\n"));
	ck_assert_msg(strstr(checked.err.text, "spec.ports[0].targetport") != NULL, "%s", checked.err.text);
	ck_assert_msg(strstr(checked.err.text, "targetPort") != NULL, "%s", checked.err.text);
	ck_assert(!check_yaml(
	    "apiVersion: v1\nkind: Service\nmetadata: {name: a, lables: {a: b}}\nspec: {ports: [{port: 1}]}\n"));
	ck_assert_msg(strstr(checked.err.text, "metadata.lables") != NULL, "%s", checked.err.text);
	ck_assert(!check_yaml("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspecs: {}\n"));
	refused(SERVICE "  externalName: x.example\n  ports: [{port: 80}]\n",
		"Service shop/orders: spec.externalName: not supported yet");
}
END_TEST

START_TEST(kinds_of_the_future_are_refused_by_name)
{
	refused("apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: r, namespace: shop}\n",
		"GRPCRoute shop/r: kind GRPCRoute is not supported yet");
	ck_assert_int_eq(checked.err.code, ERR_UNSUPPORTED);
	refused("apiVersion: v1\nkind: Servce\nmetadata: {name: r}\n",
		"Servce default/r: unknown kind \"Servce\"; did you mean Service?");
	refused("apiVersion: v1\nkind: Pod\nmetadata: {name: r}\n", "Pod default/r: unknown kind \"Pod\"");
	refused("apiVersion: v2\nkind: Service\nmetadata: {name: r}\n",
		"Service default/r: apiVersion: \"v2\" is not the version of Service; expected v1");
	ck_assert(!check_yaml("- a\n"));
	ck_assert(!check_yaml("metadata: {name: r}\n"));
}
END_TEST

START_TEST(a_service_is_normalised)
{
	struct service s;

	accepted(SERVICE "  ports:\n  - {name: http-web, port: 80, targetPort: 8080}\n  - {name: db, port: 6379, "
			 "appProtocol: redis}\n"
			 "  - {name: api, port: 90, appProtocol: kubernetes.io/h2c}\n  - {name: other, port: 91}\n"
			 "status: {loadBalancer: {}}\n");
	ck_assert_str_eq(checked.object.ns, "shop");
	ck_assert_str_eq(checked.object.name, "orders");
	ck_assert(service_read(checked.object.body, &s, &checked.err));
	ck_assert_uint_eq(s.ports_len, 4);
	ck_assert_uint_eq(s.ports[0].target, 8080);
	ck_assert_uint_eq(s.ports[1].target, 6379);
	ck_assert_int_eq(s.ports[0].protocol, WEFT__V1__PROTOCOL__HTTP);
	ck_assert_int_eq(s.ports[1].protocol, WEFT__V1__PROTOCOL__TCP);
	ck_assert_int_eq(s.ports[2].protocol, WEFT__V1__PROTOCOL__HTTP2);
	ck_assert_int_eq(s.ports[3].protocol, WEFT__V1__PROTOCOL__UNDECLARED);
	ck_assert_ptr_null(json_object_get(checked.object.body, "status"));

	json_t *yes = json_pack("{s:s, s:s}", "app", "orders", "v", "1"), *no = json_pack("{s:s}", "app", "cart");
	ck_assert(service_selects(&s, yes));
	ck_assert(!service_selects(&s, no));
	ck_assert(!service_selects(&s, NULL));
	json_decref(yes);
	json_decref(no);
	/* What was normalised is normal: checking it again changes nothing. */
	struct object again;
	ck_assert_msg(object_check(checked.object.body, "default", &again, &checked.err), "%s", checked.err.text);
	ck_assert(json_equal(again.body, checked.object.body));
	json_decref(again.body);
}
END_TEST

START_TEST(a_service_without_selector_selects_nothing)
{
	struct service s;
	json_t *labels = json_pack("{s:s}", "app", "orders");

	accepted(HEAD "spec: {ports: [{port: 80}]}\n");
	ck_assert(service_read(checked.object.body, &s, &checked.err));
	ck_assert(!service_selects(&s, labels));
	json_decref(labels);
}
END_TEST

START_TEST(ports_may_not_be_there_twice)
{
	refused(SERVICE "  ports: [{name: a, port: 80}, {name: b, port: 80}]\n",
		"Service shop/orders: spec.ports[1].port: 80 is the port of spec.ports[0] too");
	refused(SERVICE "  ports: [{name: a, port: 80}, {name: a, port: 81}]\n",
		"Service shop/orders: spec.ports[1].name: \"a\" is the name of spec.ports[0] too");
	refused(SERVICE "  ports: [{port: 80}, {name: a, port: 81}]\n",
		"Service shop/orders: spec.ports[0].name: it is missing; each of several ports needs a name");
	refused(SERVICE "  ports: [{port: 53, protocol: UDP}]\n",
		"Service shop/orders: spec.ports[0].protocol: \"UDP\" is not supported; expected TCP");
	ck_assert(!check_yaml(SERVICE "  ports: [{port: 80, targetPort: web}]\n"));
	ck_assert_msg(strstr(checked.err.text, "a port's name is not supported outside Kubernetes") != NULL, "%s",
		      checked.err.text);
}
END_TEST

START_TEST(addresses_and_families_must_agree)
{
	refused(SERVICE "  ports: [{port: 80}]\n  clusterIP: 127.0.0.1\n",
		"Service shop/orders: spec.clusterIP: 127.0.0.1 is a loopback, link-local, multicast or unspecified "
		"address");
	refused(SERVICE "  ports: [{port: 80}]\n  clusterIP: nonsense\n",
		"Service shop/orders: spec.clusterIP: \"nonsense\" is not an IP address");
	refused(SERVICE "  ports: [{port: 80}]\n  clusterIPs: [10.0.0.1, 10.0.0.2]\n",
		"Service shop/orders: spec.clusterIPs: both are IPv4; at most one of each family");
	refused(SERVICE "  ports: [{port: 80}]\n  ipFamilies: [IPv5]\n",
		"Service shop/orders: spec.ipFamilies[0]: expected IPv4 or IPv6");
	refused(SERVICE "  ports: [{port: 80}]\n  ipFamilies: [IPv6]\n  clusterIP: 10.0.0.1\n",
		"Service shop/orders: spec.ipFamilies: IPv4 is missing, but clusterIPs has such an address");
	refused(SERVICE "  ports: [{port: 80}]\n  type: LoadBalancer\n",
		"Service shop/orders: spec.type: \"LoadBalancer\" is not supported; expected ClusterIP");
	accepted(SERVICE "  ports: [{port: 80}]\n");
	ck_assert_uint_eq(json_array_size(json_object_get(json_object_get(checked.object.body, "spec"), "ipFamilies")),
			  2);
	accepted(SERVICE "  ports: [{port: 80}]\n  ipFamilyPolicy: SingleStack\n");
	ck_assert_uint_eq(json_array_size(json_object_get(json_object_get(checked.object.body, "spec"), "ipFamilies")),
			  1);
	accepted(SERVICE "  ports: [{port: 80}]\n  clusterIP: None\n");
}
END_TEST

START_TEST(names_and_labels_are_held_to_their_syntax)
{
	ck_assert(!check_yaml("apiVersion: v1\nkind: Service\nmetadata: {name: Orders}\nspec: {ports: [{port: 1}]}\n"));
	ck_assert_msg(strstr(checked.err.text, "metadata.name: \"Orders\" is not a name") != NULL, "%s",
		      checked.err.text);
	ck_assert(!check_yaml("apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\nspec: {ports: [{port: 1}]}\n"));
	ck_assert(!check_yaml(
	    "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: ../x}\nspec: {ports: [{port: 1}]}\n"));
	ck_assert(!check_yaml(
	    "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {a: 1}}\nspec: {ports: [{port: 1}]}\n"));
	ck_assert_msg(strstr(checked.err.text, "metadata.labels.a: 1 is not text; put it in quotes") != NULL, "%s",
		      checked.err.text);
	ck_assert(!check_yaml(
	    "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {-x: y}}\nspec: {ports: [{port: 1}]}\n"));
	accepted("apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {app.kubernetes.io/name: x_y.Z}, "
		 "annotations: {n: any"
		 " text!}}\nspec: {ports: [{port: 1}]}\n");
}
END_TEST

START_TEST(a_slice_is_normalised)
{
	struct slice s;

	accepted(SLICE
		 "addressType: IPv4\nports: [{name: pg, port: 5432}]\nendpoints:\n- addresses: [10.2.0.1]\n  zone: a\n"
		 "- addresses: [10.2.0.2]\n  conditions: {ready: false}\n");
	ck_assert(slice_read(checked.object.body, &s, &checked.err));
	ck_assert_str_eq(s.service, "db");
	ck_assert_uint_eq(s.endpoints_len, 2);
	ck_assert_uint_eq(s.ports[0].port, 5432);
	ck_assert(s.endpoints[0].ready);
	ck_assert_str_eq(s.endpoints[0].zone, "a");
	ck_assert(!s.endpoints[1].ready);
	slice_done(&s);
	struct object again;
	ck_assert_msg(object_check(checked.object.body, "default", &again, &checked.err), "%s", checked.err.text);
	ck_assert(json_equal(again.body, checked.object.body));
	json_decref(again.body);
}
END_TEST

START_TEST(a_wrong_slice_is_refused)
{
	refused(SLICE "addressType: IPv4\nports: [{port: 0}]\nendpoints: []\n",
		"EndpointSlice shop/db-1: ports[0].port: 0 is not a port (1 to 65535)");
	refused(SLICE "addressType: FQDN\nports: [{port: 1}]\n",
		"EndpointSlice shop/db-1: addressType: \"FQDN\" is not supported; expected one of IPv4, IPv6");
	refused(SLICE "ports: [{port: 1}]\n",
		"EndpointSlice shop/db-1: addressType: it is missing; expected IPv4 or IPv6");
	refused(SLICE "addressType: IPv6\nports: [{port: 1}]\nendpoints: [{addresses: [10.0.0.1]}]\n",
		"EndpointSlice shop/db-1: endpoints[0].addresses[0]: 10.0.0.1 is not IPv6, as addressType says");
	refused(SLICE "addressType: IPv4\nports: [{port: 1}]\nendpoints: [{addresses: [127.0.0.1]}]\n",
		"EndpointSlice shop/db-1: endpoints[0].addresses[0]: 127.0.0.1 is a loopback, link-local, multicast or"
		" unspecified address");
	ck_assert(
	    !check_yaml("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: IPv4\n"
			"ports: [{port: 1}]\n"));
	ck_assert_msg(strstr(checked.err.text, "metadata.labels.kubernetes.io/service-name: it is missing") != NULL,
		      "%s", checked.err.text);
}
END_TEST

START_TEST(kinds_are_found_by_every_name)
{
	ck_assert_ptr_eq(kind_find("svc", &checked.err), &kind_service);
	ck_assert_ptr_eq(kind_find("Services", &checked.err), &kind_service);
	ck_assert_ptr_eq(kind_find("endpointslice", &checked.err), &kind_endpointslice);
	ck_assert_ptr_null(kind_find("grpcroutes", &checked.err));
	ck_assert_int_eq(checked.err.code, ERR_UNSUPPORTED);
}
END_TEST

Suite *kind_suite(void)
{
	Suite *s = suite_create("kind");
	TCase *tc = tcase_create("kind");

	tcase_add_checked_fixture(tc, NULL, checked_done);
	tcase_add_test(tc, a_wrong_port_is_named_with_its_path);
	tcase_add_test(tc, unknown_fields_are_refused_with_the_nearest);
	tcase_add_test(tc, kinds_of_the_future_are_refused_by_name);
	tcase_add_test(tc, a_service_is_normalised);
	tcase_add_test(tc, a_service_without_selector_selects_nothing);
	tcase_add_test(tc, ports_may_not_be_there_twice);
	tcase_add_test(tc, addresses_and_families_must_agree);
	tcase_add_test(tc, names_and_labels_are_held_to_their_syntax);
	tcase_add_test(tc, a_slice_is_normalised);
	tcase_add_test(tc, a_wrong_slice_is_refused);
	tcase_add_test(tc, kinds_are_found_by_every_name);
	suite_add_tcase(s, tc);
	return s;
}
