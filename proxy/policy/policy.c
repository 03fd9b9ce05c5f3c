/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c: the only place that makes a permit. No policy kind is pushed yet: everything that reaches a known target is permitted, but
 * for the one rule that protects policies to come: raw bytes do not reach a port on which HTTP policy stands. */
#include "proxy/policy/policy.h"

#include "lib/base.h"

enum reason policy_request(const struct subject *s, const struct message *m, struct permit *ret_permit)
{
	MUST(s->to != NULL && m->request);
	*ret_permit = (struct permit){.policy = ""};
	return REASON_NONE;
}

enum reason policy_connection(const struct subject *s, bool alpn_tcp, struct permit *ret_permit)
{
	MUST(s->to != NULL);
	/* A client that pauses 50 ms is taken for opaque: it must not get around the policy of an HTTP port that way. */
	if (s->direction == INBOUND && s->port != NULL && s->port->http_policy && s->port->protocol != PROTOCOL_TCP)
		return REASON_DENIED;
	*ret_permit = (struct permit){.policy = ""};
	return REASON_NONE;
}
