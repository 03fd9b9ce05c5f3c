/* SPDX-License-Identifier: Apache-2.0 */
/* h1_send.c: from neutral messages and body bytes to the connection, in both roles, and what that decides about the connection's
 * future. No callback is made here: what the owner must hear is marked and told at the end of the turn. */
#include "lib/http/h1_impl.h"
#include "lib/http/write.h"

/* --- ends --- */

static void flush(struct h1 *s)
{
	h1_progress(s);
	conn_flush(s->conn);
}

static void sent_all(struct h1_stream *st)
{
	struct h1 *s = h1_of(st);
	bool fin = st->tunnel || st->tx == TX_CLOSE || (s->role == HTTP_SERVER && !st->keep);
	st->tx = TX_DONE;
	if (fin)
		conn_end_tx(s->conn);
}

/* The owner is told at the end of the turn. */
static void fail(struct h1_stream *st, enum reason why)
{
	st->fail = why;
	st->tx = st->sent_head ? TX_DROP : st->tx;
	h1_wake(h1_of(st));
}

/* A head has been written; its body, if any, goes by `tx`. */
static void sent_head(struct h1_stream *st, enum h1_tx tx, bool end)
{
	st->tx = tx;
	flush(h1_of(st));
	if (end && tx == TX_CHUNKED)
		http1_write_last_chunk(conn_tx(h1_of(st)->conn), NULL);
	if (end)
		sent_all(st);
}

/* --- responses --- */

/* 200 is what the tunnel of an upgrade is called in HTTP/2 (RFC 8441). */
static bool is_tunnel(const struct h1_stream *st, const struct message *m)
{
	if (m->status == 101)
		return true;
	return m->status / 100 == 2 && (st->connect || (st->upgrade && m->framing == FRAMING_TUNNEL));
}

static void send_interim(struct h1_stream *st, const struct message *m)
{
	struct h1 *s = h1_of(st);
	struct http1_plan plan = {0};
	if (st->head.msg->version == HTTP_1_0)
		return; /* RFC 9110 15.2: HTTP/1.0 knows none */
	if (!http1_write_head(conn_tx(s->conn), m, &plan)) {
		fail(st, REASON_UPSTREAM_PROTOCOL);
		return;
	}
	st->sent_100 |= m->status == 100;
	flush(s);
}

static void send_tunnel_head(struct h1_stream *st, const struct message *m, bool end)
{
	struct h1 *s = h1_of(st);
	struct message copy = *m;
	struct http1_plan plan = {0};
	if (st->upgrade) {
		plan.upgrade = m->protocol.len ? m->protocol : st->head.msg->protocol;
		if (m->status != 101) {
			copy.status = 101;
			copy.reason = (struct str){0};
		}
	}
	if ((m->status == 101 && !st->upgrade) || !http1_write_head(conn_tx(s->conn), &copy, &plan)) {
		fail(st, REASON_UPSTREAM_PROTOCOL);
		return;
	}
	st->sent_head = true;
	st->keep = false;
	h1_tunnel_known(st, true);
	sent_head(st, TX_CLOSE, end);
}

/* How the body of a response goes, and whether the connection goes on behind it. */
static enum h1_tx plan_response(struct h1_stream *st, const struct message *m, bool end, struct http1_plan *plan)
{
	struct h1 *s = h1_of(st);
	const struct message *request = st->head.msg;
	bool head = str_is(request->method, "HEAD");
	bool none = head || !http_status_has_body(m->status);
	bool old = request->version == HTTP_1_0 || m->version == HTTP_1_0;
	bool until_close = old || (m->framing == FRAMING_CLOSE && m->close); /* as the application said it */
	enum h1_tx tx = TX_DROP;
	plan->http_1_0 = m->version == HTTP_1_0;
	plan->content_length = m->content_length;
	plan->length = m->has_length && (!none || head || m->status == 304);
	if (!none && m->has_length)
		tx = TX_LENGTH;
	else if (!none && end) {
		plan->length = true;
		plan->content_length = 0;
		tx = TX_LENGTH;
	} else if (!none) {
		plan->chunked = !until_close;
		tx = until_close ? TX_CLOSE : TX_CHUNKED;
	}
	/* a body that nobody will read to its end, or of which it is not known whether it comes */
	bool unread = st->rx == RX_BODY && (end || (request->expect_continue && !st->sent_100));
	/* what came early for a tunnel that was refused is nobody's request, whatever it looks like */
	st->keep =
	    !request->close && !m->close && !s->draining && !s->last && !unread && tx != TX_CLOSE && !st->connect;
	plan->close = !st->keep;
	plan->keep = st->keep && old;
	if (m->status == 426)
		plan->upgrade = m->protocol;
	return tx;
}

static void send_response(struct h1_stream *st, const struct message *m, bool end)
{
	struct h1 *s = h1_of(st);
	struct http1_plan plan = {0};
	if (m->status < 200 && m->status != 101) {
		send_interim(st, m);
		return;
	}
	if ((st->connect || st->upgrade) && is_tunnel(st, m)) {
		send_tunnel_head(st, m, end);
		return;
	}
	enum h1_tx tx = plan_response(st, m, end, &plan);
	bool short_by_rule = end && tx == TX_LENGTH && plan.content_length > 0;
	if (m->status == 101 || short_by_rule || !http1_write_head(conn_tx(s->conn), m, &plan)) {
		fail(st, REASON_UPSTREAM_PROTOCOL);
		return;
	}
	st->sent_head = true;
	st->tx_left = plan.content_length;
	if (st->rx == RX_HOLD)
		h1_tunnel_known(st, false);
	sent_head(st, tx, end);
}

void h1_send_answer(struct h1 *s, enum reason why, bool body)
{
	const struct reason_row *row = reason_row(why);
	if (row->http_status == 0)
		return;
	struct buf *tx = conn_tx(s->conn);
	buf_printf(tx, "HTTP/1.1 %u %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
		   row->http_status, http_reason_phrase(row->http_status), strlen(row->text) + 1);
	if (body)
		buf_printf(tx, "%s\n", row->text);
	conn_flush(s->conn);
}

/* --- requests --- */

/* Extended CONNECT of HTTP/2 is a GET with Upgrade here (RFC 8441). */
static struct message as_request(const struct message *m)
{
	struct message copy = *m;
	if (m->protocol.len && str_is(m->method, "CONNECT"))
		copy.method = STR("GET");
	return copy;
}

static enum h1_tx plan_request(struct h1_stream *st, const struct message *m, bool end, struct http1_plan *plan)
{
	enum h1_tx tx = TX_LENGTH;
	bool tunnel = st->connect || st->upgrade;
	plan->length = m->has_length && !tunnel;
	plan->content_length = m->content_length;
	plan->chunked = !tunnel && !m->has_length && !end;
	plan->http_1_0 = m->version == HTTP_1_0 && !plan->chunked && !st->upgrade;
	plan->close = m->close && !plan->http_1_0;
	plan->keep = !m->close && plan->http_1_0;
	if (st->upgrade)
		plan->upgrade = m->protocol;
	if (tunnel)
		tx = TX_HOLD;
	else if (plan->chunked)
		tx = TX_CHUNKED;
	return tx;
}

static void send_request(struct h1_stream *st, const struct message *m, bool end)
{
	struct h1 *s = h1_of(st);
	struct http1_plan plan = {0};
	struct message copy = as_request(m);
	st->upgrade = m->protocol.len > 0 && !m->has_length;
	st->connect = str_is(copy.method, "CONNECT");
	struct http1_asked asked = {.head = str_is(copy.method, "HEAD"), .connect = st->connect};
	if (st->upgrade)
		asked.upgrade = arena_str(st->base.arena, m->protocol);
	enum h1_tx tx = plan_request(st, &copy, end, &plan);
	bool short_by_rule = end && plan.length && plan.content_length > 0;
	if (short_by_rule || !http1_write_head(conn_tx(s->conn), &copy, &plan)) {
		fail(st, REASON_INTERNAL);
		return;
	}
	st->sent_head = true;
	st->tx_left = plan.length ? plan.content_length : 0;
	s->no_reuse |= copy.close;
	http1_head_init(&st->head, st->base.arena, &s->lim, false, &asked);
	st->rx = RX_HEAD;
	if (tx == TX_HOLD) {
		st->held_end = end;
		end = false;
	}
	sent_head(st, tx, end);
}

void h1_send_tunnel(struct h1_stream *st, bool tunnel)
{
	struct h1 *s = h1_of(st);
	st->tx = tunnel ? TX_CLOSE : st->held_end ? TX_DONE : TX_DROP;
	st->room_due = true;
	h1_wake(s);
	if (!tunnel) {
		buf_done(&st->held);
		return;
	}
	buf_move(conn_tx(s->conn), &st->held, st->held.len);
	flush(s);
	if (st->held_end)
		sent_all(st);
}

/* --- the codec's operations --- */

static struct h1_stream *mine(const struct http_stream *base)
{
	struct h1_stream *st = (struct h1_stream *)base;
	MUST_BE(st, H1_STREAM_MAGIC);
	return st;
}

/* The stream's way out is gone; the owner was told or will be. */
static bool is_gone(const struct h1_stream *st)
{
	const struct h1 *s = (const struct h1 *)st->base.session;
	return st->lost || st->fail != REASON_NONE || !s || s->dead || s->over;
}

void h1_send_head(struct http_stream *base, const struct message *m, bool end)
{
	struct h1_stream *st = mine(base);
	if (is_gone(st))
		return;
	MUST(st->tx == TX_HEAD && m->request == (h1_of(st)->role == HTTP_CLIENT));
	if (m->request)
		send_request(st, m, end);
	else
		send_response(st, m, end);
}

size_t h1_send_room(const struct http_stream *base)
{
	const struct h1_stream *st = mine(base);
	if (st->tx == TX_DROP)
		return H1_TX_ROOM;
	if (is_gone(st) || st->tx == TX_HEAD || st->tx == TX_HOLD || st->tx == TX_DONE)
		return 0;
	size_t len = conn_tx(h1_of((struct h1_stream *)st)->conn)->len;
	return len >= H1_TX_MARK ? 0 : H1_TX_ROOM - len;
}

void h1_send_body(struct http_stream *base, struct str bytes)
{
	struct h1_stream *st = mine(base);
	if (is_gone(st) || bytes.len == 0)
		return;
	struct h1 *s = h1_of(st);
	switch (st->tx) {
	case TX_LENGTH:
		if (bytes.len > st->tx_left) {
			fail(st, REASON_INTERNAL);
			return;
		}
		st->tx_left -= bytes.len;
		buf_add_str(conn_tx(s->conn), bytes);
		break;
	case TX_CHUNKED:
		http1_write_chunk(conn_tx(s->conn), bytes);
		break;
	case TX_CLOSE:
		buf_add_str(conn_tx(s->conn), bytes);
		break;
	case TX_HOLD:
		buf_add_str(&st->held, bytes);
		break;
	case TX_DROP:
		return;
	case TX_HEAD:
	case TX_DONE:
		MUST(!"a body before its head or behind its end");
	}
	flush(s);
}

void h1_send_end(struct http_stream *base, const struct fields *trailers)
{
	struct h1_stream *st = mine(base);
	if (is_gone(st)) {
		st->tx = TX_DONE;
		return;
	}
	MUST(st->tx != TX_HEAD);
	if (st->tx == TX_DONE)
		return;
	if (st->tx == TX_HOLD) {
		st->held_end = true;
		return;
	}
	if (st->tx == TX_LENGTH && st->tx_left) {
		fail(st, REASON_INTERNAL);
		return;
	}
	if (st->tx == TX_CHUNKED) {
		http1_write_last_chunk(conn_tx(h1_of(st)->conn), trailers);
		flush(h1_of(st));
	}
	sent_all(st);
}

enum h1_cut h1_send_cut(const struct h1_stream *st)
{
	if (st->tx == TX_CLOSE)
		return CUT_RESET;
	return st->sent_head && st->tx == TX_DONE ? CUT_FLUSH : CUT_NOW;
}
