/* SPDX-License-Identifier: Apache-2.0 */
/* push.h: the server's side of delta xDS (docs/push.md) as a state machine without sockets: resources go in, decoded requests
 * of proxies go in, packed responses come out through a callback. A change finds its subscribers by name; what changed within
 * one turn of the loop goes out together, as the bytes that were packed once.
 *
 * Per session and resource it knows what was sent last, what was acknowledged, and what was refused and why. */
#ifndef WEFT_CONTROL_PUSH_H
#define WEFT_CONTROL_PUSH_H

#include "control/pushed.h"
#include "lib/err.h"
#include "lib/grpc.h"
#include "lib/proto/xds.pb-c.h"

#include <jansson.h>

#define PUSH_NAMES_MAX     10000         /* subscriptions of one type by one proxy */
#define PUSH_RESPONSE      (256u << 10)  /* bytes after which a response is closed and the next begun */
#define PUSH_WINDOW        (1u << 20)    /* bytes unanswered at which sending to a proxy pauses until it answers */
#define PUSH_RESOURCE_MAX  (2560u << 10) /* one resource: window and one resource fit GRPC_QUEUE_MAX */
/* One push_flush() serves so many sessions, or so many bytes: then the loop writes, and reads what the first of them answer,
 * while the others wait. A change for a thousand proxies is not a thousand messages in memory before the first leaves. */
#define PUSH_TURN_SESSIONS 32
#define PUSH_TURN_BYTES    (4u << 20)
#define PUSH_STALL_MS      30000 /* a proxy that holds up its pushes for so long is disconnected */
#define PUSH_SESSIONS_MAX  4     /* streams of one instance; the oldest makes room */
#define PUSH_STREAMS_MAX   20000 /* in all */
#define PUSH_NAME_MS       10000 /* a stream whose first request has not come by then is ended */
#define PUSH_REASON_MAX    256   /* bytes of a refusal that are kept */

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryRequest push_request_pb;

struct push;
struct push_session;

/* Who is at the other end; strings are copied. identity, ns and sa come from the verified certificate. */
struct push_peer {
	const char *identity; /* spiffe://... */
	const char *ns, *sa;
	const char *address; /* "10.1.0.2:41234" */
};

struct push_hooks {
	uint64_t (*now_ms)(void *ctx);
	/* May this service account speak as this instance? False and err: the stream ends with PERMISSION_DENIED. */
	bool (*instance_ok)(void *ctx, const char *ns, const char *sa, const char *instance, struct err *err);
	/* Something waits to be sent: call push_flush() at the end of this turn, and in the turns that follow while it says so. */
	void (*on_dirty)(void *ctx);
	/* A proxy refused a resource. */
	void (*on_nack)(void *ctx, const char *proxy, const char *type, const char *name, const char *reason);
};

/* How a session speaks. After end() nothing is called any more; it must close the session with push_close(), at once or
 * later. */
struct push_link {
	bool (*send)(void *ctx,
		     struct str response); /* a packed DeltaDiscoveryResponse; false: the peer does not read */
	void (*end)(void *ctx, enum grpc_status status, const char *text);
};

struct push *push_new(const struct push_hooks *hooks, void *ctx);
void push_free(struct push **p); /* every session must be closed */

/* Takes a reference of its own. Unchanged content is no change. */
void push_set(struct push *p, struct pushed *res);
void push_remove(struct push *p, enum pushed_type type, const char *key);
/* Borrowed; NULL: not there. */
const struct pushed *push_get(const struct push *p, enum pushed_type type, const char *key);

/* NULL: PUSH_STREAMS_MAX are open. */
struct push_session *push_open(struct push *p, const struct push_peer *peer, const struct push_link *link, void *ctx);
void push_request(struct push_session *s, const push_request_pb *req);
void push_close(struct push_session **s);

/* Sends what is due to whom it is due, PUSH_TURN_SESSIONS or PUSH_TURN_BYTES at most. True: more is due, call it again in the next turn. */
bool push_flush(struct push *p);
void push_tick(struct push *p); /* once a second or so: disconnects who stalls */

void push_end_all(struct push *p, const char *text); /* weftd stops: UNAVAILABLE, come again */

struct push_counts { /* since the start, but for the first two */
	uint64_t sessions, subscriptions;
	uint64_t requests, responses, resources, removals, bytes, acks, nacks, stalled;
};
const struct push_counts *push_counts(const struct push *p);

/* push_status.c: {"proxies": [...], "resources": [...]}: who is connected and how far, and for each resource that somebody
 * holds "applied by N of M, refused by K: why". A new reference. */
json_t *push_status(const struct push *p);
/* How far one resource is, for `weft wait`: M, N, K; false: there is no such resource. */
struct push_progress {
	size_t holders, applied, refused;
};
bool push_progress(const struct push *p, enum pushed_type type, const char *key, struct push_progress *ret);
/* The services' resources (keys of the object `services`, NULL: every resource of every type), for `weft wait`: {"waiting": proxies that
 * have yet to answer, "resources": [{type, name, version, proxies, applied, refused}], "behind": [{proxy, type, name, refused, why}]}; lists
 * end after PUSH_LISTED_MAX. A removal that a proxy has not answered counts for every service that is gone. */
#define PUSH_LISTED_MAX 1000
json_t *push_progress_json(const struct push *p, const json_t *services);
/* Who holds a service's resources, each with "holders": [{proxy, version, state, why}]. */
json_t *push_holders_json(const struct push *p, const json_t *services);
bool push_connected(const struct push *p, const char *instance); /* "namespace/instance" */

#endif
