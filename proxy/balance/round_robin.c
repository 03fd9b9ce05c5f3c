/* SPDX-License-Identifier: Apache-2.0 */
/* round_robin.c: one endpoint after the other, from a random one on, so that many proxies do not march in step. With weights the smooth
 * form (nginx): each pick raises every endpoint by its weight and takes the sum from the highest, which spreads a heavy one's turns. */
#include "proxy/balance/balance.h"

static long pick_plain(struct balancer *b, struct group *g, const struct avoid *avoid)
{
	size_t len = g->set->len;
	if (g->turn == 0)
		g->turn = 1 + (uint32_t)balance_random(b, UINT32_MAX / 2);
	for (size_t n = 0; n < len; n++) {
		size_t i = g->turn++ % len;
		if (group_usable(g, i, avoid))
			return (long)i;
	}
	return -1;
}

static long pick_weighted(struct group *g, const struct avoid *avoid)
{
	int64_t sum = 0;
	long best = -1;
	for (size_t i = 0; i < g->set->len; i++) {
		if (!group_usable(g, i, avoid))
			continue;
		g->score[i] += g->set->v[i].weight;
		sum += g->set->v[i].weight;
		if (best < 0 || g->score[i] > g->score[best])
			best = (long)i;
	}
	if (best >= 0)
		g->score[best] -= sum;
	return best;
}

static long pick(struct balancer *b, struct group *g, const struct avoid *avoid)
{
	return g->weighted ? pick_weighted(g, avoid) : pick_plain(b, g, avoid);
}

const struct balance_ops balance_round_robin = {
    .name = "round-robin",
    .pick = pick,
};
