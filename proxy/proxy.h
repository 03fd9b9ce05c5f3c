/* SPDX-License-Identifier: Apache-2.0 */
/* proxy.h: what every session, request and tunnel of one thread shares: the loop and the stations. Made by crew.c, one a worker thread;
 * nobody but that thread touches it, except where it says so. */
#ifndef WEFT_PROXY_PROXY_H
#define WEFT_PROXY_PROXY_H

#include "proxy/balance/balance.h"
#include "proxy/handshakes.h"
#include "proxy/identity.h"
#include "proxy/mark.h"
#include "proxy/pool.h"
#include "proxy/stats.h"
#include "proxy/verdict.h"
#include "proxy/view.h"

#define SESSIONS_MAX     20000 /* downstream connections of the process; further ones are closed at once */

/* Of a sidecar or the own application (as OWN_RESETS_BURST in pool.h), requests begun before others have a turn. */
#define OWN_HEADS_A_TURN 64

/* What a thread tells the others, so that each need not find out for itself. */
struct finding {
	enum direction direction;
	bool peer;     /* of who dials us; else of an undeclared port */
	bool aside;    /* a client speaks HTTP there: connections dialled there on suspicion step aside */
	enum known is; /* KNOWN_NOTHING: what was known is wrong, or (aside) is left as it is */
	struct verdict_key key;
};

struct proxy {
	struct loop *loop;
	unsigned thread;   /* its number */
	struct view *view; /* of the configuration */
	struct identity *identity;
	const struct mark *mark; /* the process's */
	struct pool *pool;
	struct stats *stats;
	struct verdicts *verdicts;                              /* of undeclared ports */
	struct verdicts *peers;                                 /* of who dials us */
	struct handshakes *handshakes;                          /* of who dials us */
	void (*tell)(struct proxy *p, const struct finding *f); /* to the other threads; NULL: there are none */
	struct balancer *balancer;
	uint32_t route_random; /* state of the random numbers that choose between weighted backends; 0: not seeded */
	struct http_limits limits;     /* of messages from outside */
	struct http_limits own_limits; /* from the application that this proxy stands beside */
	struct http_limits hop_limits; /* from sidecars: room for the hop's own fields */
	struct list sessions;          /* struct session */
	/* Sessions, and connections on their way here: atomic. Who gives one counts it (session_accept()), its end uncounts it. */
	size_t n_sessions;
	size_t n_speculative; /* sessions with a connection dialled while the client is silent */
	bool draining;
};

#endif
