/* SPDX-License-Identifier: Apache-2.0 */
/* h2_send.c: what leaves: heads, bodies (handed from the stream's buffer to the connection's without a copy), trailers, and
 * what is noted when nghttp2 has sent or dropped a frame. Runs inside nghttp2_session_mem_send() (h2.c, at the end of a turn). */
#include "lib/http/h2_session.h"

#include "lib/mem.h"

/* --- heads --- */

static int submit_response(struct h2_stream *st, const struct message *m, const struct h2_nv *nv, bool end)
{
	struct h2_session *s = h2_session_of(st);
	nghttp2_data_provider body = {.read_callback = h2_read_body};
	if (m->status < 200 && m->status != 101)
		return nghttp2_submit_headers(s->ng, NGHTTP2_FLAG_NONE, st->id, NULL, nv->v, nv->n, NULL);
	return nghttp2_submit_response(s->ng, st->id, nv->v, nv->n, end ? NULL : &body);
}

/* Extended CONNECT is only for who has said that it knows it (RFC 8441 3). An upgrade of HTTP/1.1 may be ignored (RFC 9110 7.8): then the
 * request goes without it. */
static bool leave_upgrade(struct h2_stream *st, const struct message *m)
{
	struct h2_session *s = h2_session_of(st);
	return s->role == HTTP_CLIENT && m->protocol.len > 0 && h2_is_connect(m) && !str_is(m->method, "CONNECT") &&
	       nghttp2_session_get_remote_settings(s->ng, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 0;
}

static int submit_request(struct h2_stream *st, const struct message *m, const struct h2_nv *nv, bool end)
{
	struct h2_session *s = h2_session_of(st);
	if (m->protocol.len > 0 && h2_is_connect(m) &&
	    nghttp2_session_get_remote_settings(s->ng, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 0)
		return NGHTTP2_ERR_PROTO;
	nghttp2_data_provider body = {.read_callback = h2_read_body};
	int32_t id = nghttp2_submit_request(s->ng, NULL, nv->v, nv->n, end ? NULL : &body, st);
	if (id < 0)
		return id;
	st->id = id;
	st->open = true;
	st->asked = str_is(m->method, "HEAD") ? H2_ASKED_HEAD : h2_is_connect(m) ? H2_ASKED_CONNECT : H2_ASKED_OTHER;
	s->guard.streams++;
	return 0;
}

void h2_send_head(struct http_stream *base, const struct message *m, bool end)
{
	struct h2_stream *st = (struct h2_stream *)base;
	struct h2_session *s = h2_session_of(st);
	struct h2_nv nv;
	if (st->over || st->reset_due || s->finished || s->closed || (s->role == HTTP_SERVER && !st->open))
		return;
	MUST(!st->head_queued && !st->out_ended);
	bool final = m->request || m->status >= 200 || m->status == 101;
	int rc = NGHTTP2_ERR_INVALID_ARGUMENT;
	struct message without;
	if (m->request && leave_upgrade(st, m)) {
		without = *m;
		without.protocol = STR("");
		without.framing = FRAMING_NONE;
		m = &without;
		st->plain = end = true;
	}
	h2_nv_message(&nv, m);
	if (!m->request && (final || !end))
		rc = submit_response(st, m, &nv, end);
	else if (m->request)
		rc = submit_request(st, m, &nv, end);
	h2_nv_done(&nv);
	if (rc != 0) {
		h2_stream_rst(st, NGHTTP2_INTERNAL_ERROR);
		h2_stream_lost(st,
			       s->role == HTTP_SERVER    ? REASON_INTERNAL
			       : rc == NGHTTP2_ERR_PROTO ? REASON_NO_UPGRADE
							 : REASON_REFUSED,
			       s->role == HTTP_CLIENT && rc != NGHTTP2_ERR_PROTO);
		return;
	}
	st->head_queued = final;
	st->out_ended = end;
	st->progress_ms = h2_now(s);
	h2_time_sent(s);
	h2_kick(s);
}

/* --- trailers --- */

struct h2_nv_copy *h2_nv_copy(const struct fields *f)
{
	struct h2_nv nv;
	struct h2_nv_copy *copy = NULL;
	size_t text = 0;
	h2_nv_fields(&nv, f);
	for (size_t i = 0; i < nv.n; i++)
		text += nv.v[i].namelen + nv.v[i].valuelen;
	if (nv.n > 0) {
		copy = mem_alloc(sizeof(*copy) + nv.n * sizeof(*copy->v) + text);
		copy->n = nv.n;
		uint8_t *at = (uint8_t *)(copy->v + nv.n);
		for (size_t i = 0; i < nv.n; i++) {
			copy->v[i] = nv.v[i];
			copy->v[i].name = memcpy(at, nv.v[i].name, nv.v[i].namelen);
			at += nv.v[i].namelen;
			copy->v[i].value = memcpy(at, nv.v[i].value, nv.v[i].valuelen);
			at += nv.v[i].valuelen;
		}
	}
	h2_nv_done(&nv);
	return copy;
}

/* --- bodies --- */

/* nghttp2 asks how much of the body the next DATA frame shall carry. */
ssize_t h2_read_body(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t room, uint32_t *flags,
		     nghttp2_data_source *src, void *ctx)
{
	struct h2_stream *st = h2_stream_at(ctx, id);
	MUST(st != NULL);
	if (st->out.len == 0 && !st->out_ended) {
		st->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	size_t n = MIN(st->out.len, room);
	if (n > 0)
		*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (n == st->out.len && st->out_ended) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (st->tr) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			nghttp2_submit_trailer(ng, id, st->tr->v, st->tr->n);
			FREE(&st->tr);
		}
	}
	return (ssize_t)n;
}

void h2_room_check(struct h2_stream *st)
{
	struct h2_session *s = h2_session_of(st);
	size_t mark = s->queued > H2_QUEUE_MARK ? H2_STREAM_MARK_LOW : H2_STREAM_MARK;
	if (!st->room_low || st->out.len > mark / 2)
		return;
	/* The mark falls when other streams queue: only beneath half of its lower value is room certain to be seen. */
	st->room_low = st->out.len > H2_STREAM_MARK_LOW / 2;
	if (!h2_listening(st) || st->out_ended)
		return;
	st->room_due = true;
	list_remove(&st->due);
	list_push(&s->due, &st->due);
}

/* The frame's head and its bytes move into the connection's buffer. */
static int send_data(nghttp2_session *ng, nghttp2_frame *f, const uint8_t *hd, size_t n, nghttp2_data_source *src,
		     void *ctx)
{
	struct h2_session *s = ctx;
	struct h2_stream *st = h2_stream_at(s, f->hd.stream_id);
	if (h2_tx_blocked(s))
		return NGHTTP2_ERR_WOULDBLOCK;
	MUST(st != NULL && st->out.len >= n);
	struct buf *tx = conn_tx(s->conn);
	buf_add(tx, hd, 9);
	buf_move(tx, &st->out, n);
	s->queued -= n;
	s->guard.data_sent++;
	st->progress_ms = h2_now(s);
	h2_room_check(st);
	return 0;
}

/* --- what nghttp2 did with frames --- */

static int before_frame(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2_session *s = ctx;
	struct h2_stream *st = f->hd.type == NGHTTP2_HEADERS ? h2_stream_at(s, f->hd.stream_id) : NULL;
	if (st && !st->head_left) {
		st->head_left = true;
		st->tx_at = conn_tx_bytes(s->conn) + conn_tx(s->conn)->len;
	}
	return 0;
}

static void end_stream_left(struct h2_session *s, struct h2_stream *st)
{
	st->out_left = true;
	st->progress_ms = h2_now(s);
	if (!st->end_reset || nghttp2_session_get_stream_remote_close(s->ng, st->id) != 0)
		return;
	h2_stream_rst(st, NGHTTP2_NO_ERROR);
}

/* A server ends connections that give up too much, with everybody's streams on them: this one is left for another before that. */
static void reset_left(struct h2_session *s)
{
	h2_guard_gave_up(&s->guard, h2_now(s));
	uint64_t rest = h2_guard_rest_ms(&s->guard);
	if (rest == 0)
		return;
	s->rest_at = h2_now(s) + rest;
	h2_time_arm(s);
}

static int on_sent(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2_session *s = ctx;
	struct h2_stream *st = f->hd.stream_id ? h2_stream_at(s, f->hd.stream_id) : NULL;
	bool ends = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
	case NGHTTP2_DATA:
		if (st && ends)
			end_stream_left(s, st);
		break;
	case NGHTTP2_RST_STREAM:
		/* One that the peer made us send (MadeYouReset): malformed, over the limits, over the windows. */
		if (s->role == HTTP_CLIENT)
			reset_left(s);
		else if (!(st && st->ours))
			h2_odd(s, H2_ODD_MADE_RESET);
		break;
	case NGHTTP2_GOAWAY:
		/* nghttp2 found a connection error; of that code one is a limit: 32 settings in a frame. */
		if (f->goaway.error_code == NGHTTP2_ENHANCE_YOUR_CALM)
			h2_flood(s, REASON_FLOOD_SETTINGS);
		else if (f->goaway.error_code != NGHTTP2_NO_ERROR && s->why == REASON_NONE)
			h2_fail(s, s->role == HTTP_SERVER ? REASON_PEER_PROTOCOL : REASON_UPSTREAM_PROTOCOL,
				ERR_PROTOCOL, "the HTTP/2 peer broke the protocol");
		break;
	}
	return 0;
}

static int on_not_sent(nghttp2_session *ng, const nghttp2_frame *f, int code, void *ctx)
{
	struct h2_session *s = ctx;
	struct h2_stream *st = f->hd.type == NGHTTP2_HEADERS ? h2_stream_at(s, f->hd.stream_id) : NULL;
	/* A request that could not be opened is closed by nghttp2 as REFUSED_STREAM; a response or trailers that cannot be sent
	 * (larger than nghttp2 packs) end the stream here. */
	if (!st || f->headers.cat == NGHTTP2_HCAT_REQUEST || code == NGHTTP2_ERR_STREAM_CLOSED ||
	    code == NGHTTP2_ERR_STREAM_CLOSING)
		return 0;
	h2_stream_rst(st, NGHTTP2_INTERNAL_ERROR);
	if (h2_listening(st))
		h2_stream_lost(st, s->role == HTTP_SERVER ? REASON_INTERNAL : REASON_UPSTREAM_RESET, false);
	return 0;
}

void h2_send_callbacks(nghttp2_session_callbacks *cbs)
{
	nghttp2_session_callbacks_set_send_data_callback(cbs, send_data);
	nghttp2_session_callbacks_set_before_frame_send_callback(cbs, before_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(cbs, on_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(cbs, on_not_sent);
}
