/* SPDX-License-Identifier: Apache-2.0 */
/* Whose handshake begins when: a few a turn, so many at once, in order, and the slow make room when others wait. */
#include "proxy/handshakes.h"

#include <check.h>

#define N (HANDSHAKES_MAX + HANDSHAKES_WAITING + 10)

static struct loop *loop;
static struct handshakes *h;
static struct handshake all[N];
static unsigned begun, evicted, order_broken, most_at_once;
static struct timer stop;
static uint64_t turn_us;
static unsigned in_turn;

static void on_begin(struct handshake *one)
{
	if (turn_us != loop_now_us(loop)) {
		turn_us = loop_now_us(loop);
		in_turn = 0;
	}
	if (++in_turn > most_at_once)
		most_at_once = in_turn;
	order_broken += one != &all[begun];
	begun++;
}

static void on_evict(struct handshake *one)
{
	order_broken += one != &all[evicted];
	evicted++;
}

static void on_stop(struct timer *t)
{
	loop_stop(loop);
}

static void run_ms(uint64_t ms)
{
	timer_start(&stop, ms);
	loop_run(loop);
}

static void setup(void)
{
	loop = loop_new(NULL);
	h = handshakes_new(loop, 1);
	timer_init(&stop, loop, on_stop);
	begun = evicted = order_broken = most_at_once = in_turn = 0;
	turn_us = 0;
	for (int i = 0; i < N; i++) {
		all[i] = (struct handshake){.on_begin = on_begin, .on_evict = on_evict};
		list_init(&all[i].node);
	}
}

static void teardown(void)
{
	for (int i = 0; i < N; i++)
		handshakes_leave(h, &all[i]);
	ck_assert_uint_eq(handshakes_begun(h) + handshakes_waiting(h), 0);
	handshakes_free(&h);
	ck_assert_ptr_null(h);
	loop_free(&loop);
}

static unsigned enter(unsigned n)
{
	unsigned taken = 0;
	for (unsigned i = 0; i < n; i++)
		taken += handshakes_enter(h, &all[i]);
	return taken;
}

START_TEST(all_begin_in_order_a_few_a_turn)
{
	ck_assert_uint_eq(enter(100), 100);
	ck_assert_uint_eq(begun, 0);
	run_ms(20);
	ck_assert_uint_eq(begun, 100);
	ck_assert_uint_eq(most_at_once, HANDSHAKES_A_TURN);
	ck_assert_uint_eq(order_broken, 0);
	ck_assert_uint_eq(handshakes_begun(h), 100);
	ck_assert_uint_eq(handshakes_waiting(h), 0);
}
END_TEST

START_TEST(no_more_than_so_many_at_once_and_the_next_begins_when_one_ends)
{
	enter(HANDSHAKES_MAX + 3);
	run_ms(50);
	ck_assert_uint_eq(begun, HANDSHAKES_MAX);
	ck_assert_uint_eq(handshakes_waiting(h), 3);
	handshakes_leave(h, &all[7]);
	handshakes_leave(h, &all[7]);                  /* twice is harmless */
	handshakes_leave(h, &all[HANDSHAKES_MAX + 2]); /* one that waits gives up */
	run_ms(20);
	ck_assert_uint_eq(begun, HANDSHAKES_MAX + 1);
	ck_assert_uint_eq(handshakes_waiting(h), 1);
	ck_assert_uint_eq(evicted, 0);
}
END_TEST

START_TEST(threads_share_the_limits_of_the_process)
{
	handshakes_free(&h);
	h = handshakes_new(loop, 4);
	ck_assert_uint_eq(enter(N), HANDSHAKES_WAITING / 4);
	run_ms(50);
	ck_assert_uint_eq(begun, HANDSHAKES_MAX / 4);
	ck_assert_uint_eq(handshakes_waiting(h), (HANDSHAKES_WAITING - HANDSHAKES_MAX) / 4);
}
END_TEST

START_TEST(the_oldest_make_room_after_a_while_but_only_for_others)
{
	enter(HANDSHAKES_MAX);
	run_ms(HANDSHAKE_SPARE_MS + 100);
	ck_assert_uint_eq(evicted, 0);
	for (unsigned i = HANDSHAKES_MAX; i < HANDSHAKES_MAX + 20; i++)
		ck_assert(handshakes_enter(h, &all[i]));
	run_ms(50);
	ck_assert_uint_eq(evicted, 20);
	ck_assert_uint_eq(begun, HANDSHAKES_MAX + 20);
	ck_assert_uint_eq(order_broken, 0);
	ck_assert_uint_eq(handshakes_begun(h), HANDSHAKES_MAX);
}
END_TEST

START_TEST(who_is_young_is_waited_for)
{
	enter(HANDSHAKES_MAX + 20);
	run_ms(HANDSHAKE_SPARE_MS - 200);
	ck_assert_uint_eq(evicted, 0);
	run_ms(400);
	ck_assert_uint_eq(evicted, 20);
	ck_assert_uint_eq(handshakes_waiting(h), 0);
}
END_TEST

START_TEST(too_many_that_wait_are_turned_away)
{
	ck_assert_uint_eq(enter(HANDSHAKES_WAITING + 10), HANDSHAKES_WAITING);
	ck_assert_uint_eq(handshakes_waiting(h), HANDSHAKES_WAITING);
}
END_TEST

Suite *handshakes_suite(void)
{
	Suite *s = suite_create("handshakes");
	TCase *t = tcase_create("handshakes");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, all_begin_in_order_a_few_a_turn);
	tcase_add_test(t, no_more_than_so_many_at_once_and_the_next_begins_when_one_ends);
	tcase_add_test(t, threads_share_the_limits_of_the_process);
	tcase_add_test(t, the_oldest_make_room_after_a_while_but_only_for_others);
	tcase_add_test(t, who_is_young_is_waited_for);
	tcase_add_test(t, too_many_that_wait_are_turned_away);
	suite_add_tcase(s, t);
	return s;
}
