/* SPDX-License-Identifier: Apache-2.0 */
/* conn.h: a byte stream on the loop, plain TCP (or unix) or TLS over it, with bounded buffers both ways.
 *
 * It owns the descriptor, the SSL and two buffers. It does not know HTTP, the mesh or why it exists. The user hears of
 * things through `struct conn_events` and pulls from conn_rx(), pushes into conn_tx().
 *
 * Reading pauses by itself while rx is at its mark (default 32 KiB), so a consumer that does not drain stops the peer
 * (back-pressure). Writing: append to conn_tx() and call conn_flush(): bytes leave once, at the end of the loop turn, in
 * as few records and system calls as possible (16 KiB TLS records). conn_tx_full() (default mark 64 KiB) tells the
 * producer to pause; on_tx_room comes when tx fell beneath half the mark.
 *
 * TLS connections give their OpenSSL buffers back (SSL_free_buffers) when eight others of the loop have been used since, or the loop rests
 * (conn_rest_all); idle rx and tx hold no chunk.
 *
 * Callbacks never come from within a call of the user's (they come from the loop). A conn_new() one is open at once and
 * has no on_open; on_open after conn_tls_accept() tells of the handshake. Take conn_rx() anew in each callback instead of
 * keeping the pointer: asking for it is how the connection learns that it may be drained and read on.
 * A conn is freed by conn_close() or conn_reset() only; the memory goes after the turn's unwinding, so both may be
 * called from any callback. After on_fail nothing more comes; the user still closes. */
#ifndef WEFT_LIB_CONN_H
#define WEFT_LIB_CONN_H

#include "lib/buf.h"
#include "lib/loop.h"
#include "lib/sock.h"

#include <openssl/ssl.h>

struct conn;

struct conn_events {
	/* TCP is connected, or the TLS handshake is complete and the peer verified (by the SSL_CTX's verify callback). */
	void (*on_open)(void *ctx);
	/* New bytes in conn_rx(), or the peer's end of stream (conn_rx_eof()). */
	void (*on_rx)(void *ctx);
	/* tx was full and has room again; or, after conn_end_tx(), everything has left (conn_tx_ended()). */
	void (*on_tx_room)(void *ctx);
	/* The connection is dead: connect refused or timed out, handshake failed, reset, TLS alert; ERR_LIMIT: no descriptor or memory for a
	 * socket. err says which. Once. */
	void (*on_fail)(void *ctx, const struct err *err);
	/* There is something for the handshake of conn_tls_accept() to work on. False: not now, conn_tls_step() will say when. NULL: always now. */
	bool (*on_step)(void *ctx);
};

/* Takes the connected descriptor over (accepted from a listener, which tuned it, or a socketpair end). Starts reading at the end of the turn. */
struct conn *conn_new(struct loop *loop, int fd, const struct conn_events *ev, void *ctx);

struct conn_dial {
	struct addr to;
	const char *unix_path; /* instead of `to` */
	struct addr from;      /* bound before connecting when ip.len != 0 (port 0: any, IP_BIND_ADDRESS_NO_PORT) */
	uint64_t timeout_ms;   /* TCP connect and TLS handshake together; 0: 10 s */
	SSL_CTX *tls;          /* NULL: plain */
	const char *sni;       /* server name to send, NULL: none */
	const uint8_t *alpn;   /* protocols in wire format to offer, NULL: those of the SSL_CTX */
	size_t alpn_len;
	void *tls_arg; /* set with SSL_set_ex_data(ssl, conn_tls_arg_index(), ...): for the verify callback */
	/* Called with the socket before bind and connect (marks it exempt from capture); false fails the dial. */
	bool (*prepare)(void *arg, int fd, struct err *err);
	void *prepare_arg;
};
/* Never fails at once: failures come through on_fail. */
struct conn *conn_open(struct loop *loop, const struct conn_dial *dial, const struct conn_events *ev, void *ctx);

/* Makes a plain accepted connection a TLS server from the next byte in conn_rx() on: bytes that were looked at but not
 * drained are the first of the handshake. on_open comes when it is done, within timeout_ms. */
void conn_tls_accept(struct conn *c, SSL_CTX *ctx, void *tls_arg, uint64_t timeout_ms);
/* The step that on_step has put off. From the loop, not from a callback of this connection's: on_open or on_fail may come from within. */
void conn_tls_step(struct conn *c);
int conn_tls_arg_index(void);

/* Who listens may change as the connection moves on (detection, then a codec). */
void conn_set_events(struct conn *c, const struct conn_events *ev, void *ctx);
struct loop *conn_loop(const struct conn *c);
struct buf *conn_rx(struct conn *c);
bool conn_rx_eof(const struct conn *c); /* the peer ended its side (FIN or close_notify); rx may still hold bytes */
void conn_rx_pause(struct conn *c,
		   bool pause);    /* besides the mark; draining rx resumes at the end of the turn by itself */
void conn_rx_kick(struct conn *c); /* on_rx again at the end of this turn (the user left bytes behind on purpose) */
struct buf *conn_tx(struct conn *c);
bool conn_tx_full(const struct conn *c);
void conn_flush(struct conn *c); /* at the end of this turn, once */
void conn_set_marks(struct conn *c, size_t rx, size_t tx);
/* Ends our side after what is in tx has left: FIN, with close_notify before it on TLS. Reading goes on. */
void conn_end_tx(struct conn *c);
bool conn_tx_ended(const struct conn *c); /* everything has left, FIN too */
/* Lets what is in tx leave, ends our side and drops what still comes until the peer ends too (2 s in all): an answer
 * just before closing is not overtaken by a reset. One that is not open yet is closed at once. Nulls; no callback after. */
void conn_close_flushed(struct conn **c);
void conn_close(struct conn **c); /* now: close_notify if possible, FIN; nulls; no callback after */
void conn_reset(struct conn **c); /* now: RST; nulls; no callback after */

/* Nothing happens: what connections of the loop keep for their next turn is given back. How many had something. The loop's thread only. */
size_t conn_rest_all(struct loop *loop);

int conn_fd(const struct conn *c);
SSL *conn_ssl(const struct conn *c);        /* NULL when plain */
struct str conn_alpn(const struct conn *c); /* negotiated, empty when none */
bool conn_is_open(const struct conn *c);
/* Plain: the kernel has neither bytes nor an end from the peer for us (one system call; TLS: not looked at, true). */
bool conn_is_quiet(const struct conn *c);
size_t conn_held(const struct conn *c);       /* bytes in rx and tx */
uint64_t conn_rx_bytes(const struct conn *c); /* application bytes since the start */
uint64_t conn_tx_bytes(const struct conn *c);
const struct addr *conn_peer(const struct conn *c);

#endif
