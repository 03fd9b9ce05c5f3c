/* SPDX-License-Identifier: Apache-2.0 */
/* api_test.c: the calls of the API, without their transport. */
#include "control/api_call.h"

#include "certs/token.h"
#include "lib/mem.h"
#include "tests/fuzz/world/api_once.h"
#include "tests/unit/control/own_store.h"

#include <check.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define ORDERS                                                                                                   \
	"{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"orders\",\"namespace\":\"shop\"}," \
	"\"spec\":{\"ports\":[{\"port\":%d}]}}"

static struct api_cfg cfg;
static struct err err;
static json_t *answer;
static bool may_wait;
static unsigned seconds;

static void make(void)
{
	cfg = (struct api_cfg){.store = own_store_make(), .root_hash = {0xab}};
}

static void drop(void)
{
	json_decref(answer);
	answer = NULL;
	own_store_drop(&cfg.store);
}

static unsigned call(const char *method, const char *target, const char *body)
{
	json_decref(answer);
	answer = NULL;
	return api_once(&cfg, str_of(method), str_of(target), str_of(body), may_wait, &answer, &seconds);
}

static const char *error_text(void)
{
	const char *text = json_string_value(json_object_get(json_object_get(answer, "error"), "text"));

	return text ? text : "(no error)";
}

static unsigned apply_orders(int port, bool dry_run)
{
	char *object = mem_printf(ORDERS, port);
	char *body = mem_printf("{\"objects\":[%s],\"dryRun\":%s}", object, dry_run ? "true" : "false");
	unsigned status = call("POST", "/v1/apply", body);

	mem_free(object);
	mem_free(body);
	return status;
}

static const char *result(size_t i)
{
	return json_string_value(json_object_get(json_array_get(json_object_get(answer, "objects"), i), "result"));
}

START_TEST(applies_lists_gets_and_deletes)
{
	ck_assert_uint_eq(apply_orders(80, true), 200);
	ck_assert_str_eq(result(0), "created");
	ck_assert_uint_eq(call("GET", "/v1/objects/services/shop/orders", ""), 404);
	ck_assert_uint_eq(apply_orders(80, false), 200);
	ck_assert_int_eq(json_integer_value(json_object_get(answer, "revision")), 1);
	ck_assert_uint_eq(apply_orders(80, false), 200);
	ck_assert_str_eq(result(0), "unchanged");
	ck_assert_uint_eq(call("GET", "/v1/objects/services/shop/orders", ""), 200);
	ck_assert_str_eq(json_string_value(json_object_get(json_object_get(answer, "spec"), "clusterIP")), "240.0.0.1");
	ck_assert_uint_eq(call("GET", "/v1/objects/svc?namespace=shop", ""), 200);
	ck_assert_uint_eq(json_array_size(json_object_get(answer, "items")), 1);
	ck_assert_uint_eq(call("GET", "/v1/objects/svc?namespace=other", ""), 200);
	ck_assert_uint_eq(json_array_size(json_object_get(answer, "items")), 0);
	ck_assert_uint_eq(call("DELETE", "/v1/objects/services/shop/orders", ""), 200);
	ck_assert_str_eq(result(0), "deleted");
	ck_assert_uint_eq(call("DELETE", "/v1/objects/services/shop/orders", ""), 404);
	ck_assert_uint_eq(call("POST", "/v1/delete", "{\"objects\":[{\"kind\":\"Service\",\"name\":\"x\"}]}"), 404);
	ck_assert_str_eq(error_text(), "Service default/x: there is no such object");
}
END_TEST

START_TEST(an_error_names_the_object_and_changes_nothing)
{
	char *body = mem_printf("{\"objects\":[" ORDERS "," ORDERS "]}", 80, 70000);

	ck_assert_uint_eq(call("POST", "/v1/apply", body), 400);
	ck_assert_str_eq(error_text(), "Service shop/orders: spec.ports[0].port: 70000 is not a port (1 to 65535)");
	ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(answer, "error"), "object")), 1);
	ck_assert_uint_eq(call("GET", "/v1/status", ""), 200);
	ck_assert_int_eq(json_integer_value(json_object_get(answer, "revision")), 0);
	mem_free(body);
}
END_TEST

static json_int_t count(const char *list)
{
	return (json_int_t)json_array_size(json_object_get(answer, list));
}

START_TEST(a_rollback_restores_and_is_a_revision_itself)
{
	ck_assert_uint_eq(apply_orders(80, false), 200);
	ck_assert_uint_eq(apply_orders(81, false), 200);
	ck_assert_uint_eq(call("GET", "/v1/revisions?kind=svc&namespace=shop&name=orders", ""), 200);
	ck_assert_int_eq(count("items"), 2);
	ck_assert_uint_eq(call("GET", "/v1/revisions?before=2", ""), 200);
	ck_assert_int_eq(count("items"), 1);
	ck_assert_uint_eq(call("GET", "/v1/revisions/2", ""), 200);
	ck_assert_str_eq(result(0), "changed");
	ck_assert_uint_eq(call("GET", "/v1/revisions/3", ""), 404);
	ck_assert_uint_eq(call("GET", "/v1/revisions/x", ""), 400);
	ck_assert_msg(call("POST", "/v1/rollback", "{\"revision\":1,\"dryRun\":true}") == 200, "%s", error_text());
	ck_assert_int_eq(json_integer_value(json_object_get(answer, "revision")), 2);
	ck_assert_uint_eq(call("POST", "/v1/rollback", "{\"revision\":1,\"bodies\":true}"), 200);
	ck_assert_int_eq(json_integer_value(json_object_get(answer, "revision")), 3);
	ck_assert_str_eq(result(0), "changed");
	const json_t *o = json_array_get(json_object_get(answer, "objects"), 0);
	ck_assert(!json_equal(json_object_get(o, "before"), json_object_get(o, "after")));
	ck_assert_uint_eq(call("POST", "/v1/rollback", "{\"revision\":0}"), 200);
	ck_assert_str_eq(result(0), "deleted");
	ck_assert_uint_eq(call("POST", "/v1/rollback", "{\"revision\":5}"), 404);
	ck_assert_uint_eq(call("POST", "/v1/rollback", "{\"revision\":-1}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/rollback", "{\"revision\":1,\"name\":\"orders\"}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/rollback", "{\"revision\":3,\"kind\":\"Service\",\"namespace\":\"shop\"}"),
			  200);
	ck_assert_str_eq(result(0), "created");
}
END_TEST

static json_t *progress_waits(void *ctx, const json_t *services)
{
	return json_pack("{s:i, s:[], s:O?}", "waiting", *(int *)ctx, "behind", "asked", services);
}

START_TEST(what_has_nothing_to_say_is_put_off_only_while_it_may_wait)
{
	int proxies = 1;

	cfg.progress = progress_waits;
	cfg.ctx = &proxies;
	ck_assert_uint_eq(apply_orders(80, false), 200);
	may_wait = true;
	ck_assert_uint_eq(call("GET", "/v1/watch/services?revision=1&seconds=7", ""), API_LATER);
	ck_assert_uint_eq(seconds, 7);
	ck_assert_uint_eq(call("GET", "/v1/watch/services?revision=1", ""), 200);
	ck_assert_int_eq(count("changes"), 0);
	ck_assert_uint_eq(call("GET", "/v1/watch/services?revision=0&seconds=7", ""), 200);
	ck_assert_int_eq(count("changes"), 1);
	ck_assert_uint_eq(call("GET", "/v1/watch/services?revision=0&namespace=other&seconds=7", ""), API_LATER);
	ck_assert_uint_eq(call("POST", "/v1/wait", "{\"revision\":1,\"seconds\":5}"), API_LATER);
	ck_assert_uint_eq(seconds, 5);
	may_wait = false;
	ck_assert_uint_eq(call("POST", "/v1/wait", "{\"revision\":1,\"seconds\":5}"), 200);
	ck_assert_ptr_nonnull(json_object_get(json_object_get(answer, "asked"), "shop/orders"));
	ck_assert_uint_eq(call("GET", "/v1/watch/services?revision=1&seconds=7", ""), 200);
	may_wait = true;
	proxies = 0;
	ck_assert_uint_eq(call("POST", "/v1/wait", "{\"seconds\":5}"), 200);
	ck_assert_uint_eq(call("POST", "/v1/wait", "{\"revision\":2}"), 404);
	ck_assert_uint_eq(call("POST", "/v1/wait", "{\"revision\":1,\"objects\":[]}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/wait", "{\"seconds\":31}"), 400);
	ck_assert_uint_eq(call("GET", "/v1/watch/services?seconds=31", ""), 400);
	ck_assert_uint_eq(call("GET", "/v1/watch/services?revision=2", ""), 404);
	may_wait = false;
}
END_TEST

START_TEST(queries_are_those_of_the_call)
{
	ck_assert_uint_eq(call("GET", "/v1/status?namespace=shop", ""), 400);
	ck_assert_str_eq(error_text(), "query \"namespace=shop\": this call knows none");
	ck_assert_uint_eq(call("GET", "/v1/objects/services?limit=3", ""), 400);
	ck_assert_str_eq(error_text(), "query \"limit=3\": this call knows only namespace=");
	ck_assert_uint_eq(call("GET", "/v1/objects/services?namespace=a%2fb", ""), 400);
	ck_assert_uint_eq(call("GET", "/v1/objects/services?namespace", ""), 400);
	ck_assert_uint_eq(call("GET", "/v1/revisions?limit=many", ""), 400);
	ck_assert_uint_eq(call("GET", "/v1/revisions?limit=1001", ""), 400);
	ck_assert_uint_eq(call("GET", "/v1/revisions?before=99999999999999999999", ""), 400);
}
END_TEST

START_TEST(describe_has_the_object_with_its_times)
{
	ck_assert_uint_eq(apply_orders(80, false), 200);
	ck_assert_uint_eq(call("GET", "/v1/describe/svc/shop/orders", ""), 200);
	ck_assert_int_eq(json_integer_value(json_object_get(answer, "revision")), 1);
	ck_assert_int_gt(json_integer_value(json_object_get(answer, "createdMs")), 0);
	ck_assert_uint_eq(call("GET", "/v1/describe/svc/shop/none", ""), 404);
}
END_TEST

START_TEST(wrong_calls_are_refused)
{
	ck_assert_uint_eq(call("GET", "/v1/nothing", ""), 404);
	ck_assert_uint_eq(call("GET", "/", ""), 404);
	ck_assert_uint_eq(call("GET", "", ""), 404);
	ck_assert_uint_eq(call("GET", "/v1/objects/services/", ""), 404);
	ck_assert_uint_eq(call("GET", "/v1/objects/services/a/b/c", ""), 404);
	ck_assert_uint_eq(call("PUT", "/v1/apply", ""), 405);
	ck_assert_uint_eq(call("POST", "/v1/apply", "{"), 400);
	ck_assert_uint_eq(call("POST", "/v1/apply", "[]"), 400);
	ck_assert_uint_eq(call("POST", "/v1/apply", "{\"object\":[]}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/apply", "{\"objects\":[3]}"), 400);
	ck_assert_uint_eq(call("GET", "/v1/objects/grpcroutes", ""), 400);
	ck_assert_str_eq(error_text(), "kind GRPCRoute is not supported yet");
	ck_assert_uint_eq(call("GET", "/v1/objects/services?namespace=%2e", ""), 400);
	ck_assert_uint_eq(call("GET", "/v1/objects/services?limit=3", ""), 400);
}
END_TEST

START_TEST(a_token_carries_what_the_store_knows)
{
	struct token t;
	struct store_token row;
	uint8_t hash[32];

	ck_assert_uint_eq(call("POST", "/v1/tokens",
			       "{\"namespace\":\"shop\",\"serviceAccount\":\"orders\",\"labels\":{\"app\":\"orders\","
			       "\"version\":\"v-*\",\"x\":\"*\"},"
			       "\"ttlSeconds\":60}"),
			  200);
	const char *text = json_string_value(json_object_get(answer, "token"));
	ck_assert_ptr_nonnull(text);
	ck_assert_msg(token_parse(str_of(text), &t, &err), "%s", err.text);
	ck_assert_str_eq(t.ns, "shop");
	ck_assert_str_eq(t.sa, "orders");
	ck_assert_str_eq(t.server, "10.0.0.1:4810");
	ck_assert_str_eq(t.cidrs, "10.1.0.0/16,240.0.0.0/4,fd77:6566:7400:1::/64");
	ck_assert_int_eq(t.root_hash[0], 0xab);
	ck_assert_msg(store_token_get(cfg.store, t.id, &row, &err), "%s", err.text);
	token_secret_hash(t.secret, hash);
	ck_assert_mem_eq(hash, row.secret_hash, 32);
	ck_assert_str_eq(row.created_by, "tester");
	ck_assert_int_eq(row.not_after, t.not_after);
	store_token_done(&row);
	ck_assert_uint_eq(call("GET", "/v1/tokens", ""), 200);
	char *all = json_dumps(answer, 0);
	ck_assert_ptr_nonnull(strstr(all, t.id));
	ck_assert_ptr_null(strstr(all, t.secret));
	free(all);
	char *target = mem_printf("/v1/tokens/%s", t.id);
	ck_assert_uint_eq(call("DELETE", target, ""), 200);
	ck_assert_uint_eq(call("DELETE", target, ""), 404);
	mem_free(target);
}
END_TEST

START_TEST(a_wrong_wish_for_a_token_is_refused)
{
	ck_assert_uint_eq(call("POST", "/v1/tokens", "{}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/tokens", "{\"serviceAccount\":\"Or ders\"}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/tokens", "{\"serviceAccount\":\"a\",\"namespace\":\"../x\"}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/tokens", "{\"serviceAccount\":\"a\",\"ttlSeconds\":0}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/tokens", "{\"serviceAccount\":\"a\",\"labels\":{\"a\":1}}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/tokens", "{\"serviceAccount\":\"a\",\"labels\":{\"a\":\"b c\"}}"), 400);
	ck_assert_uint_eq(call("POST", "/v1/tokens", "{\"serviceAccount\":\"a\",\"admin\":true}"), 400);
}
END_TEST

START_TEST(a_bearer_token_is_known_afterwards)
{
	uint8_t hash[32];
	char who[64];

	ck_assert_uint_eq(call("POST", "/v1/bearers", "{\"name\":\"ci\",\"ttlSeconds\":60}"), 200);
	const char *text = json_string_value(json_object_get(answer, "token"));
	ck_assert_int_eq(EVP_Digest(text, strlen(text), hash, NULL, EVP_sha256(), NULL), 1);
	ck_assert(store_bearer_find(cfg.store, hash, who, sizeof(who), &err));
	ck_assert_str_eq(who, "ci");
}
END_TEST

static json_t *more(void *ctx)
{
	return json_pack("{s:[{s:s}]}", "proxies", "name", "shop/orders-1");
}

START_TEST(status_takes_in_what_push_knows)
{
	cfg.status = more;
	ck_assert_uint_eq(apply_orders(80, false), 200);
	ck_assert_uint_eq(call("GET", "/v1/status", ""), 200);
	ck_assert_str_eq(json_string_value(json_object_get(answer, "trustDomain")), "mesh.test");
	ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(answer, "objects"), "services")), 1);
	ck_assert_uint_eq(json_array_size(json_object_get(answer, "proxies")), 1);
}
END_TEST

START_TEST(workloads_are_listed_and_forgotten)
{
	struct store_instance i = {.ns = "shop", .name = "orders-1", .sa = "orders", .lease_ms = 7};

	ck_assert(store_instance_register(cfg.store, &i, &err));
	ck_assert_uint_eq(call("GET", "/v1/workloads", ""), 200);
	ck_assert_uint_eq(json_array_size(json_object_get(answer, "items")), 1);
	ck_assert_uint_eq(call("DELETE", "/v1/workloads/shop/orders-1", ""), 200);
	ck_assert_uint_eq(call("DELETE", "/v1/workloads/shop/orders-1", ""), 404);
}
END_TEST

Suite *api_suite(void)
{
	Suite *s = suite_create("api");
	TCase *tc = tcase_create("api");

	tcase_add_checked_fixture(tc, make, drop);
	tcase_add_test(tc, applies_lists_gets_and_deletes);
	tcase_add_test(tc, an_error_names_the_object_and_changes_nothing);
	tcase_add_test(tc, a_rollback_restores_and_is_a_revision_itself);
	tcase_add_test(tc, what_has_nothing_to_say_is_put_off_only_while_it_may_wait);
	tcase_add_test(tc, queries_are_those_of_the_call);
	tcase_add_test(tc, describe_has_the_object_with_its_times);
	tcase_add_test(tc, wrong_calls_are_refused);
	tcase_add_test(tc, a_token_carries_what_the_store_knows);
	tcase_add_test(tc, a_wrong_wish_for_a_token_is_refused);
	tcase_add_test(tc, a_bearer_token_is_known_afterwards);
	tcase_add_test(tc, status_takes_in_what_push_knows);
	tcase_add_test(tc, workloads_are_listed_and_forgotten);
	suite_add_tcase(s, tc);
	return s;
}
