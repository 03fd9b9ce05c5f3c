/* SPDX-License-Identifier: Apache-2.0 */
/* balance_test.c: what is preferred, where a further try goes, and what is known of an endpoint that does not answer. */
#include "lib/mem.h"
#include "tests/unit/proxy/balance_world.h"

#include <stdio.h>

#define MANY 4000

START_TEST(p2c_prefers_the_fast_endpoint_and_never_takes_the_slowest_of_three)
{
	struct endpoint_set *set = world_set_of(3, NULL);
	unsigned n[3] = {0};
	world_took(set, 0, 1000);
	world_took(set, 1, 2000);
	world_took(set, 2, 50000);
	for (unsigned k = 0; k < MANY; k++)
		n[world_once(set)]++;
	ck_assert_uint_eq(n[2], 0); /* of any two, it is the slower one */
	ck_assert_uint_gt(n[0], n[1]);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(p2c_spreads_what_is_in_flight)
{
	struct endpoint_set *set = world_set_of(4, NULL);
	struct attempt a[100] = {0};
	unsigned n[4] = {0};
	for (size_t i = 0; i < 4; i++)
		world_took(set, i, 1000);
	for (size_t k = 0; k < ARRAY_LEN(a); k++)
		n[world_pick(set, &a[k])]++;
	for (size_t i = 0; i < 4; i++)
		ck_assert_uint_ge(n[i], 20);
	for (size_t k = 0; k < ARRAY_LEN(a); k++)
		balance_end(world.b, &a[k], OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(an_endpoint_that_has_not_answered_its_first_request_gets_no_second_one)
{
	struct endpoint_set *set = world_set_of(2, NULL);
	struct attempt hanging = {0};
	size_t mute = world_pick(set, &hanging);
	world_took(set, 1 - mute, 1000);
	for (unsigned k = 0; k < 100; k++)
		ck_assert_uint_eq(world_once(set), 1 - mute);
	balance_end(world.b, &hanging, OUTCOME_NEUTRAL, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(the_estimate_follows_a_peak_at_once_and_forgets_it_in_time)
{
	struct endpoint_set *set = world_set_of(1, NULL);
	struct attempt a = {0};
	struct live *l = world_live_of(set, 0, &a);
	live_sample(l, 1000000, 1000);
	live_sample(l, 1000000, 100000);
	ck_assert_double_eq_tol(live_estimate(l, 1000000), 100000, 1);
	live_sample(l, 1000000, 1000);
	ck_assert_double_eq_tol(live_estimate(l, 1000000), 100000, 1); /* no time has passed */
	ck_assert_double_eq_tol(live_estimate(l, 11000000), 36788, 1500);
	live_sample(l, 11000000, 1000);
	ck_assert_double_eq_tol(live_estimate(l, 11000000), 36788 + 632, 1500);
	ck_assert_double_eq(live_estimate(l, 11000000 + 400000000), 0);
	balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

static void shares(const char *name)
{
	static const uint32_t weights[] = {1, 3, 6};
	world_setup_with(name);
	struct endpoint_set *set = world_set_of(3, weights);
	unsigned n[3] = {0};
	/* Load and latency alike, so that only the weight is left. */
	for (size_t i = 0; i < 3; i++)
		world_took(set, i, 1000);
	for (unsigned k = 0; k < MANY; k++)
		n[world_once(set)]++;
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_le(abs((int)n[i] - (int)(MANY / 10 * weights[i])), MANY / 20);
	endpoint_set_unref(&set);
	world_teardown();
}

START_TEST(weights_are_shares_in_both_algorithms)
{
	shares("p2c");
	shares("round-robin");
}
END_TEST

START_TEST(round_robin_takes_turns_and_smooths_weights)
{
	static const uint32_t weights[] = {2, 1};
	world_setup_with("round-robin");
	struct endpoint_set *even = world_set_of(3, NULL), *odd = world_set_of(2, weights);
	size_t first = world_once(even);
	for (size_t k = 1; k < 9; k++)
		ck_assert_uint_eq(world_once(even), (first + k) % 3);
	static const size_t order[] = {0, 1, 0, 0, 1, 0};
	for (size_t k = 0; k < ARRAY_LEN(order); k++)
		ck_assert_uint_eq(world_once(odd), order[k]);
	endpoint_set_unref(&even);
	endpoint_set_unref(&odd);
	world_teardown();
}
END_TEST

START_TEST(a_further_try_goes_elsewhere_and_to_the_same_only_if_there_is_no_other)
{
	struct endpoint_set *three = world_set_of(3, NULL), *one = world_set_of(1, NULL);
	for (unsigned k = 0; k < 300; k++) {
		struct attempt a = {0};
		ck_assert_uint_ne(world_pick_beside(three, &three->v[k % 3].addr, 1, &a), k % 3);
		balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
	}
	struct attempt a = {0};
	ck_assert_uint_eq(world_pick_beside(one, &one->v[0].addr, 1, &a), 0);
	balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&three);
	endpoint_set_unref(&one);
}
END_TEST

START_TEST(live_state_outlives_the_set_that_named_it_but_not_another_identity)
{
	struct endpoint_set *old = world_set_of(3, NULL), *same = world_set_of(3, NULL);
	world_fail_at(old, 0, EJECT_AFTER);
	endpoint_set_unref(&old);
	for (unsigned k = 0; k < 100; k++)
		ck_assert_uint_ne(world_once(same), 0);
	struct endpoint stranger = same->v[0];
	struct attempt a = {0};
	stranger.identity = "spiffe://t/ns/a/sa/other";
	balance_direct(world.b, &world_permit, &stranger, &a);
	ck_assert(!a.live->repute->ejected);
	ck_assert_uint_eq(a.live->repute->failures, 0);
	balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&same);
}
END_TEST

START_TEST(connecting_is_not_the_endpoints_latency)
{
	struct endpoint_set *set = world_set_of(1, NULL);
	struct attempt a = {0};
	world_pick(set, &a);
	struct live *l = a.live;
	world_run_for(50); /* a handshake takes its time */
	balance_sent(world.b, &a);
	balance_answered(world.b, &a);
	ck_assert_double_lt(live_estimate(l, balance_now_us(world.b)), 10000);
	balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(a_full_table_lets_idle_entries_go_and_then_shares_one)
{
	struct lives *lives = lives_new(world.loop, world.reputes);
	struct endpoint ep = {.identity = "spiffe://t/ns/a/sa/b", .meshed = true, .weight = 1};
	struct live **held = mem_zalloc(LIVE_MAX * sizeof(struct live *));
	ck_assert(addr_parse(STR("10.0.0.1:1"), &ep.addr));
	for (size_t i = 0; i < LIVE_MAX; i++) {
		ep.addr.ip.b[2] = (uint8_t)(i >> 8);
		ep.addr.ip.b[3] = (uint8_t)i;
		held[i] = live_get(lives, &ep);
	}
	ep.addr.port = 2;
	struct live *extra = live_get(lives, &ep);
	ck_assert(extra->shared);
	live_put(lives, &extra);
	live_put(lives, &held[0]);
	extra = live_get(lives, &ep);
	ck_assert(!extra->shared);
	ck_assert_uint_eq(lives_len(lives), LIVE_MAX);
	live_put(lives, &extra);
	for (size_t i = 1; i < LIVE_MAX; i++)
		live_put(lives, &held[i]);
	mem_free(held);
	lives_free(&lives);
}
END_TEST

static unsigned told;

static void on_silent(struct attempt *a)
{
	told++;
}

/* Attempts at the one endpoint of `set`, asked at once. */
static void ask(struct endpoint_set *set, struct attempt *a)
{
	*a = (struct attempt){.live = NULL};
	world_pick(set, a);
	a->on_silent = on_silent;
}

START_TEST(an_attempt_is_told_once_that_its_endpoint_is_silent_and_not_when_another_was_answered)
{
	struct endpoint_set *set = world_set_of(1, NULL);
	struct attempt first, second, moved = {0};
	told = 0;
	balancer_hedge_after(world.b, 100);
	world_took(set, 0, 1000);
	ask(set, &first);
	balance_answered(world.b, &first); /* 1 ms is usual here */
	balance_end(world.b, &first, OUTCOME_GOOD, REASON_NONE);
	ask(set, &first);
	world_run_for(600);
	ck_assert_uint_eq(told, 1);
	world_run_for(600);
	ck_assert_uint_eq(told, 1);
	/* One that hangs while others are answered is slow, not silent. */
	ask(set, &second);
	world_run_for(20);
	struct attempt other;
	ask(set, &other);
	balance_answered(world.b, &other);
	balance_end(world.b, &other, OUTCOME_GOOD, REASON_NONE);
	world_run_for(600);
	ck_assert_uint_eq(told, 1);
	balance_move(&moved, &second);
	ck_assert_ptr_null(second.live);
	balance_end(world.b, &moved, OUTCOME_GOOD, REASON_NONE);
	balance_end(world.b, &first, OUTCOME_FAILED, REASON_SILENT);
	ck_assert_int_eq(world_number("10.0.0.1:8080", "inFlight"), 0);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(an_endpoint_that_answers_another_thread_is_not_silent_and_one_that_hangs_there_is_avoided)
{
	struct endpoint_set *one = world_set_of(1, NULL), *two = world_set_of(2, NULL);
	struct balancer *other = world_thread_new(world.loop, "");
	struct attempt a, hangs, late = {0};
	enum reason why;
	told = 0;
	balancer_hedge_after(world.b, 400);
	world_took(one, 0, 1000);
	ask(one, &a);
	balance_answered(world.b, &a);
	balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
	ask(one, &a);
	for (unsigned i = 0; i < 10; i++) { /* a second, answered by the other one's requests */
		world_run_for(100);
		struct attempt beside = {0};
		ck_assert_ptr_nonnull(balance_pick(other, &world_permit, "shop/orders", one, NULL, 0, &beside, &why));
		balance_answered(other, &beside);
		balance_end(other, &beside, OUTCOME_GOOD, REASON_NONE);
	}
	ck_assert_uint_eq(told, 0);
	/* Silent now, and the other thread, which has nothing on its way, takes the second of two. */
	ask(one, &hangs);
	world_run_for(1300);
	ck_assert_uint_eq(told, 1);
	for (unsigned i = 0; i < 50; i++) {
		ck_assert_ptr_eq(balance_pick(other, &world_permit, "shop/orders", two, NULL, 0, &late, &why),
				 &two->v[1]);
		balance_end(other, &late, OUTCOME_GOOD, REASON_NONE);
	}
	balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
	balance_end(world.b, &hangs, OUTCOME_GOOD, REASON_NONE);
	balancer_free(&other);
	endpoint_set_unref(&one);
	endpoint_set_unref(&two);
}
END_TEST

Suite *balance_suite(void);
Suite *balance_suite(void)
{
	Suite *s = suite_create("balance");
	TCase *with = tcase_create("balancer"), *bare = tcase_create("rules");
	tcase_set_timeout(bare, 30);
	tcase_set_timeout(with, 30);
	tcase_add_checked_fixture(with, world_setup, world_teardown);
	tcase_add_test(with, p2c_prefers_the_fast_endpoint_and_never_takes_the_slowest_of_three);
	tcase_add_test(with, p2c_spreads_what_is_in_flight);
	tcase_add_test(with, an_endpoint_that_has_not_answered_its_first_request_gets_no_second_one);
	tcase_add_test(with, the_estimate_follows_a_peak_at_once_and_forgets_it_in_time);
	tcase_add_test(with, a_further_try_goes_elsewhere_and_to_the_same_only_if_there_is_no_other);
	tcase_add_test(with, live_state_outlives_the_set_that_named_it_but_not_another_identity);
	tcase_add_test(with, connecting_is_not_the_endpoints_latency);
	tcase_add_test(with, a_full_table_lets_idle_entries_go_and_then_shares_one);
	tcase_add_test(with, an_attempt_is_told_once_that_its_endpoint_is_silent_and_not_when_another_was_answered);
	tcase_add_test(with, an_endpoint_that_answers_another_thread_is_not_silent_and_one_that_hangs_there_is_avoided);
	tcase_add_test(bare, weights_are_shares_in_both_algorithms);
	tcase_add_test(bare, round_robin_takes_turns_and_smooths_weights);
	suite_add_tcase(s, with);
	suite_add_tcase(s, bare);
	return s;
}
