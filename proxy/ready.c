/* SPDX-License-Identifier: Apache-2.0 */
/* ready.c: see ready.h. */
#include "proxy/ready.h"

#include "proxy/link.h"

bool ready_now(const struct proxy *p, struct err *why)
{
	const struct link *l = p->link;
	const char *trouble = l && link_trouble(l) ? link_trouble(l) : "waiting for weftd's first answer";
	if (!identity_ready(p->identity))
		return err_set(why, ERR_NOT_FOUND, "no certificate yet: %s", trouble);
	if (l && link_refused(l))
		return err_set(why, ERR_DENIED, "weftd does not register this workload: %s", link_refused(l));
	return config_ready(p->config) || err_set(why, ERR_NOT_FOUND, "no mesh configuration yet: %s", trouble);
}

bool ready_to_succeed(const struct proxy *p, struct err *why)
{
	return ready_now(p, why) && (p->link == NULL || link_settled(p->link) ||
				     err_set(why, ERR_NOT_FOUND, "not yet registered with weftd"));
}
