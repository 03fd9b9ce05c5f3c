/* SPDX-License-Identifier: Apache-2.0 */
/* h1_recv.c: from the connection's bytes to the events of a stream, in both roles. Runs from the loop only. Each callback may
 * close the stream or the session: h1_alive() is asked after each. */
#include "lib/http/h1_impl.h"

/* --- a request begins --- */

/* RFC 9112 2.2: one empty line between two requests is skipped, so that it does not begin one. */
static bool skip_blank(struct h1 *s, struct buf *rx)
{
	if (s->blank || rx->len < 2)
		return rx->len > 0 && (rx->len > 1 || buf_peek(rx).p[0] != '\r');
	if (memcmp(buf_pullup(rx, 2).p, "\r\n", 2) == 0) {
		buf_drain(rx, 2);
		s->blank = true;
	}
	return rx->len > 0;
}

static void turn_away(struct h1 *s)
{
	h1_send_answer(s, REASON_OVERLOAD, true);
	h1_finish(s, REASON_OVERLOAD, CUT_FLUSH, NULL);
}

/* Bytes came while no exchange is open. True: go on reading. */
static bool begin(struct h1 *s)
{
	struct buf *rx = conn_rx(s->conn);
	if (rx->len == 0)
		return false;
	if (s->role == HTTP_CLIENT) {
		h1_finish(s, REASON_PEER_PROTOCOL, CUT_NOW, NULL);
		return false;
	}
	if (!skip_blank(s, rx))
		return false;
	struct h1_stream *st = h1_stream_new(s);
	st->rx = RX_HEAD;
	s->draining |= s->aged;
	s->head_since_ms = loop_now_ms(s->loop);
	if (!s->base.ev->on_stream(s->base.ctx, &st->base, &st->base.ev, &st->base.ctx, &st->base.arena)) {
		if (s->st == st)
			s->st = NULL;
		h1_stream_free(st);
		if (!s->dead)
			turn_away(s);
		return false;
	}
	if (!h1_alive(s, st))
		return !s->dead && !s->over;
	http1_head_init(&st->head, st->base.arena, &s->lim, true, NULL);
	st->head.blank = s->blank;
	s->blank = false;
	h1_arm(s);
	return true;
}

/* --- heads --- */

static void body_begin(struct h1_stream *st, struct message *m)
{
	struct h1 *s = h1_of(st);
	http1_body_init(&st->body, m, &s->lim);
	st->rx = s->role == HTTP_SERVER && m->framing == FRAMING_TUNNEL ? RX_HOLD : RX_BODY;
}

static void request_head(struct h1 *s, struct h1_stream *st)
{
	struct message *m = st->head.msg;
	st->connect = str_is(m->method, "CONNECT");
	st->upgrade = m->protocol.len > 0;
	if (!m->absolute_form && conn_ssl(s->conn))
		m->scheme = STR("https");
	if (m->close)
		h1_drain_said(s);
	body_begin(st, m);
}

static void response_head(struct h1 *s, struct h1_stream *st)
{
	struct message *m = st->head.msg;
	bool tunnel = m->framing == FRAMING_TUNNEL;
	st->got_head = true;
	st->tunnel = tunnel;
	bool asked_all = st->tx == TX_DONE || st->tx == TX_HOLD || (st->tx == TX_LENGTH && st->tx_left == 0);
	/* an answer before the question was complete: what the peer makes of the rest is not known */
	if (tunnel || !asked_all)
		s->no_reuse = true;
	if (m->close) {
		s->no_reuse = true;
		h1_drain_said(s);
	}
	if (st->tx == TX_HOLD)
		h1_send_tunnel(st, tunnel);
	body_begin(st, m);
}

static bool is_interim(const struct message *m)
{
	return !m->request && m->status < 200 && m->status != 101;
}

static void bad_head(struct h1 *s, struct h1_stream *st, enum reason why)
{
	if (s->role == HTTP_SERVER)
		h1_refuse(s, st, why);
	else
		h1_lose(s, st, why, CUT_NOW, NULL);
}

static bool head_done(struct h1 *s, struct h1_stream *st)
{
	struct message *m = st->head.msg;
	http1_head_done(&st->head);
	if (is_interim(m)) {
		if (++st->interim > H1_INTERIM_MAX) {
			bad_head(s, st, REASON_UPSTREAM_PROTOCOL);
			return false;
		}
		struct http1_asked asked = st->head.asked;
		http1_head_init(&st->head, st->base.arena, &s->lim, false, &asked);
	} else if (s->role == HTTP_SERVER)
		request_head(s, st);
	else
		response_head(s, st);
	h1_arm(s);
	if (st->base.ev->on_head)
		st->base.ev->on_head(st->base.ctx, m);
	return !s->dead && !s->over;
}

static bool read_head(struct h1 *s, struct h1_stream *st, struct buf *rx)
{
	size_t used;
	if (rx->len == 0)
		return false;
	st->got_byte = true;
	enum http1_step step = http1_head_feed(&st->head, buf_peek(rx), &used);
	buf_drain(rx, used);
	if (step == HTTP1_MORE)
		return true;
	if (step == HTTP1_DONE)
		return head_done(s, st);
	bad_head(s, st, st->head.why);
	return false;
}

/* --- bodies --- */

static void end_message(struct h1 *s, struct h1_stream *st)
{
	struct fields *trailers = &st->body.trailers;
	st->rx = RX_DONE;
	http1_body_done(&st->body);
	h1_progress(s);
	if (trailers->len && st->base.ev->on_trailers) {
		st->base.ev->on_trailers(st->base.ctx, trailers, st->base.arena);
		if (!h1_alive(s, st))
			return;
	}
	if (st->base.ev->on_end)
		st->base.ev->on_end(st->base.ctx);
}

static void bad_body(struct h1 *s, struct h1_stream *st)
{
	if (s->role == HTTP_SERVER)
		h1_refuse(s, st, st->body.why);
	else
		h1_lose(s, st, st->body.why, CUT_NOW, NULL);
}

static bool read_body(struct h1 *s, struct h1_stream *st, struct buf *rx)
{
	size_t used;
	struct str data;
	if (st->unconsumed >= s->lim.window)
		return false; /* the connection stops reading by itself once rx is at its mark */
	struct str in = buf_peek(rx);
	enum http1_step step = http1_body_feed(&st->body, in, &used, &data);
	if (data.len) {
		st->unconsumed += data.len;
		h1_progress(s);
		if (st->base.ev->on_body)
			st->base.ev->on_body(st->base.ctx, data);
		if (!h1_alive(s, st))
			return !s->dead && !s->over;
	}
	buf_drain(rx, used);
	if (step == HTTP1_MORE)
		return rx->len > 0;
	if (step == HTTP1_DONE)
		end_message(s, st);
	else
		bad_body(s, st);
	return !s->dead && !s->over;
}

void h1_tunnel_known(struct h1_stream *st, bool tunnel)
{
	MUST(st->rx == RX_HOLD);
	st->tunnel = tunnel;
	st->body.framing = tunnel ? FRAMING_TUNNEL : FRAMING_NONE;
	st->rx = RX_BODY;
	h1_wake(h1_of(st));
}

/* --- the whole --- */

/* True: something was done and more may be possible. */
static bool read_stream(struct h1 *s, struct h1_stream *st)
{
	struct buf *rx = conn_rx(s->conn);
	switch (st->rx) {
	case RX_WAIT:
		if (rx->len)
			h1_lose(s, st, REASON_PEER_PROTOCOL, CUT_NOW, NULL);
		return false;
	case RX_HEAD:
		return read_head(s, st, rx);
	case RX_BODY:
		return read_body(s, st, rx);
	case RX_HOLD:
	case RX_DONE:
		break;
	}
	return false;
}

/* The peer ended, and all that came before was read as far as the stream takes it. */
static void read_eof(struct h1 *s)
{
	struct h1_stream *st = s->st;
	bool server = s->role == HTTP_SERVER;
	if (!st) {
		h1_finish(s, REASON_NONE, CUT_FLUSH, NULL);
		return;
	}
	switch (st->rx) {
	case RX_WAIT:
	case RX_HEAD:
		h1_lose(s, st, server ? REASON_CLIENT_GONE : REASON_UPSTREAM_RESET, CUT_NOW, NULL);
		break;
	case RX_BODY:
		if (conn_rx(s->conn)->len)
			break; /* the owner has to consume first */
		if (st->body.framing == FRAMING_CLOSE || st->body.framing == FRAMING_TUNNEL)
			end_message(s, st);
		else
			h1_lose(s, st, server ? REASON_CLIENT_GONE : REASON_UPSTREAM_RESET, CUT_NOW, NULL);
		break;
	case RX_HOLD:
		break;
	case RX_DONE:
		/* A client may end its side and wait for the answer. A server that ended after its answer reads no more. */
		s->no_reuse = true;
		if (!server && st->tx != TX_DONE && !st->tunnel && st->tx != TX_DROP) {
			st->tx = TX_DROP;
			st->room_due = true;
			h1_wake(s);
		}
		break;
	}
}

void h1_read(struct h1 *s)
{
	bool more = true;
	while (more && !s->dead && !s->over)
		more = s->st ? read_stream(s, s->st) : begin(s);
	if (!s->dead && !s->over && conn_rx_eof(s->conn))
		read_eof(s);
}
