/* SPDX-License-Identifier: Apache-2.0 */
/* talk_test.c: registrations, heartbeats and goodbyes over a link, while another connection writes to the store and while none does. */
#include "tests/unit/control/slow_writer.h"
#include "tests/unit/control/weftd_world.h"

#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"

#include <check.h>
#include <pthread.h>
#include <unistd.h>

static struct err err;

/* The proxy joined as shop/orders, instance orders-1, and has a link. */
static void make(void)
{
	char token[TOKEN_TEXT_MAX], rejoin[65];

	world_make();
	world_token(token);
	ck_assert(world_dial(world_bootstrap(), WORLD_WEFTD));
	world_call(token, "", "orders-1", 1);
	ck_assert_msg(w.status == GRPC_OK, "%s", w.text);
	struct credential *c = world_credential_of_answer(rejoin);
	world_hang_up();
	ck_assert(world_dial(tlsctx_client(c, world_alpn, conn_tls_arg_index(), &err), WORLD_WEFTD));
	credential_unref(&c);
	world_open_call(TALK_METHOD_PATH);
}

static void say(const Weft__V1__LinkUp *m)
{
	uint8_t bytes[2 * WORLD_HELD_MAX];

	ck_assert_uint_le(weft__v1__link_up__get_packed_size(m), sizeof(bytes));
	size_t len = weft__v1__link_up__pack(m, bytes);
	ck_assert(grpc_send(w.call, str_make(bytes, len)));
}

static void say_register(const char *version)
{
	Weft__V1__LinkUp m = WEFT__V1__LINK_UP__INIT;
	Weft__V1__Register r = WEFT__V1__REGISTER__INIT;

	r.instance = (char *)(uintptr_t) "orders-1";
	r.version = (char *)(uintptr_t)version;
	m.kind_case = WEFT__V1__LINK_UP__KIND_REGISTER;
	m.register_ = &r;
	say(&m);
}

static void say_heartbeat(void)
{
	Weft__V1__LinkUp m = WEFT__V1__LINK_UP__INIT;
	Weft__V1__Heartbeat h = WEFT__V1__HEARTBEAT__INIT;

	m.kind_case = WEFT__V1__LINK_UP__KIND_HEARTBEAT;
	m.heartbeat = &h;
	say(&m);
}

static void say_goodbye(void)
{
	Weft__V1__LinkUp m = WEFT__V1__LINK_UP__INIT;
	Weft__V1__Goodbye g = WEFT__V1__GOODBYE__INIT;

	m.kind_case = WEFT__V1__LINK_UP__KIND_GOODBYE;
	m.goodbye = &g;
	say(&m);
}

/* Runs until so many messages have come; the last one is of this kind. */
static void expect(unsigned answers, Weft__V1__LinkDown__KindCase kind)
{
	uint64_t end = loop_now_ms(w.loop) + 10000;

	while (w.answers < answers && !w.ended && loop_now_ms(w.loop) < end)
		world_run_ms(2);
	ck_assert_msg(w.answers == answers, "%u; %d %s", w.answers, w.status, w.text);
	Weft__V1__LinkDown *m = weft__v1__link_down__unpack(NULL, w.answer_len, w.answer);
	ck_assert(m && m->kind_case == kind);
	weft__v1__link_down__free_unpacked(m, NULL);
}

static const struct registry_workload *registered(void)
{
	return registry_find(w.registry, "shop", "orders-1");
}

/* Another connection writes, and a registration waits for it. */
static void hold(const char *version)
{
	slow_writer_begin(w.store);
	say_register(version);
	world_run_ms(50);
	ck_assert_uint_eq(w.answers, 0);
	ck_assert(!w.ended);
}

static void let_go(void)
{
	slow_writer_let_go();
	slow_writer_join();
}

START_TEST(a_registration_is_stored_and_answered_and_goodbye_ends_it)
{
	say_register("one");
	expect(1, WEFT__V1__LINK_DOWN__KIND_REGISTERED);
	ck_assert(registered());
	say_heartbeat();
	expect(2, WEFT__V1__LINK_DOWN__KIND_HEARTBEAT_ACK);
	say_goodbye();
	grpc_half_close(w.call);
	world_until(&w.ended, &w.failed);
	ck_assert_int_eq(w.status, GRPC_OK);
	ck_assert(!registered());
}
END_TEST

START_TEST(a_registration_waits_for_another_connections_transaction_and_heartbeats_do_not)
{
	hold("one");
	say_heartbeat();
	expect(1, WEFT__V1__LINK_DOWN__KIND_HEARTBEAT_ACK);
	ck_assert(!registered());
	let_go();
	expect(2, WEFT__V1__LINK_DOWN__KIND_REGISTERED);
	ck_assert(registered());
}
END_TEST

START_TEST(who_registers_again_after_goodbye_may_send_heartbeats_meanwhile)
{
	say_register("one");
	expect(1, WEFT__V1__LINK_DOWN__KIND_REGISTERED);
	say_goodbye();
	while (registered())
		world_run_ms(2);
	w.answers = 0;
	hold("two");
	say_heartbeat();
	expect(1, WEFT__V1__LINK_DOWN__KIND_HEARTBEAT_ACK);
	let_go();
	expect(2, WEFT__V1__LINK_DOWN__KIND_REGISTERED);
}
END_TEST

START_TEST(of_registrations_that_wait_the_last_one_counts)
{
	hold("one");
	for (int i = 0; i < 3 * TALK_REGISTERS_MAX; i++)
		say_register(i % 2 ? "three" : "two");
	world_run_ms(20);
	let_go();
	expect(1, WEFT__V1__LINK_DOWN__KIND_REGISTERED);
	ck_assert_str_eq(registered()->version, "three");
	world_run_ms(20);
	ck_assert_uint_eq(w.answers, 1);
}
END_TEST

static void *let_go_soon(void *unused)
{
	usleep(200000); /* the loop waits by then; if not, the test fails */
	slow_writer_let_go();
	return NULL;
}

START_TEST(what_has_no_room_to_wait_in_is_written_at_once_and_the_loop_waits)
{
	char version[WORLD_HELD_MAX + 1];
	pthread_t later;

	memset(version, 'v', WORLD_HELD_MAX);
	version[WORLD_HELD_MAX] = 0;
	slow_writer_begin(w.store);
	ck_assert_int_eq(pthread_create(&later, NULL, let_go_soon, NULL), 0);
	uint64_t began = loop_clock_us();
	say_register(version);
	world_run_ms(50);
	ck_assert_uint_ge(loop_clock_us() - began, 150000); /* 50 ms if it had not waited */
	expect(1, WEFT__V1__LINK_DOWN__KIND_REGISTERED);
	ck_assert(registered());
	ck_assert_int_eq(pthread_join(later, NULL), 0);
	slow_writer_join();
}
END_TEST

START_TEST(goodbye_takes_back_what_waits_and_ends_what_was_registered)
{
	say_register("one");
	expect(1, WEFT__V1__LINK_DOWN__KIND_REGISTERED);
	w.answers = 0;
	hold("two");
	say_goodbye();
	world_run_ms(20);
	ck_assert(!registered());
	let_go();
	world_run_ms(20);
	ck_assert(!registered());
	ck_assert_uint_eq(w.answers, 0);
}
END_TEST

START_TEST(a_call_that_ends_before_its_registration_was_stored_hears_so)
{
	hold("one");
	grpc_half_close(w.call);
	world_until(&w.ended, &w.failed);
	ck_assert_int_eq(w.status, GRPC_ABORTED);
	ck_assert_ptr_nonnull(strstr(w.text, "before its registration was stored"));
	let_go();
	world_run_ms(20);
	ck_assert(!registered());
}
END_TEST

START_TEST(who_hangs_up_while_he_waits_is_not_registered)
{
	hold("one");
	world_hang_up();
	while (talk_server_count(w.talks) > 0)
		world_run_ms(2);
	let_go();
	world_run_ms(20);
	ck_assert(!registered());
}
END_TEST

START_TEST(weftd_that_stops_ends_links_whose_registrations_wait)
{
	hold("one");
	talk_server_end_all(w.talks, "stopping");
	world_until(&w.ended, &w.failed);
	ck_assert_int_eq(w.status, GRPC_UNAVAILABLE);
	let_go();
}
END_TEST

Suite *talk_suite(void);
Suite *talk_suite(void)
{
	Suite *s = suite_create("talk");
	TCase *tc = tcase_create("over a link");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, make, world_drop);
	tcase_add_test(tc, a_registration_is_stored_and_answered_and_goodbye_ends_it);
	tcase_add_test(tc, a_registration_waits_for_another_connections_transaction_and_heartbeats_do_not);
	tcase_add_test(tc, who_registers_again_after_goodbye_may_send_heartbeats_meanwhile);
	tcase_add_test(tc, of_registrations_that_wait_the_last_one_counts);
	tcase_add_test(tc, what_has_no_room_to_wait_in_is_written_at_once_and_the_loop_waits);
	tcase_add_test(tc, goodbye_takes_back_what_waits_and_ends_what_was_registered);
	tcase_add_test(tc, a_call_that_ends_before_its_registration_was_stored_hears_so);
	tcase_add_test(tc, who_hangs_up_while_he_waits_is_not_registered);
	tcase_add_test(tc, weftd_that_stops_ends_links_whose_registrations_wait);
	suite_add_tcase(s, tc);
	return s;
}
