/* SPDX-License-Identifier: Apache-2.0 */
/* push_peer.h: a push server and two proxies of it as a test plays them, without a connection: the ground of the suites push,
 * push_answer and push_limit. One of it at a time; peer_setup() and peer_teardown() are the fixture. */
#ifndef WEFT_TESTS_PUSH_PEER_H
#define WEFT_TESTS_PUSH_PEER_H

#include "control/push.h"

#include <check.h>

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryResponse response_pb;

#define PEER_RESPONSES_MAX 64

/* One proxy. What it is sent is kept in `got` until peer_forget() or peer_close(). */
struct peer {
	struct push_session *s;
	const char *id;
	response_pb *got[PEER_RESPONSES_MAX];
	size_t n, bytes;
	bool deaf;    /* send() fails */
	bool discard; /* counts, keeps nothing */
	bool ended;
	enum grpc_status status;
	char text[256];
};

extern struct push *peer_push;
extern struct peer peer_a, peer_b; /* open, orders-1 and orders-2 of one account */
extern const struct push_link peer_link;
extern uint64_t peer_now; /* the clock of peer_push, in ms */
extern unsigned peer_dirty_calls, peer_nacks;
extern char peer_last_nack[512]; /* proxy, type, name, reason */

void peer_setup(void);
void peer_teardown(void); /* nothing may be left of any session */

void peer_open(struct peer *w, const char *id);
void peer_forget(struct peer *w);
void peer_close(struct peer *w);

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Lists end with NULL, or are NULL: empty; initial is name, version, name, version ..., at most 16 pairs. */
void peer_ask(struct peer *w, const char *type_url, const char *const *sub, const char *const *unsub,
	      const char *const *initial, const char *nonce, const char *refusal);
void peer_subscribe(struct peer *w, enum pushed_type t, const char *const *names);
void peer_ack(struct peer *w, enum pushed_type t, const response_pb *m);

/* What a response says: the value of its resource i (until the next call), and whether it takes this name away. */
const char *peer_value(const response_pb *m, size_t i);
bool peer_removed(const response_pb *m, const char *name);

/* Resources of peer_push; aliases NULL: none. */
void push_put(enum pushed_type t, const char *name, const char *value, const char *const *aliases);
void push_put_self(const char *key, const char *value);

#endif
