/* SPDX-License-Identifier: Apache-2.0 */
/* session.h: a downstream connection from accept to close: the first of the two spines. It finds out where the client meant to go, what
 * that is, what it speaks and who it is, and hands it to the requests of a codec or to a tunnel. */
#ifndef WEFT_PROXY_SESSION_H
#define WEFT_PROXY_SESSION_H

#include "proxy/proxy.h"

#include <jansson.h>

struct session;

/* Takes an accepted descriptor: from the outbound listeners (OUTBOUND) or steered inbound (INBOUND). */
void session_accept(struct proxy *p, enum direction d, int fd);
/* All sessions get no new requests (GOAWAY, Connection: close) and end when quiet. */
void session_drain_all(struct proxy *p);
/* Another worker serves: no new requests either, but a client that keeps an idle HTTP/1 connection may ask once more on it, so that none
 * is closed beneath a request that is on its way. session_drain_all() afterwards ends those on which nobody did. */
void session_retire_all(struct proxy *p);
/* Closes what is left, at the end of the grace period or of the process. */
void session_abort_all(struct proxy *p);
json_t *session_dump_all(const struct proxy *p); /* live list for the admin socket, at most 1,000 */

#endif
