/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz emit: a head that came over HTTP/2, from anyone or from a hostile sidecar, is sent on by the codec of HTTP/1. What leaves must be
 * for the strict parser exactly one message with those fields and that body: nothing that a peer says in HTTP/2 may become a field, a
 * body or a message of its own. (It may be refused: then nothing of it leaves.)
 *
 * The first byte says: bit 0 a response, bit 1 by a sidecar, bit 2 END_STREAM, bits 3-4 what a response answers. Then fields: name and
 * value, each behind its length; a length of 0xe0 and more is a name of the table. */
#include "proxy/hop.h"

#include "lib/http/h2_head.h"
#include "lib/mem.h"
#include "proxy/pool.h"
#include "tests/fuzz/input.h"
#include "tests/unit/lib/http1_read.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_MAX      (60u << 10)
#define FIELDS_MAX   95 /* HTTP/2 takes some more than the parser of HTTP/1 that is asked here */
#define FIELDS_BYTES (30u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const asked_as[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
};

struct world { /* an HTTP/1 connection on which one message is sent */
	struct loop *loop;
	struct http_session *s;
	struct http_stream *st;
	struct arena arena;
	struct message *m;
	bool end, lost;
};

static void on_reset(void *ctx, const struct http_reset *why)
{
	((struct world *)ctx)->lost = true;
}

static void send_it(struct world *w)
{
	codec_h1.send_head(w->st, w->m, w->end);
	if (w->end)
		return;
	codec_h1.send_body(w->st, str_make("hello", w->m->has_length ? MIN(w->m->content_length, 5u) : 5));
	codec_h1.send_end(w->st, NULL);
}

static void on_head(void *ctx, struct message *m)
{
	struct world *w = ctx;
	if (m->request)
		send_it(w);
}

static const struct http_stream_events stream_events = {.on_head = on_head, .on_reset = on_reset};

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct world *w = ctx;
	w->st = st;
	*ret_ev = &stream_events;
	*ret_ctx = w;
	*ret_arena = &w->arena;
	return true;
}

static void on_ready(void *ctx)
{
	struct world *w = ctx;
	if (w->st)
		return;
	w->st = codec_h1.open(w->s, &stream_events, w, &w->arena);
	send_it(w);
}

static void on_closed(void *ctx, enum reason why, const struct err *err)
{
}

static const struct http_session_events session_events = {
    .on_stream = on_stream, .on_ready = on_ready, .on_closed = on_closed};

static void stop(struct timer *t)
{
	loop_stop(t->loop);
}

/* What leaves for the message, into `out`. */
static size_t emit(struct world *w, const char *question, char *out)
{
	struct timer t;
	int fd[2];
	size_t n = 0;
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
	w->loop = loop_new(NULL);
	arena_init(&w->arena, HTTP1_ARENA_MIN);
	struct conn *c = conn_new(w->loop, fd[0], &(struct conn_events){0}, NULL);
	w->s = codec_h1.session_new(c, w->m->request ? HTTP_CLIENT : HTTP_SERVER, &http_limits_default, &session_events,
				    w);
	if (!w->m->request)
		MUST(send(fd[1], question, strlen(question), MSG_NOSIGNAL) > 0);
	timer_init(&t, w->loop, stop);
	for (int turn = 0; turn < 2; turn++) {
		timer_start(&t, 0);
		loop_run(w->loop);
	}
	for (ssize_t got; n < OUT_MAX && (got = recv(fd[1], out + n, OUT_MAX - n, MSG_DONTWAIT)) > 0;)
		n += (size_t)got;
	codec_h1.session_close(&w->s);
	if (w->st)
		codec_h1.close(w->st);
	timer_start(&t, 0);
	loop_run(w->loop);
	loop_free(&w->loop);
	arena_done(&w->arena);
	close(fd[1]);
	return n;
}

static bool is_written(const struct message *m, const struct message *sent, struct str name)
{
	static const char *const ours[] = {"host",           "upgrade",        "connection",       "keep-alive",
					   "content-length", "http2-settings", "proxy-connection", "transfer-encoding"};
	for (size_t i = m->request ? 0 : 1; i < ARRAY_LEN(ours); i++)
		if (str_ieq(name, str_of(ours[i])))
			return false;
	return !(m->request && sent->version == HTTP_1_0 && str_ieq(name, STR("expect")));
}

/* But for white space behind commas. */
static bool same_list(struct str a, struct str b)
{
	struct str one, other;
	bool more = true, more_b = true;
	while (more && more_b) {
		more = str_cut(a, ',', &one, &a);
		more_b = str_cut(b, ',', &other, &b);
		if (!str_eq(str_trim(one), str_trim(other)))
			return false;
	}
	return more == more_b;
}

/* `m` was to be sent, `sent` is what the parser made of it. */
static void check_same(const struct message *m, const struct message *sent)
{
	size_t k = 0;
	if (m->request) {
		bool connect = str_is(m->method, "CONNECT") && m->protocol.len == 0;
		MUST(str_eq(sent->authority, m->authority) || str_starts(m->authority, sent->authority));
		MUST(connect || str_eq(sent->path, m->path));
		MUST(str_eq(sent->method, m->protocol.len && !m->has_length ? STR("GET") : m->method));
		MUST(sent->protocol.len == 0 || same_list(sent->protocol, m->protocol));
	} else
		MUST(sent->status == m->status || (sent->status == 101 && m->status / 100 == 2));
	for (size_t i = 0; i < m->fields.len; i++) {
		struct field f = m->fields.v[i];
		bool again = str_ieq(f.name, STR("te")) && message_get(m, "te") != &m->fields.v[i]; /* once is enough */
		if (again || !is_written(m, sent, f.name))
			continue;
		MUST(k < sent->fields.len && str_eq(sent->fields.v[k].name, f.name));
		MUST(str_eq(sent->fields.v[k++].value, f.value));
	}
	MUST(k == sent->fields.len || (k + 1 == sent->fields.len && m->expect_continue));
}

static void check_sent(const struct world *w, struct str out, struct http1_asked asked)
{
	struct http1_read r;
	if (out.len == 0 || out.len > FIELDS_BYTES || w->m->fields.len > FIELDS_MAX)
		return;
	http1_read(&r, out, 0, SIZE_MAX, w->m->request, asked);
	if (!r.m)
		fprintf(stderr, "refused: %zu bytes\n%.300s\n", out.len, out.p);
	MUST(r.m != NULL);
	bool cut = w->m->has_length && w->m->content_length > 5; /* as its sender cut it: the connection ends there */
	if (w->lost && !cut)                                     /* the codec said no in its own words, or nothing */
		MUST(!w->m->request && r.m->status >= 500);
	else if (!w->lost) {
		bool to_the_end = r.m->framing == FRAMING_CLOSE || r.m->framing == FRAMING_TUNNEL;
		bool interim = !w->m->request && r.m->status < 200 && r.m->status != 101;
		check_same(w->m, r.m);
		if (!interim && !cut)
			MUST((r.step == HTTP1_DONE || to_the_end) && r.used == out.len);
		MUST(to_the_end || r.body.len <= 5);
	}
	http1_read_done(&r);
}

/* Of pseudo-fields nghttp2 lets through only what belongs together. */
static bool is_sound(const struct message *m)
{
	bool connect = str_is(m->method, "CONNECT");
	return !m->request || (connect ? m->protocol.len > 0 || m->path.len == 0 : m->protocol.len == 0);
}

static struct message *read_head(struct input *in, uint8_t how, struct arena *a)
{
	static const char *const names[] = {":method",
					    ":scheme",
					    ":authority",
					    ":path",
					    ":protocol",
					    ":status",
					    "content-length",
					    "x-weft-case",
					    "x-weft-version",
					    "x-weft-reason",
					    "x-weft-framing",
					    "x-weft-close",
					    "x-weft-target",
					    "x-weft-upgrade",
					    "x-weft-declined",
					    "x-weft-error",
					    "host",
					    "expect",
					    "te",
					    "http2-settings",
					    "cookie",
					    "trailer",
					    "x-forwarded-for",
					    "upgrade",
					    "connection",
					    "transfer-encoding"};
	enum h2_asked asked = how >> 3 & 3 ? (how >> 3 & 3) == 1 ? H2_ASKED_HEAD : H2_ASKED_CONNECT : H2_ASKED_OTHER;
	struct http_limits lim = pool_limits(0);
	struct h2_head h;
	h2_head_begin(&h, a, !(how & 1), false);
	while (in->left > 0) {
		size_t n = input_byte(in);
		struct str name = n >= 0xe0 ? str_of(names[(n - 0xe0) % ARRAY_LEN(names)]) : input_text(in, n);
		struct str value = input_short(in);
		bool pseudo = n >= 0xe0 && n < 0xe6;
		/* as nghttp2 lets it through */
		if ((!pseudo && !nghttp2_check_header_name((const uint8_t *)name.p, name.len)) ||
		    !nghttp2_check_header_value((const uint8_t *)value.p, value.len) ||
		    str_trim(value).len != value.len || (str_is(name, "te") && !str_is(value, "trailers")))
			continue;
		h2_head_field(&h, &lim, name, value);
	}
	h2_head_end(&h, &lim, how & 4, asked);
	if (h.bad == REASON_NONE && !is_sound(h.m))
		return NULL;
	if (h.bad == REASON_NONE && !(how & 2))
		hop_strip(h.m);
	return h.bad == REASON_NONE && (!(how & 2) || hop_decode(h.m, NULL)) ? h.m : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char out[OUT_MAX];
	struct arena arena;
	struct input in = {data + 1, size - 1};
	if (size < 2)
		return 0;
	const char *question = asked_as[data[0] >> 3 & 3];
	struct http1_asked asked = {.head = question[0] == 'H', .connect = question[0] == 'C'};
	if ((data[0] >> 3 & 3) == 3)
		asked.upgrade = STR("foo");
	arena_init(&arena, 192u << 10);
	struct world w = {.m = read_head(&in, data[0], &arena), .end = data[0] & 4};
	if (w.m && (!w.m->request || w.m->protocol.len)) /* who asks, and for what, is known to who answers */
		asked.upgrade = w.m->protocol.len ? w.m->protocol : asked.upgrade;
	/* a sidecar that opens two protocols at once: the client's own parser refuses that, ours too */
	bool two = w.m && !w.m->request && w.m->protocol.len && memchr(w.m->protocol.p, ',', w.m->protocol.len);
	if (w.m && !two) {
		w.end = w.m->framing == FRAMING_NONE;
		check_sent(&w, str_make(out, emit(&w, question, out)), asked);
	}
	arena_done(&arena);
	return 0;
}
