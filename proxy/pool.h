/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h: upstream connections, by where they lead, whom they must meet there and what they speak. HTTP/2 connections of the hop are
 * multiplexed; HTTP/1.1 connections carry one exchange at a time and are kept for the next.
 *
 * Owns the connections and their codecs; a stream belongs to the one who got it. Idle and old connections go by the limits
 * below. Not here: which endpoint (balance), whether at all (policy), what is said (request). */
#ifndef WEFT_PROXY_POOL_H
#define WEFT_PROXY_POOL_H

#include "lib/http/codec.h"
#include "proxy/balance/circuit.h"
#include "proxy/identity.h"
#include "proxy/mark.h"
#include "proxy/policy/policy.h"
#include "proxy/snapshot.h"

#include <jansson.h>

/* Of one place, on one thread; what all threads may take of a service (or of all that is none) is its circuit's. */
#define POOL_CONNS_MAX     1024  /* connections */
#define POOL_WAITING_MAX   1024  /* requests that wait for one */
#define POOL_WAIT_MS       15000 /* a request, for a stream: longer than a dial; unless pool_cfg says otherwise */
#define POOL_IDLE_MS       60000 /* unless pool_cfg says otherwise */
#define POOL_CLOSES_MS     200   /* who closes a kept HTTP/1 connection so soon and unannounced ... */
#define POOL_SINGLE_MS     60000 /* ... gets each request on a connection of its own, for so long or until it keeps one; */
#define POOL_PROBES        4     /* so many that have served are kept meanwhile to see whether it does */
#define POOL_YOUNG_MS      1000 /* a connection to share that was made so lately is as good as a new one */
#define POOL_DOUBT_MS      500  /* HTTP_PEER_ASKED on the hop: http_limits.doubt_ms */
#define POOL_MESH_DIAL_MS  2500 /* below the 3 s of a second SYN retransmission */
#define POOL_OTHER_DIAL_MS 10000
/* Streams that a sidecar lets a peer give up at once and in each second, where it is a sidecar or the own application: the calls of many
 * share their connections (docs/decisions/2026-11-23-resets.md). */
#define OWN_RESETS_BURST   10000
#define OWN_RESETS_RATE    1000

enum hop {
	HOP_MESH,     /* mTLS, weft1-h2 */
	HOP_PLAIN,    /* HTTP/1.1 to an endpoint that is not meshed */
	HOP_PLAIN_H2, /* HTTP/2 with prior knowledge to such a one */
	HOP_LOCAL,    /* HTTP/1.1 to this proxy's own application */
	HOP_LOCAL_H2, /* HTTP/2 with prior knowledge to it */
	HOP_COUNT
};
const char *hop_name(enum hop h);

struct pool;

struct pool_cfg {
	uint64_t age_ms;         /* of a connection, then another; 0: the default */
	uint64_t idle_ms;        /* kept without a stream; 0: POOL_IDLE_MS */
	uint64_t stream_idle_ms; /* an exchange without progress; 0: the default */
	uint64_t wait_ms;        /* for a stream; 0: POOL_WAIT_MS */
	struct loop *loop;
	struct identity *identity;
	const struct mark *mark;
};
struct pool *pool_new(const struct pool_cfg *cfg);
/* The limits of messages on the hop: the usual ones and room for the hop's own fields (hop.tbl.h). idle_ms: as in pool_cfg. */
struct http_limits pool_limits(uint64_t idle_ms);
void pool_free(struct pool **p);

/* One who waits for a stream. Embed it. */
struct pool_waiter {
	struct list node;
	const struct http_stream_events *ev; /* for the stream */
	void *ctx;
	struct arena *arena;
	struct circuit *circuit; /* whose limits count; NULL: only those of the place */
	bool once; /* this request may not be sent twice: a kept connection is looked at before it gets it */
	void (*on_stream)(struct pool_waiter *w, struct http_stream *st);
	/* No stream could be had: nothing of the request has left, so it counts as unprocessed. */
	void (*on_fail)(struct pool_waiter *w, enum reason reason, const struct err *err);
	enum reason why;      /* it failed, and is to be told */
	uint64_t until_ms;    /* it waits */
	bool fresh;           /* wants a connection that has served nobody yet, or, to share, a young one */
	bool reused;          /* ret, at on_stream: the connection had served others before */
	uint64_t conn;        /* ret, likewise: its number, not 0, no other connection of the pool has it */
	struct pool_key *key; /* the pool's */
};
/* A stream to `ep` for what `permit` allows, on a connection with room or on a new one. `service`: the SNI ("name.namespace"),
 * may be NULL. Answers through the waiter from the loop, exactly once, never before returning. */
void pool_acquire(struct pool *p, const struct permit *permit, const struct endpoint *ep, enum hop hop,
		  const char *service, struct pool_waiter *w);
void pool_cancel(struct pool *p, struct pool_waiter *w); /* safe when answered or never asked (node initialised) */
void pool_drain(struct pool *p);                         /* idle connections close now, others when their streams end */
/* Idle connections give back what they keep only to be quick. */
void pool_rest(struct pool *p);
/* Short of memory: connections that are idle now close. Returns how many. */
size_t pool_shed(struct pool *p);
size_t pool_conns(const struct pool *p);
json_t *pool_dump(const struct pool *p); /* for the admin socket */

#endif
