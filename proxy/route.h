/* SPDX-License-Identifier: Apache-2.0 */
/* route.h: which backend a request goes to, by the routes of its service. Pure: asking takes no memory and O(matches). */
#ifndef WEFT_PROXY_ROUTE_H
#define WEFT_PROXY_ROUTE_H

#include "lib/http/message.h"
#include "lib/reason.h"
#include "proxy/snapshot_route.h"

struct route_choice {
	const struct route_rule *rule;       /* NULL: no route speaks of this port */
	const struct route_backend *backend; /* NULL: none */
};
/* Where a request to this port of the service goes. `random`: any 32 bits; it decides between the backends by their weights.
 * REASON_NONE; or REASON_NO_ROUTE, REASON_NO_BACKEND with the rule, if any. A table of NULL has no routes. */
enum reason route_pick(const struct route_table *t, uint16_t port, const struct message *m, uint32_t random,
		       struct route_choice *ret);
#endif
