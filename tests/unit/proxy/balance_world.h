/* SPDX-License-Identifier: Apache-2.0 */
/* balance_world.h: a balancer on a loop of its own with what the threads of a process share, and sets of endpoints that nobody
 * dials: the ground of the suites balance, eject and circuit. One of it at a time; world_setup() and world_teardown() are the
 * fixture. Attempts are of the service shop/orders. */
#ifndef WEFT_TESTS_BALANCE_WORLD_H
#define WEFT_TESTS_BALANCE_WORLD_H

#include "proxy/balance/balance.h"
#include "proxy/snapshot_build.h"

#include <check.h>

extern struct balance_world {
	struct loop *loop;
	struct stats *stats;
	struct circuits *circuits;
	struct reputes *reputes;
	struct balancer *b;
} world;
extern const struct permit world_permit;

void world_setup_with(const char *balancer); /* by name; "": the default */
void world_setup(void);
void world_teardown(void);
/* Another thread's balancer of the same process; balancer_free() is the caller's. */
struct balancer *world_thread_new(struct loop *l, const char *balancer);
void world_run_for(uint64_t ms);

/* 10.0.0.1:8080 and so on, at most 16; weights NULL: 1 each. The caller's reference. */
struct endpoint_set *world_set_of(size_t n, const uint32_t *weights);

/* What the balancer takes, by its place in the set; it must take one. */
size_t world_pick_beside(struct endpoint_set *set, const struct addr *tried, size_t n_tried, struct attempt *a);
size_t world_pick(struct endpoint_set *set, struct attempt *a);
/* One attempt that ends at once, at any endpoint. */
size_t world_once(struct endpoint_set *set);
/* The state of the endpoint at `i`, held by `a` until that is ended. */
struct live *world_live_of(const struct endpoint_set *set, size_t i, struct attempt *a);
/* One good attempt at `i` that took this long. */
void world_took(const struct endpoint_set *set, size_t i, double us);
/* Failures of the endpoint at `i`, each an attempt of the set. */
void world_fail_at(struct endpoint_set *set, size_t i, unsigned times);

/* A field of what balance_dump() says of this endpoint, which must be there; a bool is 0 or 1. */
long long world_number(const char *address, const char *field);

#endif
