/* SPDX-License-Identifier: Apache-2.0 */
/* h2_world.c: see h2_world.h. */
#include "tests/unit/lib/h2_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS 20000

static char block[16384];

static void copy_text(char *to, size_t size, struct str s)
{
	size_t n = MIN(s.len, size - 1);
	if (n)
		memcpy(to, s.p, n);
	to[n] = 0;
}

/* --- server side --- */

static void serving_free(struct serving *x)
{
	list_remove(&x->node);
	x->w->n_servings--;
	buf_done(&x->held);
	arena_done(&x->arena);
	mem_free(x);
}

/* An owner's act in the middle of a callback. True: the stream is gone, and x with it. */
static bool broke(struct serving *x, enum breakpoint at)
{
	struct world *w = x->w;
	if (w->break_at != at)
		return false;
	if (w->break_by == BY_RESET)
		codec_h2.reset(x->st, REASON_INTERNAL, false);
	else if (w->break_by == BY_CLOSE)
		codec_h2.close(x->st);
	else {
		codec_h2.session_close(&w->server);
		w->server_closed = true;
		codec_h2.close(x->st);
	}
	serving_free(x);
	return true;
}

static void serving_over(struct serving *x)
{
	if (!x->ended || !x->out_ended)
		return;
	codec_h2.close(x->st);
	serving_free(x);
}

static void answer(struct serving *x, uint16_t status, bool end)
{
	struct message m;
	message_init(&m, &x->arena, false);
	m.status = status;
	m.framing = end ? FRAMING_NONE : FRAMING_CHUNKED;
	ck_assert(message_add(&m, STR("X-Answer"), STR("yes"), true));
	ck_assert(message_add(&m, STR("Connection"), STR("close"), true));
	codec_h2.send_head(x->st, &m, end);
	x->answered = status >= 200;
	x->out_ended = end;
}

static void push(struct serving *x)
{
	size_t room;
	while (x->held.len > 0 && (room = codec_h2.send_room(x->st)) > 0) {
		struct str p = buf_peek(&x->held);
		p.len = MIN(p.len, room);
		codec_h2.send_body(x->st, p);
		codec_h2.consumed(x->st, p.len);
		buf_drain(&x->held, p.len);
	}
	while (x->to_send > 0 && (room = codec_h2.send_room(x->st)) > 0) {
		size_t n = MIN(MIN(room, sizeof(block)), x->to_send);
		codec_h2.send_body(x->st, str_make(block, n));
		x->to_send -= n;
	}
	if (!x->answered || x->out_ended || x->held.len > 0 || x->to_send > 0 || (x->echo && !x->ended))
		return;
	codec_h2.send_end(x->st, NULL);
	x->out_ended = true;
	serving_over(x);
}

static void note(struct world *w, const struct message *m)
{
	const struct field *f = message_get(m, "cookie");
	copy_text(w->path, sizeof(w->path), m->path);
	copy_text(w->authority, sizeof(w->authority), m->authority);
	copy_text(w->protocol, sizeof(w->protocol), m->protocol);
	copy_text(w->method, sizeof(w->method), m->method);
	copy_text(w->cookie, sizeof(w->cookie), f ? f->value : STR(""));
	w->fields = m->fields.len;
	w->framing = m->framing;
	w->te = message_get(m, "te") != NULL;
}

static void s_head(void *ctx, struct message *m)
{
	struct serving *x = ctx;
	note(x->w, m);
	x->m = m;
	copy_text(x->path, sizeof(x->path), m->path);
	if (broke(x, BREAK_HEAD))
		return;
	if (strcmp(x->path, "/echo") == 0 || m->framing == FRAMING_TUNNEL) {
		x->echo = true;
		answer(x, 200, false);
	} else if (strncmp(x->path, "/big/", 5) == 0) {
		x->to_send = strtoul(x->path + 5, NULL, 10);
		answer(x, 200, false);
		push(x);
	} else if (strcmp(x->path, "/refuse") == 0) {
		codec_h2.reset(x->st, REASON_REFUSED, true);
		serving_free(x);
	} else if (strcmp(x->path, "/early") == 0) {
		answer(x, 413, true);
		codec_h2.reset(x->st, REASON_NONE, false);
		serving_free(x);
	} else if (strcmp(x->path, "/hints") == 0) {
		answer(x, 103, false);
		answer(x, 103, false);
	}
}

static void s_body(void *ctx, struct str bytes)
{
	struct serving *x = ctx;
	if (broke(x, BREAK_BODY))
		return;
	x->got += bytes.len;
	if (strcmp(x->path, "/stall") == 0)
		return;
	if (!x->echo) {
		codec_h2.consumed(x->st, bytes.len);
		return;
	}
	buf_add_str(&x->held, bytes);
	push(x);
}

static void s_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	struct serving *x = ctx;
	if (broke(x, BREAK_TRAILERS))
		return;
	x->trailers_in = f->len == 1 && str_is(f->v[0].name, "x-sum") && str_is(f->v[0].value, "42");
}

static void send_sum(struct serving *x)
{
	struct fields t = {0};
	char text[32];
	int n = snprintf(text, sizeof(text), "%zu", x->got);
	ck_assert(fields_add(&t, &x->arena, STR("X-Bytes"), str_make(text, (size_t)n), false));
	answer(x, 200, false);
	if (x->trailers_in)
		codec_h2.send_body(x->st, STR("with trailers"));
	codec_h2.send_end(x->st, &t);
	x->out_ended = true;
}

static void s_end(void *ctx)
{
	struct serving *x = ctx;
	x->ended = true;
	if (broke(x, BREAK_END))
		return;
	if (strcmp(x->path, "/hold") == 0 || strcmp(x->path, "/stall") == 0)
		return;
	if (x->answered && !x->out_ended) {
		push(x);
		return;
	}
	if (!x->answered && str_is(x->m->method, "HEAD"))
		answer(x, 200, true);
	else if (!x->answered)
		send_sum(x);
	serving_over(x);
}

static void s_reset(void *ctx, const struct http_reset *why)
{
	struct serving *x = ctx;
	x->w->server_reset = *why;
	x->w->server_resets++;
	if (broke(x, BREAK_RESET))
		return;
	codec_h2.close(x->st);
	serving_free(x);
}

static void s_room(void *ctx)
{
	struct serving *x = ctx;
	if (!broke(x, BREAK_ROOM))
		push(x);
}

static const struct http_stream_events serving_events = {s_head, s_body, s_trailers, s_end, s_reset, s_room};

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct world *w = ctx;
	struct serving *x = NEW(struct serving);
	x->w = w;
	x->st = st;
	arena_init(&x->arena, 64 << 10);
	buf_init(&x->held, 1 << 20);
	list_push(&w->servings, &x->node);
	w->n_servings++;
	w->streams_seen++;
	if (w->turn_us != loop_now_us(w->loop)) {
		w->turn_us = loop_now_us(w->loop);
		w->turn_streams = 0;
	}
	w->turn_streams++;
	w->most_a_turn = MAX(w->most_a_turn, w->turn_streams);
	*ret_ev = &serving_events;
	*ret_ctx = x;
	*ret_arena = &x->arena;
	return true;
}

static void s_closed(void *ctx, enum reason why, const struct err *err)
{
	struct world *w = ctx;
	w->server_closed = true;
	w->server_reason = why;
	w->server_err = *err;
	codec_h2.session_close(&w->server);
}

static void s_draining(void *ctx)
{
	((struct world *)ctx)->server_draining = true;
}

static const struct http_session_events server_events = {
    .on_stream = on_stream, .on_draining = s_draining, .on_closed = s_closed};

/* --- client side --- */

uint64_t call_sum(size_t n)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += (uint8_t)block[i % sizeof(block)] ^ (i % 251);
	return sum;
}

static void call_push(struct call *c)
{
	size_t room;
	while (c->st && c->sent < c->to_send && (room = codec_h2.send_room(c->st)) > 0) {
		size_t at = c->sent % sizeof(block);
		size_t n = MIN(MIN(room, sizeof(block) - at), c->to_send - c->sent);
		codec_h2.send_body(c->st, str_make(block + at, n));
		c->sent += n;
	}
	if (c->st && c->sent == c->to_send && !c->out_ended) {
		codec_h2.send_end(c->st, NULL);
		c->out_ended = true;
	}
}

static void call_close(struct call *c)
{
	codec_h2.close(c->st);
	c->st = NULL;
}

static void c_head(void *ctx, struct message *m)
{
	struct call *c = ctx;
	const struct field *f = message_get(m, "x-answer");
	if (m->status < 200) {
		c->informational++;
		return;
	}
	c->status = m->status;
	copy_text(c->field, sizeof(c->field), f ? f->value : STR(""));
	ck_assert(message_get(m, "connection") == NULL);
}

static void c_body(void *ctx, struct str bytes)
{
	struct call *c = ctx;
	for (size_t i = 0; i < bytes.len; i++)
		c->sum += (uint8_t)bytes.p[i] ^ ((c->got + i) % 251);
	c->got += bytes.len;
	if (c->limit == 0)
		codec_h2.consumed(c->st, bytes.len);
	else
		c->unconsumed += bytes.len;
}

static void c_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	struct call *c = ctx;
	for (size_t i = 0; i < f->len; i++)
		if (str_is(f->v[i].name, "x-bytes"))
			copy_text(c->trailer, sizeof(c->trailer), f->v[i].value);
}

static void c_end(void *ctx)
{
	struct call *c = ctx;
	c->ended = true;
	if (c->out_ended)
		call_close(c);
}

static void c_reset(void *ctx, const struct http_reset *why)
{
	struct call *c = ctx;
	c->reset = true;
	c->why = *why;
	call_close(c);
}

static void c_room(void *ctx)
{
	struct call *c = ctx;
	if (c->to_send != BODY_OPEN)
		call_push(c);
	if (c->ended && c->out_ended && c->st)
		call_close(c);
}

static const struct http_stream_events call_events = {c_head, c_body, c_trailers, c_end, c_reset, c_room};

static void c_ready(void *ctx)
{
	struct world *w = ctx;
	w->client_ready = true;
	w->readies++;
}

static void c_idle(void *ctx, bool idle)
{
	((struct world *)ctx)->client_idle = idle;
}

static void c_draining(void *ctx)
{
	((struct world *)ctx)->client_draining = true;
}

static void c_closed(void *ctx, enum reason why, const struct err *err)
{
	struct world *w = ctx;
	w->client_closed = true;
	w->client_reason = why;
	w->client_err = *err;
	codec_h2.session_close(&w->client);
}

static const struct http_session_events client_events = {
    .on_ready = c_ready, .on_idle = c_idle, .on_draining = c_draining, .on_closed = c_closed};

void call_open(struct world *w, struct call *c)
{
	memset(c, 0, sizeof(*c));
	c->w = w;
	c->to_send = BODY_OPEN;
	arena_init(&c->arena, 64 << 10);
	ck_assert_uint_gt(codec_h2.room(w->client), 0);
	c->st = codec_h2.open(w->client, &call_events, c, &c->arena);
}

void call_start(struct world *w, struct call *c, const char *method, const char *path, size_t body)
{
	struct message m;
	call_open(w, c);
	message_init(&m, &c->arena, true);
	m.method = str_of(method);
	m.scheme = STR("http");
	m.authority = STR("orders:8080");
	m.path = str_of(path);
	m.framing = body ? FRAMING_CHUNKED : FRAMING_NONE;
	ck_assert(message_add(&m, STR("X-MiXeD"), STR("a"), true));
	ck_assert(message_add(&m, STR("Keep-Alive"), STR("timeout=5"), true));
	ck_assert(message_add(&m, STR("TE"), STR("gzip"), true));
	codec_h2.send_head(c->st, &m, body == 0);
	c->out_ended = body == 0;
	c->to_send = body;
	if (body != 0 && body != BODY_OPEN)
		call_push(c);
}

void call_done(struct call *c)
{
	arena_done(&c->arena);
}

/* --- running --- */

static const struct conn_events no_events;

static void world_new(struct world *w, int fd[2])
{
	memset(w, 0, sizeof(*w));
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)(i * 7);
	w->raw = -1;
	list_init(&w->servings);
	ck_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
	w->loop = loop_new(NULL);
	ck_assert_ptr_nonnull(w->loop);
}

static void attach(struct world *w, int fd, enum http_role role, const struct http_limits *lim)
{
	struct conn *c = conn_new(w->loop, fd, &no_events, NULL);
	bool server = role == HTTP_SERVER;
	struct http_session *s = codec_h2.session_new(c, role, lim ? lim : &http_limits_default,
						      server ? &server_events : &client_events, w);
	*(server ? &w->server : &w->client) = s;
}

void world_pair(struct world *w, const struct http_limits *server, const struct http_limits *client)
{
	int fd[2];
	world_new(w, fd);
	attach(w, fd[0], HTTP_SERVER, server);
	attach(w, fd[1], HTTP_CLIENT, client);
	ck_assert_uint_eq(codec_h2.room(w->client), 0); /* nothing before the peer's SETTINGS */
	ck_assert(until(w, is_ready, w));
}

void world_raw(struct world *w, enum http_role role, const struct http_limits *lim)
{
	int fd[2];
	world_new(w, fd);
	attach(w, fd[0], role, lim);
	w->raw = fd[1];
}

struct waiting {
	struct timer t;
	bool (*cond)(void *);
	void *arg;
	uint64_t until;
	bool met;
};

static void look(struct timer *t)
{
	struct waiting *wait = CONTAINER_OF(t, struct waiting, t);
	wait->met = wait->cond && wait->cond(wait->arg);
	if (wait->met || loop_now_ms(t->loop) > wait->until)
		loop_stop(t->loop);
	else
		timer_start(t, 1);
}

static bool run(struct world *w, bool (*cond)(void *), void *arg, uint64_t ms)
{
	struct waiting wait = {.cond = cond, .arg = arg, .until = loop_now_ms(w->loop) + ms};
	timer_init(&wait.t, w->loop, look);
	timer_start(&wait.t, 1);
	loop_run(w->loop);
	timer_stop(&wait.t);
	return wait.met;
}

bool until(struct world *w, bool (*cond)(void *), void *arg)
{
	return run(w, cond, arg, DEADLINE_MS);
}

void run_ms(struct world *w, uint64_t ms)
{
	run(w, NULL, NULL, ms);
}

void world_done(struct world *w)
{
	codec_h2.session_close(&w->client);
	codec_h2.session_close(&w->server);
	list_for_each_safe (x, &w->servings, struct serving, node) {
		codec_h2.close(x->st);
		serving_free(x);
	}
	if (w->raw >= 0)
		close(w->raw);
	run_ms(w, 2);
	loop_free(&w->loop);
	ck_assert_uint_eq(h2_budget_used(), 0);
}

bool is_ready(void *world)
{
	return ((struct world *)world)->client_ready;
}
bool is_over(void *call)
{
	const struct call *c = call;
	return c->ended || c->reset;
}
bool server_gone(void *world)
{
	return ((struct world *)world)->server_closed;
}
bool client_gone(void *world)
{
	return ((struct world *)world)->client_closed;
}
bool both_gone(void *world)
{
	return server_gone(world) && client_gone(world);
}
bool no_servings(void *world)
{
	return ((struct world *)world)->n_servings == 0;
}
