/* SPDX-License-Identifier: Apache-2.0 */
/* h1_impl.h: what h1.c (session), h1_recv.c and h1_send.c share. Nobody else includes it. */
#ifndef WEFT_LIB_HTTP_H1_IMPL_H
#define WEFT_LIB_HTTP_H1_IMPL_H

#include "lib/http/codec_base.h"
#include "lib/http/parse.h"

#define H1_MAGIC        0x68315f73u
#define H1_STREAM_MAGIC 0x68315f74u

/* The connection's marks. Room is told as 0 from TX_MARK on, so that the connection's own event is due, and at least 16 KiB below. */
#define H1_RX_MARK      (32u << 10)
#define H1_TX_MARK      (48u << 10)
#define H1_TX_ROOM      (64u << 10)

#define H1_INTERIM_MAX  32 /* 1xx responses before the final one */

enum h1_rx {
	RX_WAIT, /* client: nothing was asked yet */
	RX_HEAD,
	RX_HOLD, /* server: whether a tunnel begins or the request has ended is not known before the response */
	RX_BODY, /* also a tunnel */
	RX_DONE,
};

enum h1_tx {
	TX_HEAD,
	TX_HOLD, /* client: whether a tunnel begins is not known before the response */
	TX_LENGTH,
	TX_CHUNKED,
	TX_CLOSE, /* until the connection ends; also a tunnel */
	TX_DROP,  /* bytes that have no way or no meaning any more are taken and dropped */
	TX_DONE,
};

/* How the connection is closed. */
enum h1_cut {
	CUT_FLUSH, /* what was written leaves, then FIN; what still comes is discarded for a while */
	CUT_NOW,
	CUT_RESET, /* RST: an end that must not look like one */
};

/* Freed by its owner's close() or reset(), at the end of the turn. Pins nothing: session is NULL once that is closed. */
struct h1_stream {
	struct http_stream base;
	uint32_t magic;
	enum h1_rx rx;
	enum h1_tx tx;
	struct loop *loop;
	struct http1_head head;
	struct http1_body body;
	struct buf held;    /* client: bytes for a tunnel that does not stand yet */
	size_t unconsumed;  /* bytes handed to the owner and not said to be consumed */
	uint64_t tx_left;   /* TX_LENGTH: bytes still owed */
	uint64_t tx_start;  /* client: bytes that had left on the connection when it was opened */
	enum reason fail;   /* not NONE: to be reported at the end of the turn */
	unsigned interim;   /* 1xx responses so far */
	bool got_head  : 1; /* the head came (client: the final one) */
	bool got_byte  : 1; /* client: a byte of the response came */
	bool sent_head : 1; /* server: the final head was written */
	bool sent_100  : 1; /* server: 100 was written */
	bool keep      : 1; /* the connection may go on after this exchange */
	bool connect   : 1; /* CONNECT was asked */
	bool upgrade   : 1; /* an upgrade was asked */
	bool tunnel    : 1; /* and stands */
	bool held_end  : 1; /* the owner ended while TX_HOLD */
	bool room_due  : 1; /* on_room is to be called */
	bool lost      : 1; /* on_reset was called: nothing follows */
};

/* Freed by session_close(), at the end of the turn. Owns the connection. */
struct h1 {
	struct http_session base;
	uint32_t magic;
	enum http_role role;
	struct http_limits lim;
	struct conn *conn; /* NULL once it is over */
	struct loop *loop;
	struct h1_stream *st; /* the exchange, NULL between two */
	struct task work;
	struct timer timer;
	uint64_t timer_ms;      /* when the timer fires, while it runs */
	uint64_t age_end_ms;    /* 0: never */
	uint64_t progress_ms;   /* when something last moved, or the exchange before ended */
	uint64_t head_since_ms; /* server: first byte of the head */
	uint64_t tx_seen;       /* bytes that had left when the timer last looked */
	enum reason why;        /* over: how */
	struct err *err;        /* over: what the connection said, or NULL */
	bool dead          : 1; /* session_close() was called */
	bool over          : 1; /* the connection is closed; on_closed is due or was called */
	bool closed_said   : 1;
	bool busy_said     : 1;
	bool ready_said    : 1;
	bool draining      : 1;
	bool aged          : 1; /* server: drains from the next request on, since a FIN now could cross it */
	bool last          : 1; /* server: the next answer closes */
	bool draining_due  : 1; /* on_draining is to be called */
	bool draining_said : 1;
	bool no_reuse      : 1; /* client: the connection ends with this exchange */
	bool blank         : 1; /* server: the one empty line between two requests was there */
};

static inline struct h1 *h1_of(struct h1_stream *st)
{
	return (struct h1 *)st->base.session;
}
/* After a callback: is there still something to go on with? */
static inline bool h1_alive(const struct h1 *s, const struct h1_stream *st)
{
	return !s->dead && !s->over && s->st == st;
}

void h1_wake(struct h1 *s); /* h1_work() at the end of this turn */
struct h1_stream *h1_stream_new(struct h1 *s);
void h1_stream_free(struct h1_stream *st);
/* Closes the connection; on_closed follows at the end of the turn. Nothing more is read or written. */
void h1_finish(struct h1 *s, enum reason why, enum h1_cut cut, const struct err *err);
/* From the loop only: the stream is lost by `why`, and the connection with it. */
void h1_lose(struct h1 *s, struct h1_stream *st, enum reason why, enum h1_cut cut, const struct err *err);
/* From the loop only, server: answers with the status of `why` if nothing was answered yet, and loses the stream. */
void h1_refuse(struct h1 *s, struct h1_stream *st, enum reason why);
void h1_drain_said(struct h1 *s); /* the peer will not go on after this exchange */
void h1_progress(struct h1 *s);   /* something moved */
void h1_arm(struct h1 *s);        /* the timer, after a change of what is waited for */

/* h1_recv.c */
void h1_read(struct h1 *s); /* from the loop only: all that rx allows, then the peer's end */
void h1_tunnel_known(struct h1_stream *st, bool tunnel); /* server, RX_HOLD: the response says so */

/* h1_send.c */
void h1_send_head(struct http_stream *base, const struct message *m, bool end);
size_t h1_send_room(const struct http_stream *base);
void h1_send_body(struct http_stream *base, struct str bytes);
void h1_send_end(struct http_stream *base, const struct fields *trailers);
void h1_send_answer(struct h1 *s, enum reason why,
		    bool body);                         /* an answer of the codec's own, with Connection: close */
void h1_send_tunnel(struct h1_stream *st, bool tunnel); /* client, TX_HOLD: the response said so */
/* How to cut an exchange that is not complete, so that the peer sees that it is not. */
enum h1_cut h1_send_cut(const struct h1_stream *st);

#endif
