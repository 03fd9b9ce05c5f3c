/* SPDX-License-Identifier: Apache-2.0 */
/* Delta xDS, client's side: what goes out and when, what is answered, what a new stream gets. weftd is played by hand. */
#include "proxy/subscribe.h"

#include "feed.h"
#include "lib/mem.h"
#include "lib/proto/xds.pb-c.h"
#include "proxy/config_build.h"

#include <check.h>
#include <stdio.h>

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryRequest request_pb;
typedef Envoy__Service__Discovery__V3__DeltaDiscoveryResponse response_pb;
typedef Envoy__Service__Discovery__V3__Resource resource_pb;

static struct loop *loop;
static struct config *config;
static struct subscribe *sub;
static struct feed f;

/* --- what the proxy said --- */

#define SENT_MAX 64
static request_pb *sent[SENT_MAX];
static size_t n_sent;

static void on_send(void *ctx, struct str message)
{
	ck_assert_uint_lt(n_sent, SENT_MAX);
	request_pb *r = envoy__service__discovery__v3__delta_discovery_request__unpack(NULL, message.len,
										       (const uint8_t *)message.p);
	ck_assert_ptr_nonnull(r);
	sent[n_sent++] = r;
}

static void forget(void)
{
	while (n_sent)
		envoy__service__discovery__v3__delta_discovery_request__free_unpacked(sent[--n_sent], NULL);
}

static void on_timer(struct timer *t)
{
	loop_stop(loop);
}

static void turn(void)
{
	struct timer t;
	timer_init(&t, loop, on_timer);
	timer_start(&t, 0);
	loop_run(loop);
	timer_stop(&t);
}

static void setup(void)
{
	struct err err;
	loop = loop_new(&err);
	config = config_new(loop);
	sub = subscribe_new(loop, config, "client-1", "shop/client");
}

static void teardown(void)
{
	forget();
	subscribe_free(&sub);
	config_free(&config);
	loop_free(&loop);
}

/* --- what weftd says --- */

struct response {
	response_pb m;
	resource_pb r[16], *refs[16];
	Envoy__Service__Discovery__V3__Any any[16];
	struct feed *feeds[16];
	char *aliases[16][4];
	char *removed[4];
};

static struct response *response(enum resource_type t, const char *nonce)
{
	struct response *x = NEW(struct response);
	envoy__service__discovery__v3__delta_discovery_response__init(&x->m);
	x->m.type_url = (char *)(uintptr_t)resource_type_url(t);
	x->m.nonce = (char *)(uintptr_t)nonce;
	x->m.resources = x->refs;
	x->m.removed_resources = x->removed;
	return x;
}

static void add_feed(struct response *x, const struct feed *what)
{
	size_t i = x->m.n_resources++;
	struct feed *copy = x->feeds[i] = mem_alloc(sizeof(*copy));
	memcpy(copy, what, sizeof(*copy));
	envoy__service__discovery__v3__any__init(&x->any[i]);
	envoy__service__discovery__v3__resource__init(x->refs[i] = &x->r[i]);
	x->any[i].type_url = (char *)(uintptr_t)resource_type_url(what->from.type);
	x->any[i].value = (ProtobufCBinaryData){what->from.bytes.len, copy->bytes};
	x->r[i].resource = &x->any[i];
	x->r[i].name = copy->name;
	x->r[i].version = copy->version;
	for (size_t k = 0; k < what->from.n_aliases; k++)
		x->aliases[i][k] = copy->alias[k];
	x->r[i].aliases = x->aliases[i];
	x->r[i].n_aliases = what->from.n_aliases;
}

static void add_removed(struct response *x, const char *name)
{
	x->removed[x->m.n_removed_resources++] = (char *)(uintptr_t)name;
}

/* Hands it over; frees it. */
static bool deliver(struct response *x)
{
	struct err err;
	size_t len = envoy__service__discovery__v3__delta_discovery_response__get_packed_size(&x->m);
	uint8_t *bytes = mem_alloc(len + 1);
	envoy__service__discovery__v3__delta_discovery_response__pack(&x->m, bytes);
	bool ok = subscribe_message(sub, str_make(bytes, len), &err);
	mem_free(bytes);
	for (size_t i = 0; i < x->m.n_resources; i++)
		mem_free(x->feeds[i]);
	mem_free(x);
	return ok;
}

static void deliver_one(const struct feed *what, const char *nonce)
{
	struct response *x = response(what->from.type, nonce);
	add_feed(x, what);
	ck_assert(deliver(x));
}

static void deliver_removed(enum resource_type t, const char *name, const char *nonce)
{
	struct response *x = response(t, nonce);
	add_removed(x, name);
	ck_assert(deliver(x));
}

static void start(void)
{
	subscribe_start(sub, on_send, NULL);
}

static struct addr addr(const char *text)
{
	struct addr r;
	ck_assert(addr_parse(str_of(text), &r));
	return r;
}

static void follow(const char *text)
{
	struct ip ip;
	ck_assert(ip_parse(str_of(text), &ip));
	config_follow(config, &ip);
}

static enum target_kind kind_at(const char *text)
{
	struct target t;
	struct addr to = addr(text);
	config_commit(config);
	snapshot_find(config_snapshot(config), &to, &t);
	return t.kind;
}

/* The one request of this type among those sent. */
static const request_pb *sent_of(enum resource_type t)
{
	const request_pb *found = NULL;
	for (size_t i = 0; i < n_sent; i++)
		if (strcmp(sent[i]->type_url, resource_type_url(t)) == 0) {
			ck_assert_ptr_null(found);
			found = sent[i];
		}
	ck_assert_ptr_nonnull(found);
	return found;
}

static void service_whole(const char *vip)
{
	feed_service(&f, "shop/orders", "s1", vip, PROTOCOL_HTTP);
	deliver_one(&f, "1");
	feed_endpoints(&f, "shop/orders", "e1", vip, "10.1.0.2");
	deliver_one(&f, "2");
	feed_manifest(&f, "shop/orders", "m1", vip, "s1", NULL);
	deliver_one(&f, "3");
}

/* --- claims --- */

START_TEST(a_stream_begins_with_mesh_and_self_and_who_we_are)
{
	start();
	ck_assert_uint_eq(n_sent, 2);
	for (size_t i = 0; i < 2; i++) {
		ck_assert_uint_eq(sent[i]->n_resource_names_subscribe, 1);
		ck_assert_ptr_nonnull(sent[i]->node);
		ck_assert_str_eq(sent[i]->node->id, "client-1");
		ck_assert_str_eq(sent[i]->node->cluster, "shop/client");
		ck_assert_uint_eq(sent[i]->n_initial_resource_versions, 0);
		ck_assert_str_eq(sent[i]->response_nonce, "");
	}
	ck_assert_str_eq(sent_of(RESOURCE_SELF)->resource_names_subscribe[0], "self");
	ck_assert_str_eq(sent_of(RESOURCE_MESH)->resource_names_subscribe[0], "mesh");
}
END_TEST

START_TEST(one_turn_of_addresses_is_four_requests)
{
	start();
	forget();
	follow("10.9.0.1");
	follow("fd00::1");
	ck_assert_uint_eq(n_sent, 0);
	turn();
	ck_assert_uint_eq(n_sent, 4);
	static const enum resource_type types[] = {RESOURCE_SERVICE, RESOURCE_ENDPOINTS, RESOURCE_MANIFEST,
						   RESOURCE_WORKLOAD};
	for (size_t i = 0; i < 4; i++) {
		const request_pb *r = sent_of(types[i]);
		ck_assert_ptr_nonnull(r->node);
		ck_assert_uint_eq(r->n_resource_names_subscribe, 2);
		ck_assert_str_eq(r->resource_names_subscribe[0], "addr:10.9.0.1");
		ck_assert_str_eq(r->resource_names_subscribe[1], "addr:fd00::1");
	}
	forget();
	follow("10.9.0.2");
	turn();
	ck_assert_uint_eq(n_sent, 4);
	ck_assert_ptr_null(sent[0]->node); /* only the first of a type says it */
}
END_TEST

START_TEST(letting_go_is_said_and_following_again_wins)
{
	start();
	follow("10.9.0.1");
	turn();
	forget();
	config_let_go(config, 0);
	turn();
	ck_assert_uint_eq(n_sent, 4);
	ck_assert_uint_eq(sent[0]->n_resource_names_unsubscribe, 1);
	ck_assert_str_eq(sent[0]->resource_names_unsubscribe[0], "addr:10.9.0.1");
	ck_assert_uint_eq(sent[0]->n_resource_names_subscribe, 0);
	forget();
	follow("10.9.0.1");
	turn();
	forget();
	config_let_go(config, 0);
	follow("10.9.0.1");
	turn();
	ck_assert_uint_eq(sent[0]->n_resource_names_unsubscribe, 0);
	ck_assert_uint_eq(sent[0]->n_resource_names_subscribe, 1);
}
END_TEST

START_TEST(every_response_is_acknowledged_once)
{
	start();
	forget();
	feed_mesh(&f, "v1", "test.mesh");
	deliver_one(&f, "n7");
	ck_assert_uint_eq(n_sent, 1);
	ck_assert_str_eq(sent[0]->response_nonce, "n7");
	ck_assert_str_eq(sent[0]->type_url, resource_type_url(RESOURCE_MESH));
	ck_assert_ptr_null(sent[0]->error_detail);
	ck_assert_ptr_null(sent[0]->node);
	feed_self(&f, "v1");
	deliver_one(&f, "n8");
	turn();
	ck_assert(config_ready(config));
}
END_TEST

START_TEST(one_bad_and_nine_good_nine_applied_the_bad_one_named)
{
	char name[64], vip[64];
	start();
	for (int i = 0; i < 10; i++) {
		snprintf(vip, sizeof(vip), "10.9.0.%d", i);
		follow(vip);
	}
	turn();
	forget();
	struct response *x = response(RESOURCE_WORKLOAD, "n1");
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "shop/w%d", i);
		snprintf(vip, sizeof(vip), "10.9.0.%d", i);
		feed_workload(&f, name, "v1", i == 4 ? "127.0.0.1" : vip);
		add_feed(x, &f);
	}
	ck_assert(deliver(x));
	ck_assert_uint_eq(n_sent, 1);
	ck_assert_str_eq(sent[0]->response_nonce, "n1");
	ck_assert_ptr_nonnull(sent[0]->error_detail);
	ck_assert_int_eq(sent[0]->error_detail->code, 3);
	ck_assert_str_eq(sent[0]->error_detail->message,
			 "shop/w4: addresses[0]: 127.0.0.1 cannot be reached from elsewhere");
	config_commit(config);
	ck_assert_uint_eq(snapshot_workloads(config_snapshot(config)), 9);
	ck_assert_uint_eq(subscribe_counts(sub)->applied, 9);
	ck_assert_uint_eq(subscribe_counts(sub)->refused, 1);
}
END_TEST

START_TEST(a_withheld_manifest_keeps_the_service_unknown)
{
	start();
	feed_mesh(&f, "v1", "test.mesh");
	deliver_one(&f, "0");
	follow("10.9.0.1");
	turn();
	feed_service(&f, "shop/orders", "s1", "10.9.0.1", PROTOCOL_HTTP);
	deliver_one(&f, "1");
	feed_endpoints(&f, "shop/orders", "e1", "10.9.0.1", "10.1.0.2");
	deliver_one(&f, "2");
	deliver_removed(RESOURCE_WORKLOAD, "addr:10.9.0.1", "3");
	ck_assert_int_eq(kind_at("10.9.0.1:80"), TARGET_ASK);
	feed_manifest(&f, "shop/orders", "m1", "10.9.0.1", "s2", NULL); /* lists what has not come */
	deliver_one(&f, "4");
	ck_assert_int_eq(kind_at("10.9.0.1:80"), TARGET_ASK);
	feed_service(&f, "shop/orders", "s2", "10.9.0.1", PROTOCOL_HTTP);
	deliver_one(&f, "5");
	ck_assert_int_eq(kind_at("10.9.0.1:80"), TARGET_SERVICE);
}
END_TEST

START_TEST(nothing_there_and_then_something)
{
	start();
	feed_mesh(&f, "v1", "test.mesh");
	deliver_one(&f, "0");
	follow("10.9.0.1");
	turn();
	static const enum resource_type types[] = {RESOURCE_SERVICE, RESOURCE_ENDPOINTS, RESOURCE_MANIFEST,
						   RESOURCE_WORKLOAD};
	for (size_t i = 0; i < 4; i++)
		deliver_removed(types[i], "addr:10.9.0.1", "1");
	ck_assert_int_eq(kind_at("10.9.0.1:80"), TARGET_UNKNOWN);
	service_whole("10.9.0.1");
	ck_assert_int_eq(kind_at("10.9.0.1:80"), TARGET_SERVICE);
	deliver_removed(RESOURCE_SERVICE, "shop/orders", "9");
	deliver_removed(RESOURCE_SERVICE, "addr:10.9.0.1", "10");
	ck_assert_int_eq(kind_at("10.9.0.1:80"), TARGET_UNKNOWN);
}
END_TEST

START_TEST(a_new_stream_resends_subscriptions_and_held_versions)
{
	start();
	feed_mesh(&f, "mesh-v", "test.mesh");
	deliver_one(&f, "0");
	follow("10.9.0.1");
	follow("10.9.0.2");
	turn();
	service_whole("10.9.0.1");
	feed_service(&f, "shop/orders", "s2", "127.0.0.1", PROTOCOL_TCP); /* refused: its version is not remembered */
	deliver_one(&f, "8");
	deliver_removed(RESOURCE_SERVICE, "addr:10.9.0.2", "9");
	deliver_removed(RESOURCE_WORKLOAD, "addr:10.9.0.2", "9");
	subscribe_stop(sub);
	turn();
	ck_assert_int_eq(kind_at("10.9.0.1:80"), TARGET_SERVICE); /* last good stays */
	ck_assert_int_eq(kind_at("10.9.0.2:80"), TARGET_UNKNOWN);
	follow("10.9.0.3"); /* while it is away */
	turn();
	forget();

	start();
	ck_assert_uint_eq(n_sent, 6);
	const request_pb *r = sent_of(RESOURCE_SERVICE);
	ck_assert_uint_eq(r->n_resource_names_subscribe, 3);
	ck_assert_uint_eq(r->n_initial_resource_versions, 1);
	ck_assert_str_eq(r->initial_resource_versions[0]->key, "shop/orders");
	ck_assert_str_eq(r->initial_resource_versions[0]->value, "s1");
	ck_assert_ptr_nonnull(r->node);
	r = sent_of(RESOURCE_MESH);
	ck_assert_uint_eq(r->n_initial_resource_versions, 1);
	ck_assert_str_eq(r->initial_resource_versions[0]->value, "mesh-v");
	ck_assert_uint_eq(sent_of(RESOURCE_WORKLOAD)->n_initial_resource_versions, 0);
}
END_TEST

START_TEST(what_nobody_asked_for_is_acknowledged_and_not_held)
{
	start();
	forget();
	service_whole("10.9.0.1");
	ck_assert_uint_eq(n_sent, 3);
	for (size_t i = 0; i < 3; i++)
		ck_assert_ptr_null(sent[i]->error_detail);
	json_t *dump = config_dump(config);
	ck_assert_uint_eq(json_array_size(json_object_get(dump, "resources")), 0);
	json_decref(dump);
}
END_TEST

START_TEST(a_type_that_is_not_known_is_refused_and_the_stream_goes_on)
{
	start();
	forget();
	struct response *x = response(RESOURCE_SERVICE, "n1");
	char url[] = RESOURCE_TYPE_PREFIX "Surprise";
	x->m.type_url = url;
	ck_assert(deliver(x));
	ck_assert_uint_eq(n_sent, 1);
	ck_assert_ptr_nonnull(sent[0]->error_detail);
	ck_assert_str_eq(sent[0]->type_url, url);
}
END_TEST

START_TEST(content_of_another_type_than_announced_is_refused)
{
	start();
	follow("10.9.0.1");
	turn();
	forget();
	struct response *x = response(RESOURCE_SERVICE, "n1");
	feed_workload(&f, "shop/w", "v1", "10.9.0.1");
	add_feed(x, &f);
	ck_assert(deliver(x));
	ck_assert_ptr_nonnull(strstr(sent[0]->error_detail->message, "the response says Service"));
}
END_TEST

START_TEST(a_name_cannot_forge_a_second_line_of_the_answer)
{
	start();
	follow("10.9.0.1");
	turn();
	forget();
	struct response *x = response(RESOURCE_WORKLOAD, "n1");
	feed_workload(&f, "shop/w", "v1", "10.9.0.1");
	strcpy(f.name, "shop/a: b\nshop/c");
	add_feed(x, &f);
	ck_assert(deliver(x));
	const char *text = sent[0]->error_detail->message;
	ck_assert_ptr_null(strchr(text, '\n'));
	ck_assert_msg(strncmp(text, "shop/a??b?shop/c: ", 18) == 0, "%s", text);
}
END_TEST

START_TEST(a_flood_of_bad_resources_is_answered_within_bounds)
{
	start();
	follow("10.9.0.1");
	turn();
	forget();
	for (int round = 0; round < 20; round++) {
		struct response *x = response(RESOURCE_WORKLOAD, "n1");
		for (int i = 0; i < 16; i++) {
			feed_workload(&f, "shop/w", "v1", "127.0.0.1");
			memset(f.name, 'x', RESOURCE_NAME_MAX - 1);
			add_feed(x, &f);
		}
		ck_assert(deliver(x));
		ck_assert_uint_le(strlen(sent[n_sent - 1]->error_detail->message), SUBSCRIBE_NACK_MAX);
		forget();
	}
}
END_TEST

START_TEST(a_heartbeat_without_content_keeps_what_is_held)
{
	start();
	follow("10.9.0.1");
	turn();
	service_whole("10.9.0.1");
	forget();
	feed_service(&f, "shop/orders", "s1", "10.9.0.1", PROTOCOL_HTTP);
	struct response *x = response(RESOURCE_SERVICE, "n1");
	add_feed(x, &f);
	x->r[0].resource = NULL;
	ck_assert(deliver(x));
	ck_assert_ptr_null(sent[0]->error_detail);
	feed_service(&f, "shop/orders", "s9", "10.9.0.1", PROTOCOL_HTTP);
	x = response(RESOURCE_SERVICE, "n2");
	add_feed(x, &f);
	x->r[0].resource = NULL;
	ck_assert(deliver(x));
	ck_assert_ptr_nonnull(sent[1]->error_detail);
	ck_assert_int_eq(kind_at("10.9.0.1:80"), TARGET_SERVICE);
}
END_TEST

START_TEST(noise_ends_the_stream)
{
	struct err err = {0};
	start();
	ck_assert(!subscribe_message(sub, STR("\xff\xff\xff"), &err));
	ck_assert_ptr_nonnull(strstr(err.text, "DeltaDiscoveryResponse"));
}
END_TEST

Suite *subscribe_suite(void);
Suite *subscribe_suite(void)
{
	Suite *s = suite_create("subscribe");
	TCase *t = tcase_create("subscribe");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_stream_begins_with_mesh_and_self_and_who_we_are);
	tcase_add_test(t, one_turn_of_addresses_is_four_requests);
	tcase_add_test(t, letting_go_is_said_and_following_again_wins);
	tcase_add_test(t, every_response_is_acknowledged_once);
	tcase_add_test(t, one_bad_and_nine_good_nine_applied_the_bad_one_named);
	tcase_add_test(t, a_withheld_manifest_keeps_the_service_unknown);
	tcase_add_test(t, nothing_there_and_then_something);
	tcase_add_test(t, a_new_stream_resends_subscriptions_and_held_versions);
	tcase_add_test(t, what_nobody_asked_for_is_acknowledged_and_not_held);
	tcase_add_test(t, a_type_that_is_not_known_is_refused_and_the_stream_goes_on);
	tcase_add_test(t, content_of_another_type_than_announced_is_refused);
	tcase_add_test(t, a_name_cannot_forge_a_second_line_of_the_answer);
	tcase_add_test(t, a_flood_of_bad_resources_is_answered_within_bounds);
	tcase_add_test(t, a_heartbeat_without_content_keeps_what_is_held);
	tcase_add_test(t, noise_ends_the_stream);
	suite_add_tcase(s, t);
	return s;
}
