/* SPDX-License-Identifier: Apache-2.0 */
/* registry_test.c: who may register what, when a workload goes, and when it does not. */
#include "control/registry.h"

#include "lib/mem.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define LEASE 15000

static uint64_t now;
static struct registry *r;
static bool store_fails, store_is_busy;
static unsigned saves, lease_calls, changes, gones, guards;
static size_t guard_kept, guard_of;
static char last_gone[256], last_saved[512], last_leases[4096];

static uint64_t hook_now(void *ctx)
{
	return now;
}

static int64_t hook_wall(void *ctx)
{
	return 1700000000000 + (int64_t)now;
}

/* orders-N joined as shop/orders, with labels app=orders and any version; others never did. */
static bool hook_instance(void *ctx, const char *ns, const char *name, struct store_instance *ret, struct err *err)
{
	if (strcmp(ns, "shop") != 0 || strncmp(name, "orders-", 7) != 0)
		return err_set(err, ERR_NOT_FOUND, "it never joined");
	*ret = (struct store_instance){.sa = "orders"};
	ret->allowed_labels = json_pack("{s:s, s:s}", "app", "orders", "version", "*");
	return true;
}

static bool hook_save(void *ctx, const struct store_instance *i, struct err *err)
{
	if (store_fails)
		return err_set(err, ERR_STORE, "disk full");
	saves++;
	char *a = json_dumps(i->addresses, JSON_COMPACT), *p = json_dumps(i->ports, JSON_COMPACT),
	     *l = json_dumps(i->labels, JSON_COMPACT | JSON_SORT_KEYS);
	snprintf(last_saved, sizeof(last_saved), "%s/%s %s %s %s %lld", i->ns, i->name, a, p, l,
		 (long long)(i->lease_ms - hook_wall(NULL)));
	free(a);
	free(p);
	free(l);
	return true;
}

static bool hook_leases(void *ctx, const struct store_lease *leases, size_t n, struct err *err)
{
	lease_calls++;
	last_leases[0] = 0;
	for (size_t i = 0; i < n; i++)
		snprintf(last_leases + strlen(last_leases), sizeof(last_leases) - strlen(last_leases), "%s=%lld ",
			 leases[i].name, leases[i].until_ms ? (long long)(leases[i].until_ms - hook_wall(NULL)) : 0);
	return !store_fails;
}

static bool hook_busy(void *ctx)
{
	return store_is_busy;
}

static void hook_change(void *ctx, const struct registry_workload *w)
{
	changes++;
}

static void hook_gone(void *ctx, const struct registry_workload *w, const char *why)
{
	gones++;
	snprintf(last_gone, sizeof(last_gone), "%s: %s", w->key, why);
}

static void hook_guard(void *ctx, size_t kept, size_t of)
{
	guards++;
	guard_kept = kept;
	guard_of = of;
}

static struct ip ip_of(const char *text)
{
	struct ip ip;
	ck_assert(ip_parse(str_of(text), &ip));
	return ip;
}

static struct err err;
static struct registry_link l1, l2;

static bool reg_with(struct registry_link *l, const char *instance, const char *source, json_t *labels,
		     const uint32_t *ports, size_t n_ports, const char *more)
{
	Weft__V1__WorkloadPort p[REGISTRY_PORTS_MAX + 1];
	const Weft__V1__WorkloadPort *list[REGISTRY_PORTS_MAX + 1];
	struct ip extra = more ? ip_of(more) : (struct ip){0};
	struct registry_claim c = {.ns = "shop",
				   .sa = "orders",
				   .instance = instance,
				   .version = "weft-proxy 0.1.0",
				   .zone = "",
				   .labels = labels,
				   .ports = list,
				   .n_ports = n_ports,
				   .more = &extra,
				   .n_more = more != NULL,
				   .source = ip_of(source)};
	for (size_t i = 0; i < n_ports; i++) {
		p[i] = (Weft__V1__WorkloadPort)WEFT__V1__WORKLOAD_PORT__INIT;
		p[i].port = ports[i];
		p[i].protocol = WEFT__V1__PROTOCOL__HTTP;
		list[i] = &p[i];
	}
	bool ok = registry_register(r, l, &c, &err);
	json_decref(labels);
	return ok;
}

static bool reg(struct registry_link *l, const char *instance, const char *source)
{
	return reg_with(l, instance, source, json_pack("{s:s}", "app", "orders"), (uint32_t[]){8080}, 1, NULL);
}

static const struct registry_workload *find(const char *instance)
{
	return registry_find(r, "shop", instance);
}

static void setup(void)
{
	static const struct registry_hooks hooks = {.now_ms = hook_now,
						    .wall_ms = hook_wall,
						    .instance = hook_instance,
						    .save = hook_save,
						    .leases = hook_leases,
						    .busy = hook_busy,
						    .on_change = hook_change,
						    .on_gone = hook_gone,
						    .on_guard = hook_guard};
	now = 1000000;
	store_fails = store_is_busy = false;
	saves = lease_calls = changes = gones = guards = 0;
	guard_kept = 77;
	last_gone[0] = last_saved[0] = last_leases[0] = 0;
	r = registry_new(&hooks, NULL, "td.example", LEASE);
	registry_link_init(&l1);
	registry_link_init(&l2);
}

static void teardown(void)
{
	registry_link_down(&l1);
	registry_link_down(&l2);
	registry_free(&r);
}

START_TEST(registration_is_stored_and_announced_once)
{
	ck_assert_msg(reg(&l1, "orders-1", "10.1.0.2"), "%s", err.text);
	ck_assert_uint_eq(changes, 1);
	ck_assert_str_eq(last_saved, "shop/orders-1 [\"10.1.0.2\"] [{\"port\":8080,\"protocol\":\"http\"}] "
				     "{\"app\":\"orders\"} 15000");
	ck_assert_str_eq(find("orders-1")->identity, "spiffe://td.example/ns/shop/sa/orders");
	/* the same again (a reconnect) writes and announces nothing */
	ck_assert(reg(&l2, "orders-1", "10.1.0.2"));
	ck_assert_uint_eq(saves, 1);
	ck_assert_uint_eq(changes, 1);
	ck_assert(reg_with(&l2, "orders-1", "10.1.0.2", json_pack("{s:s}", "app", "orders"), (uint32_t[]){8080, 9090},
			   2, NULL));
	ck_assert_uint_eq(saves, 2);
	ck_assert_uint_eq(changes, 2);
}
END_TEST

START_TEST(foreign_claims_register_nothing)
{
	struct registry_claim c = {.ns = "shop", .sa = "thief", .instance = "orders-1", .version = "", .zone = ""};
	c.source = ip_of("10.1.0.2");
	ck_assert(!registry_register(r, &l1, &c, &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert_ptr_nonnull(strstr(err.text, "thief"));
	ck_assert(!reg(&l1, "payments-1", "10.1.0.2"));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
	ck_assert(!reg(&l1, "Orders/1", "10.1.0.2"));
	ck_assert(!reg_with(&l1, "orders-1", "10.1.0.2", json_pack("{s:s}", "app", "payments"), NULL, 0, NULL));
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert_ptr_nonnull(strstr(err.text, "app=payments"));
	ck_assert(!reg_with(&l1, "orders-1", "10.1.0.2", json_pack("{s:s}", "admin", "yes"), NULL, 0, NULL));
	ck_assert(!reg_with(&l1, "orders-1", "10.1.0.2", json_pack("{s:i}", "app", 1), NULL, 0, NULL));
	ck_assert_uint_eq(registry_count(r), 0);
	ck_assert_uint_eq(saves + changes, 0);
	ck_assert_ptr_null(l1.workload);
}
END_TEST

START_TEST(ports_are_checked)
{
	uint32_t many[REGISTRY_PORTS_MAX + 1];
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = (uint32_t)i + 1;
	ck_assert(!reg_with(&l1, "orders-1", "10.1.0.2", NULL, (uint32_t[]){0}, 1, NULL));
	ck_assert(!reg_with(&l1, "orders-1", "10.1.0.2", NULL, (uint32_t[]){65536}, 1, NULL));
	ck_assert_ptr_nonnull(strstr(err.text, "ports[0].port: 65536"));
	ck_assert(!reg_with(&l1, "orders-1", "10.1.0.2", NULL, (uint32_t[]){80, 80}, 2, NULL));
	ck_assert(!reg_with(&l1, "orders-1", "10.1.0.2", NULL, many, REGISTRY_PORTS_MAX + 1, NULL));
	ck_assert(reg_with(&l1, "orders-1", "10.1.0.2", NULL, many, REGISTRY_PORTS_MAX, NULL));
}
END_TEST

START_TEST(said_addresses_count_only_when_a_link_came_from_them)
{
	ck_assert(reg_with(&l1, "orders-1", "10.1.0.2", NULL, (uint32_t[]){8080}, 1, "fd00::2"));
	ck_assert_uint_eq(find("orders-1")->addresses[1].ip.len, 0);
	ck_assert(reg_with(&l2, "orders-1", "fd00::2", NULL, (uint32_t[]){8080}, 1, "10.1.0.2"));
	ck_assert_uint_eq(find("orders-1")->addresses[0].ip.len, 4);
	ck_assert_uint_eq(find("orders-1")->addresses[1].ip.len, 16);
	ck_assert_ptr_nonnull(strstr(last_saved, "[\"10.1.0.2\",\"fd00::2\"]"));
	/* still said by the first link: stays though the second is gone */
	registry_link_down(&l2);
	now += LEASE + 1;
	registry_heartbeat(&l1);
	registry_tick(r);
	ck_assert_uint_eq(find("orders-1")->addresses[1].ip.len, 16);
	/* no longer said and nobody comes from it: goes with its lease */
	ck_assert(reg_with(&l1, "orders-1", "10.1.0.2", NULL, (uint32_t[]){8080}, 1, NULL));
	registry_tick(r);
	ck_assert_uint_eq(find("orders-1")->addresses[1].ip.len, 0);
	ck_assert_uint_eq(find("orders-1")->addresses[0].ip.len, 4);
}
END_TEST

START_TEST(lost_link_removes_nothing_until_the_lease_is_over)
{
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	now += 5000;
	registry_heartbeat(&l1);
	registry_link_down(&l1);
	registry_heartbeat(&l1); /* of a dead link: nothing */
	now += LEASE - 1;
	registry_tick(r);
	ck_assert_ptr_nonnull(find("orders-1"));
	ck_assert(registry_alive(r, find("orders-1")));
	now += 1;
	registry_tick(r);
	ck_assert_ptr_null(find("orders-1"));
	ck_assert_str_eq(last_gone, "shop/orders-1: its lease ran out");
	ck_assert_str_eq(last_leases, "orders-1=0 ");
}
END_TEST

START_TEST(time_in_which_weftd_did_not_run_ends_no_lease)
{
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	ck_assert(reg(&l2, "orders-2", "10.1.0.3"));
	now += 10000;
	registry_heartbeat(&l1);
	now += 6000; /* that of orders-2 is over */
	registry_grace(r, 500);
	registry_tick(r);
	ck_assert_ptr_null(find("orders-2"));
	now += 60000;
	registry_grace(r, 60000);
	registry_tick(r);
	ck_assert(registry_alive(r, find("orders-1")));
	now += 9500; /* what was left of it */
	registry_tick(r);
	ck_assert_ptr_null(find("orders-1"));
}
END_TEST

START_TEST(goodbye_removes_at_once_whatever_other_links_there_are)
{
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	ck_assert(reg(&l2, "orders-1", "fd00::2"));
	registry_goodbye(&l1);
	ck_assert_ptr_null(find("orders-1"));
	ck_assert_str_eq(last_leases, "orders-1=0 ");
	ck_assert_ptr_null(l2.workload);
	registry_heartbeat(&l2);
	registry_goodbye(&l2);
	ck_assert_uint_eq(gones, 1);
}
END_TEST

START_TEST(goodbye_to_a_busy_store_removes_at_once_and_is_written_in_the_next_tick)
{
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	ck_assert(reg(&l2, "orders-2", "10.1.0.3"));
	store_is_busy = true;
	registry_goodbye(&l1);
	registry_goodbye(&l2);
	ck_assert_ptr_null(find("orders-1"));
	ck_assert_uint_eq(gones, 2);
	ck_assert_uint_eq(lease_calls, 0);
	store_is_busy = false;
	ck_assert(reg(&l2, "orders-2", "10.1.0.3")); /* back before that: its new lease stays */
	registry_tick(r);
	ck_assert_str_eq(last_leases, "orders-1=0 ");
	registry_tick(r);
	ck_assert_uint_eq(lease_calls, 1);
}
END_TEST

START_TEST(goodbye_that_no_tick_has_written_is_written_at_the_end)
{
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	store_is_busy = true;
	registry_goodbye(&l1);
	registry_free(&r);
	ck_assert_str_eq(last_leases, "orders-1=0 ");
}
END_TEST

START_TEST(one_name_from_two_living_addresses_is_refused)
{
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	ck_assert(!reg(&l2, "orders-1", "10.1.0.3"));
	ck_assert_int_eq(err.code, ERR_EXISTS);
	ck_assert_ptr_nonnull(strstr(err.text, "10.1.0.2"));
	ck_assert(ip_eq(&find("orders-1")->addresses[0].ip, &l1.source));
	/* the first has been silent for a lease: it moved */
	now += LEASE;
	ck_assert_msg(reg(&l2, "orders-1", "10.1.0.3"), "%s", err.text);
	ck_assert(ip_eq(&find("orders-1")->addresses[0].ip, &l2.source));
}
END_TEST

START_TEST(address_goes_to_the_last_who_came_from_it)
{
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	/* two living workloads of one address (a shared network namespace) are both kept */
	ck_assert(reg(&l2, "orders-2", "10.1.0.2"));
	ck_assert_uint_eq(registry_count(r), 2);
	registry_goodbye(&l2);
	registry_link_down(&l1);
	ck_assert(reg(&l2, "orders-3", "10.1.0.2"));
	ck_assert_ptr_null(find("orders-1"));
	ck_assert_str_eq(last_gone, "shop/orders-1: its address went to another workload");
}
END_TEST

START_TEST(renewals_reach_the_store_in_batches)
{
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	ck_assert(reg(&l2, "orders-2", "10.1.0.3"));
	for (int s = 0; s < 4; s++) {
		now += 1000;
		registry_heartbeat(&l1);
		registry_heartbeat(&l2);
		registry_tick(r);
	}
	ck_assert_uint_eq(lease_calls, 0);
	now += 1000;
	registry_heartbeat(&l1);
	registry_heartbeat(&l2);
	registry_tick(r);
	ck_assert_uint_eq(lease_calls, 1);
	ck_assert_ptr_nonnull(strstr(last_leases, "orders-1=15000"));
	ck_assert_ptr_nonnull(strstr(last_leases, "orders-2=15000"));
	now += 10000;
	registry_tick(r); /* nobody renewed */
	ck_assert_uint_eq(lease_calls, 1);
}
END_TEST

START_TEST(failing_store_refuses_and_changes_nothing)
{
	store_fails = true;
	ck_assert(!reg(&l1, "orders-1", "10.1.0.2"));
	ck_assert_int_eq(err.code, ERR_STORE);
	ck_assert_uint_eq(registry_count(r), 0);
	ck_assert_uint_eq(changes, 0);
	store_fails = false;
	ck_assert(reg(&l1, "orders-1", "10.1.0.2"));
	store_fails = true;
	ck_assert(
	    !reg_with(&l1, "orders-1", "10.1.0.2", json_pack("{s:s}", "app", "orders"), (uint32_t[]){9}, 1, NULL));
	ck_assert_uint_eq(find("orders-1")->ports[0].port, 8080);
	ck_assert_uint_eq(changes, 1);
	ck_assert_ptr_eq(l1.workload, find("orders-1")); /* what was registered stays */
	/* a full disk does not end leases of those who are there */
	for (int s = 0; s < 60; s++) {
		now += 1000;
		registry_heartbeat(&l1);
		registry_tick(r);
	}
	ck_assert_ptr_nonnull(find("orders-1"));
}
END_TEST

static void load(const char *name, const char *address, int64_t lease_ms)
{
	struct store_instance i = {.lease_ms = lease_ms};
	snprintf(i.ns, sizeof(i.ns), "shop");
	snprintf(i.name, sizeof(i.name), "%s", name);
	snprintf(i.sa, sizeof(i.sa), "orders");
	i.labels = json_pack("{s:s}", "app", "orders");
	i.ports = json_pack("[{s:i, s:s}, {s:i}]", "port", 8080, "protocol", "http2", "port", 9090);
	i.addresses = json_pack("[s]", address);
	ck_assert_msg(registry_load(r, &i, &err), "%s", err.text);
	store_instance_done(&i);
}

START_TEST(after_a_start_everyone_has_the_whole_grace)
{
	load("orders-1", "10.1.0.2", 5); /* ran out long ago by the clock on the wall */
	load("orders-2", "10.1.0.3", 0); /* stopped in order */
	ck_assert_uint_eq(registry_count(r), 1);
	ck_assert_uint_eq(find("orders-1")->n_ports, 2);
	ck_assert_int_eq(find("orders-1")->ports[0].protocol, WEFT__V1__PROTOCOL__HTTP2);
	ck_assert_int_eq(find("orders-1")->ports[1].protocol, WEFT__V1__PROTOCOL__UNDECLARED);
	now += LEASE - 1;
	registry_tick(r);
	ck_assert_ptr_nonnull(find("orders-1"));
	now += 1;
	registry_tick(r);
	ck_assert_ptr_null(find("orders-1"));
}
END_TEST

static struct registry_link many[32];

static void reg_many(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char name[32], ip[32];
		snprintf(name, sizeof(name), "orders-%zu", i);
		snprintf(ip, sizeof(ip), "10.2.0.%zu", i + 1);
		registry_link_init(&many[i]);
		ck_assert_msg(reg(&many[i], name, ip), "%s", err.text);
	}
}

/* Seconds pass; only the first `alive` send heartbeats, every 5 s and not all at once. */
static void pass(unsigned seconds, size_t n, size_t alive)
{
	for (unsigned s = 0; s < seconds; s++) {
		now += 1000;
		for (size_t i = 0; i < n; i++)
			if (i < alive && (now / 1000 + i) % 5 == 0)
				registry_heartbeat(&many[i]);
		registry_tick(r);
	}
}

START_TEST(guard_keeps_when_more_than_three_in_ten_would_vanish)
{
	reg_many(10);
	pass(20, 10, 10);
	pass(60, 10, 6); /* 4 of 10 fall silent within one heartbeat */
	ck_assert_uint_eq(registry_count(r), 10);
	ck_assert_uint_eq(gones, 0);
	ck_assert_uint_ge(guards, 1);
	ck_assert_uint_eq(guard_kept, 4);
	ck_assert_uint_eq(guard_of, 10);
	ck_assert_uint_eq(registry_guarded(r), 4);
	/* two come back: the others are few enough to go */
	pass(60, 10, 8);
	ck_assert_uint_eq(registry_count(r), 8);
	ck_assert_uint_eq(guard_kept, 0);
}
END_TEST

START_TEST(guard_lets_go_after_an_hour)
{
	reg_many(10);
	pass(GUARD_MAX_MS / 1000 - 60, 10, 2);
	ck_assert_uint_eq(registry_count(r), 10);
	pass(120, 10, 2);
	ck_assert_uint_eq(registry_count(r), 2);
}
END_TEST

START_TEST(three_in_ten_and_pairs_go)
{
	reg_many(10);
	pass(20, 10, 10);
	pass(60, 10, 7);
	ck_assert_uint_eq(registry_count(r), 7);
	ck_assert_uint_eq(guards, 0);
	registry_free(&r);
	setup();
	reg_many(2);
	pass(60, 2, 0);
	ck_assert_uint_eq(registry_count(r), 0);
}
END_TEST

START_TEST(trickle_of_losses_is_seen_as_one)
{
	reg_many(10);
	/* one more falls silent every 3 s: three of ten within a lease go, the fourth is kept */
	for (size_t dead = 1; dead <= 8; dead++)
		pass(3, 10, 10 - dead);
	pass(30, 10, 2);
	ck_assert_uint_ge(registry_count(r), 6);
	ck_assert_uint_ge(guards, 1);
}
END_TEST

START_TEST(links_of_one_workload_are_capped)
{
	struct registry_link l[REGISTRY_LINKS_MAX + 1];
	for (size_t i = 0; i < ARRAY_LEN(l); i++)
		registry_link_init(&l[i]);
	for (size_t i = 0; i < REGISTRY_LINKS_MAX; i++)
		ck_assert(reg(&l[i], "orders-1", "10.1.0.2"));
	ck_assert(!reg(&l[REGISTRY_LINKS_MAX], "orders-1", "10.1.0.2"));
	ck_assert_int_eq(err.code, ERR_LIMIT);
	ck_assert(reg(&l[0], "orders-1", "10.1.0.2"));
	for (size_t i = 0; i < ARRAY_LEN(l); i++)
		registry_link_down(&l[i]);
}
END_TEST

Suite *registry_suite(void);
Suite *registry_suite(void)
{
	Suite *s = suite_create("registry");
	TCase *c = tcase_create("registry");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, registration_is_stored_and_announced_once);
	tcase_add_test(c, foreign_claims_register_nothing);
	tcase_add_test(c, ports_are_checked);
	tcase_add_test(c, said_addresses_count_only_when_a_link_came_from_them);
	tcase_add_test(c, lost_link_removes_nothing_until_the_lease_is_over);
	tcase_add_test(c, time_in_which_weftd_did_not_run_ends_no_lease);
	tcase_add_test(c, goodbye_removes_at_once_whatever_other_links_there_are);
	tcase_add_test(c, goodbye_to_a_busy_store_removes_at_once_and_is_written_in_the_next_tick);
	tcase_add_test(c, goodbye_that_no_tick_has_written_is_written_at_the_end);
	tcase_add_test(c, one_name_from_two_living_addresses_is_refused);
	tcase_add_test(c, address_goes_to_the_last_who_came_from_it);
	tcase_add_test(c, renewals_reach_the_store_in_batches);
	tcase_add_test(c, failing_store_refuses_and_changes_nothing);
	tcase_add_test(c, after_a_start_everyone_has_the_whole_grace);
	tcase_add_test(c, guard_keeps_when_more_than_three_in_ten_would_vanish);
	tcase_add_test(c, guard_lets_go_after_an_hour);
	tcase_add_test(c, three_in_ten_and_pairs_go);
	tcase_add_test(c, trickle_of_losses_is_seen_as_one);
	tcase_add_test(c, links_of_one_workload_are_capped);
	suite_add_tcase(s, c);
	return s;
}
