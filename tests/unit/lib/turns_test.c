/* SPDX-License-Identifier: Apache-2.0 */
/* Who asks much takes turns, and who asks little never waits for them. */
#include "lib/turns.h"

#include <check.h>

#define MANY 50

static struct loop *loop;
static struct one {
	struct taker taker;
	unsigned wants, had;
} all[MANY], little;
static unsigned in_turn, most_in_turn, turns_left;
static struct task tick;

static void take(struct one *o)
{
	for (; o->wants > 0 && o->taker.left > 0; o->wants--, o->taker.left--) {
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
	if (!turns_waits(&o->taker))
		take(o);
}

static void on_tick(struct task *t)
{
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
		*o = (struct one){0};
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
	all[0].taker.cost = _i ? 4 : 1;
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
		all[i].taker.cost = 2;
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
	suite_add_tcase(s, c);
	return s;
}
