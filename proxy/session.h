/* SPDX-License-Identifier: Apache-2.0 */
/* session.h: a downstream connection from accept to close: the first of the two spines. It finds out where the client meant to go, what
 * that is, what it speaks and who it is, and hands it to the requests of a codec or to a tunnel. */
#ifndef WEFT_PROXY_SESSION_H
#define WEFT_PROXY_SESSION_H

#include "proxy/request.h"

#include <jansson.h>

struct session;

/* Takes an accepted descriptor: from the outbound listeners (OUTBOUND) or steered inbound (INBOUND). The caller has counted it in
 * p->n_sessions; on a thread that drains it ends when it is quiet, like the others. */
void session_accept(struct proxy *p, enum direction d, int fd);
/* Another thread has found this out. */
void session_learn(struct proxy *p, const struct finding *f);
/* All sessions get no new requests (GOAWAY, Connection: close) and end when quiet. */
void session_drain_all(struct proxy *p);
/* Another worker serves: no new requests either, but a client that keeps an idle HTTP/1 connection may ask once more on it, so that none
 * is closed beneath a request that is on its way. session_drain_all() afterwards ends those on which nobody did. */
void session_retire_all(struct proxy *p);
/* Closes what is left, at the end of the grace period or of the process. */
void session_abort_all(struct proxy *p);
/* Idle connections give back what they keep only to be quick. */
void session_rest_all(struct proxy *p);
/* Short of memory (shed.c says when). HTTP/2 connections without a stream end in order; returns how many. */
size_t session_shed_idle(struct proxy *p);
/* What the greediest request, tunnel or connection holds; with `stalled` only of those that have not moved since the last session_look_all(). */
size_t session_held(const struct proxy *p, bool stalled);
/* Resets those that are wanted. */
struct shed_count session_shed(struct proxy *p, const struct shed_want *want);
void session_look_all(struct proxy *p);
json_t *session_dump_all(const struct proxy *p); /* live list for the admin socket, at most 1,000 */

#endif
