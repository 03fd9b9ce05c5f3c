/* SPDX-License-Identifier: Apache-2.0 */
/* push_limit_test.c: who asks for much, reads slowly or not at all: caps, windows, slices and the time that is given. */
#include "lib/mem.h"
#include "tests/unit/control/push_peer.h"

#include <stdio.h>

static char **many_names(size_t n)
{
	char **names = mem_zalloc((n + 1) * sizeof(*names));
	for (size_t i = 0; i < n; i++)
		names[i] = mem_printf("shop/s%05zu", i);
	return names;
}

static void many_done(char **names)
{
	for (size_t i = 0; names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
}

START_TEST(subscriptions_are_capped)
{
	char **names = many_names(PUSH_NAMES_MAX);
	peer_subscribe(&peer_a, PUSHED_SERVICE, (const char *const *)names);
	peer_subscribe(&peer_a, PUSHED_ENDPOINTS, (const char *const *)names); /* each type has its own */
	peer_subscribe(&peer_a, PUSHED_SERVICE, (const char *const *)names);   /* the same once more are no more */
	ck_assert(!peer_a.ended);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("one/more"));
	ck_assert(peer_a.ended);
	ck_assert_int_eq(peer_a.status, GRPC_RESOURCE_EXHAUSTED);
	ck_assert_uint_eq(push_counts(peer_push)->subscriptions, 0);
	many_done(names);
}
END_TEST

static void put_big(const char *name, char fill)
{
	char *value = mem_alloc(100001);
	memset(value, fill, 100000);
	value[100000] = 0;
	push_put(PUSHED_ENDPOINTS, name, value, NULL);
	mem_free(value);
}

START_TEST(slow_reader_holds_up_nobody_and_costs_a_window)
{
	char **names = many_names(200);
	for (size_t i = 0; i < 200; i++)
		put_big(names[i], 'a'); /* 20 MB in all */
	peer_a.discard = true;
	peer_subscribe(&peer_a, PUSHED_ENDPOINTS, (const char *const *)names);
	peer_subscribe(&peer_b, PUSHED_ENDPOINTS, NAMES("shop/s00000"));
	push_flush(peer_push);
	ck_assert_uint_ge(peer_a.bytes, PUSH_WINDOW);
	ck_assert_uint_lt(peer_a.bytes, PUSH_WINDOW + PUSH_RESPONSE);
	ck_assert_uint_eq(peer_b.n, 1);
	/* what changes meanwhile is sent once, in its last state */
	size_t before = peer_a.bytes;
	for (int round = 0; round < 50; round++) {
		put_big("shop/s00199", (char)('b' + round % 20));
		push_flush(peer_push);
	}
	ck_assert_uint_eq(peer_a.bytes, before);
	ck_assert_uint_eq(peer_b.n, 1);
	/* each answer lets more through, until all is there */
	char nonce[24];
	for (uint64_t i = 1; i <= peer_a.n; i++) {
		snprintf(nonce, sizeof(nonce), "%llu", (unsigned long long)i);
		peer_ask(&peer_a, pushed_type_url(PUSHED_ENDPOINTS), NULL, NULL, NULL, nonce, NULL);
		push_flush(peer_push);
	}
	ck_assert_uint_eq(push_counts(peer_push)->resources, 201);
	struct push_progress n;
	for (size_t i = 0; i < 200; i++) {
		ck_assert(push_progress(peer_push, PUSHED_ENDPOINTS, names[i], &n));
		ck_assert_uint_ge(n.applied, 1);
	}
	many_done(names);
}
END_TEST

START_TEST(change_for_many_goes_out_a_slice_at_a_time_once_to_each)
{
	enum { MANY = 3 * PUSH_TURN_SESSIONS + 1 };
	static struct peer many[MANY];
	static char ids[MANY][16];
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	for (size_t i = 0; i < MANY; i++) {
		snprintf(ids[i], sizeof(ids[i]), "many-%zu", i);
		peer_open(&many[i], ids[i]);
		peer_subscribe(&many[i], PUSHED_SERVICE, NAMES("shop/orders"));
	}
	for (unsigned slice = 0; slice < 3; slice++)
		ck_assert(push_flush(peer_push));
	ck_assert_uint_eq(push_counts(peer_push)->responses, 3 * PUSH_TURN_SESSIONS);
	/* who came last is not overtaken by who changes all the time */
	push_put(PUSHED_SERVICE, "shop/orders", "v2", NULL);
	ck_assert(push_flush(peer_push));
	ck_assert_uint_eq(many[MANY - 1].n, 1);
	ck_assert_str_eq(peer_value(many[MANY - 1].got[0], 0), "v2");
	while (push_flush(peer_push))
		;
	for (size_t i = 0; i < MANY; i++) {
		ck_assert_uint_eq(many[i].n, i < MANY - 1 ? 2 : 1);
		ck_assert_str_eq(peer_value(many[i].got[many[i].n - 1], 0), "v2");
		peer_close(&many[i]);
	}
}
END_TEST

START_TEST(reconnect_that_waits_for_its_slice_is_still_sent_nothing_that_it_holds)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	const char *version = push_get(peer_push, PUSHED_SERVICE, "shop/orders")->version;
	enum { MANY = PUSH_TURN_SESSIONS + 1 };
	static struct peer many[MANY];
	static char ids[MANY][16];
	for (size_t i = 0; i < MANY; i++) {
		snprintf(ids[i], sizeof(ids[i]), "many-%zu", i);
		peer_open(&many[i], ids[i]);
		peer_ask(&many[i], pushed_type_url(PUSHED_SERVICE), NAMES("shop/orders"), NULL,
			 NAMES("shop/orders", version), NULL, NULL);
	}
	ck_assert(push_flush(peer_push));
	ck_assert(!push_flush(peer_push));
	ck_assert_uint_eq(push_counts(peer_push)->bytes, 0);
	struct push_progress n;
	ck_assert(push_progress(peer_push, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.applied, MANY);
	for (size_t i = 0; i < MANY; i++)
		peer_close(&many[i]);
}
END_TEST

START_TEST(who_does_not_answer_is_cut_after_a_while)
{
	char **names = many_names(30);
	for (size_t i = 0; i < 30; i++)
		put_big(names[i], 'a');
	peer_a.discard = true;
	peer_subscribe(&peer_a, PUSHED_ENDPOINTS, (const char *const *)names);
	peer_subscribe(&peer_b, PUSHED_ENDPOINTS, NAMES("shop/s00000")); /* silent too, but holds nothing up */
	push_flush(peer_push);
	peer_now += PUSH_STALL_MS - 1;
	push_tick(peer_push);
	ck_assert(!peer_a.ended);
	peer_now += 1;
	push_tick(peer_push);
	ck_assert(peer_a.ended);
	ck_assert_int_eq(peer_a.status, GRPC_RESOURCE_EXHAUSTED);
	ck_assert(!peer_b.ended);
	many_done(names);
}
END_TEST

START_TEST(who_does_not_say_who_it_is_is_cut_after_a_while)
{
	peer_subscribe(&peer_b, PUSHED_SERVICE, NAMES("shop/orders"));
	peer_now += PUSH_NAME_MS - 1;
	push_tick(peer_push);
	ck_assert(!peer_a.ended);
	peer_now++;
	push_tick(peer_push);
	ck_assert(peer_a.ended && peer_a.status == GRPC_DEADLINE_EXCEEDED && !peer_b.ended);
}
END_TEST

START_TEST(streams_are_capped_in_all)
{
	struct push_peer who = {"spiffe://td/ns/shop/sa/orders", "shop", "orders", "10.1.0.2:4000"};
	static struct push_session *many[PUSH_STREAMS_MAX - 2];
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		many[i] = push_open(peer_push, &who, &peer_link, NULL);
		ck_assert_ptr_nonnull(many[i]);
	}
	ck_assert_ptr_null(push_open(peer_push, &who, &peer_link, NULL));
	push_close(&many[0]);
	many[0] = push_open(peer_push, &who, &peer_link, NULL);
	ck_assert_ptr_nonnull(many[0]);
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		push_close(&many[i]);
}
END_TEST

START_TEST(who_does_not_read_is_cut_at_once)
{
	push_put(PUSHED_SERVICE, "shop/a", "v1", NULL);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/a"));
	peer_subscribe(&peer_a, PUSHED_MANIFEST, NAMES("shop/a"));
	peer_subscribe(&peer_b, PUSHED_SERVICE, NAMES("shop/a"));
	peer_a.deaf = true;
	push_flush(peer_push);
	ck_assert(peer_a.ended);
	ck_assert_uint_eq(peer_b.n, 1);
}
END_TEST

START_TEST(streams_of_one_instance_are_capped)
{
	struct peer w[PUSH_SESSIONS_MAX + 1];
	for (size_t i = 0; i <= PUSH_SESSIONS_MAX; i++) {
		peer_open(&w[i], "orders-7");
		peer_subscribe(&w[i], PUSHED_SERVICE, NAMES("shop/a"));
	}
	ck_assert(w[0].ended);
	ck_assert_int_eq(w[0].status, GRPC_ABORTED);
	for (size_t i = 1; i <= PUSH_SESSIONS_MAX; i++) {
		ck_assert(!w[i].ended);
		peer_close(&w[i]);
	}
}
END_TEST

Suite *push_limit_suite(void);
Suite *push_limit_suite(void)
{
	Suite *s = suite_create("push_limit");
	TCase *c = tcase_create("push");
	tcase_add_checked_fixture(c, peer_setup, peer_teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, subscriptions_are_capped);
	tcase_add_test(c, slow_reader_holds_up_nobody_and_costs_a_window);
	tcase_add_test(c, change_for_many_goes_out_a_slice_at_a_time_once_to_each);
	tcase_add_test(c, reconnect_that_waits_for_its_slice_is_still_sent_nothing_that_it_holds);
	tcase_add_test(c, who_does_not_answer_is_cut_after_a_while);
	tcase_add_test(c, who_does_not_say_who_it_is_is_cut_after_a_while);
	tcase_add_test(c, streams_are_capped_in_all);
	tcase_add_test(c, who_does_not_read_is_cut_at_once);
	tcase_add_test(c, streams_of_one_instance_are_capped);
	suite_add_tcase(s, c);
	return s;
}
