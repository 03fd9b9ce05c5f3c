/* SPDX-License-Identifier: Apache-2.0 */
/* round_robin.c: one endpoint after the other, from a counter that starts at random so that many proxies do not march in step. */
#include "proxy/balance/balance.h"

#include "lib/base.h"

#include <stdlib.h>
#include <sys/random.h>

static const struct endpoint *pick(uint32_t *state, const struct endpoint_set *set, unsigned tried)
{
	if (set->len == 0)
		return NULL;
	if (*state == 0 && getrandom(state, sizeof(*state), GRND_NONBLOCK) != sizeof(*state))
		*state = 1;
	/* The counter moves on with every call, so a second try is the next endpoint by itself. */
	(void)tried;
	return &set->v[(*state)++ % set->len];
}

const struct balance_ops balance_round_robin = {
    .name = "round-robin",
    .pick = pick,
};

const struct endpoint *balance_pick(const struct balance_ops *ops, const struct permit *permit,
				    struct endpoint_set *set, unsigned tried)
{
	MUST(permit != NULL && permit->policy != NULL);
	return ops->pick(&set->turn, set, tried);
}
