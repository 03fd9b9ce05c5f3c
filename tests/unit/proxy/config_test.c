/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration by address: when something becomes visible, what waiters hear, what is let go. */
#include "feed.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/view.h"

#include <check.h>
#include <stdio.h>

static struct loop *loop;
static struct config *config;
static struct view *view;
static struct feed f;

/* --- a source that notes what it is asked --- */

static char asked[4096];

static void note(char sign, const struct ip *ip)
{
	char text[IP_TEXT_MAX];
	size_t n = strlen(asked);
	snprintf(asked + n, sizeof(asked) - n, "%c%s ", sign, ip_text(ip, text));
}
static void on_follow(void *ctx, const struct ip *ip)
{
	note('+', ip);
}
static void on_unfollow(void *ctx, const struct ip *ip)
{
	note('-', ip);
}
static void on_name(void *ctx, enum resource_type t, const char *name)
{
	ck_abort_msg("no manifest here lists more than its service");
}

static const struct config_source source = {on_follow, on_unfollow, on_name, on_name};

static void setup(void)
{
	struct err err;
	loop = loop_new(&err);
	ck_assert_ptr_nonnull(loop);
	config = config_new(loop);
	view = view_new(loop, config, loop);
	asked[0] = '\0';
}

static void setup_source(void)
{
	setup();
	config_set_source(config, &source, NULL);
	config_set_linked(config, true);
}

static void teardown(void)
{
	view_free(&view);
	config_free(&config);
	loop_free(&loop);
}

/* --- shorthands --- */

static struct addr addr(const char *text)
{
	struct addr r;
	ck_assert(addr_parse(str_of(text), &r));
	return r;
}

static struct ip ip(const char *text)
{
	struct ip r;
	ck_assert(ip_parse(str_of(text), &r));
	return r;
}

static void apply(void)
{
	struct err err = {0};
	ck_assert_msg(config_apply(config, &f.from, &err), "%s", err.text);
}

static void refuse(void)
{
	struct err err = {0};
	ck_assert(!config_apply(config, &f.from, &err));
}

static struct target at(const char *text)
{
	struct target t;
	struct addr to = addr(text);
	config_commit(config);
	snapshot_find(config_snapshot(config), &to, &t);
	return t;
}

static void push_service(const char *version, enum protocol p)
{
	feed_service(&f, "shop/orders", version, "10.9.0.1", p);
	apply();
}
static void push_manifest(const char *version, const char *service_version)
{
	feed_manifest(&f, "shop/orders", version, "10.9.0.1", service_version, NULL);
	apply();
}
static void push_endpoints(const char *version, const char *endpoint)
{
	feed_endpoints(&f, "shop/orders", version, "10.9.0.1", endpoint);
	apply();
}
static void push_mesh(void)
{
	feed_mesh(&f, "v1", "test.mesh");
	apply();
}

struct waiting {
	struct view_waiter w;
	int answers;
	bool known;
};

static void on_answer(struct view_waiter *w, bool known)
{
	struct waiting *x = CONTAINER_OF(w, struct waiting, w);
	x->answers++;
	x->known = known;
	loop_stop(loop);
}

/* Runs the loop until somebody is answered, at most for ms. */
static void on_timer(struct timer *t)
{
	loop_stop(loop);
}
static void run(uint64_t ms)
{
	struct timer t;
	timer_init(&t, loop, on_timer);
	timer_start(&t, ms);
	loop_run(loop);
	timer_stop(&t);
}

static void want(struct waiting *x, const char *to)
{
	struct addr a = addr(to);
	memset(x, 0, sizeof(*x));
	x->w.on_answer = on_answer;
	view_want(view, &x->w, &a);
}

/* --- completeness --- */

START_TEST(a_service_is_visible_only_when_its_manifest_is_complete)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_mesh();
	push_service("s1", PROTOCOL_HTTP);
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK);
	push_endpoints("e1", "10.1.0.2");
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK);
	push_manifest("m1", "s0");
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK);
	push_manifest("m2", "s1");
	struct target t = at("10.9.0.1:80");
	ck_assert_int_eq(t.kind, TARGET_SERVICE);
	ck_assert_str_eq(t.service->version, "s1");
	ck_assert_uint_eq(t.port->endpoints->len, 1);
	ck_assert_uint_eq(t.port->endpoints->v[0].addr.port, 8080);
}
END_TEST

START_TEST(a_change_waits_for_its_manifest_and_endpoints_do_not)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_mesh();
	push_service("s1", PROTOCOL_HTTP);
	push_endpoints("e1", "10.1.0.2");
	push_manifest("m1", "s1");
	ck_assert_int_eq(at("10.9.0.1:80").protocol, PROTOCOL_HTTP);

	push_service("s2", PROTOCOL_TCP);
	ck_assert_int_eq(at("10.9.0.1:80").protocol, PROTOCOL_HTTP);
	push_endpoints("e2", "10.1.0.3");
	struct target t = at("10.9.0.1:80");
	ck_assert_int_eq(t.protocol, PROTOCOL_HTTP);
	ck_assert_uint_eq(t.port->endpoints->v[0].addr.ip.b[3], 3);
	push_manifest("m2", "s2");
	ck_assert_int_eq(at("10.9.0.1:80").protocol, PROTOCOL_TCP);

	/* The other order: the manifest first. */
	push_manifest("m3", "s3");
	ck_assert_int_eq(at("10.9.0.1:80").protocol, PROTOCOL_TCP);
	push_service("s3", PROTOCOL_HTTP2);
	ck_assert_int_eq(at("10.9.0.1:80").protocol, PROTOCOL_HTTP2);
}
END_TEST

START_TEST(an_unchanged_endpoint_set_is_shared)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_service("s1", PROTOCOL_HTTP);
	push_endpoints("e1", "10.1.0.2");
	push_manifest("m1", "s1");
	struct endpoint_set *before = at("10.9.0.1:80").port->endpoints;
	push_endpoints("e2", "10.1.0.2");
	ck_assert_ptr_eq(at("10.9.0.1:80").port->endpoints, before);
}
END_TEST

START_TEST(a_refused_entry_counts_at_its_last_good_version)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_service("s1", PROTOCOL_HTTP);
	push_endpoints("e1", "10.1.0.2");
	push_manifest("m1", "s1");
	feed_service(&f, "shop/orders", "s2", "127.0.0.1", PROTOCOL_TCP);
	refuse();
	push_manifest("m2", "s2");
	struct target t = at("10.9.0.1:80");
	ck_assert_int_eq(t.kind, TARGET_SERVICE);
	ck_assert_str_eq(t.service->version, "s1");
}
END_TEST

START_TEST(a_refused_service_without_a_good_one_stays_unusable)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_mesh();
	feed_service(&f, "shop/orders", "s1", "127.0.0.1", PROTOCOL_TCP);
	refuse();
	push_endpoints("e1", "10.1.0.2");
	push_manifest("m1", "s1");
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK);
}
END_TEST

START_TEST(a_manifest_with_an_entry_of_unknown_type_never_fails_open)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_mesh();
	push_service("s1", PROTOCOL_HTTP);
	push_endpoints("e1", "10.1.0.2");
	feed_manifest(&f, "shop/orders", "m1", "10.9.0.1", "s1", "AuthorizationPolicy");
	refuse();
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK);
	push_manifest("m2", "s1");
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_SERVICE);
	/* Later: the last good one stays. */
	push_service("s3", PROTOCOL_TCP);
	feed_manifest(&f, "shop/orders", "m3", "10.9.0.1", "s3", "AuthorizationPolicy");
	refuse();
	ck_assert_int_eq(at("10.9.0.1:80").protocol, PROTOCOL_HTTP);
}
END_TEST

START_TEST(no_endpoints_answered_as_nothing_there_is_an_empty_set)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_service("s1", PROTOCOL_HTTP);
	push_manifest("m1", "s1");
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK);
	config_remove(config, RESOURCE_ENDPOINTS, STR("addr:10.9.0.1"));
	struct target t = at("10.9.0.1:80");
	ck_assert_int_eq(t.kind, TARGET_SERVICE);
	ck_assert_uint_eq(t.port->endpoints->len, 0);
}
END_TEST

START_TEST(endpoints_that_went_leave_an_empty_set)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_service("s1", PROTOCOL_HTTP);
	push_endpoints("e1", "10.1.0.2");
	push_manifest("m1", "s1");
	ck_assert_uint_eq(at("10.9.0.1:80").port->endpoints->len, 1);
	config_remove(config, RESOURCE_ENDPOINTS, STR("shop/orders"));
	ck_assert_uint_eq(at("10.9.0.1:80").port->endpoints->len, 0);
}
END_TEST

/* --- negatives, removal --- */

START_TEST(nothing_there_becomes_something)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_mesh();
	config_remove(config, RESOURCE_SERVICE, STR("addr:10.9.0.1"));
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK); /* it may still be a workload */
	config_remove(config, RESOURCE_WORKLOAD, STR("addr:10.9.0.1"));
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_UNKNOWN);
	feed_workload(&f, "shop/orders-1", "w1", "10.9.0.1");
	apply();
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_WORKLOAD);
	config_remove(config, RESOURCE_WORKLOAD, STR("shop/orders-1"));
	config_remove(config, RESOURCE_WORKLOAD, STR("addr:10.9.0.1"));
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_UNKNOWN);
	push_service("s1", PROTOCOL_HTTP);
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK); /* is a service now, but not complete */
	push_endpoints("e1", "10.1.0.2");
	push_manifest("m1", "s1");
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_SERVICE);
}
END_TEST

START_TEST(a_removed_service_is_gone_at_once)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_mesh();
	push_service("s1", PROTOCOL_HTTP);
	push_endpoints("e1", "10.1.0.2");
	push_manifest("m1", "s1");
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_SERVICE);
	config_remove(config, RESOURCE_SERVICE, STR("addr:10.9.0.1"));
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_ASK);
	ck_assert_uint_eq(snapshot_services(config_snapshot(config)), 0);
}
END_TEST

/* --- waiting --- */

START_TEST(a_waiter_is_answered_when_everything_is_there)
{
	struct waiting x;
	push_mesh();
	config_commit(config);
	want(&x, "10.9.0.1:80");
	ck_assert_str_eq(asked, "+10.9.0.1 ");
	run(20);
	ck_assert_int_eq(x.answers, 0);
	push_service("s1", PROTOCOL_HTTP);
	push_endpoints("e1", "10.1.0.2");
	run(20);
	ck_assert_int_eq(x.answers, 0);
	push_manifest("m1", "s1");
	run(1000);
	ck_assert_int_eq(x.answers, 1);
	ck_assert(x.known);
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_SERVICE);
}
END_TEST

START_TEST(a_waiter_is_answered_by_nothing_there)
{
	struct waiting x;
	push_mesh();
	config_commit(config);
	want(&x, "10.9.0.1:80");
	config_remove(config, RESOURCE_SERVICE, STR("addr:10.9.0.1"));
	config_remove(config, RESOURCE_WORKLOAD, STR("addr:10.9.0.1"));
	run(1000);
	ck_assert_int_eq(x.answers, 1);
	ck_assert(x.known);
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_UNKNOWN);
}
END_TEST

START_TEST(a_waiter_gives_up_after_its_time)
{
	struct waiting x;
	push_mesh();
	config_commit(config);
	want(&x, "10.9.0.1:80");
	run(VIEW_WAIT_MS - 200);
	ck_assert_int_eq(x.answers, 0);
	run(1000);
	ck_assert_int_eq(x.answers, 1);
	ck_assert(!x.known);
}
END_TEST

START_TEST(external_is_answered_at_once_and_not_asked_for)
{
	struct waiting x;
	push_mesh();
	config_commit(config);
	want(&x, "192.0.2.1:80");
	ck_assert_int_eq(x.answers, 0); /* never from within */
	run(1000);
	ck_assert_int_eq(x.answers, 1);
	ck_assert(x.known);
	ck_assert_str_eq(asked, "");
}
END_TEST

START_TEST(a_waiter_may_leave_and_others_stay)
{
	struct waiting x, y, never;
	memset(&never, 0, sizeof(never));
	view_unwant(&never.w);
	push_mesh();
	config_commit(config);
	want(&x, "10.9.0.1:80");
	want(&y, "10.9.0.1:81");
	view_unwant(&x.w);
	view_unwant(&x.w);
	config_remove(config, RESOURCE_SERVICE, STR("addr:10.9.0.1"));
	config_remove(config, RESOURCE_WORKLOAD, STR("addr:10.9.0.1"));
	run(1000);
	ck_assert_int_eq(x.answers, 0);
	ck_assert_int_eq(y.answers, 1);
}
END_TEST

START_TEST(without_a_source_nobody_waits)
{
	struct waiting x;
	push_mesh();
	config_commit(config);
	ck_assert_int_eq(at("10.9.0.1:80").kind, TARGET_UNKNOWN);
	want(&x, "10.9.0.1:80");
	run(1000);
	ck_assert_int_eq(x.answers, 1);
}
END_TEST

/* --- what is held --- */

START_TEST(holds_only_what_is_followed)
{
	struct ip a = ip("10.9.0.1"), b = ip("10.9.0.2");
	char name[64], vip[64];
	config_follow(config, &a);
	config_follow(config, &b);
	for (int i = 1; i <= 1000; i++) {
		snprintf(name, sizeof(name), "shop/s%d", i);
		snprintf(vip, sizeof(vip), "10.9.%d.%d", i / 250, i % 250);
		feed_service(&f, name, "s1", vip, PROTOCOL_HTTP);
		apply();
		feed_endpoints(&f, name, "e1", vip, "10.1.0.2");
		apply();
		feed_manifest(&f, name, "m1", vip, "s1", NULL);
		apply();
	}
	config_commit(config);
	ck_assert_uint_eq(snapshot_services(config_snapshot(config)), 2);
	json_t *dump = config_dump(config);
	ck_assert_uint_eq(json_array_size(json_object_get(dump, "resources")), 6);
	json_decref(dump);
}
END_TEST

START_TEST(idle_addresses_are_let_go_only_while_linked)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	push_service("s1", PROTOCOL_HTTP);
	push_endpoints("e1", "10.1.0.2");
	push_manifest("m1", "s1");
	config_commit(config);
	config_set_linked(config, false);
	config_let_go(config, 0);
	config_commit(config);
	ck_assert_uint_eq(snapshot_services(config_snapshot(config)), 1);
	config_set_linked(config, true);
	config_let_go(config, 60000);
	ck_assert_str_eq(asked, "+10.9.0.1 ");
	config_let_go(config, 0);
	ck_assert_str_eq(asked, "+10.9.0.1 -10.9.0.1 ");
	config_commit(config);
	ck_assert_uint_eq(snapshot_services(config_snapshot(config)), 0);
}
END_TEST

START_TEST(the_caps_hold_and_the_longest_unused_goes_first)
{
	char text[64];
	for (int i = 0; i < CONFIG_NAMES_MAX + 10; i++) {
		snprintf(text, sizeof(text), "10.%d.%d.%d", 100 + i / 65536, i / 256 % 256, i % 256);
		struct ip a = ip(text);
		config_follow(config, &a);
		if (i == 5) {
			struct addr first = addr("10.100.0.0:80");
			config_touch(config, &first);
		}
	}
	json_t *dump = config_dump(config), *list = json_object_get(dump, "addresses");
	ck_assert_uint_eq(json_array_size(list), CONFIG_NAMES_MAX);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(list, 0), "address")), "10.100.0.10");
	json_decref(dump);
}
END_TEST

START_TEST(nothing_there_is_kept_up_to_its_cap)
{
	char text[64];
	push_mesh();
	for (int i = 0; i < CONFIG_NEGATIVE_MAX + 3; i++) {
		snprintf(text, sizeof(text), "addr:10.100.%d.%d", i / 256, i % 256);
		struct ip a = ip(text + 5);
		config_follow(config, &a);
		config_remove(config, RESOURCE_SERVICE, str_of(text));
		config_remove(config, RESOURCE_WORKLOAD, str_of(text));
	}
	json_t *dump = config_dump(config);
	ck_assert_uint_eq(json_array_size(json_object_get(dump, "addresses")), CONFIG_NEGATIVE_MAX);
	json_decref(dump);
	ck_assert_int_eq(at("10.100.0.2:80").kind, TARGET_ASK);
	ck_assert_int_eq(at("10.100.0.3:80").kind, TARGET_UNKNOWN);
}
END_TEST

START_TEST(touching_a_second_address_follows_it_too)
{
	struct ip vip = ip("10.9.0.1");
	config_follow(config, &vip);
	feed_workload(&f, "shop/w", "w1", "10.9.0.5");
	feed_alias(&f, "10.9.0.1");
	apply();
	config_commit(config);
	struct addr second = addr("10.9.0.5:80"), foreign = addr("10.9.0.6:80");
	config_touch(config, &second);
	config_touch(config, &foreign);
	ck_assert_str_eq(asked, "+10.9.0.1 +10.9.0.5 ");
}
END_TEST

/* --- mesh and self --- */

START_TEST(ready_means_mesh_and_self)
{
	ck_assert(!config_ready(config));
	push_mesh();
	config_commit(config);
	ck_assert(!config_ready(config));
	feed_self(&f, "v1");
	apply();
	config_commit(config);
	ck_assert(config_ready(config));
	const struct inbound_port *p = snapshot_inbound(config_snapshot(config), 9000);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(p->protocol, PROTOCOL_HTTP);
	ck_assert(p->http_policy);
	ck_assert_ptr_null(snapshot_inbound(config_snapshot(config), 9001));
	ck_assert_str_eq(snapshot_trust_domain(config_snapshot(config)), "test.mesh");
}
END_TEST

START_TEST(a_hint_says_what_is_outside_before_the_first_push)
{
	struct cidr c;
	ck_assert(cidr_parse(STR("172.16.0.0/12"), &c));
	ck_assert_int_eq(at("192.0.2.1:80").kind, TARGET_ASK);
	config_hint_mesh(config, "test.mesh", &c, 1);
	ck_assert_int_eq(at("192.0.2.1:80").kind, TARGET_EXTERNAL);
	ck_assert_int_eq(at("172.16.0.1:80").kind, TARGET_ASK);
	ck_assert(!config_ready(config));
	push_mesh();
	ck_assert_int_eq(at("172.16.0.1:80").kind, TARGET_EXTERNAL);
	ck_assert_int_eq(at("10.0.0.1:80").kind, TARGET_ASK);
}
END_TEST

START_TEST(a_push_cannot_change_the_trust_domain)
{
	struct err err = {0};
	config_hint_mesh(config, "test.mesh", NULL, 0);
	feed_mesh(&f, "v1", "evil.mesh");
	ck_assert(!config_apply(config, &f.from, &err));
	ck_assert_msg(strstr(err.text, "evil.mesh") && strstr(err.text, "test.mesh"), "%s", err.text);
	config_commit(config);
	ck_assert_str_eq(snapshot_trust_domain(config_snapshot(config)), "test.mesh");
}
END_TEST

Suite *config_suite(void);
Suite *config_suite(void)
{
	Suite *s = suite_create("config");
	TCase *t = tcase_create("source"), *alone = tcase_create("alone");
	tcase_add_checked_fixture(t, setup_source, teardown);
	tcase_add_test(t, a_service_is_visible_only_when_its_manifest_is_complete);
	tcase_add_test(t, a_change_waits_for_its_manifest_and_endpoints_do_not);
	tcase_add_test(t, an_unchanged_endpoint_set_is_shared);
	tcase_add_test(t, a_refused_entry_counts_at_its_last_good_version);
	tcase_add_test(t, a_refused_service_without_a_good_one_stays_unusable);
	tcase_add_test(t, a_manifest_with_an_entry_of_unknown_type_never_fails_open);
	tcase_add_test(t, no_endpoints_answered_as_nothing_there_is_an_empty_set);
	tcase_add_test(t, endpoints_that_went_leave_an_empty_set);
	tcase_add_test(t, nothing_there_becomes_something);
	tcase_add_test(t, a_removed_service_is_gone_at_once);
	tcase_add_test(t, a_waiter_is_answered_when_everything_is_there);
	tcase_add_test(t, a_waiter_is_answered_by_nothing_there);
	tcase_add_test(t, a_waiter_gives_up_after_its_time);
	tcase_add_test(t, external_is_answered_at_once_and_not_asked_for);
	tcase_add_test(t, a_waiter_may_leave_and_others_stay);
	tcase_add_test(t, holds_only_what_is_followed);
	tcase_add_test(t, idle_addresses_are_let_go_only_while_linked);
	tcase_add_test(t, the_caps_hold_and_the_longest_unused_goes_first);
	tcase_add_test(t, nothing_there_is_kept_up_to_its_cap);
	tcase_add_test(t, touching_a_second_address_follows_it_too);
	tcase_add_test(t, ready_means_mesh_and_self);
	tcase_add_test(t, a_hint_says_what_is_outside_before_the_first_push);
	tcase_add_test(t, a_push_cannot_change_the_trust_domain);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(alone, setup, teardown);
	tcase_add_test(alone, without_a_source_nobody_waits);
	suite_add_tcase(s, alone);
	return s;
}
