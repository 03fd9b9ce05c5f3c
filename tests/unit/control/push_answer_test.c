/* SPDX-License-Identifier: Apache-2.0 */
/* push_answer_test.c: what proxies answer: applied, refused, out of order; what they may call themselves; how it is told. */
#include "tests/unit/control/push_peer.h"

#include <stdio.h>

START_TEST(applied_is_counted_for_each_proxy)
{
	struct push_progress n;
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	ck_assert(push_progress(peer_push, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.holders, 0);
	ck_assert(!push_progress(peer_push, PUSHED_SERVICE, "shop/none", &n));
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/orders"));
	peer_subscribe(&peer_b, PUSHED_SERVICE, NAMES("shop/orders"));
	push_flush(peer_push);
	peer_ack(&peer_a, PUSHED_SERVICE, peer_a.got[0]);
	ck_assert(push_progress(peer_push, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.holders, 2);
	ck_assert_uint_eq(n.applied, 1);
	/* an answer to the old version does not count for the new one */
	push_put(PUSHED_SERVICE, "shop/orders", "v2", NULL);
	push_flush(peer_push);
	peer_ack(&peer_b, PUSHED_SERVICE, peer_b.got[0]);
	ck_assert(push_progress(peer_push, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.applied, 0);
	peer_ack(&peer_b, PUSHED_SERVICE, peer_b.got[1]);
	peer_ack(&peer_a, PUSHED_SERVICE, peer_a.got[1]);
	ck_assert(push_progress(peer_push, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.applied, 2);
}
END_TEST

START_TEST(one_bad_of_ten_is_refused_by_name)
{
	char name[10][16];
	const char *names[11] = {0};
	for (size_t i = 0; i < 10; i++) {
		snprintf(name[i], sizeof(name[i]), "shop/s%zu", i);
		push_put(PUSHED_SERVICE, name[i], "v1", NULL);
		names[i] = name[i];
	}
	peer_subscribe(&peer_a, PUSHED_SERVICE, names);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, peer_a.got[0]->nonce,
		 "shop/s3: ports[0].port: 0 is not in 1 to 65535\nshop/nobody: x\nno colon here");
	ck_assert_uint_eq(peer_nacks, 1);
	ck_assert_str_eq(peer_last_nack, "shop/orders-1 Service shop/s3 ports[0].port: 0 is not in 1 to 65535");
	struct push_progress n;
	size_t applied = 0, refused = 0;
	for (size_t i = 0; i < 10; i++) {
		ck_assert(push_progress(peer_push, PUSHED_SERVICE, names[i], &n));
		applied += n.applied;
		refused += n.refused;
	}
	ck_assert_uint_eq(applied, 9);
	ck_assert_uint_eq(refused, 1);
	/* the refused version is not sent over and over; the next one is, and clears the refusal */
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
	push_put(PUSHED_SERVICE, "shop/s3", "v2", NULL);
	push_flush(peer_push);
	peer_ack(&peer_a, PUSHED_SERVICE, peer_a.got[1]);
	ck_assert(push_progress(peer_push, PUSHED_SERVICE, "shop/s3", &n));
	ck_assert_uint_eq(n.refused, 0);
	ck_assert_uint_eq(n.applied, 1);
}
END_TEST

START_TEST(refusal_without_names_refuses_the_whole_response)
{
	push_put(PUSHED_SERVICE, "shop/a", "v1", NULL);
	push_put(PUSHED_SERVICE, "shop/b", "v1", NULL);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/a", "shop/b"));
	push_flush(peer_push);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, peer_a.got[0]->nonce,
		 "out of\tmemory \xff here");
	ck_assert_uint_eq(peer_nacks, 2);
	ck_assert_ptr_nonnull(strstr(peer_last_nack, "out of?memory ? here"));
}
END_TEST

START_TEST(refusal_of_self_goes_by_its_wire_name)
{
	push_put_self("shop/orders-1", "mine");
	peer_subscribe(&peer_a, PUSHED_SELF, NAMES("self"));
	push_flush(peer_push);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SELF), NULL, NULL, NULL, peer_a.got[0]->nonce, "self: bad port");
	ck_assert_str_eq(peer_last_nack, "shop/orders-1 Self self bad port");
}
END_TEST

START_TEST(strange_answers_change_nothing)
{
	push_put(PUSHED_SERVICE, "shop/a", "v1", NULL);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/a"));
	push_flush(peer_push);
	static const char *const odd[] = {"0", "2", "99999999999999999999", "-1", "abc", "1 "};
	for (size_t i = 0; i < ARRAY_LEN(odd); i++)
		peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, odd[i], NULL);
	struct push_progress n;
	ck_assert(push_progress(peer_push, PUSHED_SERVICE, "shop/a", &n));
	ck_assert_uint_eq(n.applied, 0);
	ck_assert(!peer_a.ended);
	/* subscription changes count, whatever the nonce is */
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NAMES("shop/b"), NULL, NULL, "77", NULL);
	push_flush(peer_push);
	ck_assert(peer_removed(peer_a.got[1], "shop/b"));
	/* twice the same answer */
	peer_ack(&peer_a, PUSHED_SERVICE, peer_a.got[0]);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, peer_a.got[0]->nonce, "shop/a: late");
	ck_assert_uint_eq(peer_nacks, 0);
}
END_TEST

START_TEST(unsubscribed_in_flight_then_answered)
{
	push_put(PUSHED_SERVICE, "shop/a", "v1", NULL);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/a"));
	push_flush(peer_push);
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NULL, NAMES("shop/a"), NULL, peer_a.got[0]->nonce,
		 "shop/a: no");
	peer_ask(&peer_a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, peer_a.got[0]->nonce, NULL);
	push_flush(peer_push);
	ck_assert_uint_eq(peer_a.n, 1);
}
END_TEST

START_TEST(type_of_a_later_version_is_answered_with_nothing_there)
{
	peer_ask(&peer_a, "type.googleapis.com/weft.v1.Hologram", NAMES("shop/x"), NULL, NULL, NULL, NULL);
	ck_assert_uint_eq(peer_a.n, 1);
	ck_assert(!peer_a.ended);
	ck_assert_str_eq(peer_a.got[0]->type_url, "type.googleapis.com/weft.v1.Hologram");
	ck_assert(peer_removed(peer_a.got[0], "shop/x"));
	peer_ask(&peer_a, "type.googleapis.com/weft.v1.Hologram", NULL, NULL, NULL, peer_a.got[0]->nonce, NULL);
	ck_assert(!peer_a.ended);
}
END_TEST

START_TEST(stream_is_bound_to_an_instance_of_its_account)
{
	struct peer w;
	peer_open(&w, "stranger");
	peer_subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	ck_assert(w.ended);
	ck_assert_int_eq(w.status, GRPC_PERMISSION_DENIED);
	ck_assert_ptr_nonnull(strstr(w.text, "stranger"));
	peer_open(&w, "../etc");
	peer_subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	peer_open(&w, "");
	peer_subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	peer_open(&w, "orders-1");
	peer_subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	w.id = "orders-2";
	peer_subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	w.id = "orders-1";
}
END_TEST

START_TEST(bad_names_end_the_stream)
{
	char longest[PUSHED_NAME_MAX + 2];
	memset(longest, 'a', sizeof(longest));
	longest[PUSHED_NAME_MAX + 1] = 0;
	const char *bad[] = {"", longest, "a b", "x\x01y", "\x7f"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct peer w;
		peer_open(&w, "orders-1");
		peer_subscribe(&w, PUSHED_SERVICE, NAMES("fine", bad[i]));
		ck_assert(w.ended);
		ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
		peer_open(&w, "orders-1");
		peer_ask(&w, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NAMES(bad[i], "v"), NULL, NULL);
		ck_assert(w.ended);
	}
	longest[PUSHED_NAME_MAX] = 0;
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES(longest));
	ck_assert(!peer_a.ended);
}
END_TEST

START_TEST(status_says_who_has_what)
{
	push_put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	peer_subscribe(&peer_a, PUSHED_SERVICE, NAMES("shop/orders"));
	peer_subscribe(&peer_b, PUSHED_SERVICE, NAMES("shop/orders"));
	push_flush(peer_push);
	peer_ack(&peer_a, PUSHED_SERVICE, peer_a.got[0]);
	peer_ask(&peer_b, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, peer_b.got[0]->nonce,
		 "shop/orders: bad \"port\"");
	json_t *o = push_status(peer_push);
	json_t *r = json_array_get(json_object_get(o, "resources"), 0);
	ck_assert_str_eq(json_string_value(json_object_get(r, "summary")),
			 "applied by 1 of 2, refused by 1: bad \"port\"");
	ck_assert_str_eq(json_string_value(json_object_get(r, "name")), "shop/orders");
	json_t *why = json_array_get(json_object_get(r, "refusals"), 0);
	ck_assert_str_eq(json_string_value(json_object_get(why, "proxy")), "shop/orders-2");
	ck_assert_uint_eq(json_array_size(json_object_get(o, "proxies")), 2);
	json_decref(o);
}
END_TEST

Suite *push_answer_suite(void);
Suite *push_answer_suite(void)
{
	Suite *s = suite_create("push_answer");
	TCase *c = tcase_create("push");
	tcase_add_checked_fixture(c, peer_setup, peer_teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, applied_is_counted_for_each_proxy);
	tcase_add_test(c, one_bad_of_ten_is_refused_by_name);
	tcase_add_test(c, refusal_without_names_refuses_the_whole_response);
	tcase_add_test(c, refusal_of_self_goes_by_its_wire_name);
	tcase_add_test(c, strange_answers_change_nothing);
	tcase_add_test(c, unsubscribed_in_flight_then_answered);
	tcase_add_test(c, type_of_a_later_version_is_answered_with_nothing_there);
	tcase_add_test(c, stream_is_bound_to_an_instance_of_its_account);
	tcase_add_test(c, bad_names_end_the_stream);
	tcase_add_test(c, status_says_who_has_what);
	suite_add_tcase(s, c);
	return s;
}
