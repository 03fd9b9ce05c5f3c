/* SPDX-License-Identifier: Apache-2.0 */
/* ready.c: see ready.h. */
#include "proxy/ready.h"

bool ready_now(const struct identity *id, const struct config *c, const struct link *l, struct err *why)
{
	const char *trouble = l && link_trouble(l) ? link_trouble(l) : "waiting for weftd's first answer";
	if (!identity_ready(id))
		return err_set(why, ERR_NOT_FOUND, "no certificate yet: %s", trouble);
	if (l && link_refused(l))
		return err_set(why, ERR_DENIED, "weftd does not register this workload: %s", link_refused(l));
	return config_ready(c) || err_set(why, ERR_NOT_FOUND, "no mesh configuration yet: %s", trouble);
}

bool ready_to_succeed(const struct identity *id, const struct config *c, const struct link *l, struct err *why)
{
	return ready_now(id, c, l, why) &&
	       (l == NULL || link_settled(l) || err_set(why, ERR_NOT_FOUND, "not yet registered with weftd"));
}
