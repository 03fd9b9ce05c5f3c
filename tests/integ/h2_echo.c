/* SPDX-License-Identifier: Apache-2.0 */
/* h2_echo.c: an HTTP/2 echo server by codec_h2 alone, without TLS, for test_h2_codec.py: listens on a port of 127.0.0.1, prints it,
 * sends every request body back (with a trailer x-bytes), until its standard input ends. */
#include "lib/http/codec.h"
#include "lib/listener.h"
#include "lib/mem.h"

#include <stdio.h>
#include <unistd.h>

struct echo {
	struct http_stream *st;
	struct arena arena;
	struct buf held;
	size_t got;
	bool ended;
};

struct peer {
	struct http_session *s;
};

static struct loop *loop;

static void echo_free(struct echo *e)
{
	codec_h2.close(e->st);
	buf_done(&e->held);
	arena_done(&e->arena);
	mem_free(e);
}

static void push(struct echo *e)
{
	struct fields t = {0};
	char text[24];
	size_t room;
	while (e->held.len > 0 && (room = codec_h2.send_room(e->st)) > 0) {
		struct str p = buf_peek(&e->held);
		p.len = MIN(p.len, room);
		codec_h2.send_body(e->st, p);
		codec_h2.consumed(e->st, p.len);
		buf_drain(&e->held, p.len);
	}
	if (!e->ended || e->held.len > 0)
		return;
	int n = snprintf(text, sizeof(text), "%zu", e->got);
	MUST(fields_add(&t, &e->arena, STR("x-bytes"), str_make(text, (size_t)n), false));
	codec_h2.send_end(e->st, &t);
	echo_free(e);
}

static void on_head(void *ctx, struct message *in)
{
	struct echo *e = ctx;
	struct message m;
	message_init(&m, &e->arena, false);
	m.status = 200;
	m.framing = FRAMING_CHUNKED;
	codec_h2.send_head(e->st, &m, false);
}
static void on_body(void *ctx, struct str bytes)
{
	struct echo *e = ctx;
	e->got += bytes.len;
	buf_add_str(&e->held, bytes);
	push(e);
}
static void on_trailers(void *ctx, const struct fields *f, struct arena *a)
{
}
static void on_end(void *ctx)
{
	struct echo *e = ctx;
	e->ended = true;
	push(e);
}
static void on_reset(void *ctx, const struct http_reset *why)
{
	echo_free(ctx);
}
static void on_room(void *ctx)
{
	push(ctx);
}
static const struct http_stream_events echo_events = {on_head, on_body, on_trailers, on_end, on_reset, on_room};

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct echo *e = NEW(struct echo);
	e->st = st;
	arena_init(&e->arena, 64 << 10);
	buf_init(&e->held, 1 << 20);
	*ret_ev = &echo_events;
	*ret_ctx = e;
	*ret_arena = &e->arena;
	return true;
}

static void on_closed(void *ctx, enum reason why, const struct err *err)
{
	struct peer *p = ctx;
	printf("closed %s\n", reason_row(why)->label);
	fflush(stdout);
	codec_h2.session_close(&p->s);
	mem_free(p);
}

static const struct http_session_events session_events = {.on_stream = on_stream, .on_closed = on_closed};
static const struct conn_events no_events;

static void on_accept(void *ctx, int fd)
{
	struct peer *p = NEW(struct peer);
	p->s = codec_h2.session_new(conn_new(loop, fd, &no_events, NULL), HTTP_SERVER, &http_limits_default,
				    &session_events, p);
}

static void on_stdin(struct io *io, bool readable, bool writable)
{
	char c;
	if (read(0, &c, 1) <= 0)
		loop_stop(loop);
}

int main(void)
{
	struct addr a;
	struct err err;
	struct io in;
	loop = loop_new(&err);
	MUST(loop != NULL && addr_parse(STR("127.0.0.1:0"), &a));
	int fd = sock_listen_tcp(&a, false, 64, &err);
	MUST(fd >= 0 && sock_local(fd, &a));
	struct listener *l = listener_new(loop, fd, on_accept, NULL);
	io_init(&in, loop, 0, on_stdin);
	io_want(&in, true, false);
	printf("port %u\n", a.port);
	fflush(stdout);
	loop_run(loop);
	io_stop(&in);
	listener_free(&l);
	loop_free(&loop);
	return 0;
}
