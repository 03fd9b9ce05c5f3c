/* SPDX-License-Identifier: Apache-2.0 */
/* h1.c: HTTP/1.0 and HTTP/1.1 on one connection (RFC 9112): the session. It owns the connection, its timer and which exchange is
 * open; reading is in h1_recv.c, writing in h1_send.c, the grammar in parse_*.c and write.c.
 *
 * One exchange at a time. What could leave a peer in doubt where a message ends closes the connection: a body that nobody read,
 * a request that was answered before it was complete, bytes that nobody asked for. Everything that calls the owner runs
 * from the connection's events, the timer, or h1_work() at the end of a turn. */
#include "lib/http/h1_impl.h"

#include "lib/mem.h"

#include <stdlib.h>

#define LOOKS 8 /* of the timer, before a wait is over */

/* Many are idle at once; the exchange is apart. */
_Static_assert(sizeof(struct h1) <= 512, "struct h1 stays within 512 bytes");
_Static_assert(sizeof(struct h1_stream) <= 1024, "struct h1_stream stays within 1 KiB");

static struct h1 *session_of(struct http_session *base)
{
	struct h1 *s = (struct h1 *)base;
	MUST_BE(s, H1_MAGIC);
	return s;
}

static struct h1_stream *stream_of(struct http_stream *base)
{
	struct h1_stream *st = (struct h1_stream *)base;
	MUST_BE(st, H1_STREAM_MAGIC);
	return st;
}

/* --- streams --- */

struct h1_stream *h1_stream_new(struct h1 *s)
{
	struct h1_stream *st = NEW(struct h1_stream);
	MUST(!s->st);
	st->magic = H1_STREAM_MAGIC;
	st->base.ops = &codec_h1;
	st->base.session = &s->base;
	st->loop = s->loop;
	st->tx_start = conn_tx_bytes(s->conn);
	buf_init(&st->held, H1_TX_ROOM);
	s->st = st;
	h1_progress(s);
	h1_wake(s);
	return st;
}

static void stream_gone(void *p)
{
	struct h1_stream *st = p;
	http1_head_done(&st->head);
	http1_body_done(&st->body);
	buf_done(&st->held);
	st->magic = 0;
	mem_free(st);
}

void h1_stream_free(struct h1_stream *st)
{
	loop_defer_free(st->loop, st, stream_gone);
}

static bool is_over(const struct h1_stream *st)
{
	return st->lost || (st->rx == RX_DONE && (st->tx == TX_DONE || st->tx == TX_DROP));
}

/* --- ends --- */

void h1_wake(struct h1 *s)
{
	if (!s->dead)
		loop_at_turn_end(s->loop, &s->work);
}

static void cut_conn(struct h1 *s, enum h1_cut cut)
{
	switch (cut) {
	case CUT_FLUSH:
		conn_close_flushed(&s->conn);
		break;
	case CUT_NOW:
		conn_close(&s->conn);
		break;
	case CUT_RESET:
		conn_reset(&s->conn);
		break;
	}
}

void h1_finish(struct h1 *s, enum reason why, enum h1_cut cut, const struct err *err)
{
	if (s->over)
		return;
	s->over = true;
	s->why = why;
	s->err = err ? mem_dup(err, sizeof(*err)) : NULL;
	timer_stop(&s->timer);
	cut_conn(s, cut);
	h1_wake(s);
}

void h1_lose(struct h1 *s, struct h1_stream *st, enum reason why, enum h1_cut cut, const struct err *err)
{
	bool client = s->role == HTTP_CLIENT;
	struct http_reset reset = {
	    .reason = why,
	    .unprocessed = client && conn_tx_bytes(s->conn) == st->tx_start,
	    .before_response = client ? !st->got_byte : !st->sent_head,
	};
	st->lost = true;
	st->rx = RX_DONE;
	st->tx = TX_DONE;
	h1_finish(s, why, cut, err);
	if (st->base.ev->on_reset)
		st->base.ev->on_reset(st->base.ctx, &reset);
}

void h1_refuse(struct h1 *s, struct h1_stream *st, enum reason why)
{
	enum h1_cut cut = h1_send_cut(st);
	if (!st->sent_head && reason_row(why)->http_status) {
		bool head = st->head.msg && str_is(st->head.msg->method, "HEAD");
		h1_send_answer(s, why, !head);
		cut = CUT_FLUSH;
	}
	h1_lose(s, st, why, cut, NULL);
}

/* --- time --- */

void h1_progress(struct h1 *s)
{
	s->progress_ms = loop_now_ms(s->loop);
}

static bool in_request_head(const struct h1 *s)
{
	return s->role == HTTP_SERVER && s->st && s->st->rx == RX_HEAD;
}

/* How long without progress; 0: for ever. */
static uint64_t patience(const struct h1 *s)
{
	if (!s->st)
		return s->lim.idle_timeout_ms;
	bool owed = s->role == HTTP_SERVER && s->st->rx == RX_DONE && !s->st->sent_head;
	return s->lim.stream_idle_ms + (owed ? http_answer_slack_ms(s->lim.stream_idle_ms) : 0);
}

/* When to look next; UINT64_MAX: never. */
static uint64_t deadline(const struct h1 *s)
{
	uint64_t at = UINT64_MAX, wait = patience(s);
	if (in_request_head(s) && s->lim.head_timeout_ms)
		at = s->head_since_ms + s->lim.head_timeout_ms;
	else if (wait)
		at = s->progress_ms + wait;
	return s->age_end_ms && !s->draining ? MIN(at, s->age_end_ms) : at;
}

/* Only ever starts it earlier than it runs: a deadline that moved away is seen when the timer looks. It looks several times before that, since when what
 * was written has left is not told: it would otherwise seem to have left only now. */
void h1_arm(struct h1 *s)
{
	uint64_t now = loop_now_ms(s->loop), at = deadline(s), wait = patience(s);
	if (s->dead || s->over || at == UINT64_MAX)
		return;
	if (wait)
		at = MIN(at, now + MAX(wait / LOOKS, (uint64_t)1));
	if (!timer_running(&s->timer) || at < s->timer_ms) {
		s->timer_ms = at;
		timer_start(&s->timer, at > now ? at - now : 0);
	}
}

static void drain(struct http_session *base);

static void time_out(struct h1 *s)
{
	struct h1_stream *st = s->st;
	if (!st)
		h1_finish(s, REASON_IDLE, CUT_FLUSH, NULL);
	else if (in_request_head(s))
		h1_refuse(s, st, REASON_HEAD_TIMEOUT);
	else if (s->role == HTTP_SERVER)
		h1_lose(s, st, REASON_IDLE, h1_send_cut(st), NULL);
	else
		h1_lose(s, st, REASON_TIMEOUT, CUT_NOW, NULL);
}

static void on_timer(struct timer *t)
{
	struct h1 *s = CONTAINER_OF(t, struct h1, timer);
	MUST_BE(s, H1_MAGIC);
	uint64_t now = loop_now_ms(s->loop);
	if (conn_tx_bytes(s->conn) != s->tx_seen) { /* the peer reads, slowly */
		s->tx_seen = conn_tx_bytes(s->conn);
		s->progress_ms = now;
	}
	if (s->age_end_ms && now >= s->age_end_ms && !s->draining) {
		s->age_end_ms = 0;
		s->aged = s->role == HTTP_SERVER && !s->st;
		if (!s->aged) {
			s->draining_due = true;
			drain(&s->base);
		}
	}
	if (!s->over && now >= deadline(s))
		time_out(s);
	h1_arm(s);
}

/* --- the end of a turn: what the owner is to hear that did not come from the connection --- */

void h1_drain_said(struct h1 *s)
{
	if (!s->draining_said)
		s->draining_due = true;
	h1_wake(s);
}

static uint32_t room(const struct http_session *base)
{
	const struct h1 *s = (const struct h1 *)base;
	bool usable = s->role == HTTP_CLIENT && !s->st && !s->dead && !s->over && !s->draining && !s->no_reuse;
	return usable && conn_is_open(s->conn) && !conn_rx_eof(s->conn) && conn_rx(s->conn)->len == 0 ? 1 : 0;
}

static void work_stream(struct h1 *s, struct h1_stream *st)
{
	if (st->fail != REASON_NONE && !st->lost && !s->over) {
		enum reason why = st->fail;
		if (s->role == HTTP_SERVER)
			h1_refuse(s, st, why);
		else
			h1_lose(s, st, why, CUT_NOW, NULL);
		return;
	}
	if (st->room_due && !st->lost) {
		st->room_due = false;
		if (st->base.ev->on_room)
			st->base.ev->on_room(st->base.ctx);
	}
}

static void say_draining(struct h1 *s)
{
	if (!s->draining_due || s->draining_said)
		return;
	s->draining_said = true;
	if (s->base.ev->on_draining)
		s->base.ev->on_draining(s->base.ctx);
}

static void say_busy(struct h1 *s)
{
	if (s->busy_said == (s->st != NULL))
		return;
	s->busy_said = s->st != NULL;
	if (s->base.ev->on_idle)
		s->base.ev->on_idle(s->base.ctx, !s->busy_said);
}

static void say_ready(struct h1 *s)
{
	if (s->ready_said || !room(&s->base))
		return;
	s->ready_said = true;
	if (s->base.ev->on_ready)
		s->base.ev->on_ready(s->base.ctx);
}

/* An exchange whose answer is whole outlives its connection until its owner has sent the rest to nowhere. */
static void say_closed(struct h1 *s)
{
	if (!s->over || s->closed_said || (s->st && !is_over(s->st)))
		return;
	s->closed_said = true;
	if (s->base.ev->on_closed)
		s->base.ev->on_closed(s->base.ctx, s->why, s->err);
}

static void h1_work(struct task *t)
{
	struct h1 *s = CONTAINER_OF(t, struct h1, work);
	MUST_BE(s, H1_MAGIC);
	if (s->st)
		work_stream(s, s->st);
	if (!s->dead && !s->over && conn_is_open(s->conn))
		h1_read(s);
	if (!s->dead && !s->over && s->draining && !s->st && conn_rx(s->conn)->len == 0)
		h1_finish(s, REASON_NONE, CUT_FLUSH, NULL);
	void (*const say[])(struct h1 *) = {say_busy, say_draining, say_ready, say_closed};
	for (size_t i = 0; i < ARRAY_LEN(say) && !s->dead; i++)
		say[i](s);
	if (!s->dead)
		h1_arm(s);
}

/* --- the connection's events --- */

static void on_open(void *ctx)
{
	h1_wake(ctx);
}

static void on_rx(void *ctx)
{
	struct h1 *s = ctx;
	MUST_BE(s, H1_MAGIC);
	h1_read(s);
	h1_wake(s);
}

static void on_tx_room(void *ctx)
{
	struct h1 *s = ctx;
	struct h1_stream *st = s->st;
	MUST_BE(s, H1_MAGIC);
	h1_progress(s);
	bool sending = st && !st->lost && (st->tx == TX_LENGTH || st->tx == TX_CHUNKED || st->tx == TX_CLOSE);
	if (sending && st->base.ev->on_room) /* the connection also tells that its end has left */
		st->base.ev->on_room(st->base.ctx);
}

static void on_fail(void *ctx, const struct err *err)
{
	struct h1 *s = ctx;
	MUST_BE(s, H1_MAGIC);
	struct h1_stream *st = s->st;
	enum reason why = s->role == HTTP_SERVER ? REASON_CLIENT_GONE : REASON_UPSTREAM_RESET;
	if (!st || is_over(st)) {
		h1_finish(s, why, CUT_NOW, err);
	} else if (s->role == HTTP_CLIENT && st->rx == RX_DONE && !st->tunnel) {
		st->tx = TX_DROP;
		st->room_due = true;
		h1_finish(s, why, CUT_NOW, err);
	} else {
		h1_lose(s, st, why, CUT_NOW, err);
	}
}

static const struct conn_events conn_events = {
    .on_open = on_open,
    .on_rx = on_rx,
    .on_tx_room = on_tx_room,
    .on_fail = on_fail,
};

/* --- the codec's operations --- */

static struct http_session *session_new(struct conn *c, enum http_role role, const struct http_limits *lim,
					const struct http_session_events *ev, void *ctx)
{
	struct h1 *s = NEW(struct h1);
	MUST(c != NULL && lim != NULL && ev != NULL && lim->window > 0);
	s->base = (struct http_session){.ops = &codec_h1, .ev = ev, .ctx = ctx};
	s->magic = H1_MAGIC;
	s->role = role;
	s->lim = *lim;
	s->conn = c;
	s->loop = conn_loop(c);
	task_init(&s->work, h1_work);
	timer_init(&s->timer, s->loop, on_timer);
	h1_progress(s);
	if (lim->age_max_ms) { /* ± 10 %, so that connections of one moment do not end in one moment */
		uint64_t tenth = lim->age_max_ms / 10;
		s->age_end_ms = s->progress_ms + lim->age_max_ms - tenth + (uint64_t)random() % (2 * tenth + 1);
	}
	conn_set_marks(c, H1_RX_MARK, H1_TX_MARK);
	conn_set_events(c, &conn_events, s);
	h1_wake(s);
	return &s->base;
}

static struct http_stream *open_stream(struct http_session *base, const struct http_stream_events *ev, void *ctx,
				       struct arena *arena)
{
	struct h1 *s = session_of(base);
	MUST(room(base) > 0 && ev != NULL && arena != NULL);
	struct h1_stream *st = h1_stream_new(s);
	st->base.ev = ev;
	st->base.ctx = ctx;
	st->base.arena = arena;
	s->ready_said = false;
	return &st->base;
}

static void consumed(struct http_stream *base, size_t n)
{
	struct h1_stream *st = stream_of(base);
	struct h1 *s = h1_of(st);
	MUST(n <= st->unconsumed);
	bool stopped = s && st->unconsumed >= s->lim.window;
	st->unconsumed -= n;
	if (stopped && st->unconsumed < s->lim.window)
		h1_wake(s);
}

/* The stream leaves the session. */
static void detach(struct h1 *s, struct h1_stream *st)
{
	if (s && s->st == st) {
		s->st = NULL;
		h1_progress(s);
		h1_wake(s);
	}
	st->base.session = NULL;
	st->lost = true;
	h1_stream_free(st);
}

static void close_stream(struct http_stream *base)
{
	struct h1_stream *st = stream_of(base);
	struct h1 *s = h1_of(st);
	if (s && !s->dead && !s->over) {
		/* an upgrade that was just declined, or a request without a body that was answered from within on_head: it
		 * has ended, though the owner has not heard so yet */
		bool declined = st->rx == RX_BODY && st->body.framing == FRAMING_NONE;
		bool whole = (st->rx == RX_DONE || declined) && (st->tx == TX_DONE || st->tx == TX_DROP);
		bool keep = s->role == HTTP_SERVER ? st->keep : !s->no_reuse;
		if (!whole)
			h1_finish(s, REASON_NONE, h1_send_cut(st), NULL);
		else if (!keep)
			h1_finish(s, REASON_NONE, CUT_FLUSH, NULL);
	}
	detach(s, st);
}

/* A server that has answered in full ends in order though the request was not read; all else is cut, and a tunnel so that it shows. */
static void reset_stream(struct http_stream *base, enum reason reason, bool unprocessed)
{
	struct h1_stream *st = stream_of(base);
	struct h1 *s = h1_of(st);
	if (s && !s->dead && !s->over)
		h1_finish(s, reason, s->role == HTTP_SERVER ? h1_send_cut(st) : st->tunnel ? CUT_RESET : CUT_NOW, NULL);
	detach(s, st);
}

static void reset_stream_as(struct http_stream *base, uint32_t code)
{
	(void)code;
	reset_stream(base, REASON_UPSTREAM_RESET, false);
}

static void drain(struct http_session *base)
{
	struct h1 *s = session_of(base);
	s->draining = true;
	h1_wake(s);
}

static void last(struct http_session *base)
{
	session_of(base)->last = true;
}

static void session_gone(void *p)
{
	struct h1 *s = p;
	mem_free(s->err);
	s->magic = 0;
	mem_free(s);
}

static void session_close(struct http_session **base)
{
	if (!*base)
		return;
	struct h1 *s = session_of(*base);
	*base = NULL;
	if (!s->over)
		cut_conn(s, s->st ? h1_send_cut(s->st) : CUT_FLUSH);
	s->dead = s->over = true;
	if (s->st) {
		s->st->lost = true;
		s->st->base.session = NULL;
		s->st = NULL;
	}
	task_cancel(&s->work);
	timer_stop(&s->timer);
	loop_defer_free(s->loop, s, session_gone);
}

static size_t held(const struct http_session *base)
{
	const struct h1 *s = (const struct h1 *)base;
	return s->conn != NULL ? conn_held(s->conn) : 0;
}

static uint32_t open_streams(const struct http_session *base)
{
	return ((const struct h1 *)base)->st ? 1 : 0;
}

static struct conn *session_conn(const struct http_session *base)
{
	return ((const struct h1 *)base)->conn;
}

const struct codec_ops codec_h1 = {
    .name = "http/1.1",
    .session_new = session_new,
    .room = room,
    .open = open_stream,
    .send_head = h1_send_head,
    .send_room = h1_send_room,
    .send_body = h1_send_body,
    .send_end = h1_send_end,
    .consumed = consumed,
    .reset = reset_stream,
    .reset_as = reset_stream_as,
    .close = close_stream,
    .drain = drain,
    .last = last,
    .session_close = session_close,
    .held = held,
    .open_streams = open_streams,
    .conn = session_conn,
};
