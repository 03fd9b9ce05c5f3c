/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox_test.c: letters arrive once, in order, whoever sends them; a letter on its way is not sent twice, and nothing written before it was
 * sent again is missed. */
#include "lib/loop.h"
#include "lib/mem.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>

#define SENDERS 3
#define EACH    5000

struct numbered {
	struct letter letter;
	unsigned sender, number;
};

static unsigned opened, next_of[SENDERS];

static void on_numbered(struct letter *l)
{
	struct numbered *x = CONTAINER_OF(l, struct numbered, letter);
	ck_assert_uint_eq(x->number, next_of[x->sender]); /* in the order of its sender */
	next_of[x->sender]++;
	opened++;
	mem_free(x);
}

static struct numbered *numbered(unsigned sender, unsigned number)
{
	struct numbered *x = NEW(struct numbered);
	letter_init(&x->letter, on_numbered);
	x->sender = sender;
	x->number = number;
	return x;
}

static void setup(void)
{
	opened = 0;
	memset(next_of, 0, sizeof(next_of));
}

START_TEST(letters_are_opened_in_order_and_only_the_first_wakes)
{
	struct mailbox m = {0};
	for (unsigned i = 0; i < 100; i++)
		ck_assert(mailbox_put(&m, &numbered(0, i)->letter) == (i == 0));
	mailbox_open(&m);
	ck_assert_uint_eq(opened, 100);
	mailbox_open(&m);
	ck_assert_uint_eq(opened, 100);
	ck_assert(mailbox_put(&m, &numbered(0, 100)->letter));
	mailbox_open(&m);
	ck_assert_uint_eq(opened, 101);
}
END_TEST

static struct mailbox box;
static struct letter again;
static unsigned rounds;

static void on_again(struct letter *l)
{
	if (++rounds < 3)
		ck_assert(mailbox_put(&box, l)); /* from within: for the next time */
}

START_TEST(a_letter_on_its_way_is_not_sent_twice_and_may_be_sent_again_from_within)
{
	box = (struct mailbox){0};
	rounds = 0;
	letter_init(&again, on_again);
	ck_assert(mailbox_put(&box, &again));
	ck_assert(!mailbox_put(&box, &again));
	mailbox_open(&box);
	ck_assert_uint_eq(rounds, 1);
	mailbox_open(&box);
	mailbox_open(&box);
	mailbox_open(&box);
	ck_assert_uint_eq(rounds, 3);
}
END_TEST

static struct loop *loop;

static void *sender(void *arg)
{
	unsigned me = *(unsigned *)arg;
	for (unsigned i = 0; i < EACH; i++)
		loop_send(loop, &numbered(me, i)->letter);
	return NULL;
}

static void on_look(struct timer *t)
{
	if (opened == SENDERS * EACH)
		loop_stop(loop);
	else
		timer_start(t, 1);
}

START_TEST(letters_of_many_threads_all_arrive_in_the_order_of_each)
{
	pthread_t id[SENDERS];
	unsigned me[SENDERS];
	struct timer t;
	loop = loop_new(NULL);
	timer_init(&t, loop, on_look);
	timer_start(&t, 1);
	for (unsigned i = 0; i < SENDERS; i++) {
		me[i] = i;
		pthread_create(&id[i], NULL, sender, &me[i]);
	}
	loop_run(loop);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(id[i], NULL);
	ck_assert_uint_eq(opened, SENDERS * EACH);
	loop_free(&loop);
}
END_TEST

/* --- the newest of something, as identities and snapshots go --- */

static uint64_t newest, seen; /* newest: atomic */
static struct letter changed;

static void on_changed(struct letter *l)
{
	uint64_t now = __atomic_load_n(&newest, __ATOMIC_RELAXED);
	ck_assert_uint_ge(now, seen);
	seen = now;
	if (seen == EACH)
		loop_stop(loop);
}

static void *publisher(void *arg)
{
	for (uint64_t i = 1; i <= EACH; i++) {
		__atomic_store_n(&newest, i, __ATOMIC_RELAXED);
		loop_send(loop, &changed);
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

START_TEST(what_was_written_before_a_letter_was_sent_again_is_seen)
{
	pthread_t id;
	newest = seen = 0;
	loop = loop_new(NULL);
	letter_init(&changed, on_changed);
	pthread_create(&id, NULL, publisher, NULL);
	loop_run(loop); /* for ever, if the last one could be lost */
	pthread_join(id, NULL);
	ck_assert_uint_eq(seen, EACH);
	loop_open_mail(loop);
	loop_free(&loop);
}
END_TEST

Suite *mailbox_suite(void);
Suite *mailbox_suite(void)
{
	Suite *s = suite_create("mailbox");
	TCase *t = tcase_create("mailbox");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_set_timeout(t, 20);
	tcase_add_test(t, letters_are_opened_in_order_and_only_the_first_wakes);
	tcase_add_test(t, a_letter_on_its_way_is_not_sent_twice_and_may_be_sent_again_from_within);
	tcase_add_test(t, letters_of_many_threads_all_arrive_in_the_order_of_each);
	tcase_add_test(t, what_was_written_before_a_letter_was_sent_again_is_seen);
	suite_add_tcase(s, t);
	return s;
}
