/* SPDX-License-Identifier: Apache-2.0 */
/* h2.c (fuzz): bytes of a hostile peer into codec_h2, both roles, with owners that answer, stall, reset and close in the
 * middle of callbacks as the first two bytes say. The connection is a real socket pair on a real loop: nothing is stubbed. */
#include "lib/http/codec.h"
#include "lib/http/h2_window.h"
#include "lib/mem.h"

#include <sys/socket.h>
#include <unistd.h>

#define STREAMS_MAX 256

struct owner {
	struct world *w;
	struct http_stream *st;
	struct arena arena;
	bool used, answered, ended;
};

struct world {
	struct loop *loop;
	struct http_session *s;
	struct owner owner[STREAMS_MAX];
	unsigned n;
	uint8_t mood; /* what owners do, and when */
	unsigned turn;
	struct timer stop;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A wilful act in about every eighth callback. True: the stream is gone. */
static bool act(struct owner *o)
{
	struct world *w = o->w;
	unsigned at = w->turn++;
	if ((w->mood & 7) != (at & 7))
		return false;
	if (w->mood & 8)
		codec_h2.reset(o->st, REASON_INTERNAL, w->mood & 16);
	else if (w->mood & 16)
		codec_h2.close(o->st);
	else if ((w->mood & 32) && w->s)
		codec_h2.session_close(&w->s);
	else
		return false;
	o->st = NULL;
	return true;
}

static void answer(struct owner *o, bool end)
{
	struct message m;
	message_init(&m, &o->arena, false);
	m.status = 200;
	m.framing = FRAMING_CHUNKED;
	o->answered = true;
	codec_h2.send_head(o->st, &m, end);
	if (end)
		return;
	static const char block[20000];
	codec_h2.send_body(o->st, str_make(block, sizeof(block)));
	struct fields t = {0};
	if (fields_add(&t, &o->arena, STR("x"), STR("y"), true))
		codec_h2.send_end(o->st, &t);
}

static void on_head(void *ctx, struct message *m)
{
	struct owner *o = ctx;
	if (o->w->s && !act(o) && m->request && !(o->w->mood & 64))
		answer(o, o->w->mood & 128);
}
static void on_body(void *ctx, struct str bytes)
{
	struct owner *o = ctx;
	if (!act(o) && !(o->w->mood & 128))
		codec_h2.consumed(o->st, bytes.len);
}
static void on_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	act(ctx);
}
static void on_end(void *ctx)
{
	struct owner *o = ctx;
	o->ended = true;
	if (act(o) || !o->answered)
		return;
	codec_h2.close(o->st);
	o->st = NULL;
}
static void on_reset(void *ctx, const struct http_reset *why)
{
	struct owner *o = ctx;
	if (act(o))
		return;
	codec_h2.close(o->st);
	o->st = NULL;
}
static void on_room(void *ctx)
{
	act(ctx);
}
static const struct http_stream_events stream_events = {on_head, on_body, on_trailers, on_end, on_reset, on_room};

static struct owner *owner_new(struct world *w)
{
	if (w->n == STREAMS_MAX)
		return NULL;
	struct owner *o = &w->owner[w->n++];
	o->w = w;
	o->used = true;
	arena_init(&o->arena, 64 << 10);
	return o;
}

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct owner *o = owner_new(ctx);
	if (!o)
		return false;
	o->st = st;
	*ret_ev = &stream_events;
	*ret_ctx = o;
	*ret_arena = &o->arena;
	return true;
}

static void on_ready(void *ctx)
{
	struct world *w = ctx;
	for (int i = 0; i < 3 && w->s && codec_h2.room(w->s) > 0; i++) {
		struct owner *o = owner_new(w);
		struct message m;
		if (!o)
			return;
		o->st = codec_h2.open(w->s, &stream_events, o, &o->arena);
		message_init(&m, &o->arena, true);
		m.method = i == 1 ? STR("HEAD") : i == 2 ? STR("CONNECT") : STR("POST");
		m.authority = STR("a");
		m.path = STR("/");
		m.scheme = STR("http");
		m.framing = FRAMING_CHUNKED;
		o->answered = true;
		codec_h2.send_head(o->st, &m, i == 1);
		if (i == 0)
			codec_h2.send_body(o->st, STR("hello"));
		if (i == 0)
			codec_h2.send_end(o->st, NULL);
	}
}

static void on_closed(void *ctx, enum reason why, const struct err *err)
{
	struct world *w = ctx;
	codec_h2.session_close(&w->s);
	loop_stop(w->loop);
}

static const struct http_session_events session_events = {
    .on_stream = on_stream,
    .on_ready = on_ready,
    .on_closed = on_closed,
};

static void stop(struct timer *t)
{
	loop_stop(t->loop);
}

static const struct conn_events no_events;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;
	struct world *w = &world;
	int fd[2];
	if (size < 2 || size > 100000 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0)
		return 0;
	enum http_role role = data[0] & 1 ? HTTP_CLIENT : HTTP_SERVER;
	memset(w, 0, sizeof(*w));
	w->mood = data[1];
	w->loop = loop_new(NULL);
	w->s = codec_h2.session_new(conn_new(w->loop, fd[0], &no_events, NULL), role, &http_limits_default,
				    &session_events, w);
	/* Without bit 1 the preface and an empty SETTINGS come first, so that the fuzzer need not find them. */
	if (!(data[0] & 2)) {
		static const char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
		size_t skip = role == HTTP_CLIENT ? 24 : 0;
		if (send(fd[1], start + skip, sizeof(start) - 1 - skip, MSG_NOSIGNAL) < 0)
			goto out;
	}
	if (send(fd[1], data + 2, size - 2, MSG_NOSIGNAL) < 0)
		goto out;
	shutdown(fd[1], SHUT_WR);
	timer_init(&w->stop, w->loop, stop);
	timer_start(&w->stop, 50); /* at most; the end of the stream ends it at once */
	loop_run(w->loop);
	timer_stop(&w->stop);
out:
	if (w->s)
		codec_h2.session_close(&w->s);
	timer_init(&w->stop, w->loop, stop);
	timer_start(&w->stop, 1);
	loop_run(w->loop);
	for (unsigned i = 0; i < w->n; i++)
		arena_done(&w->owner[i].arena);
	close(fd[1]);
	loop_free(&w->loop);
	MUST(h2_budget_used() == 0);
	return 0;
}
