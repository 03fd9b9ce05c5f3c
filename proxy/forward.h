/* SPDX-License-Identifier: Apache-2.0 */
/* forward.h: what an application is told of the client whose requests come over its sidecar's connections. Contract: docs/hop.md. */
#ifndef WEFT_PROXY_FORWARD_H
#define WEFT_PROXY_FORWARD_H

#include "lib/base.h"
#include "lib/http/message.h"
#include "lib/sock.h"

/* Puts the address of who connected behind what the request says of those before it: in X-Forwarded-For, and in Forwarded (RFC 7239) where there is
 * one, so that the last entry of either is what this sidecar saw, whatever a client wrote. Both stand last. What was said in a way that would hide the
 * new entry is left out. False when the message's arena is full. */
bool forward_client(struct message *m, const struct ip *client) MUST_USE;

#endif
