/* SPDX-License-Identifier: Apache-2.0 */
/* p2c.c: power of two choices: of two random endpoints the one where one more request costs less (peak EWMA of latency x load). A bad
 * endpoint is avoided without ever comparing all of them, and no two proxies march in step.
 *
 * Equal weights: two different ones. Else each is drawn by weight, so that endpoints that cost alike get their share; drawing the same one
 * twice is part of that. */
#include "proxy/balance/balance.h"

#define DRAWS       8     /* for one that is usable; then the next one in order is taken */
#define ALIKE_US    500.0 /* two that differ by less are alike, and chance decides: */
#define ALIKE_SHARE 0.1   /* noise should not keep an endpoint out of use */

static size_t draw(struct balancer *b, const struct group *g)
{
	size_t len = g->set->len;
	if (!g->weighted)
		return (size_t)balance_random(b, len);
	uint64_t at = balance_random(b, g->upto[len - 1]);
	size_t lo = 0, hi = len - 1;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (g->upto[mid] > at)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* A usable one other than `other`, from a random place on. */
static long usable(struct balancer *b, const struct group *g, const struct avoid *avoid, long other)
{
	size_t i = 0;
	for (unsigned n = 0; n < DRAWS; n++) {
		i = draw(b, g);
		if ((long)i != other && group_usable(g, i, avoid))
			return (long)i;
	}
	for (size_t n = 0; n < g->set->len; n++) {
		i = (i + 1) % g->set->len;
		if ((long)i != other && group_usable(g, i, avoid))
			return (long)i;
	}
	return -1;
}

static long pick(struct balancer *b, struct group *g, const struct avoid *avoid)
{
	long one = usable(b, g, avoid, -1);
	if (one < 0 || g->set->len == 1)
		return one;
	long two = usable(b, g, avoid, g->weighted ? -1 : one);
	if (two < 0 || two == one)
		return one;
	uint64_t now = balance_now_us(b);
	double first = live_cost(g->v[one], now), second = live_cost(g->v[two], now);
	return first - second > MAX(ALIKE_US, second * ALIKE_SHARE) ? two : one;
}

const struct balance_ops balance_p2c = {
    .name = "p2c",
    .pick = pick,
};
