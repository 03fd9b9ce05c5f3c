/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel.h: opaque bytes both ways between a downstream connection and one upstream connection of its own: the request spine's
 * L4 twin. Half-close is passed on; a failed upstream is an RST to the client, not a clean end; a slow reader stops its writer.
 *
 * A tunnel without a downstream connection is speculative: its upstream is dialled and what the server sends is held (at most 32 KiB, then
 * the server is not read). Then it is taken, and carries the client's first bytes, or dropped unused. */
#ifndef WEFT_PROXY_TUNNEL_H
#define WEFT_PROXY_TUNNEL_H

#include "lib/conn.h"
#include "proxy/proxy.h"

struct tunnel;

struct tunnel_from {
	struct conn
	    *down; /* owned by the tunnel from here on; bytes in its rx are the first to be sent. NULL: speculative */
	struct subject subject; /* what its pointers point to lives as long as the owner */
	bool mesh;              /* inbound: came as weft1-tcp */
	struct addr client; /* outbound: the application's source; inbound: the client that the application shall see */
	const char *service; /* label; "" outside */
	/* Speculative: the server has said something or ended: look with tunnel_heard(). */
	void (*on_heard)(void *ctx);
	/* The tunnel is over and freed after the call; both connections are closed. Speculative: the dial failed. */
	void (*on_end)(void *ctx, enum reason reason, const char *text);
	void *ctx;
};
/* outbound: to the target of the subject. inbound: to subject.to from the proxy's own source. external: to subject.to as it is. */
struct tunnel *tunnel_new(struct proxy *p, const struct tunnel_from *from);
/* Speculative: what the server has said so far, at most max bytes of it, and whether it has ended. */
struct str tunnel_heard(struct tunnel *t, size_t max, bool *ret_eof);
/* The speculation was right: it carries the bytes of `down` from here on. */
void tunnel_take(struct tunnel *t, struct conn *down);
void tunnel_drop(struct tunnel **t);                      /* it was not: closed in order and unused; no on_end */
void tunnel_abort(struct tunnel **t, enum reason reason); /* RST both ways; no on_end */
/* Short of memory. What both connections hold in buffers; with `stalled` 0 unless nothing has moved since the last tunnel_look(). */
size_t tunnel_held(const struct tunnel *t, bool stalled);
void tunnel_look(struct tunnel *t);
void tunnel_shed(struct tunnel *t); /* ends it with REASON_SHED: RST both ways, on_end comes before it returns */
const char *tunnel_step(const struct tunnel *t);
const char *tunnel_endpoint(const struct tunnel *t, char out[static ADDR_TEXT_MAX]);

#endif
