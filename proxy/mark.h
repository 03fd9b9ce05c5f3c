/* SPDX-License-Identifier: Apache-2.0 */
/* mark.h: what the proxy says to the kernel programs about its own sockets (bpf/abi.h), and what they say to it. Works
 * without capabilities: the exemption token is the only right that it takes. */
#ifndef WEFT_PROXY_MARK_H
#define WEFT_PROXY_MARK_H

#include "bpf/abi.h"
#include "lib/err.h"
#include "lib/sock.h"

struct mark;

/* token: the WEFT_TOKEN_LEN bytes from the handover; NULL: not captured (no mesh around this process), marking is a no-op. */
struct mark *mark_new(const uint8_t *token);
void mark_free(struct mark **m);
/* Before connect(): this socket is not captured. False and err (ERR_DENIED: wrong token) fails the dial: without the mark the
 * connection would come back to ourselves. */
bool mark_exempt(const struct mark *m, int fd, struct err *err);
/* Before connect(): what the application's accept() and getpeername() show. `via`: the address that is dialled (its family is the wire's). */
bool mark_client(const struct mark *m, int fd, const struct addr *client, const struct addr *via, struct err *err);
/* The pooled stand-in for a client, of the family of `via`. */
bool mark_client_pooled(const struct mark *m, int fd, const struct addr *via, struct err *err);
/* The original destination of an accepted outbound connection, which came from `peer`. False: not a captured connection. */
bool mark_original(int fd, const struct addr *peer, struct addr *ret);
/* How the capture of this network namespace stands, asked on any socket of this process. False: not captured (any more). */
bool mark_state(const struct mark *m, int fd, struct weft_opt_state *ret);
/* The source that the proxy dials its own application from: 127.0.0.6, or the IPv6 address that is dialled (with mark_client: abi.h). */
struct addr mark_source(const struct addr *to);

#endif
