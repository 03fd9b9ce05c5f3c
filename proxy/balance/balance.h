/* SPDX-License-Identifier: Apache-2.0 */
/* balance.h: which endpoint of a set. An algorithm is one constant struct from one file and one row in balancers.tbl.h. */
#ifndef WEFT_PROXY_BALANCE_BALANCE_H
#define WEFT_PROXY_BALANCE_BALANCE_H

#include "proxy/policy/policy.h"
#include "proxy/snapshot.h"

struct balance_ops {
	const char *name;
	/* The endpoint for this request, O(1); NULL when there is none. `tried`: how many were tried for it before: a further
	 * try goes to another endpoint where there is one. `state` is the set's own: two services that are called in turn
	 * do not push each other on. */
	const struct endpoint *(*pick)(uint32_t *state, const struct endpoint_set *set, unsigned tried);
};

extern const struct balance_ops balance_round_robin;

/* Asks for the permit, so that nothing is balanced that policy did not let through. */
const struct endpoint *balance_pick(const struct balance_ops *ops, const struct permit *permit,
				    struct endpoint_set *set, unsigned tried);

#endif
