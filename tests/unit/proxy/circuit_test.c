/* SPDX-License-Identifier: Apache-2.0 */
/* circuit_test.c: what a service may have on its way and may spend on further attempts, of all threads together. */
#include "lib/mem.h"
#include "proxy/retry.h"
#include "tests/unit/proxy/balance_world.h"

#include <pthread.h>
#include <sched.h>

START_TEST(a_service_has_at_most_ten_thousand_active_requests)
{
	struct endpoint_set *set = world_set_of(2, NULL);
	struct attempt *a = mem_zalloc(CIRCUIT_ACTIVE_MAX * sizeof(*a)), extra = {0};
	enum reason why = REASON_NONE;
	for (size_t i = 0; i < CIRCUIT_ACTIVE_MAX; i++)
		world_pick(set, &a[i]);
	ck_assert_ptr_null(balance_pick(world.b, &world_permit, "shop/orders", set, NULL, 0, &extra, &why));
	ck_assert_int_eq(why, REASON_OVERFLOW);
	for (size_t i = 0; i < CIRCUIT_ACTIVE_MAX; i++)
		balance_end(world.b, &a[i], OUTCOME_GOOD, REASON_NONE);
	ck_assert_uint_lt(world_once(set), 2);
	mem_free(a);
	endpoint_set_unref(&set);
}
END_TEST

/* --- a circuit and the threads that share it --- */

#define SHARERS 4
#define TRIES   20000
#define FEW     7 /* so that what is left is fought for */

static struct circuits *shared;
static uint32_t inside, at_most; /* atomic: taken now, and at most */

static void *share(void *arg)
{
	unsigned *got = arg;
	for (unsigned i = 0; i < TRIES; i++) {
		struct circuit *c = circuit_get(shared, i % 64 == 0 ? "shop/other" : "shop/orders", 0);
		if (i % 64 != 0 && circuit_take(&c->active, FEW)) {
			uint32_t n = __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
			uint32_t m = __atomic_load_n(&at_most, __ATOMIC_RELAXED);
			while (n > m &&
			       !__atomic_compare_exchange_n(&at_most, &m, n, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
				;
			if (i % 16 == 0)
				sched_yield();
			__atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
			circuit_give(&c->active);
		}
		*got += circuit_retry(c, 0);
		circuit_unref(&c);
	}
	return NULL;
}

START_TEST(threads_share_a_limit_and_a_budget_exactly)
{
	pthread_t id[SHARERS];
	unsigned got[SHARERS] = {0}, all = 0;
	shared = circuits_new();
	inside = at_most = 0;
	struct circuit *kept = circuit_get(shared, "shop/orders", 0), *other = circuit_get(shared, "shop/other", 0);
	for (unsigned i = 0; i < SHARERS; i++)
		pthread_create(&id[i], NULL, share, &got[i]);
	for (unsigned i = 0; i < SHARERS; i++) {
		pthread_join(id[i], NULL);
		all += got[i];
	}
	ck_assert_uint_le(at_most, FEW);
	ck_assert_uint_ge(at_most, 2);
	ck_assert_uint_eq(circuit_count(&kept->active), 0);
	ck_assert_uint_eq(all, 2 * RETRY_PER_SECOND * RETRY_SAVED_S); /* what both had saved, each token once */
	circuit_unref(&kept);
	circuit_unref(&other);
	ck_assert_uint_eq(circuits_len(shared), 0);
	circuits_free(&shared);
}
END_TEST

/* Made and freed again and again while others look for it: each reference is to a living one. */
static void *come_and_go(void *arg)
{
	for (unsigned i = 0; i < TRIES / 4; i++) {
		struct circuit *c = circuit_get(shared, "shop/orders", 0), *again = circuit_ref(c);
		ck_assert_str_eq(c->name, "shop/orders");
		circuit_unref(&c);
		circuit_unref(&again);
	}
	return NULL;
}

START_TEST(the_last_reference_of_any_thread_frees_it)
{
	pthread_t id[SHARERS];
	shared = circuits_new();
	for (unsigned i = 0; i < SHARERS; i++)
		pthread_create(&id[i], NULL, come_and_go, NULL);
	for (unsigned i = 0; i < SHARERS; i++)
		pthread_join(id[i], NULL);
	ck_assert_uint_eq(circuits_len(shared), 0);
	circuits_free(&shared);
}
END_TEST

START_TEST(retries_cost_a_fifth_of_the_requests_and_ten_a_second_are_free)
{
	struct circuits *table = circuits_new();
	struct circuit *c = circuit_get(table, "shop/orders", 0);
	unsigned saved = 0;
	while (circuit_retry(c, 0))
		saved++;
	ck_assert_uint_eq(saved, RETRY_PER_SECOND * RETRY_SAVED_S);
	for (unsigned i = 0; i < 50; i++)
		circuit_request(c);
	unsigned earned = 0;
	while (circuit_retry(c, 0))
		earned++;
	ck_assert_uint_ge(earned, 9); /* 50 / 5, less what rounding takes */
	ck_assert_uint_le(earned, 10);
	unsigned later = 0;
	while (circuit_retry(c, 1000))
		later++;
	ck_assert_uint_ge(later, 9);
	ck_assert_uint_le(later, 11);
	circuit_unref(&c);
	ck_assert_uint_eq(circuits_len(table), 0);
	circuits_free(&table);
}
END_TEST

START_TEST(only_what_cannot_do_harm_is_tried_again)
{
	static const struct {
		const char *method;
		struct lost_attempt lost;
		bool useful;
	} rows[] = {
	    {"POST", {.why = REASON_CONNECT_FAIL, .unprocessed = true}, true},
	    {"POST", {.why = REASON_UPSTREAM_UNTRUSTED, .unprocessed = true}, true},
	    {"POST", {.why = REASON_REFUSED, .unprocessed = true}, true},
	    {"POST", {.why = REASON_UPSTREAM_RESET}, false},
	    {"PATCH", {.why = REASON_UPSTREAM_RESET}, false},
	    {"get", {.why = REASON_UPSTREAM_RESET}, false},
	    {"GET", {.why = REASON_UPSTREAM_RESET}, true},
	    {"PUT", {.why = REASON_UPSTREAM_RESET}, true},
	    {"DELETE", {.why = REASON_UPSTREAM_RESET}, true},
	    {"GET",
	     {.why = REASON_CONNECT_FAIL},
	     true}, /* tried twice by the far sidecar, the first one may have run */
	    {"POST", {.why = REASON_CONNECT_FAIL}, false},
	    {"GET", {.why = REASON_UPSTREAM_RESET, .answered = true}, false},
	    {"GET", {.why = REASON_TIMEOUT}, false},
	    {"GET", {.why = REASON_DENIED, .unprocessed = true}, false},
	    {"GET", {.why = REASON_UPSTREAM_PROTOCOL}, false},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		ck_assert_msg(retry_useful(&rows[i].lost, str_of(rows[i].method)) == rows[i].useful, "row %zu", i);
}
END_TEST

START_TEST(the_back_off_doubles_to_250_ms_with_full_jitter)
{
	static const uint64_t most[] = {25, 50, 100, 200, 250, 250};
	for (unsigned i = 0; i < ARRAY_LEN(most); i++) {
		ck_assert_uint_eq(retry_backoff_ms(i + 1, 0), 0);
		ck_assert_uint_eq(retry_backoff_ms(i + 1, UINT32_MAX), most[i]);
	}
}
END_TEST

Suite *circuit_suite(void);
Suite *circuit_suite(void)
{
	Suite *s = suite_create("circuit");
	TCase *with = tcase_create("balancer"), *bare = tcase_create("rules");
	tcase_set_timeout(bare, 30);
	tcase_set_timeout(with, 30);
	tcase_add_checked_fixture(with, world_setup, world_teardown);
	tcase_add_test(with, a_service_has_at_most_ten_thousand_active_requests);
	tcase_add_test(bare, threads_share_a_limit_and_a_budget_exactly);
	tcase_add_test(bare, the_last_reference_of_any_thread_frees_it);
	tcase_add_test(bare, retries_cost_a_fifth_of_the_requests_and_ten_a_second_are_free);
	tcase_add_test(bare, only_what_cannot_do_harm_is_tried_again);
	tcase_add_test(bare, the_back_off_doubles_to_250_ms_with_full_jitter);
	suite_add_tcase(s, with);
	suite_add_tcase(s, bare);
	return s;
}
