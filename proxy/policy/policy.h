/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h: who may do what. Authorization is an argument: balance and pool ask for a `struct permit`, and only policy.c makes
 * one, so nothing can be forwarded that was not asked about. Filters will be rows of policy/filters.tbl.h. */
#ifndef WEFT_PROXY_POLICY_POLICY_H
#define WEFT_PROXY_POLICY_POLICY_H

#include "lib/http/message.h"
#include "lib/reason.h"
#include "proxy/snapshot.h"

enum direction { OUTBOUND, INBOUND };

/* Who speaks to whom, as policies see it. Borrowed pointers. */
struct subject {
	enum direction direction;
	const char *peer;            /* verified identity of the mesh peer; NULL: the local application, or plaintext */
	const struct addr *from;     /* address of the client as this proxy sees it */
	const struct addr *to;       /* original destination */
	const struct target *target; /* outbound */
	const struct inbound_port *port; /* inbound; NULL when undeclared */
};

struct permit {
	const char *policy; /* name of the policy that decided, "" when none had a say */
};

/* A request may go on: *ret_permit. Or it is refused: the reason. */
enum reason policy_request(const struct subject *s, const struct message *m, struct permit *ret_permit);
/* The same for an opaque connection. `alpn_tcp`: it came as weft1-tcp from a mesh peer. */
enum reason policy_connection(const struct subject *s, bool alpn_tcp, struct permit *ret_permit);

#endif
