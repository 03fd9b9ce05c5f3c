/* SPDX-License-Identifier: Apache-2.0 */
/* server.h: a small HTTP server of whole requests: /ready and /metrics (HTTP/1.1), the admin socket (HTTP/1.1 over unix),
 * weftd's API (HTTP/2 over TLS, HTTP/1.1 too). Bodies are collected up to a cap. Not for proxied traffic. */
#ifndef WEFT_LIB_HTTP_SERVER_H
#define WEFT_LIB_HTTP_SERVER_H

#include "lib/http/codec.h"

struct http_exchange; /* one request waiting for its answer; ends with exchange_reply() or when the client goes away */

struct http_server_cfg {
	size_t body_max;          /* larger: 413 */
	size_t bodies_max;        /* of all requests that have no answer yet; beyond: 503. 0: body_max each */
	SSL_CTX *tls;             /* NULL: plain. ALPN picks h2 or http/1.1; plain is HTTP/1.1, or HTTP/2 by preface */
	unsigned connections_max; /* beyond, the oldest that asks nothing is closed for the new one; else the new one */
	/* A head has arrived, its body has not been read: false when it was answered with exchange_reply() (who may not ask shall
	 * not fill memory with a body). NULL: everybody may send one. */
	bool (*admit)(void *ctx, struct http_exchange *x);
	/* A whole request has arrived. Answer now or later with exchange_reply(). */
	void (*on_request)(void *ctx, struct http_exchange *x);
	/* The client of an exchange that was kept went away; x is gone after the call. NULL: nobody keeps any. */
	void (*on_gone)(void *ctx, struct http_exchange *x);
	void *ctx;
};

struct http_server;
struct http_server *http_server_new(struct loop *loop, const struct http_server_cfg *cfg);
/* Serves a connection that was accepted elsewhere (listener_new's callback may call this). Owns fd. */
void http_server_accept(struct http_server *s, int fd);
/* Another process answers from now on: idle connections close, others after the answer that they wait for. */
void http_server_drain(struct http_server *s);
/* A stream that was accepted by another owner of the codec (weftd's link port carries gRPC only and does not use this). */
/* Closes every connection; on_gone comes for each exchange that was kept. */
void http_server_free(struct http_server **s);

const struct message *exchange_request(const struct http_exchange *x);
struct str exchange_body(const struct http_exchange *x);
/* The body's bytes, with a NUL behind them, become the caller's (mem_free()); exchange_body() is empty afterwards. They
 * count for cfg.bodies_max until it is answered. */
char *exchange_take_body(struct http_exchange *x, size_t *ret_len);
struct conn *exchange_conn(const struct http_exchange *x); /* for the client certificate or the peer address */
struct arena *exchange_arena(const struct http_exchange *x);
void exchange_set_user(struct http_exchange *x, void *user);
void *exchange_user(const struct http_exchange *x);
/* body is copied. content_type NULL with an empty body. Ends the exchange: x is gone after the call. */
void exchange_reply(struct http_exchange *x, uint16_t status, const char *content_type, struct str body);
/* Moves the whole buffer as the body (for large answers). */
void exchange_reply_buf(struct http_exchange *x, uint16_t status, const char *content_type, struct buf *body);

#endif
