/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks much takes turns, and who asks little never waits for them. */
#include "lib/turns.h"

#include <check.h>
#include <time.h>

#define MANY 50

static struct loop *loop;
static struct one {
	struct taker taker;
	unsigned wants, had;
	int32_t cost; /* of a piece */
} all[MANY], little;
static unsigned in_turn, most_in_turn, turns_left;
static struct task tick;

static void take(struct one *o)
{
	for (; o->wants > 0 && o->taker.left > 0; o->wants--, o->taker.left -= o->cost) {
		o->had++;
		in_turn += o != &little;
		most_in_turn = MAX(most_in_turn, in_turn);
	}
	if (o->wants > 0)
		turns_wait(loop_turns(loop), &o->taker);
}

static void on_go(struct taker *k)
{
	take(CONTAINER_OF(k, struct one, taker));
}

static void enter(struct one *o, unsigned wants)
{
	o->wants += wants;
	turns_enter(loop_turns(loop), &o->taker);
	if (turns_waits(&o->taker))
		return;
	take(o);
	turns_spent(loop_turns(loop), &o->taker);
}

/* Turns are told apart by the time, and one without work may take less than a microsecond. */
static void pass_time(void)
{
	struct timespec now;
	do
		MUST(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	while ((uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 <= loop_now_us(loop));
}

static void on_tick(struct task *t)
{
	pass_time();
	in_turn = 0; /* the queue is served once between two of these */
	if (turns_left-- == 0)
		loop_stop(loop);
	else
		loop_next_turn(loop, t);
}

static void run_turns(unsigned n)
{
	turns_left = n;
	loop_next_turn(loop, &tick);
	loop_run(loop);
}

static void setup(void)
{
	loop = loop_new(NULL);
	task_init(&tick, on_tick);
	in_turn = most_in_turn = 0;
	for (unsigned i = 0; i <= MANY; i++) {
		struct one *o = i < MANY ? &all[i] : &little;
		*o = (struct one){.cost = 1};
		taker_init(&o->taker, on_go);
		o->taker.share = 4;
	}
}

static void teardown(void)
{
	for (unsigned i = 0; i < MANY; i++)
		turns_leave(&all[i].taker);
	turns_leave(&little.taker);
	loop_free(&loop);
}

START_TEST(one_alone_begins_all_that_a_turn_is_good_for)
{
	all[0].cost = _i ? 4 : 1;
	all[0].taker.share = 4 * all[0].cost;
	enter(&all[0], 1000);
	ck_assert_uint_eq(all[0].had, 4); /* its share, at once */
	in_turn = most_in_turn = 0;
	run_turns(10);
	ck_assert_uint_eq(most_in_turn, (unsigned)(_i ? TURNS_POINTS / 4 : TURNS_POINTS));
	ck_assert_uint_ge(all[0].had, 9 * most_in_turn);
}
END_TEST

/* However many: what they begin in a turn does not grow, and none gets ahead of another by more than a share. */
START_TEST(many_share_what_one_may_have)
{
	for (unsigned i = 0; i < MANY; i++) {
		all[i].cost = 2;
		all[i].taker.share = 8;
		enter(&all[i], i % 2 ? 1000 : 100000);
	}
	in_turn = most_in_turn = 0; /* the first shares all came in one turn */
	run_turns(100);
	ck_assert_uint_le(most_in_turn, TURNS_POINTS / 2);
	ck_assert_uint_ge(most_in_turn, TURNS_POINTS / 2 - 4);
	unsigned least = UINT32_MAX, most = 0;
	for (unsigned i = 0; i < MANY; i++) {
		least = MIN(least, all[i].had);
		most = MAX(most, all[i].had);
	}
	ck_assert_uint_gt(least, 4);
	ck_assert_uint_le(most - least, 8); /* a share, and one that the end of a turn cut short */
}
END_TEST

START_TEST(who_asks_little_does_not_wait)
{
	for (unsigned i = 0; i < MANY; i++)
		enter(&all[i], 100000);
	for (unsigned i = 0; i < 20; i++) {
		run_turns(8); /* a round: 50 takers, 16 shares of 4 in a turn */
		enter(&little, 2);
		ck_assert_uint_eq(little.had, 2 * (i + 1));
	}
	/* More than its share in one round: then it waits like the others, and for no more than one round. */
	enter(&little, 10);
	ck_assert(turns_waits(&little.taker));
	run_turns(3 * 8);
	ck_assert_uint_eq(little.wants, 0);
}
END_TEST

/* Who sends its share again and again, and never more, gets no more than who waits. */
START_TEST(small_pieces_do_not_jump_the_queue)
{
	for (unsigned i = 0; i < MANY; i++)
		enter(&all[i], 100000);
	for (unsigned i = 0; i < 200; i++) {
		run_turns(1);
		if (little.wants == 0)
			enter(&little, 4);
	}
	ck_assert_uint_le(little.had, all[0].had + 8);
	ck_assert_uint_ge(little.had + 8, all[0].had);
}
END_TEST

START_TEST(with_nobody_waiting_each_turn_is_a_round)
{
	for (unsigned i = 1; i <= 20; i++) {
		enter(&little, 4);
		ck_assert_uint_eq(little.had, 4 * i);
		run_turns(1);
	}
	enter(&little, 5);
	turns_leave(&little.taker);
	run_turns(3);
	ck_assert_uint_eq(little.wants, 1); /* it left */
}
END_TEST

/* However many they are, and although each asks no more than its share. */
START_TEST(strangers_share_the_points_of_a_turn_from_the_first)
{
	for (unsigned i = 0; i < MANY; i++)
		all[i].taker.stranger = true;
	for (unsigned i = 0; i < MANY; i++)
		enter(&all[i], 4);
	ck_assert_uint_eq(in_turn, TURNS_POINTS);
	enter(&little, 4); /* no stranger */
	ck_assert_uint_eq(little.had, 4);
	in_turn = most_in_turn = 0;
	run_turns(1);
	ck_assert_uint_eq(most_in_turn, TURNS_POINTS);
	run_turns(MANY * 4 / TURNS_POINTS + 1);
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_uint_eq(all[i].had, 4);
}
END_TEST

/* What was dearer than it looked, and what could not be put off, is paid by those who wait: for so many turns they get nothing. */
START_TEST(what_is_owed_shortens_the_next_turns)
{
	enter(&all[0], 1000);
	turns_owe(loop_turns(loop), &all[0].taker, 10 * TURNS_POINTS);
	run_turns(8);
	ck_assert_uint_eq(all[0].had, 4);
	run_turns(3);
	ck_assert_uint_gt(all[0].had, 4);
	unsigned had = all[0].had;
	all[0].cost = 5 * TURNS_POINTS;
	run_turns(10);
	ck_assert_uint_ge(all[0].had, had + 1);
	ck_assert_uint_le(all[0].had, had + 3);
	turns_owe(loop_turns(loop), &all[0].taker, UINT32_MAX); /* bounded */
	had = all[0].had;
	all[0].cost = 1;
	run_turns(TURNS_DEBT_MAX / TURNS_POINTS + 2);
	ck_assert_uint_gt(all[0].had, had);
}
END_TEST

/* Beyond its share: a known taker's dear work is no less dear. */
START_TEST(what_a_known_taker_spends_beyond_its_share_is_owed)
{
	little.cost = 10 * TURNS_POINTS;
	enter(&little, 1);
	enter(&all[0], 1000);
	unsigned had = all[0].had;
	run_turns(5);
	ck_assert_uint_eq(all[0].had, had);
	run_turns(8);
	ck_assert_uint_gt(all[0].had, had);
}
END_TEST

static void strangers_want(unsigned wants, bool paced)
{
	for (unsigned i = 0; i < MANY; i++) {
		all[i].taker.stranger = true;
		all[i].taker.paced = paced;
		enter(&all[i], wants);
	}
}

static unsigned had_by_all(void)
{
	unsigned n = 0;
	for (unsigned i = 0; i < MANY; i++)
		n += all[i].had;
	return n;
}

static void on_enough(struct timer *t)
{
	loop_stop(t->loop);
}

/* The loop does nothing but serve those who wait. Returns the ms that this took. */
static uint64_t serve_for(unsigned ms)
{
	struct timer enough;
	uint64_t began = loop_clock_us();
	timer_init(&enough, loop, on_enough);
	timer_start(&enough, ms);
	loop_run(loop);
	return (loop_clock_us() - began) / 1000;
}

/* However many they are and however short the turns; each as much as the others. Those that are not paced take what the turns are good for. */
START_TEST(paced_strangers_keep_to_the_clock)
{
	bool paced = _i == 0;
	strangers_want(1000000, paced);
	unsigned had = had_by_all(), least = UINT32_MAX, most = 0;
	uint64_t took = serve_for(30), allowed = TURNS_PACE_MAX + (took + 1) * TURNS_PACE;
	had = had_by_all() - had;
	if (!paced) {
		ck_assert_uint_gt(had, allowed);
		return;
	}
	ck_assert_uint_le(had, allowed);
	ck_assert_uint_gt(had, TURNS_PACE_MAX); /* the clock goes on */
	for (unsigned i = 0; i < MANY; i++) {
		least = MIN(least, all[i].had);
		most = MAX(most, all[i].had);
	}
	ck_assert_uint_le(most - least, 8); /* a share, and one that was cut short */
}
END_TEST

/* At once, and if it wants more than its share, in the turns that follow: the points that strangers may not have are not lost. */
START_TEST(who_is_known_does_not_wait_for_the_clock)
{
	strangers_want(1000000, true);
	turns_owe(loop_turns(loop), &all[0].taker, TURNS_DEBT_MAX);
	run_turns(TURNS_DEBT_MAX / TURNS_POINTS + 2);
	unsigned had = had_by_all(), turns = 0;
	enter(&little, 20 * TURNS_POINTS);
	ck_assert_uint_eq(little.had, 4);
	for (; little.wants > 0 && turns < 1000; turns++)
		run_turns(1);
	ck_assert_uint_le(turns * TURNS_POINTS, 22 * TURNS_POINTS + had_by_all() - had);
}
END_TEST

/* What ended with a stranger's connection is work of strangers: more than the pace may have in store, so that for some ms they get nothing. */
START_TEST(what_a_paced_stranger_owes_is_paid_by_the_clock)
{
	strangers_want(1000000, true);
	serve_for(5);
	unsigned had = had_by_all();
	turns_owe(loop_turns(loop), &all[0].taker, TURNS_DEBT_MAX);
	uint64_t paid = TURNS_PACE_MAX + (serve_for(2) + 1) * TURNS_PACE;
	ck_assert_uint_le(had_by_all() - had, paid > TURNS_DEBT_MAX ? paid - TURNS_DEBT_MAX : 0);
	serve_for(20);
	ck_assert_uint_gt(had_by_all(), had);
}
END_TEST

START_TEST(who_waits_for_the_clock_may_leave_before_the_loop_and_after_it)
{
	strangers_want(1000000, true);
	serve_for(5);
	ck_assert(turns_waits(&all[0].taker));
	turns_leave(&all[0].taker);
	unsigned had = all[0].had, others = had_by_all();
	serve_for(10);
	ck_assert_uint_eq(all[0].had, had);
	ck_assert_uint_gt(had_by_all(), others);
	loop_free(&loop);
	for (unsigned i = 0; i < MANY; i++)
		ck_assert(!turns_waits(&all[i].taker));
	loop = loop_new(NULL);
}
END_TEST

Suite *turns_suite(void)
{
	Suite *s = suite_create("turns");
	TCase *c = tcase_create("turns");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_loop_test(c, one_alone_begins_all_that_a_turn_is_good_for, 0, 2);
	tcase_add_test(c, many_share_what_one_may_have);
	tcase_add_test(c, who_asks_little_does_not_wait);
	tcase_add_test(c, small_pieces_do_not_jump_the_queue);
	tcase_add_test(c, with_nobody_waiting_each_turn_is_a_round);
	tcase_add_test(c, strangers_share_the_points_of_a_turn_from_the_first);
	tcase_add_test(c, what_is_owed_shortens_the_next_turns);
	tcase_add_test(c, what_a_known_taker_spends_beyond_its_share_is_owed);
	tcase_add_loop_test(c, paced_strangers_keep_to_the_clock, 0, 2);
	tcase_add_test(c, who_is_known_does_not_wait_for_the_clock);
	tcase_add_test(c, what_a_paced_stranger_owes_is_paid_by_the_clock);
	tcase_add_test(c, who_waits_for_the_clock_may_leave_before_the_loop_and_after_it);
	suite_add_tcase(s, c);
	return s;
}
