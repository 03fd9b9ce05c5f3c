/* SPDX-License-Identifier: Apache-2.0 */
/* codec_world.c: the owners answer, stall, reset and close in the middle of callbacks as the first bytes of the input say; the peer's
 * bytes come in pieces, one a turn, and what is sent to it is read or left. Turns of the loop are
 * counted, not time. */
#include "tests/fuzz/world/codec_world.h"

#include "lib/http/h2_window.h"
#include "lib/mem.h"

#include <sys/socket.h>
#include <unistd.h>

#define STREAMS_MAX 256
#define INPUT_MAX   100000
#define QUIET_TURNS 8 /* of the loop without an event: it stands still, for nobody outside has a part in it */

enum {
	ROLE_CLIENT = 1,
	NO_PREFACE = 2,
	PEER_READS = 4,
	PEER_STAYS = 8,
	LIMITS_LOW = 16,
	PEER_RESETS = 32,
	TURN_AWAY = 64
};
enum { ACT_RESET = 8, ACT_OTHER = 16, ACT_CLOSE_ALL = 32, ANSWER_LATE = 64, END_AT_ONCE = 128 };
enum { WHAT_STATUS = 7, WITH_LENGTH = 8, INTERIM = 16, UNTIL_CLOSE = 32, SAY_CLOSE = 64, DRAIN = 128 };
enum { PIECE = 63, WITH_FIELDS = 64, BIG_BODY = 128 }; /* data[0] to data[3] */
#define BIG_BYTES (200u << 10)

struct owner {
	struct world *w;
	struct http_stream *st; /* NULL: let go; nothing may be called then */
	struct arena arena;
	bool answered, final, trailers, ended, lost;
	bool sent_end;
	size_t left; /* bytes of its body still to be sent */
};

struct world {
	const struct codec_ops *ops;
	struct loop *loop;
	struct http_session *s;
	struct owner owner[STREAMS_MAX];
	unsigned n, turn, seen, quiet;
	uint8_t flags, mood, what, how;
	bool closed, draining, idle;
	int peer;
	struct str input;
	struct task send;
	struct timer still;
};

/* A wilful act in about every eighth callback. True: the stream is gone. */
static bool act(struct owner *o)
{
	struct world *w = o->w;
	unsigned at = w->turn++;
	if ((w->mood & 7) != (at & 7))
		return false;
	if ((w->mood & ACT_RESET) && (w->mood & ACT_CLOSE_ALL))
		w->ops->reset_as(o->st, 8);
	else if (w->mood & ACT_RESET)
		w->ops->reset(o->st, REASON_INTERNAL, w->mood & ACT_OTHER);
	else if (w->mood & ACT_OTHER)
		w->ops->close(o->st);
	else if (w->mood & ACT_CLOSE_ALL)
		w->ops->session_close(&w->s);
	else
		return false;
	if (w->s)
		o->st = NULL;
	return true;
}

/* Every event: the owner has the stream, the session is there, nothing came after the end. */
static struct owner *called(void *ctx)
{
	struct owner *o = ctx;
	MUST(o->st != NULL && o->w->s != NULL && !o->w->closed && !o->lost);
	return o;
}

static void send_more(struct owner *o)
{
	static const char block[16384];
	const struct codec_ops *ops = o->w->ops;
	struct fields t = {0};
	size_t room;
	while (o->left > 0 && (room = ops->send_room(o->st)) > 0) {
		size_t n = MIN(MIN(room, sizeof(block)), o->left);
		ops->send_body(o->st, str_make(block, n));
		o->left -= n;
	}
	if (o->left > 0 || o->sent_end || !fields_add(&t, &o->arena, STR("x"), STR("y"), true))
		return;
	o->sent_end = true;
	ops->send_end(o->st, &t);
}

static void send_some(struct owner *o)
{
	o->left = o->w->what & WITH_LENGTH ? 5 : o->w->how & BIG_BODY ? BIG_BYTES : 20;
	send_more(o);
}

/* Good ones, and one that HTTP/1 cannot write. */
static void add_fields(const struct world *w, struct message *m)
{
	if (!(w->how & WITH_FIELDS))
		return;
	MUST(message_add(m, STR("te"), STR("trailers"), true) && message_add(m, STR("A"), STR(""), true));
	if (w->mood & ACT_OTHER)
		MUST(message_add(m, STR("x"), STR("a\r\nb: c"), true));
}

static void answer(struct owner *o)
{
	static const uint16_t status[] = {200, 204, 304, 101, 426, 404, 999, 206};
	struct world *w = o->w;
	struct message m;
	o->answered = true;
	message_init(&m, &o->arena, false);
	m.version = HTTP_1_1;
	if (w->what & INTERIM) {
		m.status = 103;
		w->ops->send_head(o->st, &m, false);
	}
	m.status = status[w->what & WHAT_STATUS];
	m.framing = w->what & WITH_LENGTH ? FRAMING_LENGTH : w->what & UNTIL_CLOSE ? FRAMING_CLOSE : FRAMING_CHUNKED;
	m.has_length = w->what & WITH_LENGTH;
	m.content_length = 5;
	m.close = w->what & SAY_CLOSE;
	add_fields(w, &m);
	bool end = (w->mood & END_AT_ONCE) || !http_status_has_body(m.status);
	if (m.status == 101 && w->ops == &codec_h2)
		m.status = 200, m.framing = FRAMING_TUNNEL;
	w->ops->send_head(o->st, &m, end);
	if (!end)
		send_some(o);
}

static void on_head(void *ctx, struct message *m)
{
	struct owner *o = called(ctx);
	MUST(!o->final && m->request == !(o->w->flags & ROLE_CLIENT));
	o->final = m->request || m->status >= 200 || m->status == 101;
	if (!act(o) && m->request && !(o->w->mood & ANSWER_LATE))
		answer(o);
}
static void on_body(void *ctx, struct str bytes)
{
	struct owner *o = called(ctx);
	MUST(o->final && !o->trailers && !o->ended && bytes.len > 0);
	if (!act(o) && !(o->w->mood & END_AT_ONCE))
		o->w->ops->consumed(o->st, bytes.len);
}
static void on_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	struct owner *o = called(ctx);
	MUST(o->final && !o->trailers && !o->ended && f->len > 0 && a == &o->arena);
	o->trailers = true;
	act(o);
}
static void on_end(void *ctx)
{
	struct owner *o = called(ctx);
	MUST(o->final && !o->ended);
	o->ended = true;
	if (act(o))
		return;
	if (!o->answered)
		answer(o);
	o->w->ops->close(o->st);
	o->st = NULL;
}
static void on_reset(void *ctx, const struct http_reset *why)
{
	struct owner *o = called(ctx);
	MUST(why->reason != REASON_NONE || why->by_peer);
	o->lost = true;
	if (act(o))
		return;
	o->w->ops->close(o->st);
	o->st = NULL;
}
static void on_room(void *ctx)
{
	struct owner *o = called(ctx);
	if (!act(o) && o->left > 0)
		send_more(o);
}
static const struct http_stream_events stream_events = {on_head, on_body, on_trailers, on_end, on_reset, on_room};

static struct owner *owner_new(struct world *w)
{
	if (w->n == STREAMS_MAX)
		return NULL;
	struct owner *o = &w->owner[w->n++];
	o->w = w;
	arena_init(&o->arena, 128u << 10);
	return o;
}

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct world *w = ctx;
	MUST(w->s != NULL && !w->closed);
	struct owner *o = (w->flags & TURN_AWAY) && w->turn++ % 4 == 1 ? NULL : owner_new(w);
	if (w->what & DRAIN)
		w->ops->drain(w->s);
	if (!o)
		return false;
	o->st = st;
	*ret_ev = &stream_events;
	*ret_ctx = o;
	*ret_arena = &o->arena;
	return true;
}

/* The i-th request: with a body and trailers, HEAD, CONNECT, an upgrade, without a body. */
static void ask(struct owner *o, unsigned i)
{
	static const char *const methods[] = {"POST", "HEAD", "CONNECT", "GET", "GET"};
	struct world *w = o->w;
	struct message m;
	i = (i + (w->what & WHAT_STATUS)) % ARRAY_LEN(methods);
	message_init(&m, &o->arena, true);
	m.version = HTTP_1_1;
	m.method = str_of(methods[i]);
	m.authority = STR("a:1");
	m.path = i == 2 ? STR("") : STR("/");
	m.scheme = STR("http");
	m.framing = i == 0 ? FRAMING_CHUNKED : i == 2 || i == 3 ? FRAMING_TUNNEL : FRAMING_NONE;
	m.protocol = i == 3 ? STR("websocket") : STR("");
	m.close = w->what & SAY_CLOSE;
	add_fields(w, &m);
	o->answered = true;
	w->ops->send_head(o->st, &m, m.framing == FRAMING_NONE);
	if (i == 0 && !(w->mood & ANSWER_LATE))
		send_some(o);
	else if (m.framing == FRAMING_TUNNEL && (w->what & WITH_LENGTH))
		send_more(o); /* its end before it stands */
}

static void on_ready(void *ctx)
{
	struct world *w = ctx;
	MUST(!w->closed && w->s);
	for (unsigned i = 0; i < 3 && w->s && w->ops->room(w->s) > 0; i++) {
		struct owner *o = owner_new(w);
		if (!o)
			return;
		o->st = w->ops->open(w->s, &stream_events, o, &o->arena);
		ask(o, w->n);
	}
	if (w->what & DRAIN)
		w->ops->drain(w->s);
}

static void on_closed(void *ctx, enum reason why, const struct err *err)
{
	struct world *w = ctx;
	MUST(!w->closed && w->s);
	w->closed = true;
	w->ops->session_close(&w->s);
}

static void on_draining(void *ctx)
{
	struct world *w = ctx;
	MUST(w->s != NULL && !w->closed && !w->draining);
	w->draining = true;
}

static void on_idle(void *ctx, bool idle)
{
	struct world *w = ctx;
	MUST(w->s != NULL && !w->closed && w->idle != idle);
	w->idle = idle;
	if (idle && (w->mood & ACT_CLOSE_ALL) && (w->mood & ACT_OTHER))
		w->ops->session_close(&w->s);
}

static const struct http_session_events session_events = {
    .on_stream = on_stream,
    .on_ready = on_ready,
    .on_draining = on_draining,
    .on_idle = on_idle,
    .on_closed = on_closed,
};

static void on_still(struct timer *t)
{
	struct world *w = CONTAINER_OF(t, struct world, still);
	w->quiet = w->turn == w->seen && w->input.len == 0 ? w->quiet + 1 : 0;
	w->seen = w->turn;
	if (w->quiet == QUIET_TURNS)
		loop_stop(t->loop);
	else
		timer_start(t, 0);
}

static void on_send(struct task *t)
{
	struct world *w = CONTAINER_OF(t, struct world, send);
	char dump[4096];
	while ((w->flags & PEER_READS) && recv(w->peer, dump, sizeof(dump), MSG_DONTWAIT) > 0)
		;
	size_t piece = w->how & PIECE, n = MIN(piece ? piece : w->input.len, w->input.len);
	ssize_t sent = n ? send(w->peer, w->input.p, n, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
	n = sent > 0 ? (size_t)sent : w->input.len; /* it is closed, or reads no more: the rest is not sent */
	w->input = str_make(w->input.p + n, w->input.len - n);
	if (w->input.len == 0 && (w->flags & PEER_RESETS)) {
		close(w->peer); /* what it has not read is lost: a reset */
		w->peer = -1;
	} else if (w->input.len == 0 && !(w->flags & PEER_STAYS))
		shutdown(w->peer, SHUT_WR);
	if (w->input.len > 0)
		loop_next_turn(w->loop, &w->send);
}

static void run_until_still(struct world *w)
{
	timer_init(&w->still, w->loop, on_still);
	timer_start(&w->still, 0);
	w->quiet = 0;
	loop_run(w->loop);
	timer_stop(&w->still);
}

static void end(struct world *w)
{
	task_cancel(&w->send);
	w->input.len = 0;
	if (w->s)
		w->ops->session_close(&w->s);
	/* they are their owners' until let go, whatever became of the session */
	for (unsigned i = 0; i < w->n; i++)
		if (w->owner[i].st && i % 2)
			w->ops->close(w->owner[i].st);
		else if (w->owner[i].st)
			w->ops->reset(w->owner[i].st, REASON_INTERNAL, false);
	run_until_still(w);
	for (unsigned i = 0; i < w->n; i++)
		arena_done(&w->owner[i].arena);
	if (w->peer >= 0)
		close(w->peer);
	loop_free(&w->loop);
	MUST(h2_budget_used() == 0);
}

void codec_world_run(const struct codec_ops *ops, const uint8_t *data, size_t size)
{
	static struct world world;
	struct world *w = &world;
	struct http_limits lim = http_limits_default;
	int fd[2];
	if (size < 4 || size > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0)
		return;
	memset(w, 0, sizeof(*w));
	w->ops = ops;
	w->flags = data[0], w->mood = data[1], w->what = data[2], w->how = data[3];
	w->idle = true;
	w->input = str_make(data + 4, size - 4);
	w->peer = fd[1];
	w->loop = loop_new(NULL);
	enum http_role role = w->flags & ROLE_CLIENT ? HTTP_CLIENT : HTTP_SERVER;
	if (w->flags & LIMITS_LOW)
		lim.target_max = 64, lim.head_max = 200, lim.fields_max = 3, lim.streams_max = 2, lim.resets_burst = 2;
	w->s =
	    ops->session_new(conn_new(w->loop, fd[0], &(struct conn_events){0}, NULL), role, &lim, &session_events, w);
	/* Without NO_PREFACE the preface and an empty SETTINGS come first, so that the fuzzer need not find them. */
	static const char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	size_t skip = role == HTTP_CLIENT ? 24 : 0;
	if (ops == &codec_h2 && !(w->flags & NO_PREFACE))
		MUST(send(w->peer, start + skip, sizeof(start) - 1 - skip, MSG_NOSIGNAL) > 0);
	task_init(&w->send, on_send);
	loop_next_turn(w->loop, &w->send);
	run_until_still(w);
	end(w);
}
