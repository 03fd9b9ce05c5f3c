/* SPDX-License-Identifier: Apache-2.0 */
/* h2_recv.c: the reading half. Bytes of the connection are counted frame by frame, as far as the connection's share goes, and
 * given to nghttp2; what that reports of the peer's frames is turned into callbacks of streams and sessions. The reports run
 * inside nghttp2_session_mem_recv(), except on_close, which sending may cause too: resets are therefore owed (h2_stream_lost)
 * and told at the end of the turn, never from in here. */
#include "lib/http/h2_session.h"

/* --- bytes --- */

static const enum reason floods[H2_ODD_COUNT] = {
    [H2_ODD_PING] = REASON_FLOOD_PING,        [H2_ODD_SETTINGS] = REASON_FLOOD_SETTINGS,
    [H2_ODD_RESET] = REASON_FLOOD_RESET,      [H2_ODD_MADE_RESET] = REASON_FLOOD_MADE_RESET,
    [H2_ODD_EMPTY_DATA] = REASON_FLOOD_EMPTY, [H2_ODD_EMPTY_HEADERS] = REASON_FLOOD_EMPTY,
    [H2_ODD_UNKNOWN] = REASON_FLOOD_UNKNOWN,  [H2_ODD_GOAWAY] = REASON_FLOOD_GOAWAY,
    [H2_ODD_BOMB] = REASON_FLOOD_HEAD,        [H2_ODD_PRIORITY] = REASON_FLOOD_PRIORITY,
    [H2_ODD_WINDOW] = REASON_FLOOD_WINDOW,
};

void h2_flood(struct h2_session *s, enum reason why)
{
	why = s->role == HTTP_SERVER ? why : REASON_UPSTREAM_FLOOD;
	h2_fail(s, why, ERR_LIMIT, reason_row(why)->text);
}

void h2_odd(struct h2_session *s, enum h2_odd what)
{
	if (!h2_guard_odd(&s->guard, what, h2_now(s)))
		h2_flood(s, floods[what]);
}

static void check_id(struct h2_session *s, const struct h2_frame_head *f)
{
	enum h2_ids_says says = s->role == HTTP_SERVER ? h2_ids_frame(&s->ids, f) : H2_IDS_FINE;
	if (says == H2_IDS_FINE)
		return;
	if (says == H2_IDS_CLOSED)
		nghttp2_session_terminate_session(s->ng, NGHTTP2_STREAM_CLOSED);
	h2_fail(s, REASON_PEER_PROTOCOL, ERR_PROTOCOL, "a frame on a stream that its sender had ended or passed over");
}

static void frame_head(struct h2_session *s, const struct h2_frame_head *f)
{
	check_id(s, f);
	switch (f->type) {
	case NGHTTP2_DATA:
		if (f->length == 0 && !(f->flags & NGHTTP2_FLAG_END_STREAM))
			h2_odd(s, H2_ODD_EMPTY_DATA);
		break;
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION:
		if (f->length == 0)
			h2_odd(s, H2_ODD_EMPTY_HEADERS);
		break;
	case NGHTTP2_PRIORITY:
		h2_odd(s, H2_ODD_PRIORITY);
		break;
	case NGHTTP2_WINDOW_UPDATE:
		h2_odd(s, H2_ODD_WINDOW);
		break;
	case NGHTTP2_PING:
		h2_odd(s, H2_ODD_PING);
		break;
	case NGHTTP2_SETTINGS:
		h2_odd(s, H2_ODD_SETTINGS);
		break;
	case NGHTTP2_GOAWAY:
		h2_odd(s, H2_ODD_GOAWAY);
		break;
	case NGHTTP2_RST_STREAM:
	case NGHTTP2_PUSH_PROMISE:
		break;
	default:
		h2_odd(s, H2_ODD_UNKNOWN);
	}
}

static void recv_failed(struct h2_session *s, int rc)
{
	if (rc == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
		h2_flood(s, REASON_FLOOD_CONTINUATION);
	else if (rc == NGHTTP2_ERR_FLOODED) /* acknowledgements that the peer does not read */
		h2_flood(s, REASON_FLOOD_PING);
	else
		h2_fail(s, s->role == HTTP_SERVER ? REASON_PEER_PROTOCOL : REASON_UPSTREAM_PROTOCOL, ERR_PROTOCOL,
			nghttp2_strerror(rc));
}

/* What this connection may begin: whoever sends two hundred at once lets others go first between them, and who gives up most of what it
 * begins, or has not been served yet, lets them go first more often. */
static void look_at_share(struct h2_session *s)
{
	bool known = h2_guard_known(&s->guard);
	uint32_t heads = !known ? H2_STRANGE_SHARE : s->lim.heads_a_turn ? s->lim.heads_a_turn : H2_SHARE;
	s->head_cost = known ? 1 : H2_STRANGE_COST;
	s->taker.stranger = !known;
	s->taker.share = (int32_t)(heads * s->head_cost);
}

/* Before it is read: a stream to begin, or windows of all streams to move. */
static int32_t cost_of(struct h2_session *s, const struct h2_frame_head *f)
{
	if (f->type == NGHTTP2_HEADERS) {
		s->unpacked_free += H2_UNPACKED_COST;
		return (int32_t)s->head_cost;
	}
	return f->type == NGHTTP2_SETTINGS ? (int32_t)(f->length / 6 * s->n_streams / H2_WINDOWS_COST) : 0;
}

/* Afterwards: what heads unpack to, beyond what each is worth as a request, does not show in their frames. */
static int32_t cost_unpacked(struct h2_session *s)
{
	uint32_t more = s->unpacked > s->unpacked_free ? s->unpacked - s->unpacked_free : 0;
	s->unpacked = s->unpacked_free = 0;
	return (int32_t)(more / H2_UNPACKED_COST);
}

static bool may_begin(const struct h2_session *s)
{
	return s->role == HTTP_CLIENT || s->taker.left > 0;
}

/* One piece: counted frame by frame first, so that a flood ends before it is worked on. Returns how much of it was taken. */
static size_t feed(struct h2_session *s, const uint8_t *p, size_t n)
{
	struct h2_frame_head f;
	size_t at = 0;
	bool head;
	while (at < n && s->why == REASON_NONE && may_begin(s)) {
		at += h2_track_step(&s->track, p + at, n - at, &head, &f);
		if (head)
			frame_head(s, &f);
		if (head && s->role == HTTP_SERVER)
			s->taker.left -= cost_of(s, &f);
	}
	if (s->why == REASON_NONE) {
		ssize_t rc = nghttp2_session_mem_recv(s->ng, p, at);
		if (rc < 0 && !s->closed)
			recv_failed(s, (int)rc);
		s->taker.left -= cost_unpacked(s);
	}
	if (!h2_track_unfinished(&s->track)) {
		s->head_at = 0;
	} else if (!s->head_at || s->head_unit != s->track.units) {
		s->head_at = h2_now(s) + s->lim.head_timeout_ms;
		s->head_unit = s->track.units;
	}
	return at;
}

/* Takes what has come, as far as its share goes. */
static void take(struct h2_session *s)
{
	h2_enter(s);
	struct buf *rx = conn_rx(s->conn);
	while (rx->len > 0 && !s->closed && s->why == REASON_NONE && !s->finished && may_begin(s)) {
		struct str piece = buf_peek(rx);
		h2_time_heard(s);
		size_t n = feed(s, (const uint8_t *)piece.p, piece.len);
		if (!s->closed)
			buf_drain(rx, n);
	}
	bool more = !s->closed && rx->len > 0;
	look_at_share(s);
	if (more && !s->finished && s->why == REASON_NONE)
		turns_wait(loop_turns(s->loop), &s->taker);
	else if (!s->closed && !s->finished && s->why == REASON_NONE && conn_rx_eof(s->conn)) {
		bool quiet = s->n_streams == 0;
		if (!quiet)
			s->why = s->role == HTTP_SERVER ? REASON_CLIENT_GONE : REASON_UPSTREAM_RESET;
		err_set(&s->err, ERR_CLOSED, "the HTTP/2 peer closed the connection");
		h2_finish(s);
	}
	if (!s->closed && !s->finished) {
		h2_time_arm(s);
		h2_kick(s);
	}
	h2_leave(s);
}

static void on_rx(void *ctx)
{
	struct h2_session *s = ctx;
	MUST_BE(s, H2_SESSION_MAGIC);
	if (s->role == HTTP_CLIENT) {
		take(s);
		return;
	}
	turns_enter(loop_turns(s->loop), &s->taker);
	if (turns_waits(&s->taker))
		return;
	take(s);
	turns_spent(loop_turns(s->loop), &s->taker); /* it is freed after the turn */
}

static void on_go(struct taker *k)
{
	take(CONTAINER_OF(k, struct h2_session, taker));
}

static void on_tx_room(void *ctx)
{
	h2_kick(ctx);
}

static void on_fail(void *ctx, const struct err *err)
{
	struct h2_session *s = ctx;
	h2_enter(s);
	if (s->why == REASON_NONE) {
		s->err = *err;
		if (err->code == ERR_LIMIT)
			s->why = s->role == HTTP_SERVER ? REASON_FLOOD_TLS : REASON_UPSTREAM_FLOOD;
		else if (s->n_streams > 0 || s->role == HTTP_CLIENT)
			s->why = s->role == HTTP_SERVER ? REASON_CLIENT_GONE : REASON_UPSTREAM_RESET;
	}
	h2_finish(s);
	h2_leave(s);
}

static void on_open(void *ctx)
{
	h2_kick(ctx);
}

const struct conn_events h2_conn_events = {
    .on_open = on_open,
    .on_rx = on_rx,
    .on_tx_room = on_tx_room,
    .on_fail = on_fail,
};

void h2_recv_init(struct h2_session *s)
{
	taker_init(&s->taker, on_go);
	s->taker.paced = !s->lim.paces_itself;
	look_at_share(s);
	h2_track_init(&s->track, s->role == HTTP_SERVER);
}

/* --- reports --- */

/* The owner closed the session, or it is ending: nghttp2 shall stop. */
static bool stopped(const struct h2_session *s)
{
	return s->closed || s->finished;
}

static enum reason malformed(const struct h2_session *s)
{
	return s->role == HTTP_SERVER ? REASON_BAD_REQUEST : REASON_UPSTREAM_PROTOCOL;
}

/* --- heads --- */

static void refuse_stream(struct h2_session *s, int32_t id)
{
	nghttp2_submit_rst_stream(s->ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
}

static void stream_begins(struct h2_session *s, int32_t id)
{
	if (s->drain == H2_DRAIN_LAST || s->why != REASON_NONE || h2_budget_spent()) {
		refuse_stream(s, id);
		return;
	}
	struct h2_stream *st = h2_stream_new(s, id);
	nghttp2_session_set_stream_user_data(s->ng, id, st);
	st->open = true;
	st->attached = s->base.ev->on_stream(s->base.ctx, &st->base, &st->base.ev, &st->base.ctx, &st->base.arena);
	if (!st->attached) {
		st->ours = true;
		refuse_stream(s, id);
		return;
	}
	MUST(st->base.ev != NULL && st->base.arena != NULL);
	s->head_of = st;
	h2_head_begin(&st->in, st->base.arena, true, false);
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2_session *s = ctx;
	if (stopped(s))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	s->head_of = NULL;
	if (f->headers.cat == NGHTTP2_HCAT_REQUEST) {
		s->guard.streams++;
		stream_begins(s, f->hd.stream_id);
		return stopped(s) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
	}
	struct h2_stream *st = h2_stream_at(s, f->hd.stream_id);
	s->head_of = st;
	if (st && h2_listening(st))
		h2_head_begin(&st->in, st->base.arena, false, st->head_in);
	return 0;
}

/* Blocks do not interleave (RFC 9113 4.3): the stream is looked up once a block, not once a field. */
static int on_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t name_len,
		     const uint8_t *value, size_t value_len, uint8_t flags, void *ctx)
{
	struct h2_session *s = ctx;
	struct h2_stream *st = s->head_of;
	MUST(!st || st->id == f->hd.stream_id);
	s->unpacked += (uint32_t)(name_len + value_len);
	if (st && h2_listening(st))
		h2_head_field(&st->in, &s->lim, str_make(name, name_len), str_make(value, value_len));
	return 0;
}

/* A head that cannot be used: a status where one fits and may still be sent, else RST_STREAM. */
static void refuse_head(struct h2_session *s, struct h2_stream *st)
{
	enum reason why = st->in.bad;
	uint16_t status = reason_row(why)->http_status;
	bool answer = s->role == HTTP_SERVER && !st->head_in && why != REASON_BAD_REQUEST && status != 0;
	if (st->in.bytes > H2_LIST_MAX)
		h2_odd(s, H2_ODD_BOMB);
	if (answer) {
		struct message m = {.status = status, .framing = FRAMING_LENGTH, .has_length = true};
		st->end_reset = true;
		h2_send_head(&st->base, &m, true);
	} else {
		nghttp2_submit_rst_stream(s->ng, NGHTTP2_FLAG_NONE, st->id,
					  why == REASON_BAD_REQUEST ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_INTERNAL_ERROR);
	}
	h2_stream_lost(st, s->role == HTTP_SERVER ? why : REASON_UPSTREAM_PROTOCOL, false);
	st->refused = true;
}

static void message_ended(struct h2_stream *st)
{
	st->in_ended = true;
	st->progress_ms = h2_now(h2_session_of(st));
	if (h2_listening(st))
		st->base.ev->on_end(st->base.ctx);
}

/* A field section is complete: a head (an informational one perhaps) or trailers. */
static void section_complete(struct h2_session *s, struct h2_stream *st, bool end_stream)
{
	bool head = !st->head_in;
	if (!h2_listening(st))
		return;
	h2_head_end(&st->in, &s->lim, end_stream, st->asked);
	if (head && st->in.m && !st->in.m->request && st->in.m->status < 200 &&
	    ++st->informational > H2_INFORMATIONAL && st->in.bad == REASON_NONE)
		st->in.bad = REASON_BAD_REQUEST;
	if (st->in.bad != REASON_NONE) {
		refuse_head(s, st);
		return;
	}
	st->progress_ms = h2_now(s);
	if (head) {
		st->head_in = st->in.m->request || st->in.m->status >= 200;
		st->base.ev->on_head(st->base.ctx, st->in.m);
	} else if (st->in.trailers.len > 0) {
		st->base.ev->on_trailers(st->base.ctx, &st->in.trailers, st->base.arena);
	}
	if (end_stream && !s->closed)
		message_ended(st);
}

static int on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *f, int code, void *ctx)
{
	struct h2_session *s = ctx;
	struct h2_stream *st = f->hd.stream_id ? h2_stream_at(s, f->hd.stream_id) : NULL;
	if (st && (code == NGHTTP2_ERR_HTTP_HEADER || code == NGHTTP2_ERR_HTTP_MESSAGING) && h2_listening(st))
		h2_stream_lost(st, malformed(s), false); /* nghttp2 has queued the RST_STREAM */
	return 0;
}

/* --- bodies --- */

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *ctx)
{
	struct h2_session *s = ctx;
	if (stopped(s))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	struct h2_stream *st = h2_stream_at(s, id);
	nghttp2_session_consume_connection(ng, n);
	if (st && h2_listening(st)) {
		st->progress_ms = h2_now(s);
		h2_window_received(&st->win, n, loop_now_us(s->loop));
		st->base.ev->on_body(st->base.ctx, str_make(p, n));
	}
	return stopped(s) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* --- other frames --- */

static void settings_came(struct h2_session *s, bool ack)
{
	if (ack) {
		uint64_t now = loop_now_us(s->loop);
		if (s->rtt_us == 0)
			s->rtt_us = MAX(now - s->settings_us, 1);
		return;
	}
	s->preface_at = 0;
	s->ready = true;
	h2_kick(s); /* room() may have changed */
}

static void reset_came(struct h2_session *s, struct h2_stream *st, uint32_t code)
{
	if (st) {
		st->peer_reset = true;
		st->peer_code = code;
	}
	/* An upstream resets what we opened: that is bounded by ourselves. */
	if (s->role == HTTP_SERVER)
		h2_odd(s, H2_ODD_RESET);
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2_session *s = ctx;
	if (stopped(s))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	struct h2_stream *st = f->hd.stream_id ? h2_stream_at(s, f->hd.stream_id) : NULL;
	bool end_stream = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		if (st)
			section_complete(s, st, end_stream);
		break;
	case NGHTTP2_DATA:
		if (st && end_stream)
			message_ended(st);
		else if (f->hd.length > 0 &&
			 f->hd.length == f->data.padlen) /* without padding: frame_head() has counted it */
			h2_odd(s, H2_ODD_EMPTY_DATA);
		break;
	case NGHTTP2_RST_STREAM:
		reset_came(s, st, f->rst_stream.error_code);
		break;
	case NGHTTP2_SETTINGS:
		settings_came(s, f->hd.flags & NGHTTP2_FLAG_ACK);
		break;
	case NGHTTP2_PING:
		if (f->hd.flags & NGHTTP2_FLAG_ACK)
			h2_time_ping_ack(s, f->ping.opaque_data);
		break;
	case NGHTTP2_GOAWAY:
		s->goaway_in = true;
		s->draining = s->draining || s->role == HTTP_CLIENT;
		h2_drain_told(s);
		break;
	}
	return stopped(s) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* nghttp2 is done with a stream: ended both ways, reset by either side, or cut off by GOAWAY. */
static int on_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx)
{
	struct h2_session *s = ctx;
	struct h2_stream *st = h2_stream_at(s, id);
	if (!st)
		return 0;
	if (s->head_of == st)
		s->head_of = NULL;
	if (s->last == st)
		s->last = NULL;
	st->open = false;
	h2_kick(s);
	if (st->in_ended && st->out_left && !st->peer_reset)
		h2_guard_good(&s->guard);
	if (!h2_listening(st) || (st->in_ended && st->out_ended && st->out_left)) {
		h2_stream_settle(st);
		return 0;
	}
	enum reason why;
	bool refused = code == NGHTTP2_REFUSED_STREAM && !st->head_in;
	if (refused && s->role == HTTP_CLIENT)
		why = REASON_REFUSED;
	else if (!st->peer_reset)
		why = malformed(s);
	else if (code == NGHTTP2_NO_ERROR && st->in_ended)
		why = REASON_NONE; /* answered in full; it does not want the rest of the request */
	else
		why = s->role == HTTP_SERVER ? REASON_CLIENT_GONE : REASON_UPSTREAM_RESET;
	h2_stream_lost(st, why, refused);
	return 0;
}

void h2_recv_callbacks(nghttp2_session_callbacks *cbs)
{
	nghttp2_session_callbacks_set_on_begin_headers_callback(cbs, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cbs, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cbs, on_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_close);
}
