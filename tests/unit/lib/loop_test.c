/* SPDX-License-Identifier: Apache-2.0 */
/* loop_test.c: the order of a turn, tasks, deferred frees, posts from threads, timers, signals. */
#include "lib/loop.h"

#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct loop *loop;
static char trace[256];

static void setup(void)
{
	loop = loop_new(NULL);
	trace[0] = 0;
}

static void teardown(void)
{
	loop_free(&loop);
	ck_assert_ptr_null(loop);
}

static void note(const char *what)
{
	strncat(trace, what, sizeof(trace) - strlen(trace) - 1);
}

static struct task first, second, third, again;
static unsigned rounds;

static void on_stop(struct timer *t)
{
	note("stop ");
	loop_stop(loop);
}

static void on_freed(void *p)
{
	note(p);
}

static void on_first(struct task *t)
{
	note("first ");
	loop_defer_free(loop, "freed ", on_freed);
	loop_at_turn_end(loop, &second);
	loop_at_turn_end(loop, &second);
}

static void on_second(struct task *t)
{
	note("second ");
}

static void on_timer(struct timer *t)
{
	note("timer ");
	loop_at_turn_end(loop, &first);
	loop_next_turn(loop, &third);
}

static void on_third(struct task *t)
{
	note("next ");
	loop_stop(loop);
}

START_TEST(a_turn_ends_with_tasks_then_frees_and_the_next_comes_at_once)
{
	struct timer t;

	task_init(&first, on_first);
	task_init(&second, on_second);
	task_init(&third, on_third);
	timer_init(&t, loop, on_timer);
	timer_start(&t, 1);
	loop_run(loop);
	ck_assert_str_eq(trace, "timer first second freed next ");
}
END_TEST

static void on_again(struct task *t)
{
	if (++rounds < 1000)
		loop_at_turn_end(loop, t);
	else
		loop_stop(loop);
}

START_TEST(tasks_that_add_themselves_do_not_stop_the_loop)
{
	struct timer t;

	timer_init(&t, loop, on_stop);
	timer_start(&t, 5000);
	rounds = 0;
	task_init(&again, on_again);
	loop_at_turn_end(loop, &again);
	loop_run(loop);
	ck_assert_uint_eq(rounds, 1000);
	ck_assert_str_eq(trace, ""); /* not one sleep */
	timer_stop(&t);
}
END_TEST

static void on_cancels(struct task *t)
{
	note("canceller ");
	task_cancel(&second);
}

START_TEST(a_task_may_cancel_another_of_the_same_round)
{
	struct timer t;

	task_init(&first, on_cancels);
	task_init(&second, on_second);
	loop_at_turn_end(loop, &first);
	loop_at_turn_end(loop, &second);
	ck_assert(task_queued(&second));
	timer_init(&t, loop, on_stop);
	timer_start(&t, 1);
	loop_run(loop);
	ck_assert_str_eq(trace, "canceller stop ");
	task_cancel(&second); /* safe when not queued */
}
END_TEST

START_TEST(what_is_queued_when_the_loop_stops_still_runs)
{
	task_init(&first, on_first);
	task_init(&second, on_second);
	task_init(&third, on_third);
	struct timer t;
	timer_init(&t, loop, on_stop);
	timer_start(&t, 1);
	loop_run(loop);
	loop_at_free(loop, &second);
	loop_defer_free(loop, "freed ", on_freed);
	loop_free(&loop);
	ck_assert_str_eq(trace, "stop second freed ");
}
END_TEST

START_TEST(timers_start_late_in_a_long_turn_fire_in_order)
{
	struct timer t, u;

	timer_init(&t, loop, on_timer);
	timer_init(&u, loop, on_stop);
	task_init(&first, on_second);
	task_init(&third, on_second);
	timer_start(&u, 30);
	timer_start(&t, 10);
	timer_start(&t, 5); /* restarts */
	ck_assert(timer_running(&t));
	uint64_t before = loop_now_ms(loop);
	loop_run(loop);
	ck_assert(!timer_running(&t));
	ck_assert_uint_ge(loop_now_ms(loop) - before, 29);
	ck_assert_str_eq(trace, "timer second second stop ");
}
END_TEST

/* --- posts --- */

static _Atomic unsigned accepted;
static unsigned ran;
static _Atomic bool done;

static void on_post(void *arg)
{
	ran++;
}

static void on_last(void *arg)
{
	loop_stop(loop);
}

static void *poster(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		while (!loop_post(loop, on_post, NULL))
			sched_yield(); /* full: the loop is at it */
		accepted++;
	}
	return NULL;
}

static void *joiner(void *arg)
{
	pthread_t *threads = arg;

	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	while (!loop_post(loop, on_last, NULL))
		sched_yield();
	return NULL;
}

START_TEST(posts_of_two_threads_all_run_on_the_loop)
{
	pthread_t threads[2], join;

	ran = 0;
	accepted = 0;
	pthread_create(&threads[0], NULL, poster, NULL);
	pthread_create(&threads[1], NULL, poster, NULL);
	pthread_create(&join, NULL, joiner, threads);
	loop_run(loop);
	pthread_join(join, NULL);
	ck_assert_uint_eq(ran, 40000);
}
END_TEST

static struct task idle_task, busy_task;
static unsigned busy_turns;

static void on_idle_task(struct task *t)
{
	note(busy_turns == 5 ? "idle " : "early ");
	loop_stop(loop);
}

static void on_busy(struct task *t)
{
	if (++busy_turns < 5)
		loop_next_turn(loop, t);
}

/* Not while tasks of the turn, timers or descriptors have something, and without any sleep then. */
START_TEST(what_waits_for_an_idle_turn_runs_in_the_first_one)
{
	struct timer late;
	task_init(&idle_task, on_idle_task);
	task_init(&busy_task, on_busy);
	busy_turns = 0;
	timer_init(&late, loop, on_stop);
	timer_start(&late, 5000);
	loop_when_idle(loop, &idle_task);
	loop_when_idle(loop, &idle_task);
	loop_next_turn(loop, &busy_task);
	loop_run(loop);
	ck_assert_str_eq(trace, "idle ");
	loop_when_idle(loop, &idle_task);
	task_cancel(&idle_task);
	timer_start(&late, 20);
	loop_run(loop);
	ck_assert_str_eq(trace, "idle stop ");
}
END_TEST

START_TEST(posts_are_capped)
{
	ran = 0;
	for (int i = 0; i < 4095; i++)
		ck_assert(loop_post(loop, on_post, NULL) == true);
	ck_assert(loop_post(loop, on_last, NULL));
	ck_assert(!loop_post(loop, on_post, NULL));
	loop_run(loop);
	ck_assert_uint_eq(ran, 4095);
	ck_assert(loop_post(loop, on_last, NULL));
	loop_run(loop);
}
END_TEST

static void on_signal(void *arg, int signum)
{
	ck_assert_int_eq(signum, SIGUSR1);
	loop_stop(loop);
	done = true;
}

START_TEST(a_signal_arrives_on_the_loop)
{
	loop_on_signal(loop, SIGUSR1, on_signal, NULL);
	done = false;
	raise(SIGUSR1);
	loop_run(loop);
	ck_assert(done);
}
END_TEST

/* --- descriptors --- */

static unsigned readable_n, writable_n;

static void on_io(struct io *io, bool readable, bool writable)
{
	readable_n += readable;
	writable_n += writable;
	if (readable_n + writable_n >= 3) {
		io_want(io, false, false);
		loop_stop(loop);
	}
}

START_TEST(io_is_level_triggered_and_stops_when_unwanted)
{
	struct timer t;
	struct io io;
	int p[2];

	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(write(p[1], "x", 1), 1);
	readable_n = writable_n = 0;
	io_init(&io, loop, p[0], on_io);
	io_want(&io, true, false);
	loop_run(loop);
	ck_assert_uint_eq(readable_n, 3); /* nobody read it */
	timer_init(&t, loop, on_stop);
	timer_start(&t, 10);
	loop_run(loop);
	ck_assert_uint_eq(readable_n, 3);
	io_stop(&io);
	close(p[0]);
	close(p[1]);
}
END_TEST

Suite *loop_suite(void);
Suite *loop_suite(void)
{
	Suite *s = suite_create("loop");
	TCase *t = tcase_create("loop");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 20);
	tcase_add_test(t, a_turn_ends_with_tasks_then_frees_and_the_next_comes_at_once);
	tcase_add_test(t, tasks_that_add_themselves_do_not_stop_the_loop);
	tcase_add_test(t, a_task_may_cancel_another_of_the_same_round);
	tcase_add_test(t, what_is_queued_when_the_loop_stops_still_runs);
	tcase_add_test(t, timers_start_late_in_a_long_turn_fire_in_order);
	tcase_add_test(t, posts_of_two_threads_all_run_on_the_loop);
	tcase_add_test(t, posts_are_capped);
	tcase_add_test(t, what_waits_for_an_idle_turn_runs_in_the_first_one);
	tcase_add_test(t, a_signal_arrives_on_the_loop);
	tcase_add_test(t, io_is_level_triggered_and_stops_when_unwanted);
	suite_add_tcase(s, t);
	return s;
}
