/* SPDX-License-Identifier: Apache-2.0 */
/* h2_session.h: the inside of an HTTP/2 connection, shared by the files that make the codec: h2.c (lifetime, turns, what owners
 * call), h2_recv.c (input), h2_send.c (what leaves) and h2_time.c (deadlines, PING, drain). Nobody else includes it. */
#ifndef WEFT_LIB_HTTP_H2_SESSION_H
#define WEFT_LIB_HTTP_H2_SESSION_H

#include "lib/http/codec_base.h"
#include "lib/http/h2_guard.h"
#include "lib/http/h2_head.h"
#include "lib/http/h2_ids.h"
#include "lib/http/h2_mem.h"
#include "lib/http/h2_track.h"
#include "lib/http/h2_window.h"
#include "lib/turns.h"

#define H2_SESSION_MAGIC   0x68327365u
#define H2_STREAM_MAGIC    0x68327374u

#define H2_CONN_WINDOW     (1 << 20)   /* credit returns on receipt: a stalled stream holds none of it */
#define H2_STREAM_MARK     (64u << 10) /* bytes queued for one stream */
#define H2_STREAM_MARK_LOW (16u << 10) /* the same while the connection holds more than H2_QUEUE_MARK in all */
#define H2_QUEUE_MARK      (512u << 10)
#define H2_SHARE           4 /* requests that a connection begins before others have a turn, where the limits say nothing else */
/* Points of turns.h. A request: 1, of a stranger H2_STRANGE_COST, and 1 for each further H2_UNPACKED_COST bytes of head. */
#define H2_STRANGE_COST    8
#define H2_STRANGE_SHARE   2 /* requests, as above */
#define H2_UNPACKED_COST   4096
#define H2_WINDOWS_COST    16 /* streams of which one setting moves the windows for a point, as it may */
#define H2_LOST_COST       4  /* a stream that ends with its connection */
#define H2_PING_MS         20000
#define H2_PREFACE_MS      5000
#define H2_INFORMATIONAL   32 /* 1xx answers of one exchange */

enum h2_drain { H2_DRAIN_NONE, H2_DRAIN_NOTICE, H2_DRAIN_LAST };

/* One exchange. Lives until its owner has let go of it *and* nghttp2 has closed its stream: what was sent before close()
 * still has to leave. Memory is freed at the end of a turn. */
struct h2_stream {
	struct http_stream base;
	uint32_t magic;
	int32_t id;       /* 0: client role, head not submitted yet */
	struct list node; /* h2_session.streams, or .dead */
	struct list due;  /* h2_session.due while a callback is owed */
	struct h2_head in;
	struct h2_window win;
	struct buf out;        /* body to be sent */
	struct h2_nv_copy *tr; /* trailers to be sent after it */
	struct http_reset why; /* with reset_due */
	uint64_t progress_ms;
	uint64_t tx_at;     /* offset of the connection's output at which the head began */
	uint32_t peer_code; /* with peer_reset */
	uint8_t informational;
	enum h2_asked asked;
	bool attached;    /* the owner has it */
	bool open;        /* nghttp2 has it (from submit or HEADERS to on_stream_close) */
	bool head_in;     /* final head received */
	bool in_ended;    /* END_STREAM received and reported */
	bool head_queued; /* final head submitted */
	bool head_left;   /* HEADERS handed to the connection */
	bool out_ended;   /* send_end() */
	bool deferred;    /* nghttp2 waits for resume */
	bool room_low;    /* on_room is wanted */
	bool reset_due, room_due;
	bool over;       /* on_reset told, or will never be: no callback any more */
	bool ours;       /* RST_STREAM by our own decision: not the peer's fault */
	bool peer_reset; /* RST_STREAM came */
	bool out_left;   /* END_STREAM handed to the connection */
	bool end_reset;  /* RST_STREAM(NO_ERROR) once our END_STREAM has left */
	bool refused;    /* answered or reset because of its head: in.bad */
	bool plain; /* client: an upgrade that the peer does not take was left out of the request, which has ended */
};

struct h2_session {
	struct http_session base;
	uint32_t magic;
	struct conn *conn;
	struct loop *loop;
	nghttp2_session *ng;
	struct h2_mem mem; /* of ng */
	struct http_limits lim;
	enum http_role role;
	/* Whose fields nghttp2 reports; NULL: nobody's, or its stream has closed. */
	struct h2_stream *head_of;
	struct h2_stream
	    *last; /* that nghttp2 was asked for: it reports several things of one in a row; NULL: none that is open */
	struct list streams, due, dead;
	uint32_t n_streams; /* in .streams */
	size_t queued;      /* bytes in all streams' out */
	unsigned busy;      /* callbacks may be running: nothing is freed */
	struct task turn;
	struct taker taker; /* server: input that waits because others have a turn (turns.h) */
	struct h2_guard guard;
	struct timer timer;
	uint64_t timer_at; /* ms */
	/* deadlines in ms of the loop's clock, 0: none */
	uint64_t preface_at, head_at, ping_at, idle_at, age_at, drain_at, scan_at;
	uint64_t owed_at;   /* client: the first request since something was heard; 0: none */
	uint64_t doubt_at;  /* client: the peer was asked, and is silent from then on */
	uint64_t rest_at;   /* client: it has given up so much that it opens nothing until then */
	uint32_t head_cost; /* points that a request costs */
	uint32_t unpacked,
	    unpacked_free;  /* bytes of heads since the last look, and of them what their requests pay for */
	uint32_t head_unit; /* what head_at waits for: h2_track.units */
	uint64_t last_rx_ms;
	uint64_t ping_tx; /* conn_tx_bytes() when the PING will have left, later at the last look */
	uint64_t settings_us, rtt_us;
	enum h2_drain drain;
	enum http_peer peer; /* client */
	enum reason why;     /* the end that is coming */
	struct err err;
	struct h2_track track;
	struct h2_ids ids; /* server */
	bool ready;        /* the peer's SETTINGS came */
	bool closed;       /* session_close() */
	bool finished;     /* on_closed told */
	bool draining;     /* no new streams (client), or GOAWAY on its way (server) */
	bool drain_told;
	bool goaway_in;
	bool idle_told, room_was_zero;
};

/* h2.c */
void h2_enter(struct h2_session *s); /* callbacks may run from here on: nothing is freed */
void h2_leave(struct h2_session *s); /* frees what was to go; `s` itself, when it was closed meanwhile */
void h2_kick(struct h2_session *s);  /* output and owed callbacks at the end of this turn */
struct h2_stream *h2_stream_new(struct h2_session *s, int32_t id);
struct h2_stream *h2_stream_find(struct h2_session *s, int32_t id); /* asks nghttp2; NULL: it has none of that id */
void h2_stream_lost(struct h2_stream *st, enum reason why, bool unprocessed); /* owes on_reset */
void h2_stream_settle(struct h2_stream *st);                                  /* frees it if nobody has it any more */
void h2_stream_rst(struct h2_stream *st, uint32_t code);
/* The connection ends: GOAWAY with the reason's code goes out, then on_closed. */
void h2_fail(struct h2_session *s, enum reason why, enum err_code code, const char *text);
/* The end: every open stream is told, then the owner of the session. Nothing is read or sent any more. */
void h2_finish(struct h2_session *s);
void h2_drain_told(struct h2_session *s);
bool h2_tx_blocked(const struct h2_session *s);
void h2_room_check(struct h2_stream *st);                   /* after bytes of out have left */
static inline bool h2_listening(const struct h2_stream *st) /* its owner may still be told things */
{
	return st->attached && !st->over && !st->reset_due && !st->refused;
}
static inline struct h2_session *h2_session_of(const struct h2_stream *st)
{
	return (struct h2_session *)st->base.session;
}
static inline struct h2_stream *h2_stream_at(struct h2_session *s, int32_t id)
{
	return s->last && s->last->id == id ? s->last : h2_stream_find(s, id);
}
static inline uint64_t h2_now(const struct h2_session *s)
{
	return loop_now_ms(s->loop);
}

/* h2_recv.c */
extern const struct conn_events h2_conn_events; /* ctx: the session */
void h2_recv_init(struct h2_session *s);        /* guard and limits are set */
void h2_odd(struct h2_session *s, enum h2_odd what);
void h2_flood(struct h2_session *s, enum reason why); /* client: REASON_UPSTREAM_FLOOD instead */
void h2_recv_callbacks(nghttp2_session_callbacks *cbs);

/* h2_send.c */
struct h2_nv_copy {
	size_t n;
	nghttp2_nv v[]; /* texts behind it, in the same allocation */
};
struct h2_nv_copy *h2_nv_copy(const struct fields *f); /* NULL: nothing to send */
void h2_send_callbacks(nghttp2_session_callbacks *cbs);
ssize_t h2_read_body(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t room, uint32_t *flags,
		     nghttp2_data_source *src, void *ctx);
void h2_send_head(struct http_stream *base, const struct message *m, bool end);

/* h2_time.c */
void h2_time_start(struct h2_session *s);
void h2_time_stop(struct h2_session *s);
void h2_time_arm(struct h2_session *s); /* after a deadline was set or a stream opened */
void h2_time_ping_ack(struct h2_session *s, const uint8_t *opaque);
void h2_time_drain(struct h2_session *s);
void h2_time_sent(struct h2_session *s);  /* client: a request */
void h2_time_heard(struct h2_session *s); /* something came */
enum http_peer h2_time_peer(struct h2_session *s);

#endif
