/* SPDX-License-Identifier: Apache-2.0 */
/* Whose handshake is worked on when: one step at a time, so many at once, in order, and the slow make room when others wait. */
#include "proxy/handshakes.h"

#include <check.h>

#define N (HANDSHAKES_MAX + HANDSHAKES_WAITING + 10)

static struct loop *loop;
static struct handshakes *h;
static struct handshake all[N];
static unsigned begun, evicted, order_broken, most_at_once;
static struct timer stop;
static uint64_t turn_us;
static unsigned in_turn, steps, others;
static uint64_t step_us;
static struct task other;

static void work_us(uint64_t us)
{
	uint64_t from = loop_clock_us();
	while (loop_clock_us() <= from + us)
		;
}

static void on_begin(struct handshake *one)
{
	work_us(2); /* turns are told apart by the time */
	if (turn_us != loop_now_us(loop)) {
		turn_us = loop_now_us(loop);
		in_turn = 0;
	}
	if (++in_turn > most_at_once)
		most_at_once = in_turn;
	order_broken += one != &all[begun];
	begun++;
}

/* A step of so long. */
static void on_step(struct handshake *one)
{
	if (turn_us != loop_now_us(loop)) {
		turn_us = loop_now_us(loop);
		in_turn = 0;
	}
	in_turn++;
	most_at_once = MAX(most_at_once, in_turn);
	steps++;
	if (step_us > 0)
		work_us(step_us);
	handshakes_leave(h, one);
}

/* Something else to do in each turn, of which a little is in each millisecond. */
static void on_other(struct task *t)
{
	others++;
	loop_next_turn(loop, t);
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
	begun = evicted = order_broken = most_at_once = in_turn = steps = others = 0;
	step_us = 0;
	turn_us = 0;
	for (int i = 0; i < N; i++) {
		handshake_init(&all[i]);
		all[i].on_begin = on_begin;
		all[i].on_step = on_step;
		all[i].on_evict = on_evict;
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

START_TEST(all_begin_in_order_one_a_turn)
{
	ck_assert_uint_eq(enter(100), 100);
	ck_assert_uint_eq(begun, 0);
	run_ms(20);
	ck_assert_uint_eq(begun, 100);
	ck_assert_uint_eq(most_at_once, 1);
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

/* Begins, then takes its first step as a connection does, and has a second one to take. */
static void begin_some(unsigned n)
{
	enter(n);
	run_ms(20);
	ck_assert_uint_eq(begun, n);
	most_at_once = in_turn = 0;
	for (unsigned i = 0; i < n; i++) {
		ck_assert(handshakes_step(h, &all[i])); /* free: its turn was that of the begin */
		ck_assert(!handshakes_step(h, &all[i]));
		ck_assert(!handshakes_step(h, &all[i])); /* twice is once */
	}
}

START_TEST(others_have_half_of_the_time_at_least)
{
	begin_some(50);
	step_us = 2000;
	task_init(&other, on_other);
	loop_next_turn(loop, &other);
	run_ms(80);
	task_cancel(&other);
	ck_assert_uint_eq(most_at_once, 1);
	ck_assert_uint_ge(steps, 3); /* of 20; less where this machine is slow */
	ck_assert_uint_le(steps, 21);
	ck_assert_uint_gt(others, 10 * steps);
	/* With nothing else to do there is nothing to wait for. */
	steps = 0;
	step_us = 100;
	run_ms(40);
	ck_assert_uint_eq(handshakes_begun(h), 0);
}
END_TEST

START_TEST(steps_come_before_begins_and_cheap_ones_wait_for_nothing)
{
	begin_some(100);
	for (unsigned i = 100; i < 110; i++)
		ck_assert(handshakes_enter(h, &all[i]));
	run_ms(20);
	ck_assert_uint_eq(steps, 100);
	ck_assert_uint_gt(most_at_once, 1); /* in a turn */
	ck_assert_uint_eq(begun, 110);
	ck_assert_uint_eq(order_broken, 0);
}
END_TEST

START_TEST(one_that_has_a_step_to_take_may_leave)
{
	begin_some(10);
	for (unsigned i = 0; i < 10; i += 2)
		handshakes_leave(h, &all[i]);
	run_ms(20);
	ck_assert_uint_eq(steps, 5);
}
END_TEST

Suite *handshakes_suite(void)
{
	Suite *s = suite_create("handshakes");
	TCase *t = tcase_create("handshakes");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, all_begin_in_order_one_a_turn);
	tcase_add_test(t, others_have_half_of_the_time_at_least);
	tcase_add_test(t, steps_come_before_begins_and_cheap_ones_wait_for_nothing);
	tcase_add_test(t, one_that_has_a_step_to_take_may_leave);
	tcase_add_test(t, no_more_than_so_many_at_once_and_the_next_begins_when_one_ends);
	tcase_add_test(t, threads_share_the_limits_of_the_process);
	tcase_add_test(t, the_oldest_make_room_after_a_while_but_only_for_others);
	tcase_add_test(t, who_is_young_is_waited_for);
	tcase_add_test(t, too_many_that_wait_are_turned_away);
	suite_add_tcase(s, t);
	return s;
}
