/* SPDX-License-Identifier: Apache-2.0 */
/* proxy.h: what every session, request and tunnel of one thread shares: the loop and the stations. Made by worker.c. */
#ifndef WEFT_PROXY_PROXY_H
#define WEFT_PROXY_PROXY_H

#include "proxy/balance/balance.h"
#include "proxy/config.h"
#include "proxy/handshakes.h"
#include "proxy/identity.h"
#include "proxy/mark.h"
#include "proxy/pool.h"
#include "proxy/stats.h"
#include "proxy/verdict.h"

#define SESSIONS_MAX     20000 /* downstream connections; further ones are closed at once */

/* Streams that a peer may give up at once and in each second, where it is a sidecar or the own application: the calls of many share their
 * connections (docs/decisions/2026-11-23-resets.md). */
#define OWN_RESETS_BURST 10000
#define OWN_RESETS_RATE  1000
#define OWN_HEADS_A_TURN 64 /* of them, requests begun in one turn of the loop */

struct link;

struct proxy {
	struct loop *loop;
	struct config *config;
	struct identity *identity;
	struct mark *mark;
	struct pool *pool;
	struct stats *stats;
	struct verdicts *verdicts;     /* of undeclared ports */
	struct verdicts *peers;        /* of who dials us */
	struct handshakes *handshakes; /* of who dials us */
	const struct link *link;       /* NULL with -f */
	struct balancer *balancer;
	uint32_t route_random; /* state of the random numbers that choose between weighted backends; 0: not seeded */
	struct http_limits limits;     /* of messages from outside */
	struct http_limits own_limits; /* from the application that this proxy stands beside */
	struct http_limits hop_limits; /* from sidecars: room for the hop's own fields */
	struct list sessions;          /* struct session */
	size_t n_sessions;
	size_t n_speculative; /* sessions with a connection dialled while the client is silent */
	bool draining;
};

#endif
