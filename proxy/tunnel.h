/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel.h: opaque bytes both ways between a downstream connection and one upstream connection of its own: the request spine's
 * L4 twin. Half-close is passed on; a failed upstream is an RST to the client, not a clean end; a slow reader stops its writer. */
#ifndef WEFT_PROXY_TUNNEL_H
#define WEFT_PROXY_TUNNEL_H

#include "lib/conn.h"
#include "proxy/proxy.h"

struct tunnel;

struct tunnel_from {
	struct conn *down;      /* owned by the tunnel from here on; bytes in its rx are the first to be sent */
	struct subject subject; /* what its pointers point to lives as long as the owner */
	bool mesh;              /* inbound: came as weft1-tcp */
	struct addr client; /* outbound: the application's source; inbound: the client that the application shall see */
	const char *service; /* label; "" outside */
	/* The tunnel is over and freed after the call; both connections are closed. */
	void (*on_end)(void *ctx, enum reason reason, const char *text);
	void *ctx;
};
/* outbound: to the target of the subject. inbound: to subject.to from the proxy's own source. external: to subject.to as it is. */
struct tunnel *tunnel_new(struct proxy *p, const struct tunnel_from *from);
void tunnel_abort(struct tunnel **t, enum reason reason); /* RST both ways; no on_end */
const char *tunnel_step(const struct tunnel *t);
const char *tunnel_endpoint(const struct tunnel *t, char out[static ADDR_TEXT_MAX]);

#endif
