/* SPDX-License-Identifier: Apache-2.0 */
/* h2.c: HTTP/2 (RFC 9113) on libnghttp2 as a codec, both roles: the lifetime of a connection and its streams, the turn's end, and
 * what owners call. Owns the conn, the nghttp2 session and all streams. No routing, no retrying, no logging.
 *
 * One turn: bytes of conn_rx() go into nghttp2, whose reports become callbacks at once (both h2_recv.c). Whatever an owner calls only
 * submits to nghttp2 and asks for the turn's end. There, once: owed callbacks (resets, room), then nghttp2's frames of all
 * streams into conn_tx() as long as that is not full, one flush, then idle, ready and the end of the connection. Nothing
 * is freed while callbacks may be running (s->busy). */
#include "lib/http/h2_session.h"

#include "lib/mem.h"
#include "lib/small.h"

static uint32_t h2_room(const struct http_session *base);
static size_t h2_send_room(const struct http_stream *base);

/* Beside nghttp2's own. A stream's buffers come and go with its bytes. */
_Static_assert(sizeof(struct h2_session) <= 1536, "an idle connection stays small");
_Static_assert(sizeof(struct h2_stream) <= 512, "a hundred streams stay small");

/* --- streams --- */

struct h2_stream *h2_stream_new(struct h2_session *s, int32_t id)
{
	struct h2_stream *st = small_zalloc(sizeof(*st));
	st->base.ops = &codec_h2;
	st->base.session = &s->base;
	st->magic = H2_STREAM_MAGIC;
	st->id = id;
	list_init(&st->due);
	list_push(&s->streams, &st->node);
	s->n_streams++;
	s->idle_at = 0;
	buf_init(&st->out, H2_STREAM_MARK);
	h2_window_init(&st->win, s->lim.window, s->lim.window_max);
	st->progress_ms = h2_now(s);
	if (s->n_streams == 1)
		h2_time_arm(s);
	h2_kick(s);
	return st;
}

struct h2_stream *h2_stream_find(struct h2_session *s, int32_t id)
{
	struct h2_stream *st = nghttp2_session_get_stream_user_data(s->ng, id);
	MUST(!st || st->magic == H2_STREAM_MAGIC);
	s->last = st && st->open ? st : NULL;
	return st;
}

static void stream_clear(struct h2_session *s, struct h2_stream *st)
{
	list_remove(&st->due);
	s->queued -= st->out.len;
	buf_done(&st->out);
	h2_window_done(&st->win);
	FREE(&st->tr);
}

void h2_stream_settle(struct h2_stream *st)
{
	struct h2_session *s = h2_session_of(st);
	if (st->attached || st->open)
		return;
	if (s->last == st)
		s->last = NULL;
	stream_clear(s, st);
	list_remove(&st->node);
	list_push(&s->dead, &st->node);
	s->n_streams--;
	h2_kick(s);
}

void h2_stream_lost(struct h2_stream *st, enum reason why, bool unprocessed)
{
	struct h2_session *s = h2_session_of(st);
	if (!st->attached || st->over || st->reset_due)
		return;
	st->why = (struct http_reset){
	    .reason = why,
	    .unprocessed = unprocessed,
	    .before_response = !st->head_in,
	    .by_peer = st->peer_reset,
	    .code = st->peer_code,
	};
	st->reset_due = true;
	list_remove(&st->due);
	list_push(&s->due, &st->due);
	h2_kick(s);
}

void h2_stream_rst(struct h2_stream *st, uint32_t code)
{
	struct h2_session *s = h2_session_of(st);
	if (!st->open || st->ours || s->finished || s->closed)
		return;
	st->ours = true;
	nghttp2_submit_rst_stream(s->ng, NGHTTP2_FLAG_NONE, st->id, code);
	h2_kick(s);
}

static void stream_free_all(struct list *l)
{
	list_for_each_safe (st, l, struct h2_stream, node) {
		list_remove(&st->node);
		st->magic = 0;
		small_free(st);
	}
}

/* --- lifetime of a session --- */

static void session_free(void *p)
{
	struct h2_session *s = p;
	nghttp2_session_del(s->ng);
	list_for_each (st, &s->streams, struct h2_stream, node)
		stream_clear(s, st);
	stream_free_all(&s->streams);
	stream_free_all(&s->dead);
	s->magic = 0;
	mem_free(s);
}

/* Owners may hold streams longer than the session, as those of HTTP/1 may: its memory goes with the last of them. */
static void free_unless_held(struct h2_session *s)
{
	list_for_each (st, &s->streams, struct h2_stream, node)
		if (st->attached)
			return;
	loop_defer_free(s->loop, s, session_free);
}

static void session_destroy(struct h2_session *s)
{
	const uint8_t *p;
	ssize_t n;
	h2_time_stop(s);
	task_cancel(&s->turn);
	turns_leave(&s->taker);
	/* GOAWAY, unless it has gone out already: the peer learns what was processed. */
	if (!s->finished) {
		nghttp2_session_terminate_session(s->ng, NGHTTP2_NO_ERROR);
		for (int i = 0; i < 64 && (n = nghttp2_session_mem_send(s->ng, &p)) > 0; i++)
			buf_add(conn_tx(s->conn), p, (size_t)n);
	}
	conn_close_flushed(&s->conn);
	free_unless_held(s);
}

void h2_enter(struct h2_session *s)
{
	MUST_BE(s, H2_SESSION_MAGIC);
	s->busy++;
}

void h2_leave(struct h2_session *s)
{
	MUST(s->busy > 0);
	if (--s->busy > 0)
		return;
	stream_free_all(&s->dead);
	if (s->closed)
		session_destroy(s);
}

void h2_kick(struct h2_session *s)
{
	if (!s->closed && !s->finished)
		loop_at_turn_end(s->loop, &s->turn);
}

static uint32_t code_of(enum reason why)
{
	uint32_t code = reason_row(why)->h2_code;
	return code == NGHTTP2_REFUSED_STREAM ? NGHTTP2_NO_ERROR : code; /* that one is for streams */
}

void h2_fail(struct h2_session *s, enum reason why, enum err_code code, const char *text)
{
	if (s->why != REASON_NONE || s->finished)
		return;
	s->why = why;
	err_set(&s->err, code, "%s", text);
	nghttp2_session_terminate_session(s->ng, code_of(why));
	h2_kick(s);
}

void h2_drain_told(struct h2_session *s)
{
	if (s->drain_told || s->closed || s->finished)
		return;
	s->drain_told = true;
	if (s->base.ev->on_draining)
		s->base.ev->on_draining(s->base.ctx);
}

/* --- callbacks that were owed --- */

static void tell_due(struct h2_session *s)
{
	struct h2_stream *st;
	while (!s->closed && (st = list_first(&s->due, struct h2_stream, due))) {
		list_remove(&st->due);
		if (!st->attached || st->over)
			continue;
		if (st->reset_due) {
			st->over = true;
			st->base.ev->on_reset(st->base.ctx, &st->why);
		} else if (st->room_due) {
			st->room_due = false;
			if (st->base.ev->on_room && h2_send_room(&st->base) > 0)
				st->base.ev->on_room(st->base.ctx);
		}
	}
}

void h2_finish(struct h2_session *s)
{
	enum reason why = s->why;
	if (s->finished || s->closed)
		return;
	s->finished = true;
	s->last = NULL;
	h2_time_stop(s);
	task_cancel(&s->turn);
	turns_leave(&s->taker);
	if (s->role == HTTP_SERVER)
		turns_owe(loop_turns(s->loop), &s->taker, H2_LOST_COST * s->n_streams);
	conn_rx_pause(s->conn, true);
	conn_flush(s->conn);
	enum reason lost = why != REASON_NONE       ? why
			   : s->role == HTTP_SERVER ? REASON_CLIENT_GONE
						    : REASON_UPSTREAM_RESET;
	list_for_each_safe (st, &s->streams, struct h2_stream, node) {
		bool unsent = s->role == HTTP_CLIENT && (!st->head_left || conn_tx_bytes(s->conn) <= st->tx_at);
		st->open = false;
		if (st->attached && !(st->in_ended && st->out_left))
			h2_stream_lost(st, lost, unsent);
		h2_stream_settle(st);
	}
	tell_due(s);
	if (!s->closed)
		s->base.ev->on_closed(s->base.ctx, why, &s->err);
}

/* --- the turn --- */

bool h2_tx_blocked(const struct h2_session *s)
{
	return s->closed || conn_tx_full(s->conn);
}

static void pull(struct h2_session *s)
{
	const uint8_t *p;
	ssize_t n = 0;
	while (!h2_tx_blocked(s) && (n = nghttp2_session_mem_send(s->ng, &p)) > 0)
		buf_add(conn_tx(s->conn), p, (size_t)n);
	if (n < 0)
		h2_fail(s, REASON_INTERNAL, ERR_PROTOCOL, nghttp2_strerror((int)n));
	conn_flush(s->conn);
}

static void tell_idle(struct h2_session *s)
{
	bool idle = s->n_streams == 0;
	if (idle && !s->idle_at &&
	    s->lim.idle_timeout_ms) { /* a stream that lasts less than a turn counts as use, too */
		s->idle_at = h2_now(s) + s->lim.idle_timeout_ms;
		h2_time_arm(s);
	}
	if (idle == s->idle_told)
		return;
	s->idle_told = idle;
	if (s->base.ev->on_idle)
		s->base.ev->on_idle(s->base.ctx, idle);
}

static void tell_ready(struct h2_session *s)
{
	if (s->closed || s->role != HTTP_CLIENT)
		return;
	if (h2_room(&s->base) == 0) {
		s->room_was_zero = true;
	} else if (s->room_was_zero) {
		s->room_was_zero = false;
		if (s->base.ev->on_ready)
			s->base.ev->on_ready(s->base.ctx);
	}
}

/* Over when it failed, or when the last stream has gone of one that drains or would have to rest. */
static bool ended(struct h2_session *s)
{
	bool last = s->goaway_in || s->drain == H2_DRAIN_LAST || s->rest_at != 0;
	return s->why != REASON_NONE || (s->n_streams == 0 && last);
}

static void on_turn(struct task *t)
{
	struct h2_session *s = CONTAINER_OF(t, struct h2_session, turn);
	h2_enter(s);
	tell_due(s);
	if (!s->closed && !s->finished)
		pull(s);
	tell_due(s);
	if (!s->closed && !s->finished)
		tell_idle(s);
	tell_ready(s);
	if (!s->closed && !s->finished && ended(s)) {
		nghttp2_session_terminate_session(s->ng, NGHTTP2_NO_ERROR); /* nothing when it has been called before */
		pull(s);
		h2_finish(s);
	}
	h2_leave(s);
}

/* --- a new session --- */

static nghttp2_session *ng_new(struct h2_session *s)
{
	nghttp2_session *ng = NULL;
	nghttp2_session_callbacks *cbs = NULL;
	nghttp2_option *opt = NULL;
	h2_mem_init(&s->mem);
	MUST(nghttp2_session_callbacks_new(&cbs) == 0 && nghttp2_option_new(&opt) == 0);
	h2_recv_callbacks(cbs);
	h2_send_callbacks(cbs);
	nghttp2_option_set_no_auto_window_update(opt, 1);
	nghttp2_option_set_no_closed_streams(opt, 1);
	nghttp2_option_set_peer_max_concurrent_streams(opt, s->lim.streams_max);
	nghttp2_option_set_max_deflate_dynamic_table_size(opt, 4096);
	/* h2_guard.c counts resets, with limits for each kind of peer; nghttp2's own (1,000, 33 a second) would end a busy hop. */
	nghttp2_option_set_stream_reset_rate_limit(opt, UINT32_MAX, UINT32_MAX);
	if (s->role == HTTP_SERVER)
		MUST(nghttp2_session_server_new3(&ng, cbs, s, opt, &s->mem.mem) == 0);
	else
		MUST(nghttp2_session_client_new3(&ng, cbs, s, opt, &s->mem.mem) == 0);
	nghttp2_option_del(opt);
	nghttp2_session_callbacks_del(cbs);
	return ng;
}

static void send_settings(struct h2_session *s)
{
	const nghttp2_settings_entry server[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, s->lim.streams_max},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, s->lim.window},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_LIST_MAX},
	    {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 4096},
	    {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
	};
	const nghttp2_settings_entry client[] = {
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, s->lim.window},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_LIST_MAX},
	    {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 4096},
	};
	int rc = s->role == HTTP_SERVER ? nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, server, ARRAY_LEN(server))
					: nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, client, ARRAY_LEN(client));
	MUST(rc == 0);
	MUST(nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, 0, H2_CONN_WINDOW) == 0);
	s->settings_us = loop_now_us(s->loop);
}

static struct http_session *h2_session_new(struct conn *c, enum http_role role, const struct http_limits *lim,
					   const struct http_session_events *ev, void *ctx)
{
	struct h2_session *s = NEW(struct h2_session);
	MUST(c != NULL && lim != NULL && ev != NULL && ev->on_closed != NULL);
	MUST(role == HTTP_CLIENT || ev->on_stream != NULL);
	s->base = (struct http_session){.ops = &codec_h2, .ev = ev, .ctx = ctx};
	s->magic = H2_SESSION_MAGIC;
	s->conn = c;
	s->loop = conn_loop(c);
	s->lim = *lim;
	s->role = role;
	s->idle_told = true;
	s->room_was_zero = true;
	list_init(&s->streams);
	list_init(&s->due);
	list_init(&s->dead);
	task_init(&s->turn, on_turn);
	h2_guard_init(&s->guard, lim->resets_burst, lim->resets_rate, h2_now(s));
	h2_recv_init(s);
	s->ng = ng_new(s);
	send_settings(s);
	conn_set_events(c, &h2_conn_events, s);
	conn_rx_kick(c);
	h2_time_start(s);
	h2_kick(s);
	return &s->base;
}

static void h2_session_close(struct http_session **base)
{
	struct h2_session *s = (struct h2_session *)*base;
	if (!s)
		return;
	MUST_BE(s, H2_SESSION_MAGIC);
	*base = NULL;
	s->closed = true;
	task_cancel(&s->turn);
	turns_leave(&s->taker);
	if (s->busy == 0)
		session_destroy(s);
}

/* --- what owners call --- */

static uint32_t h2_room(const struct http_session *base)
{
	const struct h2_session *s = (const struct h2_session *)base;
	MUST_BE(s, H2_SESSION_MAGIC);
	if (s->role != HTTP_CLIENT || !s->ready || s->draining || s->closed || s->finished || s->why != REASON_NONE ||
	    s->rest_at != 0)
		return 0;
	uint32_t most = nghttp2_session_get_remote_settings(s->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	most = MIN(most, s->lim.streams_max);
	/* Ids run out at 2^31: the connection is used up some streams before (half of what is left, ids being odd). */
	uint32_t left = (0x7fffffffu - nghttp2_session_get_next_stream_id(s->ng)) / 2;
	most = MIN(most, left);
	return most > s->n_streams ? most - s->n_streams : 0;
}

static enum http_peer h2_peer(struct http_session *base)
{
	struct h2_session *s = (struct h2_session *)base;
	MUST_BE(s, H2_SESSION_MAGIC);
	return h2_time_peer(s);
}

static struct http_stream *h2_open(struct http_session *base, const struct http_stream_events *ev, void *ctx,
				   struct arena *arena)
{
	struct h2_session *s = (struct h2_session *)base;
	MUST(h2_room(base) > 0 && ev != NULL && arena != NULL);
	struct h2_stream *st = h2_stream_new(s, 0);
	st->base.ev = ev;
	st->base.ctx = ctx;
	st->base.arena = arena;
	st->attached = true;
	return &st->base;
}

static struct h2_stream *stream_in(const struct http_stream *base)
{
	struct h2_stream *st = (struct h2_stream *)base;
	MUST_BE(st, H2_STREAM_MAGIC);
	return st;
}

/* Nothing more can be sent: lost, reset, or the connection is ending. */
static bool deaf(const struct h2_stream *st)
{
	const struct h2_session *s = h2_session_of(st);
	return st->over || st->reset_due || s->finished || s->closed || (st->head_queued && !st->open);
}

static size_t h2_send_room(const struct http_stream *base)
{
	const struct h2_stream *st = stream_in(base);
	const struct h2_session *s = h2_session_of(st);
	size_t mark = s->queued > H2_QUEUE_MARK ? H2_STREAM_MARK_LOW : H2_STREAM_MARK;
	if (deaf(st) || st->out_ended || st->out.len >= mark)
		return 0;
	return mark - st->out.len;
}

static void resume(struct h2_session *s, struct h2_stream *st)
{
	if (st->deferred) {
		st->deferred = false;
		nghttp2_session_resume_data(s->ng, st->id);
	}
	h2_kick(s);
}

static void h2_send_body(struct http_stream *base, struct str bytes)
{
	struct h2_stream *st = stream_in(base);
	struct h2_session *s = h2_session_of(st);
	if (deaf(st) || st->plain || bytes.len == 0)
		return;
	MUST(st->head_queued && !st->out_ended);
	buf_add_str(&st->out, bytes);
	s->queued += bytes.len;
	st->room_low = st->room_low || st->out.len > H2_STREAM_MARK_LOW / 2;
	resume(s, st);
}

static void h2_send_end(struct http_stream *base, const struct fields *trailers)
{
	struct h2_stream *st = stream_in(base);
	if (deaf(st) || st->plain)
		return;
	MUST(st->head_queued && !st->out_ended);
	st->out_ended = true;
	if (trailers && trailers->len > 0)
		st->tr = h2_nv_copy(trailers);
	resume(h2_session_of(st), st);
}

static void h2_consumed(struct http_stream *base, size_t n)
{
	struct h2_stream *st = stream_in(base);
	struct h2_session *s = h2_session_of(st);
	if (n == 0)
		return;
	bool grown = h2_window_consumed(&st->win, n, loop_now_us(s->loop), s->rtt_us);
	if (!st->open || s->finished || s->closed || st->in_ended)
		return;
	nghttp2_session_consume_stream(s->ng, st->id, n);
	if (grown)
		nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, st->id, (int32_t)st->win.size);
	if (nghttp2_session_want_write(s->ng))
		h2_kick(s);
}

/* Where everything was sent but the peer still sends, the answer leaves first, then RST (NO_ERROR). */
static void cut(struct h2_stream *st, uint32_t code)
{
	if (code != NGHTTP2_NO_ERROR || !st->out_ended)
		h2_stream_rst(st, code);
	else if (!st->in_ended && st->out_left)
		h2_stream_rst(st, NGHTTP2_NO_ERROR);
	else
		st->end_reset = true;
}

/* The owner lets go. */
static void let_go(struct h2_stream *st, uint32_t code)
{
	bool lost = st->over || st->reset_due; /* its RST_STREAM, or a last answer, is on its way already */
	st->attached = false;
	st->over = true;
	list_remove(&st->due);
	if (!lost)
		cut(st, code);
	if (!h2_session_of(st)->closed)
		h2_stream_settle(st);
	else if (h2_session_of(st)->conn ==
		 NULL) /* else what closes it looks for itself, when callbacks have returned */
		free_unless_held(h2_session_of(st));
}

static void h2_reset(struct http_stream *base, enum reason reason, bool unprocessed)
{
	let_go(stream_in(base), unprocessed ? NGHTTP2_REFUSED_STREAM : reason_row(reason)->h2_code);
}

static void h2_reset_as(struct http_stream *base, uint32_t code)
{
	let_go(stream_in(base), code);
}

static void h2_close(struct http_stream *base)
{
	struct h2_stream *st = stream_in(base);
	let_go(st, st->out_ended ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
}

static void h2_drain(struct http_session *base)
{
	struct h2_session *s = (struct h2_session *)base;
	MUST_BE(s, H2_SESSION_MAGIC);
	h2_time_drain(s);
}

static size_t h2_held(const struct http_session *base)
{
	const struct h2_session *s = (const struct h2_session *)base;
	return s->queued + (s->conn != NULL ? conn_held(s->conn) : 0);
}

static void h2_rest(struct http_session *base)
{
	struct h2_session *s = (struct h2_session *)base;
	if (s->n_streams == 0 && s->why == REASON_NONE && !s->finished && !s->closed &&
	    !nghttp2_session_want_write(s->ng))
		h2_mem_rest(&s->mem);
}

static uint32_t h2_open_streams(const struct http_session *base)
{
	return ((const struct h2_session *)base)->n_streams;
}

static struct conn *h2_conn(const struct http_session *base)
{
	return ((const struct h2_session *)base)->conn;
}

const struct codec_ops codec_h2 = {
    .name = "h2",
    .session_new = h2_session_new,
    .room = h2_room,
    .peer = h2_peer,
    .open = h2_open,
    .send_head = h2_send_head,
    .send_room = h2_send_room,
    .send_body = h2_send_body,
    .send_end = h2_send_end,
    .consumed = h2_consumed,
    .reset = h2_reset,
    .reset_as = h2_reset_as,
    .close = h2_close,
    .drain = h2_drain,
    .last = h2_drain,
    .session_close = h2_session_close,
    .held = h2_held,
    .rest = h2_rest,
    .open_streams = h2_open_streams,
    .conn = h2_conn,
};
