/* SPDX-License-Identifier: Apache-2.0 */
/* kind_httproute_test.c: what is refused of an HTTPRoute, by path, and what is left of one that is taken. */
#include "control/kind_httproute.h"

#include "tests/unit/control/checked.h"

#include <check.h>
#include <stdlib.h>

#define HEAD          "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\n"
#define ROUTE         HEAD "spec:\n  parentRefs: [{group: \"\", kind: Service, name: orders}]\n"
#define RULE          ROUTE "  rules:\n  - backendRefs: [{name: orders-v1, port: 80}]\n"
#define AT            "HTTPRoute shop/r: spec.rules[0]"
#define MATCH(text)   RULE "    matches: [{" text "}]\n"
#define BACKEND(text) ROUTE "  rules: [{backendRefs: [{" text "}]}]\n"
#define PARENT(text)  HEAD "spec:\n  parentRefs: [" text "]\n  rules: [{}]\n"

static const struct {
	const char *yaml, *want;
} rows[] = {
    {HEAD, "HTTPRoute shop/r: spec"},
    {ROUTE, "HTTPRoute shop/r: spec.rules"},
    {ROUTE "  rules: []\n", "HTTPRoute shop/r: spec.rules: it is empty; expected 1 to 16"},
    {ROUTE "  rules: [x]\n", AT ": it is not an object"},
    {ROUTE "  hostnames: [a.example]\n  rules: [{}]\n", "HTTPRoute shop/r: spec.hostnames: not supported yet"},
    {ROUTE "  rulez: [{}]\n", "HTTPRoute shop/r: spec.rulez"},
    {PARENT(""), "HTTPRoute shop/r: spec.parentRefs: it is empty"},
    {PARENT("{name: gw}"), "HTTPRoute shop/r: spec.parentRefs[0].kind: Gateway is not supported yet; expected Service"},
    {PARENT("{kind: Service, group: apps, name: a}"),
     "HTTPRoute shop/r: spec.parentRefs[0].group: \"apps\" has no Service; expected \"\""},
    {PARENT("{kind: Service, name: a, namespace: other}"),
     "HTTPRoute shop/r: spec.parentRefs[0].namespace: \"other\": a Service of another namespace is not supported yet; "
     "expected shop"},
    {PARENT("{kind: Service, name: a, port: 0}"), "HTTPRoute shop/r: spec.parentRefs[0].port: 0 is not a port"},
    {PARENT("{kind: Service, name: a, sectionName: A_B}"), "HTTPRoute shop/r: spec.parentRefs[0].sectionName: \"A_B\""},
    {PARENT("{kind: Service, name: a}, {kind: Service, name: a}"),
     "HTTPRoute shop/r: spec.parentRefs[1]: it is the same as spec.parentRefs[0]"},
    {RULE "    filters: []\n", AT ".filters: not supported yet"},
    {RULE "    timeouts: {request: 1s}\n", AT ".timeouts: not supported yet"},
    {RULE "    retry: {}\n", AT ".retry: not supported yet"},
    {RULE "    sessionPersistence: {}\n", AT ".sessionPersistence: not supported yet"},
    {RULE "    weight: 1\n", AT ".weight"},
    {RULE "    name: A_B\n", AT ".name: \"A_B\" is not a name"},
    {BACKEND("name: a"), AT ".backendRefs[0].port: it is missing"},
    {BACKEND("port: 80"), AT ".backendRefs[0].name"},
    {BACKEND("name: a, port: 80, weight: -1"), AT ".backendRefs[0].weight: -1 is not in 0 to 1000000"},
    {BACKEND("name: a, port: 80, weight: 1000001"), AT ".backendRefs[0].weight: 1000001 is not in 0 to 1000000"},
    {BACKEND("name: a, port: 80, kind: Bucket"),
     AT ".backendRefs[0].kind: Bucket is not supported yet; expected Service"},
    {BACKEND("name: a, port: 80, namespace: x"),
     AT ".backendRefs[0].namespace: \"x\": a Service of another namespace is not supported yet"},
    {BACKEND("name: a, port: 80, filters: []"), AT ".backendRefs[0].filters: not supported yet"},
    {BACKEND("name: a, port: 80, wait: 1"), AT ".backendRefs[0].wait"},
    {MATCH("path: {type: RegularExpression, value: /a.*}"),
     AT ".matches[0].path.type: RegularExpression is not supported yet"},
    {MATCH("path: {type: Prefix, value: /a}"),
     AT ".matches[0].path.type: \"Prefix\" is not supported; expected one of PathPrefix, Exact"},
    {MATCH("path: {value: a}"), AT ".matches[0].path.value: \"a\" is not a path"},
    {MATCH("path: {value: /a//b}"), AT ".matches[0].path.value: \"/a//b\" must not have // in it"},
    {MATCH("path: {value: /a/../b}"), AT ".matches[0].path.value: \"/a/../b\" must not have /../ in it"},
    {MATCH("path: {value: /a/..}"), AT ".matches[0].path.value: \"/a/..\" must not end with /. or /.."},
    {MATCH("path: {value: /a%2Fb}"), AT ".matches[0].path.value: \"/a%2Fb\" must not have %2F"},
    {MATCH("path: {value: \"/a b\"}"), AT ".matches[0].path.value: \"/a b\" has a byte that no path has"},
    {MATCH("path: {value: \"/a%zz\"}"), AT ".matches[0].path.value: \"/a%zz\" has a byte that no path has"},
    {MATCH("path: {value: /a, glob: true}"), AT ".matches[0].path.glob"},
    {MATCH("method: get"), AT ".matches[0].method: \"get\" is not supported; expected one of GET"},
    {MATCH("headers: [{name: a}]"), AT ".matches[0].headers[0].value"},
    {MATCH("headers: [{name: \"a b\", value: x}]"), AT ".matches[0].headers[0].name: \"a b\" is not a name"},
    {MATCH("headers: [{name: a, value: \"\"}]"), AT ".matches[0].headers[0].value: it has 0 bytes; expected 1 to 4096"},
    {MATCH("headers: [{name: a, value: x}, {name: A, value: y}]"), AT ".matches[0].headers[1].name: A is there twice"},
    {MATCH("headers: [{type: RegularExpression, name: a, value: x}]"),
     AT ".matches[0].headers[0].type: RegularExpression is not supported yet"},
    {MATCH("queryParams: [{type: RegularExpression, name: a, value: x}]"),
     AT ".matches[0].queryParams[0].type: RegularExpression is not supported yet"},
    {MATCH("queryParams: [{name: a, value: 1}]"), AT ".matches[0].queryParams[0].value"},
    {MATCH("header: []"), AT ".matches[0].header"},
    {RULE "    matches: [x]\n", AT ".matches[0]: it is not an object"},
};

START_TEST(what_is_wrong_is_named_with_its_path)
{
	ck_assert_msg(!check_yaml(rows[_i].yaml), "accepted: %s", rows[_i].yaml);
	ck_assert_msg(strncmp(checked.err.text, rows[_i].want, strlen(rows[_i].want)) == 0, "got:  %s\nwant: %s",
		      checked.err.text, rows[_i].want);
}
END_TEST

START_TEST(it_is_normalised_with_every_default)
{
	ck_assert_msg(check_yaml(ROUTE
				 "  rules:\n  - name: new\n    matches: [{headers: [{name: version, value: \"2\"}]}, "
				 "{path: {value: /a}, method: GET}]\n"
				 "    backendRefs: [{name: v2, port: 80, weight: 0}]\n  - {}\n"),
		      "%s", checked.err.text);
	char *text = json_dumps(json_object_get(checked.object.body, "spec"), JSON_COMPACT | JSON_SORT_KEYS);
	ck_assert_str_eq(
	    text,
	    "{\"parentRefs\":[{\"group\":\"\",\"kind\":\"Service\",\"name\":\"orders\"}],"
	    "\"rules\":[{\"backendRefs\":[{\"group\":\"\",\"kind\":\"Service\",\"name\":\"v2\",\"port\":80,"
	    "\"weight\":0}],\"matches\":[{\"headers\":[{\"name\":\"version\",\"type\":\"Exact\",\"value\":\"2\"}],"
	    "\"path\":{\"type\":\"PathPrefix\",\"value\":\"/\"}},{\"method\":\"GET\",\"path\":{\"type\":"
	    "\"PathPrefix\",\"value\":\"/a\"}}],\"name\":\"new\"},{\"backendRefs\":[],\"matches\":[{\"path\":"
	    "{\"type\":\"PathPrefix\",\"value\":\"/\"}}]}]}");
	free(text);
}
END_TEST

START_TEST(a_parent_means_the_ports_that_it_names_if_they_speak_http)
{
	static struct service s = {.name = "orders",
				   .ns = "shop",
				   .ports = {{"web", 80, 8080, WEFT__V1__PROTOCOL__HTTP},
					     {"sql", 5432, 5432, WEFT__V1__PROTOCOL__TCP},
					     {"any", 90, 90, WEFT__V1__PROTOCOL__UNDECLARED}},
				   .ports_len = 3};
	static const struct {
		struct httproute_parent p;
		int port; /* -1: not attached */
	} of[] = {{{"orders", "", 0}, 0},     {{"orders", "", 80}, 80},    {{"orders", "web", 0}, 80},
		  {{"orders", "", 90}, 90},   {{"orders", "", 5432}, -1},  {{"orders", "sql", 0}, -1},
		  {{"orders", "", 81}, -1},   {{"orders", "web", 90}, -1}, {{"orders", "none", 0}, -1},
		  {{"orders", "any", 90}, 90}};
	for (size_t i = 0; i < ARRAY_LEN(of); i++) {
		uint16_t port = 1;
		bool ok = httproute_attach(&of[i].p, &s, &port, &checked.err);
		ck_assert_msg(ok == (of[i].port >= 0), "row %zu", i);
		ck_assert_msg(!ok || port == of[i].port, "row %zu: %u", i, port);
	}
	uint16_t port;
	ck_assert(!httproute_attach(&of[0].p, NULL, &port, &checked.err));
	ck_assert_str_eq(checked.err.text, "there is no Service orders");
}
END_TEST

Suite *kind_httproute_suite(void);
Suite *kind_httproute_suite(void)
{
	Suite *s = suite_create("kind_httproute");
	TCase *tc = tcase_create("route");

	tcase_add_checked_fixture(tc, NULL, checked_done);
	tcase_add_loop_test(tc, what_is_wrong_is_named_with_its_path, 0, (int)ARRAY_LEN(rows));
	tcase_add_test(tc, it_is_normalised_with_every_default);
	tcase_add_test(tc, a_parent_means_the_ports_that_it_names_if_they_speak_http);
	suite_add_tcase(s, tc);
	return s;
}
