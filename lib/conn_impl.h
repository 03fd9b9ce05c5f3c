/* SPDX-License-Identifier: Apache-2.0 */
/* conn_impl.h: what conn.c, conn_dial.c, conn_end.c and conn_tls.c share. Nobody else includes it. */
#ifndef WEFT_LIB_CONN_IMPL_H
#define WEFT_LIB_CONN_IMPL_H

#include "lib/conn.h"

#define CONN_MAGIC 0x636f6e6eu

enum conn_state {
	CONN_CONNECTING, /* TCP */
	CONN_HANDSHAKE,  /* TLS */
	CONN_OPEN,
	CONN_FAILED,    /* on_fail was called; waits for the user's close */
	CONN_LINGERING, /* conn_close_flushed: without a user */
	CONN_CLOSED,    /* freed at the end of the turn */
};

/* What came of a step of reading, writing or handshaking. */
enum conn_step {
	CONN_STEP_DONE,
	CONN_STEP_AGAIN, /* the descriptor (or the turn's budget) gives no more */
	CONN_STEP_FULL,  /* rx is at its mark */
	CONN_STEP_END,   /* the peer ended in order */
	CONN_STEP_FAIL,  /* rx_errno, tx_errno or OpenSSL's error queue say why */
};

/* Freed by conn_destroy(), at the end of the turn. Pins its loop; owns fd, ssl and the buffers' chunks. */
struct conn {
	uint32_t magic;
	uint8_t state; /* enum conn_state */
	bool connected_at_once : 1;
	bool handshake_due     : 1;
	bool step_waits        : 1; /* for conn_tls_step() */
	bool reading           : 1; /* the watch is set for reading; false: look again when the user touches rx */
	bool paused            : 1;
	bool held              : 1; /* memory is short: not watched for reading until on_more() */
	bool kick              : 1;
	bool rx_eof            : 1;
	bool rx_drained        : 1; /* the last recv() of this turn came short: the next would say EAGAIN */
	bool tcp_eof           : 1; /* FIN beneath TLS */
	bool tx_blocked        : 1; /* wait for the descriptor to be writable before writing on */
	bool tx_room_due       : 1;
	bool end_tx            : 1;
	bool tx_ended          : 1;
	bool tls_wants_write   : 1; /* the handshake, or a read, has something to send first */
	bool write_wants_read  : 1; /* a write waits for something to arrive first */
	bool tls_ended         : 1; /* close_notify was sent */
	bool tls_dead          : 1; /* a fatal error: no more calls into the SSL */
	int fd;
	struct loop *loop;
	const struct conn_events *ev; /* NULL when lingering */
	void *ctx;
	struct buf rx, tx;
	struct buf pre; /* bytes that were read before the handshake began: its first */
	SSL *ssl;
	struct list warm; /* loop_warm(): OpenSSL's buffers stay for the next turn */
	uint64_t rx_bytes, tx_bytes;
	uint32_t budget;     /* bytes that may still be read in this turn */
	uint32_t tx_pending; /* length of the SSL_write that must be repeated */
	uint32_t timeout_ms;
	uint32_t tls_posts; /* steps of the TLS state machine since the handshake: KeyUpdate and its like */
	int rx_errno, tx_errno;
	struct addr peer;
	struct io io;
	struct timer timer;  /* connect and handshake; lingering */
	struct task work;    /* at the end of this turn */
	struct task more;    /* at the start of the next, or soon; when lingering: when the loop is freed */
	struct err *failure; /* to be reported at the end of the turn */
};

const char *conn_peer_text(const struct conn *c, char out[static ADDR_TEXT_MAX]);

static inline bool conn_alive(const struct conn *c)
{
	return c->state != CONN_CLOSED;
}

/* conn.c */
void conn_set_state(struct conn *c, enum conn_state to);
struct conn *conn_make(struct loop *loop, enum conn_state state, const struct conn_events *ev, void *ctx);
void conn_take_fd(struct conn *c, int fd);
void conn_start_timer(struct conn *c, uint64_t ms); /* for connecting and the handshake; 0: the default */
bool conn_may_read(const struct conn *c);
void conn_read_some(struct conn *c);

/* conn_end.c: fail: the last thing that the user hears, destroy: freed at the end of the turn. */
void conn_fail(struct conn *c, const struct err *err);
void conn_fail_errno(struct conn *c, int why, const char *what); /* "WHAT peer: why" */
void conn_fail_tls(struct conn *c, const char *what);            /* why is in rx_errno or OpenSSL's error queue */
void conn_fail_write(struct conn *c, int why);
void conn_destroy(struct conn *c, bool reset);
bool conn_discard(struct conn *c); /* reads what the peer sent and drops it: true once the peer has ended */

/* conn_tls.c: the steps over an SSL. */
bool conn_tls_client(struct conn *c, const struct conn_dial *d, struct err *err);
bool conn_tls_server(struct conn *c, SSL_CTX *ctx, void *tls_arg, struct err *err);
enum conn_step conn_tls_handshake(struct conn *c); /* DONE, AGAIN, FAIL */
enum conn_step conn_tls_fill(struct conn *c);      /* into rx: AGAIN, FULL, END, FAIL */
enum conn_step conn_tls_drain(struct conn *c);     /* out of tx: DONE, AGAIN, FAIL */
enum conn_step conn_tls_end(struct conn *c);       /* close_notify: DONE, AGAIN, FAIL */
bool conn_tls_has_bytes(struct conn *c);           /* bytes of the peer wait on our side of the descriptor */
void conn_tls_tidy(struct conn *c); /* a turn is over: the buffers of who was used least lately are given back */
void conn_tls_cool(struct conn *c); /* gives OpenSSL's buffers back when nothing is in them; before SSL_free() too */
/* The reason of the last FAIL from OpenSSL's error queue, as "WHAT peer: why". */
void conn_tls_error(struct conn *c, const char *what, struct err *err);

#endif
