/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: what is found at an address, sharing, counts. */
#include "proxy/snapshot_build.h"

#include <check.h>

static struct ip ip(const char *text)
{
	struct ip r;
	ck_assert(ip_parse(str_of(text), &r));
	return r;
}

static struct addr addr(const char *text)
{
	struct addr r;
	ck_assert(addr_parse(str_of(text), &r));
	return r;
}

static struct service *make_service(const char *name, const char *vip)
{
	struct endpoint e = {.addr = addr("10.1.0.2:8080"),
			     .identity = "spiffe://t/ns/a/sa/b",
			     .workload = "a/w",
			     .zone = "z",
			     .weight = 1,
			     .meshed = true};
	struct ip vips[] = {ip(vip)};
	struct endpoint_set *set = endpoint_set_new(&e, 1);
	struct service_port ports[] = {
	    {.port = 80, .protocol = PROTOCOL_HTTP, .name = "http", .endpoints = set, .endpoints6 = set}};
	struct service like = {.name = name, .version = "v1", .n_vips = 1, .n_ports = 1, .vips = vips, .ports = ports};
	struct service *s = service_new(&like);
	endpoint_set_unref(&set);
	return s;
}

static struct workload *make_workload(const char *name, const char *at)
{
	struct ip addrs[] = {ip(at)};
	struct inbound_port ports[] = {{.port = 9000, .protocol = PROTOCOL_TCP}};
	struct workload like = {.name = name,
				.version = "v1",
				.identity = "spiffe://t/ns/a/sa/w",
				.meshed = true,
				.n_addrs = 1,
				.n_ports = 1,
				.addrs = addrs,
				.ports = ports};
	return workload_new(&like);
}

static enum target_kind kind_at(struct snapshot *s, const char *to)
{
	struct target t;
	struct addr a = addr(to);
	snapshot_find(s, &a, &t);
	return t.kind;
}

START_TEST(finds_services_workloads_and_says_what_is_outside)
{
	struct service *svc = make_service("shop/orders", "240.0.0.1");
	struct workload *w = make_workload("shop/w1", "10.1.0.9");
	struct ip nothing[] = {ip("10.1.0.77")};
	struct cidr cidr;
	ck_assert(cidr_parse(STR("10.0.0.0/8"), &cidr));
	struct snapshot_parts p = {.serial = 7,
				   .trust_domain = "t",
				   .mesh_known = true,
				   .can_ask = true,
				   .cidrs = &cidr,
				   .n_cidrs = 1,
				   .services = &svc,
				   .n_services = 1,
				   .workloads = &w,
				   .n_workloads = 1,
				   .nothing = nothing,
				   .n_nothing = 1};
	struct snapshot *s = snapshot_new(&p);
	service_unref(&svc);
	workload_unref(&w);

	struct target t;
	struct addr to = addr("240.0.0.1:80");
	snapshot_find(s, &to, &t);
	ck_assert_int_eq(t.kind, TARGET_SERVICE);
	ck_assert_str_eq(t.service->name, "shop/orders");
	ck_assert_int_eq(t.protocol, PROTOCOL_HTTP);
	ck_assert_uint_eq(t.port->endpoints->len, 1);
	ck_assert_str_eq(t.port->endpoints->v[0].identity, "spiffe://t/ns/a/sa/b");
	ck_assert_int_eq(kind_at(s, "240.0.0.1:81"), TARGET_NO_PORT);

	to = addr("10.1.0.9:9000");
	snapshot_find(s, &to, &t);
	ck_assert_int_eq(t.kind, TARGET_WORKLOAD);
	ck_assert_int_eq(t.protocol, PROTOCOL_TCP);
	ck_assert(addr_eq(&t.direct.addr, &to));
	ck_assert_str_eq(t.direct.identity, "spiffe://t/ns/a/sa/w");
	ck_assert(t.direct.meshed);
	to.port = 1;
	snapshot_find(s, &to, &t);
	ck_assert_int_eq(t.kind, TARGET_WORKLOAD);
	ck_assert_int_eq(t.protocol, PROTOCOL_UNDECLARED);

	ck_assert_int_eq(kind_at(s, "10.1.0.77:80"), TARGET_UNKNOWN);
	ck_assert_int_eq(kind_at(s, "10.1.0.78:80"), TARGET_ASK);
	ck_assert_int_eq(kind_at(s, "192.0.2.1:80"), TARGET_EXTERNAL);
	ck_assert_int_eq(kind_at(s, "[2001:db8::1]:80"), TARGET_EXTERNAL);
	ck_assert_uint_eq(snapshot_serial(s), 7);
	ck_assert_uint_eq(snapshot_services(s), 1);
	ck_assert_uint_eq(snapshot_workloads(s), 1);
	snapshot_unref(&s);
	ck_assert_ptr_null(s);
}
END_TEST

START_TEST(without_cidrs_nothing_is_external)
{
	struct snapshot_parts p = {.can_ask = true};
	struct snapshot *s = snapshot_new(&p);
	ck_assert_int_eq(kind_at(s, "192.0.2.1:80"), TARGET_ASK);
	snapshot_unref(&s);
	p.can_ask = false;
	s = snapshot_new(&p);
	ck_assert_int_eq(kind_at(s, "192.0.2.1:80"), TARGET_UNKNOWN);
	ck_assert_str_eq(snapshot_trust_domain(s), "");
	snapshot_unref(&s);
}
END_TEST

START_TEST(service_wins_over_workload_and_later_over_earlier)
{
	struct service *v[] = {make_service("a/one", "10.0.0.1"), make_service("a/two", "10.0.0.1")};
	struct workload *w = make_workload("a/w", "10.0.0.1");
	struct snapshot_parts p = {.services = v, .n_services = 2, .workloads = &w, .n_workloads = 1};
	struct snapshot *s = snapshot_new(&p);
	struct target t;
	struct addr to = addr("10.0.0.1:80");
	snapshot_find(s, &to, &t);
	ck_assert_int_eq(t.kind, TARGET_SERVICE);
	ck_assert_str_eq(t.service->name, "a/two");
	snapshot_unref(&s);
	service_unref(&v[0]);
	service_unref(&v[1]);
	workload_unref(&w);
}
END_TEST

START_TEST(a_kept_snapshot_outlives_its_successor)
{
	struct service *svc = make_service("shop/orders", "240.0.0.1");
	struct snapshot_parts p = {.services = &svc, .n_services = 1};
	struct snapshot *old = snapshot_new(&p), *kept = snapshot_ref(old);
	service_unref(&svc);
	snapshot_unref(&old);
	ck_assert_int_eq(kind_at(kept, "240.0.0.1:80"), TARGET_SERVICE);
	snapshot_unref(&kept);
}
END_TEST

START_TEST(endpoint_sets_compare_by_content)
{
	struct endpoint a[2] = {
	    {.addr = addr("10.0.0.1:1"), .workload = "w", .zone = "", .weight = 1},
	    {.addr = addr("10.0.0.2:1"), .identity = "i", .workload = "w", .zone = "", .weight = 1, .meshed = true}};
	struct endpoint_set *x = endpoint_set_new(a, 2), *y = endpoint_set_new(a, 2);
	ck_assert(endpoint_set_eq(x, y));
	ck_assert_ptr_null(x->v[0].identity);
	endpoint_set_unref(&y);
	a[1].identity = "other";
	y = endpoint_set_new(a, 2);
	ck_assert(!endpoint_set_eq(x, y));
	endpoint_set_unref(&y);
	a[1].identity = NULL;
	y = endpoint_set_new(a, 2);
	ck_assert(!endpoint_set_eq(x, y));
	endpoint_set_unref(&y);
	y = endpoint_set_new(NULL, 0);
	ck_assert_uint_eq(y->len, 0);
	ck_assert(!endpoint_set_eq(x, y));
	endpoint_set_unref(&y);
	endpoint_set_unref(&x);
}
END_TEST

START_TEST(protocol_names_go_both_ways)
{
	enum protocol p;
	for (int i = 0; i < PROTOCOL_COUNT; i++) {
		ck_assert(protocol_parse(str_of(protocol_name((enum protocol)i)), &p));
		ck_assert_int_eq(p, i);
	}
	ck_assert(protocol_parse(STR("grpc"), &p) && p == PROTOCOL_HTTP2);
	ck_assert(protocol_parse(STR(""), &p) && p == PROTOCOL_UNDECLARED);
	ck_assert(!protocol_parse(STR("HTTP"), &p));
	ck_assert(!protocol_parse(STR("udp"), &p));
}
END_TEST

Suite *snapshot_suite(void);
Suite *snapshot_suite(void)
{
	Suite *s = suite_create("snapshot");
	TCase *t = tcase_create("snapshot");
	tcase_add_test(t, finds_services_workloads_and_says_what_is_outside);
	tcase_add_test(t, without_cidrs_nothing_is_external);
	tcase_add_test(t, service_wins_over_workload_and_later_over_earlier);
	tcase_add_test(t, a_kept_snapshot_outlives_its_successor);
	tcase_add_test(t, endpoint_sets_compare_by_content);
	tcase_add_test(t, protocol_names_go_both_ways);
	suite_add_tcase(s, t);
	return s;
}
