/* SPDX-License-Identifier: Apache-2.0 */
/* issue_call_test.c: the whole way of a certificate: a proxy without one joins over TLS pinned to its token's root, makes a credential
 * of the answer, renews with it over mutual TLS. And what a wrong caller hears. */
#include "control/issue_limit.h"
#include "tests/unit/control/slow_writer.h"
#include "tests/unit/control/weftd_world.h"

#include "lib/mem.h"

#include <check.h>

static struct err err;

START_TEST(a_proxy_joins_renews_and_rejoins)
{
	char token[TOKEN_TEXT_MAX], first[65], none[65], second[65];
	world_token(token);
	ck_assert_msg(world_dial(world_bootstrap(), WORLD_WEFTD), "%s", w.peer.err.text);
	world_call(token, "", "orders-1", 1);
	ck_assert_msg(w.ended && w.status == GRPC_OK, "%d %s", w.status, w.text);
	struct credential *c = world_credential_of_answer(first);
	ck_assert_str_eq(credential_id(c)->id, "spiffe://weft.test/ns/shop/sa/orders");
	world_call(token, "", "orders-1", 1); /* the thief's try */
	ck_assert_int_eq(w.status, GRPC_PERMISSION_DENIED);
	ck_assert_ptr_nonnull(strstr(w.text, "was used by workload orders-1"));
	ck_assert_ptr_null(w.answer);
	world_hang_up();

	ck_assert_msg(world_dial(tlsctx_client(c, world_alpn, conn_tls_arg_index(), &err), WORLD_WEFTD), "%s",
		      w.peer.err.text);
	world_call("", "", "orders-1", 1);
	ck_assert_msg(w.status == GRPC_OK, "%s", w.text);
	struct credential *renewed = world_credential_of_answer(none);
	ck_assert_str_eq(none, "");
	ck_assert_str_eq(credential_id(renewed)->id, credential_id(c)->id);
	world_hang_up();

	ck_assert(world_dial(world_bootstrap(), WORLD_WEFTD)); /* a full restart: only the rejoin secret is left */
	world_call("", first, "orders-1", 1);
	ck_assert_msg(w.status == GRPC_OK, "%s", w.text);
	struct credential *again = world_credential_of_answer(second);
	ck_assert_str_ne(first, second);
	credential_unref(&again);
	credential_unref(&renewed);
	credential_unref(&c);
}
END_TEST

START_TEST(a_caller_without_credential_two_messages_and_none_are_refused)
{
	char token[TOKEN_TEXT_MAX];
	world_token(token);
	ck_assert(world_dial(world_bootstrap(), WORLD_WEFTD));
	world_call("", "", "a", 1);
	ck_assert_int_eq(w.status, GRPC_UNAUTHENTICATED);
	world_call(token, "", "a", 2);
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	ck_assert_ptr_null(w.answer);
	world_call(token, "", "a", 0);
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	world_call(token, "", "a", 1); /* none of it spent the token */
	ck_assert_msg(w.status == GRPC_OK, "%s", w.text);
}
END_TEST

static void let_go(struct timer *t)
{
	ck_assert(!w.ended);
	slow_writer_let_go();
}

START_TEST(a_join_waits_for_the_transaction_of_another_connection_and_the_loop_does_not)
{
	char token[TOKEN_TEXT_MAX];
	struct timer t;
	world_token(token);
	ck_assert(world_dial(world_bootstrap(), WORLD_WEFTD));
	slow_writer_begin(w.store);
	timer_init(&t, w.loop, let_go);
	timer_start(&t, 50); /* comes only if the loop does not wait */
	world_call(token, "", "orders-1", 1);
	ck_assert_msg(w.ended && w.status == GRPC_OK, "%d %s", w.status, w.text);
	slow_writer_join();
}
END_TEST

START_TEST(who_hangs_up_before_the_store_is_free_has_not_joined)
{
	char token[TOKEN_TEXT_MAX];
	struct store_instance none;
	world_token(token);
	ck_assert(world_dial(world_bootstrap(), WORLD_WEFTD));
	slow_writer_begin(w.store);
	world_begin_call(token, "", "orders-1", 1);
	world_run_ms(50);
	ck_assert(!list_empty(issue_calls(w.issue)));
	world_hang_up();
	while (!list_empty(issue_calls(w.issue)))
		world_run_ms(2);
	slow_writer_let_go();
	slow_writer_join();
	world_run_ms(20);
	ck_assert(!store_instance_get(w.store, "shop", "orders-1", &none, &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
}
END_TEST

START_TEST(who_is_refused_out_of_hand_and_who_renews_do_not_wait_for_the_store)
{
	char token[TOKEN_TEXT_MAX], rejoin[65];
	world_token(token);
	ck_assert(world_dial(world_bootstrap(), WORLD_WEFTD));
	world_call(token, "", "orders-1", 1);
	struct credential *c = world_credential_of_answer(rejoin);
	for (unsigned i = 0; i < 2 * ISSUE_LIMIT_BURST && w.status != GRPC_RESOURCE_EXHAUSTED; i++)
		world_call("no token", "", "orders-1", 1);
	ck_assert_int_eq(w.status, GRPC_RESOURCE_EXHAUSTED);
	slow_writer_begin(w.store);
	uint64_t began = loop_now_ms(w.loop);
	world_call("no token", "", "orders-1", 1);
	ck_assert_int_eq(w.status, GRPC_RESOURCE_EXHAUSTED);
	world_hang_up();
	ck_assert(world_dial(tlsctx_client(c, world_alpn, conn_tls_arg_index(), &err), WORLD_WEFTD));
	world_call("", "", "orders-1", 1);
	ck_assert_msg(w.status == GRPC_OK, "%s", w.text);
	ck_assert_uint_lt(loop_now_ms(w.loop) - began, WRITE_WAIT_MS);
	slow_writer_let_go();
	slow_writer_join();
	credential_unref(&c);
}
END_TEST

START_TEST(a_false_weftd_never_sees_the_token)
{
	w.root_hash[0] ^= 1; /* the token names another root */
	ck_assert(!world_dial(world_bootstrap(), WORLD_WEFTD));
	ck_assert_ptr_null(w.session);
	ck_assert_ptr_nonnull(strstr(w.peer.err.text, "not the weftd that made the join token"));
}
END_TEST

START_TEST(calls_in_progress_end_when_weftd_stops)
{
	ck_assert(world_dial(world_bootstrap(), WORLD_WEFTD));
	world_open_call(ISSUE_PATH);
	ck_assert(grpc_send(w.call, STR("half")));
	while (list_empty(issue_calls(w.issue)))
		world_run_ms(1);
	issue_calls_end(w.issue);
	world_until(&w.ended, &w.failed);
	ck_assert_int_eq(w.status, GRPC_UNAVAILABLE);
}
END_TEST

Suite *issue_call_suite(void);
Suite *issue_call_suite(void)
{
	Suite *s = suite_create("issue_call");
	TCase *tc = tcase_create("over gRPC and TLS");
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, world_make, world_drop);
	tcase_add_test(tc, a_proxy_joins_renews_and_rejoins);
	tcase_add_test(tc, a_caller_without_credential_two_messages_and_none_are_refused);
	tcase_add_test(tc, a_join_waits_for_the_transaction_of_another_connection_and_the_loop_does_not);
	tcase_add_test(tc, who_hangs_up_before_the_store_is_free_has_not_joined);
	tcase_add_test(tc, who_is_refused_out_of_hand_and_who_renews_do_not_wait_for_the_store);
	tcase_add_test(tc, a_false_weftd_never_sees_the_token);
	tcase_add_test(tc, calls_in_progress_end_when_weftd_stops);
	suite_add_tcase(s, tc);
	return s;
}
