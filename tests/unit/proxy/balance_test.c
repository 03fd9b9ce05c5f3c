/* SPDX-License-Identifier: Apache-2.0 */
/* Balancing: what is preferred, what is taken out and comes back, and what a service may spend on further attempts. */
#include "lib/mem.h"
#include "proxy/balance/balance.h"
#include "proxy/retry.h"
#include "proxy/snapshot_build.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#define MANY 4000

static struct loop *loop;
static struct stats *stats;
static struct circuits *circuits;
static struct reputes *reputes;
static struct balancer *b;
static const struct permit permit = {.policy = ""};

static void setup_with(const char *name)
{
	struct err err;
	loop = loop_new(&err);
	ck_assert_ptr_nonnull(loop);
	stats = stats_new();
	circuits = circuits_new();
	reputes = reputes_new();
	b = balancer_new(loop, balance_ops_find(name), stats, circuits, reputes);
}

static void setup(void)
{
	setup_with("");
}

static void teardown(void)
{
	balancer_free(&b);
	circuits_free(&circuits);
	ck_assert_uint_eq(reputes_len(reputes), 0);
	reputes_free(&reputes);
	stats_free(&stats);
	loop_free(&loop);
}

static struct endpoint_set *set_of(size_t n, const uint32_t *weights)
{
	struct endpoint v[16];
	ck_assert_uint_le(n, ARRAY_LEN(v));
	for (size_t i = 0; i < n; i++) {
		char text[32];
		snprintf(text, sizeof(text), "10.0.0.%zu:8080", i + 1);
		v[i] = (struct endpoint){.identity = "spiffe://t/ns/a/sa/b",
					 .workload = "a/w",
					 .zone = "",
					 .weight = weights != NULL ? weights[i] : 1,
					 .meshed = true};
		ck_assert(addr_parse(str_of(text), &v[i].addr));
	}
	return endpoint_set_new(v, n);
}

static size_t pick_beside(struct endpoint_set *set, const struct addr *tried, size_t n_tried, struct attempt *a)
{
	enum reason why = REASON_NONE;
	const struct endpoint *ep = balance_pick(b, &permit, "shop/orders", set, tried, n_tried, a, &why);
	ck_assert_ptr_nonnull(ep);
	return (size_t)(ep - set->v);
}

static size_t pick(struct endpoint_set *set, struct attempt *a)
{
	return pick_beside(set, NULL, 0, a);
}

/* One attempt that ends at once, at any endpoint. */
static size_t once(struct endpoint_set *set)
{
	struct attempt a = {0};
	size_t i = pick(set, &a);
	balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
	return i;
}

static struct live *live_of(const struct endpoint_set *set, size_t i, struct attempt *a)
{
	(void)a;
	balance_direct(b, &permit, &set->v[i], a);
	return a->live;
}

static void took(const struct endpoint_set *set, size_t i, double us)
{
	struct attempt a = {0};
	live_sample(live_of(set, i, &a), balance_now_us(b), us);
	a.answered = true;
	balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
}

/* Failures of the endpoint at `i`, each an attempt of the set. */
static void fail_at(struct endpoint_set *set, size_t i, unsigned times)
{
	struct addr others[16];
	size_t n = 0;
	for (size_t k = 0; k < set->len; k++)
		if (k != i)
			others[n++] = set->v[k].addr;
	while (times-- > 0) {
		struct attempt a = {0};
		ck_assert_uint_eq(pick_beside(set, others, n, &a), i);
		balance_end(b, &a, OUTCOME_FAILED, REASON_CONNECT_FAIL);
	}
}

static json_t *dumped(const char *address)
{
	json_t *all = balance_dump(b), *found = NULL, *one;
	size_t i;
	json_array_foreach(all, i, one) if (strcmp(json_string_value(json_object_get(one, "address")), address) == 0)
	    found = json_deep_copy(one);
	json_decref(all);
	ck_assert_ptr_nonnull(found);
	return found;
}

static long long number(const char *address, const char *field)
{
	json_t *o = dumped(address), *v = json_object_get(o, field);
	ck_assert_ptr_nonnull(v);
	long long n = json_is_boolean(v) ? json_is_true(v) : (long long)json_number_value(v);
	json_decref(o);
	return n;
}

START_TEST(p2c_prefers_the_fast_endpoint_and_never_takes_the_slowest_of_three)
{
	struct endpoint_set *set = set_of(3, NULL);
	unsigned n[3] = {0};
	took(set, 0, 1000);
	took(set, 1, 2000);
	took(set, 2, 50000);
	for (unsigned k = 0; k < MANY; k++)
		n[once(set)]++;
	ck_assert_uint_eq(n[2], 0); /* of any two, it is the slower one */
	ck_assert_uint_gt(n[0], n[1]);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(p2c_spreads_what_is_in_flight)
{
	struct endpoint_set *set = set_of(4, NULL);
	struct attempt a[100] = {0};
	unsigned n[4] = {0};
	for (size_t i = 0; i < 4; i++)
		took(set, i, 1000);
	for (size_t k = 0; k < ARRAY_LEN(a); k++)
		n[pick(set, &a[k])]++;
	for (size_t i = 0; i < 4; i++)
		ck_assert_uint_ge(n[i], 20);
	for (size_t k = 0; k < ARRAY_LEN(a); k++)
		balance_end(b, &a[k], OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(an_endpoint_that_has_not_answered_its_first_request_gets_no_second_one)
{
	struct endpoint_set *set = set_of(2, NULL);
	struct attempt hanging = {0};
	size_t mute = pick(set, &hanging);
	took(set, 1 - mute, 1000);
	for (unsigned k = 0; k < 100; k++)
		ck_assert_uint_eq(once(set), 1 - mute);
	balance_end(b, &hanging, OUTCOME_NEUTRAL, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(the_estimate_follows_a_peak_at_once_and_forgets_it_in_time)
{
	struct endpoint_set *set = set_of(1, NULL);
	struct attempt a = {0};
	struct live *l = live_of(set, 0, &a);
	live_sample(l, 1000000, 1000);
	live_sample(l, 1000000, 100000);
	ck_assert_double_eq_tol(live_estimate(l, 1000000), 100000, 1);
	live_sample(l, 1000000, 1000);
	ck_assert_double_eq_tol(live_estimate(l, 1000000), 100000, 1); /* no time has passed */
	ck_assert_double_eq_tol(live_estimate(l, 11000000), 36788, 1500);
	live_sample(l, 11000000, 1000);
	ck_assert_double_eq_tol(live_estimate(l, 11000000), 36788 + 632, 1500);
	ck_assert_double_eq(live_estimate(l, 11000000 + 400000000), 0);
	balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

static void shares(const char *name)
{
	static const uint32_t weights[] = {1, 3, 6};
	setup_with(name);
	struct endpoint_set *set = set_of(3, weights);
	unsigned n[3] = {0};
	/* Load and latency alike, so that only the weight is left. */
	for (size_t i = 0; i < 3; i++)
		took(set, i, 1000);
	for (unsigned k = 0; k < MANY; k++)
		n[once(set)]++;
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_le(abs((int)n[i] - (int)(MANY / 10 * weights[i])), MANY / 20);
	endpoint_set_unref(&set);
	teardown();
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
	setup_with("round-robin");
	struct endpoint_set *even = set_of(3, NULL), *odd = set_of(2, weights);
	size_t first = once(even);
	for (size_t k = 1; k < 9; k++)
		ck_assert_uint_eq(once(even), (first + k) % 3);
	static const size_t order[] = {0, 1, 0, 0, 1, 0};
	for (size_t k = 0; k < ARRAY_LEN(order); k++)
		ck_assert_uint_eq(once(odd), order[k]);
	endpoint_set_unref(&even);
	endpoint_set_unref(&odd);
	teardown();
}
END_TEST

START_TEST(a_further_try_goes_elsewhere_and_to_the_same_only_if_there_is_no_other)
{
	struct endpoint_set *three = set_of(3, NULL), *one = set_of(1, NULL);
	for (unsigned k = 0; k < 300; k++) {
		struct attempt a = {0};
		ck_assert_uint_ne(pick_beside(three, &three->v[k % 3].addr, 1, &a), k % 3);
		balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
	}
	struct attempt a = {0};
	ck_assert_uint_eq(pick_beside(one, &one->v[0].addr, 1, &a), 0);
	balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&three);
	endpoint_set_unref(&one);
}
END_TEST

START_TEST(five_failures_in_a_row_eject_and_a_good_answer_between_them_does_not)
{
	struct endpoint_set *set = set_of(3, NULL);
	fail_at(set, 0, EJECT_AFTER - 1);
	took(set, 0, 1000); /* good */
	fail_at(set, 0, EJECT_AFTER - 1);
	ck_assert_uint_eq(balance_ejected(b), 0);
	fail_at(set, 0, 1);
	ck_assert_uint_eq(balance_ejected(b), 1);
	ck_assert_int_eq(number("10.0.0.1:8080", "ejected"), 1);
	ck_assert_int_le(number("10.0.0.1:8080", "ejectedForMs"), EJECT_MS);
	ck_assert_int_gt(number("10.0.0.1:8080", "ejectedForMs"), EJECT_MS - 1000);
	for (unsigned k = 0; k < 300; k++)
		ck_assert_uint_ne(once(set), 0);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(at_most_half_of_a_set_is_ejected_and_never_the_last_one)
{
	struct endpoint_set *three = set_of(3, NULL), *one = set_of(1, NULL);
	fail_at(three, 0, EJECT_AFTER);
	fail_at(three, 1, EJECT_AFTER + 3);
	ck_assert_uint_eq(balance_ejected(b), 1);
	took(three, 2, 1000);
	for (unsigned k = 0; k < 300; k++) /* what may not be ejected is the last choice instead */
		ck_assert_uint_eq(once(three), 2);
	endpoint_set_unref(&three);
	fail_at(one, 0, EJECT_AFTER);
	ck_assert_uint_eq(once(one), 0);
	endpoint_set_unref(&one);
}
END_TEST

START_TEST(when_less_than_half_is_left_ejections_do_not_count)
{
	struct endpoint_set *wide = set_of(6, NULL), *narrow = set_of(3, NULL);
	unsigned n[3] = {0};
	fail_at(wide, 0, EJECT_AFTER);
	fail_at(wide, 1, EJECT_AFTER);
	ck_assert_uint_eq(balance_ejected(b), 2);
	for (unsigned k = 0; k < 600; k++) /* two of three are out: panic */
		n[once(narrow)]++;
	ck_assert_uint_gt(n[0] + n[1], 0);
	endpoint_set_unref(&wide);
	endpoint_set_unref(&narrow);
}
END_TEST

START_TEST(live_state_outlives_the_set_that_named_it_but_not_another_identity)
{
	struct endpoint_set *old = set_of(3, NULL), *same = set_of(3, NULL);
	fail_at(old, 0, EJECT_AFTER);
	endpoint_set_unref(&old);
	for (unsigned k = 0; k < 100; k++)
		ck_assert_uint_ne(once(same), 0);
	struct endpoint stranger = same->v[0];
	struct attempt a = {0};
	stranger.identity = "spiffe://t/ns/a/sa/other";
	balance_direct(b, &permit, &stranger, &a);
	ck_assert(!a.live->repute->ejected);
	ck_assert_uint_eq(a.live->repute->failures, 0);
	balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&same);
}
END_TEST

static void stop_loop(struct timer *t)
{
	loop_stop(t->loop);
}

START_TEST(connecting_is_not_the_endpoints_latency)
{
	struct endpoint_set *set = set_of(1, NULL);
	struct attempt a = {0};
	struct timer end;
	pick(set, &a);
	struct live *l = a.live;
	timer_init(&end, loop, stop_loop);
	timer_start(&end, 50); /* a handshake takes its time */
	loop_run(loop);
	balance_sent(b, &a);
	balance_answered(b, &a);
	ck_assert_double_lt(live_estimate(l, balance_now_us(b)), 10000);
	balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(an_ejected_endpoint_comes_back_by_itself_and_the_next_time_is_longer)
{
	struct endpoint_set *set = set_of(2, NULL);
	struct lives *lives = lives_new(loop, reputes);
	struct live *l = live_get(lives, &set->v[0]), *m = live_get(lives, &set->v[1]);
	struct timer end;
	l->repute->failures = EJECT_AFTER;
	reputes_lock(reputes);
	live_eject(lives, l, 60);
	live_eject(lives, m, 20);
	reputes_unlock(reputes);
	ck_assert_uint_eq(lives_ejected(lives), 2);
	timer_init(&end, loop, stop_loop);
	while (lives_ejected(lives) > 0) {
		timer_start(&end, 10);
		loop_run(loop);
		ck_assert(lives_ejected(lives) != 1 || l->repute->ejected); /* the shorter one first */
	}
	ck_assert_uint_eq(l->repute->failures, 0);
	ck_assert_uint_eq(l->repute->ejections, 1);
	live_put(lives, &l);
	live_put(lives, &m);
	lives_free(&lives);
	/* In the balancer: the second ejection in a row takes twice as long. */
	struct attempt a = {0};
	live_of(set, 0, &a)->repute->ejections = 1;
	a.live->repute->until_ms = loop_now_ms(loop);
	balance_end(b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	fail_at(set, 0, EJECT_AFTER);
	ck_assert_int_gt(number("10.0.0.1:8080", "ejectedForMs"), 2 * EJECT_MS - 1000);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(a_full_table_lets_idle_entries_go_and_then_shares_one)
{
	struct lives *lives = lives_new(loop, reputes);
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

START_TEST(a_service_has_at_most_ten_thousand_active_requests)
{
	struct endpoint_set *set = set_of(2, NULL);
	struct attempt *a = mem_zalloc(CIRCUIT_ACTIVE_MAX * sizeof(*a)), extra = {0};
	enum reason why = REASON_NONE;
	for (size_t i = 0; i < CIRCUIT_ACTIVE_MAX; i++)
		pick(set, &a[i]);
	ck_assert_ptr_null(balance_pick(b, &permit, "shop/orders", set, NULL, 0, &extra, &why));
	ck_assert_int_eq(why, REASON_OVERFLOW);
	for (size_t i = 0; i < CIRCUIT_ACTIVE_MAX; i++)
		balance_end(b, &a[i], OUTCOME_GOOD, REASON_NONE);
	ck_assert_uint_lt(once(set), 2);
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

START_TEST(a_further_try_goes_to_an_ejected_endpoint_rather_than_to_the_one_that_has_just_failed)
{
	struct endpoint_set *set = set_of(2, NULL);
	fail_at(set, 0, EJECT_AFTER);
	ck_assert_int_eq(number("10.0.0.1:8080", "ejected"), 1);
	for (unsigned k = 0; k < 50; k++) {
		struct attempt a = {0};
		ck_assert_uint_eq(once(set), 1);
		ck_assert_uint_eq(pick_beside(set, &set->v[1].addr, 1, &a), 0);
		balance_end(b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	}
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(what_should_be_ejected_and_may_not_is_the_last_choice_of_both_algorithms)
{
	static const char *const names[] = {"p2c", "round-robin"};
	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		setup_with(names[n]);
		struct endpoint_set *set = set_of(3, NULL);
		fail_at(set, 0, EJECT_AFTER);
		fail_at(set, 1, EJECT_AFTER);
		ck_assert_int_eq(number("10.0.0.1:8080", "ejected"), 1);
		ck_assert_int_eq(number("10.0.0.2:8080", "ejected"), 0);
		ck_assert_int_eq(number("10.0.0.2:8080", "lastChoice"), 1);
		took(set, 2, 5e6); /* however slow the one is that answers */
		for (unsigned k = 0; k < 100; k++) {
			struct attempt a = {0};
			ck_assert_uint_eq(once(set), 2);
			/* and beside that one, the others in turn, first the one that was out before */
			ck_assert_uint_eq(pick_beside(set, &set->v[2].addr, 1, &a), k % 2);
			balance_end(b, &a, OUTCOME_NEUTRAL, REASON_NONE);
		}
		took(set, 1, 1000); /* an answer ends it */
		ck_assert_int_eq(number("10.0.0.2:8080", "lastChoice"), 0);
		/* When all fail each is asked in turn, the one first whose failure is the longest past, until one answers. */
		fail_at(set, 1, EJECT_AFTER);
		fail_at(set, 2, EJECT_AFTER);
		static const size_t turns[] = {0, 1, 2, 0, 1, 2};
		for (size_t k = 0; k < ARRAY_LEN(turns); k++) {
			struct attempt a = {0};
			ck_assert_uint_eq(pick(set, &a), turns[k]);
			balance_end(b, &a, OUTCOME_FAILED, REASON_CONNECT_FAIL);
		}
		ck_assert_uint_eq(once(set), 0); /* a good end: */
		ck_assert_int_eq(number("10.0.0.1:8080", "ejected"), 0);
		ck_assert_uint_eq(once(set), 0);
		endpoint_set_unref(&set);
		teardown();
	}
}
END_TEST

START_TEST(who_has_been_out_for_long_comes_back_when_another_must_go)
{
	struct endpoint_set *set = set_of(3, NULL);
	struct attempt a = {0};
	live_of(set, 0, &a)->repute->ejections = 9; /* so the next one lasts 100 s */
	a.live->repute->until_ms = loop_now_ms(loop);
	balance_end(b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	fail_at(set, 0, EJECT_AFTER);
	ck_assert_int_gt(number("10.0.0.1:8080", "ejectedForMs"), 9 * EJECT_MS);
	live_of(set, 0, &a)->repute->until_ms -= EJECT_MS; /* ten of them have passed */
	balance_end(b, &a, OUTCOME_NEUTRAL, REASON_NONE);
	fail_at(set, 1, EJECT_AFTER);
	ck_assert_uint_eq(balance_ejected(b), 1);
	ck_assert_int_eq(number("10.0.0.1:8080", "ejected"), 0);
	ck_assert_int_eq(number("10.0.0.2:8080", "ejected"), 1);
	/* On trial: one failure and it is the last choice; the other one has not been out for long. */
	fail_at(set, 0, 1);
	ck_assert_int_eq(number("10.0.0.1:8080", "lastChoice"), 1);
	ck_assert_int_eq(number("10.0.0.2:8080", "ejected"), 1);
	endpoint_set_unref(&set);
}
END_TEST

static unsigned told;

static void on_silent(struct attempt *a)
{
	told++;
}

static void run_for(uint64_t ms)
{
	struct timer t;
	timer_init(&t, loop, stop_loop);
	timer_start(&t, ms);
	loop_run(loop);
}

/* Attempts at the one endpoint of `set`, asked at once. */
static void ask(struct endpoint_set *set, struct attempt *a)
{
	*a = (struct attempt){.live = NULL};
	pick(set, a);
	a->on_silent = on_silent;
}

START_TEST(an_attempt_is_told_once_that_its_endpoint_is_silent_and_not_when_another_was_answered)
{
	struct endpoint_set *set = set_of(1, NULL);
	struct attempt first, second, moved = {0};
	told = 0;
	balancer_hedge_after(b, 100);
	took(set, 0, 1000);
	ask(set, &first);
	balance_answered(b, &first); /* 1 ms is usual here */
	balance_end(b, &first, OUTCOME_GOOD, REASON_NONE);
	ask(set, &first);
	run_for(600);
	ck_assert_uint_eq(told, 1);
	run_for(600);
	ck_assert_uint_eq(told, 1);
	/* One that hangs while others are answered is slow, not silent. */
	ask(set, &second);
	run_for(20);
	struct attempt other;
	ask(set, &other);
	balance_answered(b, &other);
	balance_end(b, &other, OUTCOME_GOOD, REASON_NONE);
	run_for(600);
	ck_assert_uint_eq(told, 1);
	balance_move(&moved, &second);
	ck_assert_ptr_null(second.live);
	balance_end(b, &moved, OUTCOME_GOOD, REASON_NONE);
	balance_end(b, &first, OUTCOME_FAILED, REASON_SILENT);
	ck_assert_int_eq(number("10.0.0.1:8080", "inFlight"), 0);
	endpoint_set_unref(&set);
}
END_TEST

/* --- what the threads of a process know together --- */

#define CREW 4

/* A thread's balancer of the same process. */
static struct balancer *thread_new(struct loop *l, const char *name)
{
	return balancer_new(l, balance_ops_find(name), stats, circuits, reputes);
}

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
	const struct endpoint *ep = balance_pick(on, &permit, "shop/orders", set, others, n, &a, &why);
	ck_assert_ptr_eq(ep, &set->v[i]);
	balance_end(on, &a, how, how == OUTCOME_GOOD ? REASON_NONE : REASON_CONNECT_FAIL);
}

START_TEST(failures_in_a_row_are_counted_whichever_threads_see_them)
{
	struct endpoint_set *set = set_of(3, NULL);
	struct balancer *crew[CREW];
	for (unsigned i = 0; i < CREW; i++)
		crew[i] = thread_new(loop, "round-robin");
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
		    balance_pick(crew[i % CREW], &permit, "shop/orders", set, NULL, 0, &a, &why);
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
		    balance_pick(crew[i % CREW], &permit, "shop/orders", set, NULL, 0, &a, &why);
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
	struct endpoint_set *set = set_of(2, NULL);
	struct balancer *other = thread_new(loop, "");
	struct attempt held = {0};
	enum reason why;
	ck_assert_ptr_nonnull(balance_pick(b, &permit, "shop/orders", set, &set->v[1].addr, 1, &held, &why));
	for (unsigned i = 0; i < EJECT_AFTER; i++)
		fails(other, set, 0, OUTCOME_FAILED);
	ck_assert(held.live->repute->ejected);
	balancer_free(&other);
	ck_assert(!held.live->repute->ejected);
	balance_end(b, &held, OUTCOME_GOOD, REASON_NONE);
	endpoint_set_unref(&set);
}
END_TEST

START_TEST(an_endpoint_that_answers_another_thread_is_not_silent_and_one_that_hangs_there_is_avoided)
{
	struct endpoint_set *one = set_of(1, NULL), *two = set_of(2, NULL);
	struct balancer *other = thread_new(loop, "");
	struct attempt a, hangs, late = {0};
	enum reason why;
	told = 0;
	balancer_hedge_after(b, 400);
	took(one, 0, 1000);
	ask(one, &a);
	balance_answered(b, &a);
	balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
	ask(one, &a);
	for (unsigned i = 0; i < 10; i++) { /* a second, answered by the other one's requests */
		run_for(100);
		struct attempt beside = {0};
		ck_assert_ptr_nonnull(balance_pick(other, &permit, "shop/orders", one, NULL, 0, &beside, &why));
		balance_answered(other, &beside);
		balance_end(other, &beside, OUTCOME_GOOD, REASON_NONE);
	}
	ck_assert_uint_eq(told, 0);
	/* Silent now, and the other thread, which has nothing on its way, takes the second of two. */
	ask(one, &hangs);
	run_for(1300);
	ck_assert_uint_eq(told, 1);
	for (unsigned i = 0; i < 50; i++) {
		ck_assert_ptr_eq(balance_pick(other, &permit, "shop/orders", two, NULL, 0, &late, &why), &two->v[1]);
		balance_end(other, &late, OUTCOME_GOOD, REASON_NONE);
	}
	balance_end(b, &a, OUTCOME_GOOD, REASON_NONE);
	balance_end(b, &hangs, OUTCOME_GOOD, REASON_NONE);
	balancer_free(&other);
	endpoint_set_unref(&one);
	endpoint_set_unref(&two);
}
END_TEST

/* Eight endpoints, all of which fail nearly always, on all threads at once. */
static struct endpoint_set *contested;
static struct repute *watched[8];
static unsigned most_out; /* atomic */

static void count_watched(void)
{
	unsigned n = 0;
	reputes_lock(reputes);
	for (size_t i = 0; i < ARRAY_LEN(watched); i++)
		n += watched[i]->ejected;
	most_out = MAX(most_out, n);
	reputes_unlock(reputes);
}

static void *contest(void *arg)
{
	struct err err;
	struct loop *own = loop_new(&err);
	struct stats *counted = stats_new();
	struct balancer *mine = balancer_new(own, balance_ops_find("round-robin"), counted, circuits, reputes);
	(void)arg;
	for (unsigned i = 0; i < MANY; i++) {
		struct attempt a = {0};
		enum reason why;
		ck_assert_ptr_nonnull(balance_pick(mine, &permit, "shop/orders", contested, NULL, 0, &a, &why));
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
	contested = set_of(8, NULL);
	most_out = 0;
	for (size_t i = 0; i < ARRAY_LEN(held); i++)
		watched[i] = live_of(contested, i, &held[i])->repute;
	for (unsigned i = 0; i < CREW; i++)
		pthread_create(&id[i], NULL, contest, NULL);
	for (unsigned i = 0; i < CREW; i++)
		pthread_join(id[i], NULL);
	ck_assert_uint_eq(most_out, ARRAY_LEN(watched) / 2);
	for (size_t i = 0; i < ARRAY_LEN(held); i++) {
		ck_assert(!watched[i]->ejected);
		balance_end(b, &held[i], OUTCOME_NEUTRAL, REASON_NONE);
	}
	endpoint_set_unref(&contested);
}
END_TEST

Suite *balance_suite(void);
Suite *balance_suite(void)
{
	Suite *s = suite_create("balance");
	TCase *with = tcase_create("balancer"), *bare = tcase_create("rules");
	tcase_set_timeout(bare, 30);
	tcase_set_timeout(with, 30);
	tcase_add_checked_fixture(with, setup, teardown);
	tcase_add_test(with, p2c_prefers_the_fast_endpoint_and_never_takes_the_slowest_of_three);
	tcase_add_test(with, p2c_spreads_what_is_in_flight);
	tcase_add_test(with, an_endpoint_that_has_not_answered_its_first_request_gets_no_second_one);
	tcase_add_test(with, the_estimate_follows_a_peak_at_once_and_forgets_it_in_time);
	tcase_add_test(with, a_further_try_goes_elsewhere_and_to_the_same_only_if_there_is_no_other);
	tcase_add_test(with, a_further_try_goes_to_an_ejected_endpoint_rather_than_to_the_one_that_has_just_failed);
	tcase_add_test(with, five_failures_in_a_row_eject_and_a_good_answer_between_them_does_not);
	tcase_add_test(with, at_most_half_of_a_set_is_ejected_and_never_the_last_one);
	tcase_add_test(with, when_less_than_half_is_left_ejections_do_not_count);
	tcase_add_test(with, live_state_outlives_the_set_that_named_it_but_not_another_identity);
	tcase_add_test(with, connecting_is_not_the_endpoints_latency);
	tcase_add_test(with, an_ejected_endpoint_comes_back_by_itself_and_the_next_time_is_longer);
	tcase_add_test(with, a_full_table_lets_idle_entries_go_and_then_shares_one);
	tcase_add_test(with, a_service_has_at_most_ten_thousand_active_requests);
	tcase_add_test(with, an_attempt_is_told_once_that_its_endpoint_is_silent_and_not_when_another_was_answered);
	tcase_add_test(with, failures_in_a_row_are_counted_whichever_threads_see_them);
	tcase_add_test(with, who_ejects_and_goes_leaves_nobody_out_for_ever);
	tcase_add_test(with, an_endpoint_that_answers_another_thread_is_not_silent_and_one_that_hangs_there_is_avoided);
	tcase_add_test(with, threads_together_eject_at_most_half_of_a_set);
	tcase_add_test(bare, weights_are_shares_in_both_algorithms);
	tcase_add_test(bare, what_should_be_ejected_and_may_not_is_the_last_choice_of_both_algorithms);
	tcase_add_test(with, who_has_been_out_for_long_comes_back_when_another_must_go);
	tcase_add_test(bare, round_robin_takes_turns_and_smooths_weights);
	tcase_add_test(bare, threads_share_a_limit_and_a_budget_exactly);
	tcase_add_test(bare, the_last_reference_of_any_thread_frees_it);
	tcase_add_test(bare, retries_cost_a_fifth_of_the_requests_and_ten_a_second_are_free);
	tcase_add_test(bare, only_what_cannot_do_harm_is_tried_again);
	tcase_add_test(bare, the_back_off_doubles_to_250_ms_with_full_jitter);
	suite_add_tcase(s, with);
	suite_add_tcase(s, bare);
	return s;
}
