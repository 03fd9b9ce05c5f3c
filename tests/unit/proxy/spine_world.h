/* SPDX-License-Identifier: Apache-2.0 */
/* spine_world.h: two sidecars on one loop, over loopback and without a capture: client -> OUTBOUND session -> mTLS -> INBOUND
 * session -> origin. Client and origin are the test's. Instead of the inbound sidecar the far end of the hop may be the test's too. */
#ifndef WEFT_TESTS_SPINE_WORLD_H
#define WEFT_TESTS_SPINE_WORLD_H

#include "lib/listener.h"
#include "proxy/session.h"
#include "tests/unit/certs/pki.h"

#include <check.h>

#define SPINE_VIP      "10.1.0.1:80"
#define SPINE_IDENTITY "spiffe://" PKI_TD "/ns/shop/sa/orders"

struct spine {
	struct loop *loop;
	struct pki pki;
	struct proxy out, in;  /* sidecar of the client, of the origin */
	struct spine_process { /* what the threads of each would share */
		struct config *config;
		struct circuits *circuits;
		struct reputes *reputes;
		struct mark *mark;
	} of_out, of_in;
	struct listener *to_out, *to_in;
	struct addr out_addr, in_addr; /* where each listens; the origin's address is in_addr, too */
	/* A connection of the inbound sidecar to its application. */
	void (*on_origin)(struct spine *w, int fd);
	/* Not NULL: connections to the endpoint are not the inbound sidecar's but the test's. */
	void (*on_hop)(struct spine *w, int fd);
	struct timer tick;
	bool (*until)(void *ctx);
	void *until_ctx;
	unsigned ticks_left;
};

/* protocol: of the service's port and of the application's. */
void spine_init(struct spine *w, enum protocol protocol);
void spine_done(struct spine *w);
/* Runs the loop until it is true, looking each millisecond; false when it never was within ms. */
bool spine_until(struct spine *w, unsigned ms, bool (*until)(void *ctx), void *ctx);
void spine_run(struct spine *w, unsigned ms);

/* One end of a plain connection; text arrives in `got`. */
struct spine_peer {
	struct conn *conn;
	char got[65536]; /* ends with NUL; what does not fit is counted only */
	size_t len;      /* all of it */
	bool eof, failed;
	const char *want; /* for spine_peer_got() */
};
void spine_peer_dial(struct spine *w, struct spine_peer *p, const struct addr *to);
void spine_peer_take(struct spine *w, struct spine_peer *p, int fd);
void spine_peer_say(struct spine_peer *p, const char *text);
void spine_peer_end(struct spine_peer *p, bool reset);
bool spine_peer_got(void *peer);  /* `want` is in `got` */
bool spine_peer_over(void *peer); /* eof or failed */

#endif
