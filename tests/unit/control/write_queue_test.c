/* SPDX-License-Identifier: Apache-2.0 */
/* write_queue_test.c: writers of the loop, while another thread is within its transaction. */
#include "control/write_queue.h"

#include "tests/unit/control/own_store.h"
#include "tests/unit/control/slow_writer.h"

#include <check.h>
#include <pthread.h>
#include <time.h>

#define WRITERS (2 * WRITE_TURN + 1)

static struct loop *loop;
static struct store *store;
static struct write_queue *queue;
static struct writer writers[WRITERS];
static size_t order[WRITERS], turns, given_busy;
static size_t stop_after;
static uint64_t asked_ms;
static struct err err;

static void on_turn(struct writer *w)
{
	ck_assert(!writer_waits(w));
	given_busy += store_busy(store);
	order[turns++] = (size_t)(w - writers);
	if (turns == stop_after)
		loop_stop(loop);
}

static void make(void)
{
	turns = given_busy = 0;
	store = own_store_make();
	loop = loop_new(&err);
	queue = write_queue_new(loop, store);
	for (size_t i = 0; i < WRITERS; i++)
		writer_init(&writers[i], on_turn);
}

static void drop(void)
{
	write_queue_free(&queue);
	loop_free(&loop);
	own_store_drop(&store);
}

static void on_let_go(struct timer *t)
{
	ck_assert_uint_eq(turns, 0);
	slow_writer_let_go();
}

START_TEST(who_asks_while_nobody_writes_writes_at_once_and_a_few_in_one_turn)
{
	for (size_t i = 0; i <= WRITE_TURN; i++)
		writer_take(queue, &writers[i]);
	ck_assert_uint_eq(turns, WRITE_TURN);
	ck_assert(writer_waits(&writers[WRITE_TURN]));
	stop_after = WRITE_TURN + 1;
	loop_run(loop);
	ck_assert_uint_eq(order[WRITE_TURN], WRITE_TURN);
	writer_take(NULL, &writers[1]);
	ck_assert_uint_eq(order[WRITE_TURN + 1], 1);
}
END_TEST

static struct store *beside;

static void *try_turn(void *unused)
{
	if (store_try_turn(beside)) {
		store_end_turn(beside);
		return beside;
	}
	return NULL;
}

/* What another thread finds while a writer of the loop has its turn. */
static bool others_may_write(void)
{
	pthread_t t;
	void *may;

	ck_assert_int_eq(pthread_create(&t, NULL, try_turn, NULL), 0);
	ck_assert_int_eq(pthread_join(t, &may), 0);
	return may != NULL;
}

static void on_turn_alone(struct writer *w)
{
	ck_assert(!others_may_write());
	json_t *body = json_pack("{s:s}", "kind", "Service");
	struct store_item it = {"Service", "shop", "mine", body, NULL, STORE_UNCHANGED};
	ck_assert(store_apply(store, &it, 1, "test", "one", false, NULL, NULL));
	json_decref(body);
	ck_assert(!others_may_write()); /* after one transaction there may be another one */
	turns++;
}

START_TEST(who_has_its_turn_is_alone_until_it_has_written_all)
{
	beside = store_open_beside(store, &err);
	ck_assert_msg(beside != NULL, "%s", err.text);
	writers[0].on_turn = on_turn_alone;
	writer_take(queue, &writers[0]);
	ck_assert_uint_eq(turns, 1);
	ck_assert(others_may_write());
	store_free(&beside);
}
END_TEST

START_TEST(who_asks_during_a_transaction_waits_for_its_end_and_the_loop_runs_on)
{
	struct timer t;

	slow_writer_begin(store);
	for (size_t i = 0; i < WRITERS; i++)
		writer_take(queue, &writers[i]);
	stop_after = WRITERS;
	timer_init(&t, loop, on_let_go);
	timer_start(&t, 30); /* comes only if the loop does not wait */
	loop_run(loop);
	slow_writer_join();
	for (size_t i = 0; i < WRITERS; i++)
		ck_assert_uint_eq(order[i], i);
	ck_assert_uint_eq(given_busy, 0);
}
END_TEST

static size_t turns_before;

static void on_other(struct task *t)
{
	ck_assert_uint_le(turns - turns_before, WRITE_TURN);
	turns_before = turns;
	if (turns < WRITERS)
		loop_next_turn(loop, t);
}

START_TEST(a_turn_of_the_loop_lets_a_few_write)
{
	struct task other;

	turns_before = 0;
	slow_writer_begin(store);
	for (size_t i = 0; i < WRITERS; i++)
		writer_take(queue, &writers[i]);
	slow_writer_let_go();
	slow_writer_join();
	task_init(&other, on_other);
	loop_next_turn(loop, &other);
	stop_after = WRITERS;
	loop_run(loop);
	task_cancel(&other);
	ck_assert_uint_eq(turns, WRITERS);
}
END_TEST

START_TEST(who_asks_behind_others_waits_behind_them)
{
	slow_writer_begin(store);
	writer_take(queue, &writers[0]);
	slow_writer_let_go();
	slow_writer_join();
	writer_take(queue, &writers[1]);
	stop_after = 2;
	loop_run(loop);
	ck_assert_uint_eq(order[0], 0);
	ck_assert_uint_eq(order[1], 1);
}
END_TEST

START_TEST(a_store_that_stays_busy_holds_nobody_up_for_longer_than_a_second)
{
	slow_writer_begin(store);
	asked_ms = loop_now_ms(loop);
	writer_take(queue, &writers[0]);
	stop_after = 1;
	loop_run(loop);
	ck_assert_uint_eq(given_busy, 1);
	ck_assert_uint_ge(loop_now_ms(loop) - asked_ms, WRITE_WAIT_MS);
	slow_writer_let_go();
	slow_writer_join();
}
END_TEST

START_TEST(who_left_gets_no_turn)
{
	slow_writer_begin(store);
	writer_take(queue, &writers[0]);
	writer_take(queue, &writers[1]);
	writer_leave(&writers[0]);
	writer_leave(&writers[0]);
	slow_writer_let_go();
	slow_writer_join();
	stop_after = 1;
	loop_run(loop);
	ck_assert_uint_eq(order[0], 1);
	ck_assert_uint_eq(turns, 1);
}
END_TEST

START_TEST(who_goes_first_does_not_wait_for_those_who_wait)
{
	slow_writer_begin(store);
	for (size_t i = 0; i < WRITERS; i++)
		writer_take(queue, &writers[i]);
	writer_leave(&writers[WRITERS - 1]);
	writers[WRITERS - 1].first = true;
	writer_take(queue, &writers[WRITERS - 1]);
	slow_writer_let_go();
	slow_writer_join();
	stop_after = WRITERS;
	loop_run(loop);
	ck_assert_uint_eq(order[0], WRITERS - 1);
	ck_assert_uint_eq(order[1], 0);
}
END_TEST

#define BACKLOG 40

static struct writer backlog[BACKLOG];
static size_t through;

static void on_backlog_turn(struct writer *w)
{
	struct timespec pause = {.tv_nsec = 2 * WRITE_WAIT_MS * 1000000L / BACKLOG};

	nanosleep(&pause, NULL); /* together they take twice as long as one may have to wait */
	if (++through == BACKLOG)
		loop_stop(loop);
}

static size_t before_busy;

/* Nobody has written, and the loop came here: it did not wait. */
static void on_let_go_of_backlog(struct timer *t)
{
	ck_assert_uint_eq(through, before_busy);
	slow_writer_let_go();
}

static void on_busy_at_last(struct timer *t)
{
	before_busy = through;
	ck_assert(through > 0 && through < BACKLOG);
	slow_writer_begin(store);
	timer_init(t, loop, on_let_go_of_backlog);
	timer_start(t, 100);
}

START_TEST(a_long_queue_is_no_busy_store)
{
	struct timer t;

	through = 0;
	for (size_t i = 0; i < BACKLOG; i++) {
		writer_init(&backlog[i], on_backlog_turn);
		writer_take(queue, &backlog[i]);
	}
	timer_init(&t, loop, on_busy_at_last);
	timer_start(&t, WRITE_WAIT_MS + WRITE_WAIT_MS / 3); /* the last ones have waited for longer than that */
	loop_run(loop);
	slow_writer_join();
	ck_assert_uint_eq(through, BACKLOG);
}
END_TEST

Suite *write_queue_suite(void);
Suite *write_queue_suite(void)
{
	Suite *s = suite_create("write_queue");
	TCase *tc = tcase_create("turns");

	tcase_add_checked_fixture(tc, make, drop);
	tcase_add_test(tc, who_asks_while_nobody_writes_writes_at_once_and_a_few_in_one_turn);
	tcase_add_test(tc, who_has_its_turn_is_alone_until_it_has_written_all);
	tcase_add_test(tc, who_asks_during_a_transaction_waits_for_its_end_and_the_loop_runs_on);
	tcase_add_test(tc, a_turn_of_the_loop_lets_a_few_write);
	tcase_add_test(tc, who_asks_behind_others_waits_behind_them);
	tcase_add_test(tc, a_store_that_stays_busy_holds_nobody_up_for_longer_than_a_second);
	tcase_add_test(tc, who_left_gets_no_turn);
	tcase_add_test(tc, who_goes_first_does_not_wait_for_those_who_wait);
	tcase_add_test(tc, a_long_queue_is_no_busy_store);
	suite_add_tcase(s, tc);
	return s;
}
