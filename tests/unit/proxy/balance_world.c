/* SPDX-License-Identifier: Apache-2.0 */
/* balance_world.c: see balance_world.h. */
#include "tests/unit/proxy/balance_world.h"

#include <stdio.h>

struct balance_world world;
const struct permit world_permit = {.policy = ""};

void world_setup_with(const char *name)
{
	struct err err;
	world.loop = loop_new(&err);
	ck_assert_ptr_nonnull(world.loop);
	world.stats = stats_new();
	world.circuits = circuits_new();
	world.reputes = reputes_new();
	world.b = balancer_new(world.loop, balance_ops_find(name), world.stats, world.circuits, world.reputes);
}

void world_setup(void)
{
	world_setup_with("");
}

void world_teardown(void)
{
	balancer_free(&world.b);
	circuits_free(&world.circuits);
	ck_assert_uint_eq(reputes_len(world.reputes), 0);
	reputes_free(&world.reputes);
	stats_free(&world.stats);
	loop_free(&world.loop);
}

struct endpoint_set *world_set_of(size_t n, const uint32_t *weights)
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

size_t world_pick_beside(struct endpoint_set *set, const struct addr *tried, size_t n_tried, struct attempt *a)
{
	enum reason why = REASON_NONE;
	const struct endpoint *ep = balance_pick(world.b, &world_permit, "shop/orders", set, tried, n_tried, a, &why);
	ck_assert_ptr_nonnull(ep);
	return (size_t)(ep - set->v);
}

size_t world_pick(struct endpoint_set *set, struct attempt *a)
{
	return world_pick_beside(set, NULL, 0, a);
}

size_t world_once(struct endpoint_set *set)
{
	struct attempt a = {0};
	size_t i = world_pick(set, &a);
	balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
	return i;
}

struct live *world_live_of(const struct endpoint_set *set, size_t i, struct attempt *a)
{
	(void)a;
	balance_direct(world.b, &world_permit, &set->v[i], a);
	return a->live;
}

void world_took(const struct endpoint_set *set, size_t i, double us)
{
	struct attempt a = {0};
	live_sample(world_live_of(set, i, &a), balance_now_us(world.b), us);
	a.answered = true;
	balance_end(world.b, &a, OUTCOME_GOOD, REASON_NONE);
}

void world_fail_at(struct endpoint_set *set, size_t i, unsigned times)
{
	struct addr others[16];
	size_t n = 0;
	for (size_t k = 0; k < set->len; k++)
		if (k != i)
			others[n++] = set->v[k].addr;
	while (times-- > 0) {
		struct attempt a = {0};
		ck_assert_uint_eq(world_pick_beside(set, others, n, &a), i);
		balance_end(world.b, &a, OUTCOME_FAILED, REASON_CONNECT_FAIL);
	}
}

static json_t *world_dumped(const char *address)
{
	json_t *all = balance_dump(world.b), *found = NULL, *one;
	size_t i;
	json_array_foreach(all, i, one) if (strcmp(json_string_value(json_object_get(one, "address")), address) == 0)
	    found = json_deep_copy(one);
	json_decref(all);
	ck_assert_ptr_nonnull(found);
	return found;
}

long long world_number(const char *address, const char *field)
{
	json_t *o = world_dumped(address), *v = json_object_get(o, field);
	ck_assert_ptr_nonnull(v);
	long long n = json_is_boolean(v) ? json_is_true(v) : (long long)json_number_value(v);
	json_decref(o);
	return n;
}

static void stop_loop(struct timer *t)
{
	loop_stop(t->loop);
}

void world_run_for(uint64_t ms)
{
	struct timer t;
	timer_init(&t, world.loop, stop_loop);
	timer_start(&t, ms);
	loop_run(world.loop);
}

struct balancer *world_thread_new(struct loop *l, const char *name)
{
	return balancer_new(l, balance_ops_find(name), world.stats, world.circuits, world.reputes);
}
