/* SPDX-License-Identifier: Apache-2.0 */
/* eject_test.c: what is taken out and comes back, seen by one thread or by several together. */
#include "lib/mem.h"
#include "tests/unit/proxy/balance_world.h"

#include <pthread.h>

#define MANY 4000

START_TEST(five_failures_in_a_row_eject_and_a_good_answer_between_them_does_not)
{
	struct endpoint_set *set = world_set_of(3, NULL);
	world_fail_at(set, 0, EJECT_AFTER - 1);
	world_took(set, 0, 1000); /* good */
	world_fail_at(set, 0, EJECT_AFTER - 1);
	ck_assert_uint_eq(balance_ejected(world.b), 0);
	world_fail_at(set, 0, 1);
	ck_assert_uint_eq(balance_ejected(world.b), 1);
	ck_assert_int_eq(world_number("10.0.0.1:8080", "ejected"), 1);
	ck_assert_int_le(world_number("10.0.0.1:8080", "ejectedForMs"), EJECT_MS);
	ck_assert_int_gt(world_number("10.0.0.1:8080", "ejectedForMs"), EJECT_MS - 1000);
	for (unsigned k = 0; k < 300; k++)
		ck_assert_uint_ne(world_once(set), 0);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(at_most_half_of_a_set_is_ejected_and_never_the_last_one)
{
	struct endpoint_set *three = world_set_of(3, NULL), *one = world_set_of(1, NULL);
	world_fail_at(three, 0, EJECT_AFTER);
	world_fail_at(three, 1, EJECT_AFTER + 3);
	ck_assert_uint_eq(balance_ejected(world.b), 1);
	world_took(three, 2, 1000);
	for (unsigned k = 0; k < 300; k++) /* what may not be ejected is the last choice instead */
		ck_assert_uint_eq(world_once(three), 2);
	endpoint_set_unref(&three);
	world_fail_at(one, 0, EJECT_AFTER);
	ck_assert_uint_eq(world_once(one), 0);
	endpoint_set_unref(&one);
}
END_TEST

START_TEST(when_less_than_half_is_left_ejections_do_not_count)
{
	struct endpoint_set *wide = world_set_of(6, NULL), *narrow = world_set_of(3, NULL);
	unsigned n[3] = {0};
	world_fail_at(wide, 0, EJECT_AFTER);
	world_fail_at(wide, 1, EJECT_AFTER);
	ck_assert_uint_eq(balance_ejected(world.b), 2);
	for (unsigned k = 0; k < 600; k++) /* two of three are out: panic */
		n[world_once(narrow)]++;
	ck_assert_uint_gt(n[0] + n[1], 0);
	endpoint_set_unref(&wide);
	endpoint_set_unref(&narrow);
}
END_TEST

START_TEST(an_ejected_endpoint_comes_back_by_itself_and_the_next_time_is_longer)
{
	struct endpoint_set *set = world_set_of(2, NULL);
	struct lives *lives = lives_new(world.loop, world.reputes);
	struct live *l = live_get(lives, &set->v[0]), *m = live_get(lives, &set->v[1]);
	l->repute->failures = EJECT_AFTER;
	reputes_lock(world.reputes);
	live_eject(lives, l, 60);
	live_eject(lives, m, 20);
	reputes_unlock(world.reputes);
	ck_assert_uint_eq(lives_ejected(lives), 2);
	while (lives_ejected(lives) > 0) {
		world_run_for(10);
		ck_assert(lives_ejected(lives) != 1 || l->repute->ejected); /* the shorter one first */
	}
	ck_assert_uint_eq(l->repute->failures, 0);
	ck_assert_uint_eq(l->repute->ejections, 1);
	live_put(lives, &l);
	live_put(lives, &m);
	lives_free(&lives);
	/* In the balancer: the second ejection in a row takes twice as long. */
	struct attempt a = {0};
	world_live_of(set, 0, &a)->repute->ejections = 1;
	a.live->repute->until_ms = loop_now_ms(world.loop);
	balance_end(world.b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	world_fail_at(set, 0, EJECT_AFTER);
	ck_assert_int_gt(world_number("10.0.0.1:8080", "ejectedForMs"), 2 * EJECT_MS - 1000);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(a_further_try_goes_to_an_ejected_endpoint_rather_than_to_the_one_that_has_just_failed)
{
	struct endpoint_set *set = world_set_of(2, NULL);
	world_fail_at(set, 0, EJECT_AFTER);
	ck_assert_int_eq(world_number("10.0.0.1:8080", "ejected"), 1);
	for (unsigned k = 0; k < 50; k++) {
		struct attempt a = {0};
		ck_assert_uint_eq(world_once(set), 1);
		ck_assert_uint_eq(world_pick_beside(set, &set->v[1].addr, 1, &a), 0);
		balance_end(world.b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	}
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(what_should_be_ejected_and_may_not_is_the_last_choice_of_both_algorithms)
{
	static const char *const names[] = {"p2c", "round-robin"};
	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		world_setup_with(names[n]);
		struct endpoint_set *set = world_set_of(3, NULL);
		world_fail_at(set, 0, EJECT_AFTER);
		world_fail_at(set, 1, EJECT_AFTER);
		ck_assert_int_eq(world_number("10.0.0.1:8080", "ejected"), 1);
		ck_assert_int_eq(world_number("10.0.0.2:8080", "ejected"), 0);
		ck_assert_int_eq(world_number("10.0.0.2:8080", "lastChoice"), 1);
		world_took(set, 2, 5e6); /* however slow the one is that answers */
		for (unsigned k = 0; k < 100; k++) {
			struct attempt a = {0};
			ck_assert_uint_eq(world_once(set), 2);
			/* and beside that one, the others in turn, first the one that was out before */
			ck_assert_uint_eq(world_pick_beside(set, &set->v[2].addr, 1, &a), k % 2);
			balance_end(world.b, &a, OUTCOME_NEUTRAL, REASON_NONE);
		}
		world_took(set, 1, 1000); /* an answer ends it */
		ck_assert_int_eq(world_number("10.0.0.2:8080", "lastChoice"), 0);
		/* When all fail each is asked in turn, the one first whose failure is the longest past, until one answers. */
		world_fail_at(set, 1, EJECT_AFTER);
		world_fail_at(set, 2, EJECT_AFTER);
		static const size_t turns[] = {0, 1, 2, 0, 1, 2};
		for (size_t k = 0; k < ARRAY_LEN(turns); k++) {
			struct attempt a = {0};
			ck_assert_uint_eq(world_pick(set, &a), turns[k]);
			balance_end(world.b, &a, OUTCOME_FAILED, REASON_CONNECT_FAIL);
		}
		ck_assert_uint_eq(world_once(set), 0); /* a good end: */
		ck_assert_int_eq(world_number("10.0.0.1:8080", "ejected"), 0);
		ck_assert_uint_eq(world_once(set), 0);
		endpoint_set_unref(&set);
		world_teardown();
	}
}
END_TEST

START_TEST(who_has_been_out_for_long_comes_back_when_another_must_go)
{
	struct endpoint_set *set = world_set_of(3, NULL);
	struct attempt a = {0};
	world_live_of(set, 0, &a)->repute->ejections = 9; /* so the next one lasts 100 s */
	a.live->repute->until_ms = loop_now_ms(world.loop);
	balance_end(world.b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	world_fail_at(set, 0, EJECT_AFTER);
	ck_assert_int_gt(world_number("10.0.0.1:8080", "ejectedForMs"), 9 * EJECT_MS);
	world_live_of(set, 0, &a)->repute->until_ms -= EJECT_MS; /* ten of them have passed */
	balance_end(world.b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	world_fail_at(set, 1, EJECT_AFTER);
	ck_assert_uint_eq(balance_ejected(world.b), 1);
	ck_assert_int_eq(world_number("10.0.0.1:8080", "ejected"), 0);
	ck_assert_int_eq(world_number("10.0.0.2:8080", "ejected"), 1);
	/* On trial: one failure and it is the last choice; the other one has not been out for long. */
	world_fail_at(set, 0, 1);
	ck_assert_int_eq(world_number("10.0.0.1:8080", "lastChoice"), 1);
	ck_assert_int_eq(world_number("10.0.0.2:8080", "ejected"), 1);
	endpoint_set_unref(&set);
}
END_TEST

/* --- what the threads of a process know together --- */

#define CREW 4

/* One failure of the endpoint at `i`, seen by this thread. */
static void fails(struct balancer *on, struct endpoint_set *set, size_t i, enum outcome how)
{
	struct attempt a = {0};
	struct addr others[16];
	enum reason why = REASON_NONE;
	size_t n = 0;
	for (size_t k = 0; k < set->len; k++)
		if (k != i)
			others[n++] = set->v[k].addr;
	const struct endpoint *ep = balance_pick(on, &world_permit, "shop/orders", set, others, n, &a, &why);
	ck_assert_ptr_eq(ep, &set->v[i]);
	balance_end(on, &a, how, how == OUTCOME_GOOD ? REASON_NONE : REASON_CONNECT_FAIL);
}

START_TEST(failures_in_a_row_are_counted_whichever_threads_see_them)
{
	struct endpoint_set *set = world_set_of(3, NULL);
	struct balancer *crew[CREW];
	for (unsigned i = 0; i < CREW; i++)
		crew[i] = world_thread_new(world.loop, "round-robin");
	for (unsigned i = 0; i < EJECT_AFTER - 1; i++)
		fails(crew[i % CREW], set, 0, OUTCOME_FAILED);
	fails(crew[2], set, 0, OUTCOME_GOOD); /* not in a row */
	for (unsigned i = 0; i < EJECT_AFTER; i++) {
		ck_assert_uint_eq(balance_ejected(crew[0]), 0);
		fails(crew[i % CREW], set, 0, OUTCOME_FAILED);
	}
	ck_assert_uint_eq(balance_ejected(crew[0]), 1); /* the fifth was the first one's */
	for (unsigned i = 1; i < CREW; i++)
		ck_assert_uint_eq(balance_ejected(crew[i]), 0); /* each is counted once */
	for (unsigned i = 0; i < 12 * CREW; i++) {
		struct attempt a = {0};
		enum reason why;
		const struct endpoint *ep =
		    balance_pick(crew[i % CREW], &world_permit, "shop/orders", set, NULL, 0, &a, &why);
		ck_assert_ptr_ne(ep, &set->v[0]); /* out for all */
		balance_end(crew[i % CREW], &a, OUTCOME_GOOD, REASON_NONE);
	}
	/* At most half, of all threads together: the second one is the last choice, whoever asks. */
	for (unsigned i = 0; i < EJECT_AFTER; i++)
		fails(crew[(i + 1) % CREW], set, 1, OUTCOME_FAILED);
	for (unsigned i = 0; i < 12 * CREW; i++) {
		struct attempt a = {0};
		enum reason why;
		const struct endpoint *ep =
		    balance_pick(crew[i % CREW], &world_permit, "shop/orders", set, NULL, 0, &a, &why);
		ck_assert_ptr_eq(ep, &set->v[2]);
		balance_end(crew[i % CREW], &a, OUTCOME_GOOD, REASON_NONE);
	}
	fails(crew[3], set, 0, OUTCOME_GOOD); /* one brings it back for all */
	fails(crew[1], set, 1, OUTCOME_GOOD);
	ck_assert_uint_eq(balance_ejected(crew[0]), 0);
	for (unsigned i = 0; i < CREW; i++)
		balancer_free(&crew[i]);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(who_ejects_and_goes_leaves_nobody_out_for_ever)
{
	struct endpoint_set *set = world_set_of(2, NULL);
	struct balancer *other = world_thread_new(world.loop, "");
	struct attempt held = {0};
	enum reason why;
	ck_assert_ptr_nonnull(
	    balance_pick(world.b, &world_permit, "shop/orders", set, &set->v[1].addr, 1, &held, &why));
	for (unsigned i = 0; i < EJECT_AFTER; i++)
		fails(other, set, 0, OUTCOME_FAILED);
	ck_assert(held.live->repute->ejected);
	balancer_free(&other);
	ck_assert(!held.live->repute->ejected);
	balance_end(world.b, &held, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

/* Eight endpoints, all of which fail nearly always, on all threads at once. */
static struct endpoint_set *contested;
static struct repute *watched[8];
static unsigned most_out; /* atomic */

static void count_watched(void)
{
	unsigned n = 0;
	reputes_lock(world.reputes);
	for (size_t i = 0; i < ARRAY_LEN(watched); i++)
		n += watched[i]->ejected;
	most_out = MAX(most_out, n);
	reputes_unlock(world.reputes);
}

static void *contest(void *arg)
{
	struct err err;
	struct loop *own = loop_new(&err);
	struct stats *counted = stats_new();
	struct balancer *mine =
	    balancer_new(own, balance_ops_find("round-robin"), counted, world.circuits, world.reputes);
	(void)arg;
	for (unsigned i = 0; i < MANY; i++) {
		struct attempt a = {0};
		enum reason why;
		ck_assert_ptr_nonnull(balance_pick(mine, &world_permit, "shop/orders", contested, NULL, 0, &a, &why));
		balance_end(mine, &a, i % 97 == 0 ? OUTCOME_GOOD : OUTCOME_FAILED, REASON_CONNECT_FAIL);
		if (i % 8 == 0)
			count_watched();
	}
	balancer_free(&mine);
	stats_free(&counted);
	loop_free(&own);
	return NULL;
}

START_TEST(threads_together_eject_at_most_half_of_a_set)
{
	pthread_t id[CREW];
	struct attempt held[8] = {0};
	contested = world_set_of(8, NULL);
	most_out = 0;
	for (size_t i = 0; i < ARRAY_LEN(held); i++)
		watched[i] = world_live_of(contested, i, &held[i])->repute;
	for (unsigned i = 0; i < CREW; i++)
		pthread_create(&id[i], NULL, contest, NULL);
	for (unsigned i = 0; i < CREW; i++)
		pthread_join(id[i], NULL);
	ck_assert_uint_eq(most_out, ARRAY_LEN(watched) / 2);
	for (size_t i = 0; i < ARRAY_LEN(held); i++) {
		ck_assert(!watched[i]->ejected);
		balance_end(world.b, &held[i], OUTCOME_NEUTRAL, REASON_NONE);
	}
	endpoint_set_unref(&contested);
}
END_TEST

/* So many attempts at once at the endpoint that is in use. */
static void lose(struct endpoint_set *set, unsigned times, uint64_t conn)
{
	struct attempt a[10] = {0};
	ck_assert_uint_le(times, ARRAY_LEN(a));
	for (unsigned i = 0; i < times; i++) {
		world_pick(set, &a[i]);
		balance_sent(world.b, &a[i]);
	}
	for (unsigned i = 0; i < times; i++) {
		if (conn != 0)
			balance_lost(&a[i], conn);
		balance_end(world.b, &a[i], OUTCOME_FAILED, REASON_UPSTREAM_RESET);
	}
}

START_TEST(what_is_lost_with_one_connection_is_one_failure)
{
	struct endpoint_set *set = world_set_of(2, NULL);
	struct attempt a = {0};
	world_fail_at(set, 1, EJECT_AFTER);
	ck_assert_uint_eq(balance_ejected(world.b), 1);
	const struct live *l = world_live_of(set, 0, &a);
	lose(set, 10, 7);
	ck_assert_uint_eq(REPUTE_READ(l->repute, failures), 1);
	ck_assert_uint_eq(l->failed, 10);
	lose(set, 3, 8); /* another one is another event */
	ck_assert_uint_eq(REPUTE_READ(l->repute, failures), 2);
	lose(set, 2, 0); /* and each that was lost alone */
	ck_assert_uint_eq(REPUTE_READ(l->repute, failures), 4);
	balance_end(world.b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

Suite *eject_suite(void);
Suite *eject_suite(void)
{
	Suite *s = suite_create("eject");
	TCase *with = tcase_create("balancer"), *bare = tcase_create("rules");
	tcase_set_timeout(bare, 30);
	tcase_set_timeout(with, 30);
	tcase_add_checked_fixture(with, world_setup, world_teardown);
	tcase_add_test(with, what_is_lost_with_one_connection_is_one_failure);
	tcase_add_test(with, a_further_try_goes_to_an_ejected_endpoint_rather_than_to_the_one_that_has_just_failed);
	tcase_add_test(with, five_failures_in_a_row_eject_and_a_good_answer_between_them_does_not);
	tcase_add_test(with, at_most_half_of_a_set_is_ejected_and_never_the_last_one);
	tcase_add_test(with, when_less_than_half_is_left_ejections_do_not_count);
	tcase_add_test(with, an_ejected_endpoint_comes_back_by_itself_and_the_next_time_is_longer);
	tcase_add_test(with, failures_in_a_row_are_counted_whichever_threads_see_them);
	tcase_add_test(with, who_ejects_and_goes_leaves_nobody_out_for_ever);
	tcase_add_test(with, threads_together_eject_at_most_half_of_a_set);
	tcase_add_test(with, who_has_been_out_for_long_comes_back_when_another_must_go);
	tcase_add_test(bare, what_should_be_ejected_and_may_not_is_the_last_choice_of_both_algorithms);
	suite_add_tcase(s, with);
	suite_add_tcase(s, bare);
	return s;
}
