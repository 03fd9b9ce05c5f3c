/* SPDX-License-Identifier: Apache-2.0 */
/* What is learned about a port: kept, confirmed, corrected, forgotten, and bounded. */
#include "proxy/verdict.h"

#include <check.h>
#include <string.h>

static struct verdicts *v;
static struct verdict_key k;

static void setup(void)
{
	v = verdicts_new();
	verdict_key_service(&k, "shop/orders", "v1", 80);
}

static void teardown(void)
{
	verdicts_free(&v);
	ck_assert_ptr_null(v);
}

START_TEST(nothing_is_known_of_a_port_never_used)
{
	ck_assert_int_eq(verdict_get(v, &k, 0), KNOWN_NOTHING);
	ck_assert_uint_eq(verdicts_len(v), 0);
}
END_TEST

START_TEST(what_was_learned_is_known_and_only_the_first_time_is_news)
{
	ck_assert(verdict_learn(v, &k, KNOWN_HTTP, 1));
	ck_assert(!verdict_learn(v, &k, KNOWN_HTTP, 2));
	ck_assert_int_eq(verdict_get(v, &k, 3), KNOWN_HTTP);
	ck_assert_uint_eq(verdicts_len(v), 1);
}
END_TEST

START_TEST(a_contradiction_corrects_it_and_is_news)
{
	verdict_learn(v, &k, KNOWN_HTTP, 1);
	ck_assert(verdict_learn(v, &k, KNOWN_SERVER_FIRST, 2));
	ck_assert_int_eq(verdict_get(v, &k, 3), KNOWN_SERVER_FIRST);
	verdict_forget(v, &k);
	ck_assert_int_eq(verdict_get(v, &k, 3), KNOWN_NOTHING);
	verdict_forget(v, &k);
}
END_TEST

START_TEST(it_expires_an_hour_after_it_was_last_confirmed)
{
	verdict_learn(v, &k, KNOWN_HTTP, 1000);
	verdict_learn(v, &k, KNOWN_HTTP, 2000);
	ck_assert_int_eq(verdict_get(v, &k, 2000 + VERDICT_MS - 1), KNOWN_HTTP);
	ck_assert_int_eq(verdict_get(v, &k, 2000 + VERDICT_MS), KNOWN_NOTHING);
	ck_assert_uint_eq(verdicts_len(v), 0);
	verdict_learn(v, &k, KNOWN_HTTP, 0);
	ck_assert(verdict_learn(v, &k, KNOWN_HTTP, VERDICT_MS));
}
END_TEST

START_TEST(a_doubt_shakes_only_what_was_not_confirmed_lately)
{
	verdict_doubt(v, &k, 0);
	verdict_learn(v, &k, KNOWN_HTTP, 1000);
	verdict_doubt(v, &k, 1000 + VERDICT_DOUBT_MS - 1);
	ck_assert_int_eq(verdict_get(v, &k, 2000), KNOWN_HTTP);
	verdict_doubt(v, &k, 1000 + VERDICT_DOUBT_MS);
	ck_assert_int_eq(verdict_get(v, &k, 2000), KNOWN_NOTHING);
}
END_TEST

START_TEST(another_port_version_name_or_address_is_another_place)
{
	struct verdict_key other;
	struct addr a, b;
	verdict_learn(v, &k, KNOWN_HTTP, 1);
	verdict_key_service(&other, "shop/orders", "v1", 8);
	ck_assert_int_eq(verdict_get(v, &other, 1), KNOWN_NOTHING);
	verdict_key_service(&other, "shop/orders", "v2", 80);
	ck_assert_int_eq(verdict_get(v, &other, 1), KNOWN_NOTHING);
	verdict_key_service(&other, "shop/order", "v1", 80);
	ck_assert_int_eq(verdict_get(v, &other, 1), KNOWN_NOTHING);
	ck_assert(addr_parse(STR("10.0.0.1:80"), &a) && addr_parse(STR("[::ffff:a00:1]:81"), &b));
	verdict_key_addr(&other, &a);
	verdict_learn(v, &other, KNOWN_SERVER_FIRST, 1);
	verdict_key_addr(&other, &b);
	ck_assert_int_eq(verdict_get(v, &other, 1), KNOWN_NOTHING);
	verdict_key_ip(&other, &a.ip);
	ck_assert_int_eq(verdict_get(v, &other, 1), KNOWN_NOTHING);
}
END_TEST

START_TEST(a_name_longer_than_any_is_cut_not_overrun)
{
	char name[2000];
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	verdict_key_service(&k, name, name, 65535);
	ck_assert_uint_lt(k.len, VERDICT_KEY_MAX);
	verdict_learn(v, &k, KNOWN_HTTP, 1);
	ck_assert_int_eq(verdict_get(v, &k, 1), KNOWN_HTTP);
}
END_TEST

START_TEST(the_longest_unused_makes_room)
{
	struct verdict_key x;
	for (unsigned i = 0; i < VERDICT_MAX; i++) {
		verdict_key_service(&x, "s/n", "", (uint16_t)i);
		verdict_learn(v, &x, KNOWN_HTTP, i);
	}
	verdict_key_service(&x, "s/n", "", 0);
	ck_assert_int_eq(verdict_get(v, &x, VERDICT_MAX), KNOWN_HTTP); /* used: 1 is now the longest unused */
	verdict_learn(v, &k, KNOWN_SERVER_FIRST, VERDICT_MAX);
	ck_assert_uint_eq(verdicts_len(v), VERDICT_MAX);
	ck_assert_int_eq(verdict_get(v, &x, VERDICT_MAX), KNOWN_HTTP);
	verdict_key_service(&x, "s/n", "", 1);
	ck_assert_int_eq(verdict_get(v, &x, VERDICT_MAX), KNOWN_NOTHING);
	for (unsigned i = 0; i < 100000; i++) {
		verdict_key_service(&x, "t/n", i & 1 ? "a" : "b", (uint16_t)(i / 2));
		verdict_learn(v, &x, KNOWN_HTTP, VERDICT_MAX);
	}
	ck_assert_uint_eq(verdicts_len(v), VERDICT_MAX);
}
END_TEST

Suite *verdict_suite(void);
Suite *verdict_suite(void)
{
	Suite *s = suite_create("verdict");
	TCase *t = tcase_create("verdict");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, nothing_is_known_of_a_port_never_used);
	tcase_add_test(t, what_was_learned_is_known_and_only_the_first_time_is_news);
	tcase_add_test(t, a_contradiction_corrects_it_and_is_news);
	tcase_add_test(t, it_expires_an_hour_after_it_was_last_confirmed);
	tcase_add_test(t, a_doubt_shakes_only_what_was_not_confirmed_lately);
	tcase_add_test(t, another_port_version_name_or_address_is_another_place);
	tcase_add_test(t, a_name_longer_than_any_is_cut_not_overrun);
	tcase_add_test(t, the_longest_unused_makes_room);
	suite_add_tcase(s, t);
	return s;
}
