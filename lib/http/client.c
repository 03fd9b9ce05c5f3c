/* SPDX-License-Identifier: Apache-2.0 */
/* client.c: one call over a connection of its own, on a loop of its own, until the whole answer is there or it failed. */
#include "lib/http/client.h"

#include <stdio.h>

#define CALL_ARENA (160 << 10)
#define SEND_PIECE (16u << 10)

static const uint8_t alpn_h2[] = "\x02h2\x08http/1.1";

/* Lives on the stack of http_call_wait(). */
struct call {
	const struct http_call *ask;
	struct http_answer answer;
	struct err err;
	bool done, ok;
	struct loop *loop;
	struct conn *conn; /* until the codec has it */
	struct http_session *session;
	struct http_stream *st;
	struct arena arena;
	struct timer timer;
	size_t sent;
	bool asked, sent_all;
};

static void finish(struct call *c, bool ok)
{
	if (c->done)
		return;
	c->done = true;
	c->ok = ok;
	loop_stop(c->loop);
}

static void fail(struct call *c, enum err_code code, const char *what)
{
	if (!c->done)
		err_set(&c->err, code, "%s %s%s: %s", c->ask->method, c->ask->authority, c->ask->path, what);
	finish(c, false);
}

/* --- the answer --- */

static void on_head(void *ctx, struct message *m)
{
	struct call *c = ctx;
	if (m->status < 200)
		return;
	const struct field *type = message_get(m, "content-type");
	c->answer.status = m->status;
	if (type)
		snprintf(c->answer.content_type, sizeof(c->answer.content_type), STR_FMT, STR_ARG(type->value));
}

static void on_body(void *ctx, struct str bytes)
{
	struct call *c = ctx;
	http_stream_ops(c->st)->consumed(c->st, bytes.len);
	if (c->answer.body.len + bytes.len > c->ask->answer_max)
		fail(c, ERR_LIMIT, "the answer is larger than what is taken");
	else
		buf_add_str(&c->answer.body, bytes);
}

static void on_end(void *ctx)
{
	finish(ctx, true);
}

static void on_reset(void *ctx, const struct http_reset *why)
{
	fail(ctx, ERR_CLOSED, reason_row(why->reason)->text);
}

/* --- the request --- */

static void pump(struct call *c)
{
	const struct codec_ops *ops = http_stream_ops(c->st);
	struct str body = c->ask->body;
	while (c->sent < body.len && ops->send_room(c->st)) {
		struct str piece = str_make(body.p + c->sent, MIN(body.len - c->sent, (size_t)SEND_PIECE));
		ops->send_body(c->st, piece);
		c->sent += piece.len;
	}
	if (c->sent < body.len || c->sent_all)
		return;
	c->sent_all = true;
	ops->send_end(c->st, NULL);
}

static void on_room(void *ctx)
{
	struct call *c = ctx;
	if (!c->done && c->asked)
		pump(c);
}

static const struct http_stream_events stream_events = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_room = on_room,
};

static bool head_of(struct call *c, struct message *m)
{
	const struct http_call *ask = c->ask;
	message_init(m, &c->arena, true);
	m->version = HTTP_1_1;
	m->method = str_of(ask->method);
	m->scheme = ask->dial.tls ? STR("https") : STR("http");
	m->authority = str_of(ask->authority);
	m->path = str_of(ask->path);
	m->has_length = ask->content_type != NULL;
	m->content_length = ask->body.len;
	m->framing = ask->content_type ? FRAMING_LENGTH : FRAMING_NONE;
	bool ok = !ask->content_type || message_add(m, STR("content-type"), str_of(ask->content_type), true);
	if (ask->bearer) {
		struct str value = arena_printf(&c->arena, "Bearer %s", ask->bearer);
		ok = ok && value.p && message_add(m, STR("authorization"), value, true);
	}
	return ok;
}

static void on_ready(void *ctx)
{
	struct call *c = ctx;
	const struct codec_ops *ops = http_session_ops(c->session);
	struct message m;
	if (c->done || c->asked)
		return;
	if (!head_of(c, &m)) {
		fail(c, ERR_LIMIT, "the token is too long");
		return;
	}
	bool body = c->ask->content_type && c->ask->body.len;
	c->asked = true;
	c->st = ops->open(c->session, &stream_events, c, &c->arena);
	c->sent_all = !body;
	ops->send_head(c->st, &m, !body);
	if (body)
		pump(c);
}

static void on_closed(void *ctx, enum reason reason, const struct err *err)
{
	struct call *c = ctx;
	fail(c, ERR_CLOSED, err ? err->text : reason_row(reason == REASON_NONE ? REASON_UPSTREAM_RESET : reason)->text);
}

static const struct http_session_events session_events = {.on_ready = on_ready, .on_closed = on_closed};

/* --- the connection --- */

static void on_open(void *ctx)
{
	struct call *c = ctx;
	const struct codec_ops *ops = str_is(conn_alpn(c->conn), "h2") ? &codec_h2 : &codec_h1;
	c->session = ops->session_new(c->conn, HTTP_CLIENT, &http_limits_default, &session_events, c);
	c->conn = NULL;
}

static void on_fail(void *ctx, const struct err *err)
{
	struct call *c = ctx;
	if (!c->done)
		c->err = *err;
	finish(c, false);
}

static const struct conn_events conn_events = {.on_open = on_open, .on_fail = on_fail};

static void on_timer(struct timer *t)
{
	struct call *c = CONTAINER_OF(t, struct call, timer);
	char text[64];
	snprintf(text, sizeof(text), "no whole answer within %llu ms", (unsigned long long)c->ask->timeout_ms);
	fail(c, ERR_TIMEOUT, text);
}

static void open_conn(struct call *c)
{
	struct conn_dial dial = c->ask->dial;
	if (dial.tls && !dial.alpn) {
		dial.alpn = alpn_h2;
		dial.alpn_len = sizeof(alpn_h2) - 1;
	}
	c->conn = conn_open(c->loop, &dial, &conn_events, c);
	timer_init(&c->timer, c->loop, on_timer);
	timer_start(&c->timer, c->ask->timeout_ms);
}

static void clean_up(struct call *c)
{
	timer_stop(&c->timer);
	if (c->st)
		http_stream_ops(c->st)->close(c->st);
	if (c->session)
		http_session_ops(c->session)->session_close(&c->session);
	conn_close(&c->conn);
	loop_free(&c->loop);
	arena_done(&c->arena);
}

bool http_call_wait(const struct http_call *call, struct http_answer *ret, struct err *err)
{
	struct call c = {.ask = call};
	MUST(call->method && call->authority && call->path && call->timeout_ms);
	c.loop = loop_new(err);
	if (!c.loop)
		return false;
	arena_init(&c.arena, CALL_ARENA);
	buf_init(&c.answer.body, call->answer_max);
	open_conn(&c);
	loop_run(c.loop);
	clean_up(&c);
	if (c.ok) {
		*ret = c.answer;
		return true;
	}
	buf_done(&c.answer.body);
	if (err)
		*err = c.err;
	return false;
}
