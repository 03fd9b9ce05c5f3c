/* SPDX-License-Identifier: Apache-2.0 */
/* proxy.h: what every session, request and tunnel of one thread shares: the loop and the stations. Made by worker.c. */
#ifndef WEFT_PROXY_PROXY_H
#define WEFT_PROXY_PROXY_H

#include "proxy/balance/balance.h"
#include "proxy/config.h"
#include "proxy/identity.h"
#include "proxy/mark.h"
#include "proxy/pool.h"
#include "proxy/stats.h"

#define SESSIONS_MAX 20000 /* downstream connections; further ones are closed at once */

struct link;

struct proxy {
	struct loop *loop;
	struct config *config;
	struct identity *identity;
	struct mark *mark;
	struct pool *pool;
	struct stats *stats;
	const struct link *link; /* NULL with -f */
	const struct balance_ops *balance;
	uint32_t balance_state;
	struct http_limits limits;     /* of messages from applications and from outside */
	struct http_limits hop_limits; /* from sidecars: room for the hop's own fields */
	struct list sessions;          /* struct session */
	size_t n_sessions;
	bool draining;
};

#endif
