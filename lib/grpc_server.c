/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_server.c: accepted connections become HTTP/2 sessions, and their streams gRPC calls of a table of methods. Owns
 * connections, sessions and calls that no owner has taken; knows no method. */
#include "lib/grpc_call.h"

#include "lib/event.h"
#include "lib/mem.h"

#include <unistd.h>

#define HANDSHAKE_MS      10000
#define HANDSHAKES_A_TURN 8 /* begun; each costs about a millisecond, and those who are connected wait so long */

struct grpc_server {
	struct loop *loop;
	struct grpc_server_cfg cfg;
	struct http_limits lim;
	struct list conns, calls;
	struct list waiting; /* grpc_conn.node of those whose handshake has not begun; oldest first */
	struct task begin;   /* the next of them */
	unsigned n_conns;
	bool full_said; /* once, until one is accepted again */
	bool closed;
};

/* One accepted connection. Freed when its session or handshake ends, or with the server. */
struct grpc_conn {
	struct grpc_server *server;
	struct list node;  /* grpc_server.conns or .waiting */
	int fd;            /* while it waits; else -1 */
	struct conn *conn; /* from then on until the session takes it */
	struct http_session *session;
};

static void conn_free(void *p)
{
	mem_free(p);
}

static void conn_drop(struct grpc_conn *gc)
{
	struct grpc_server *s = gc->server;
	list_remove(&gc->node);
	s->n_conns--;
	if (gc->fd >= 0)
		close(gc->fd);
	else if (gc->session)
		codec_h2.session_close(&gc->session);
	else
		conn_close(&gc->conn);
	loop_defer_free(s->loop, gc, conn_free);
}

/* --- calls --- */

static const struct grpc_method *method_of(const struct grpc_server *s, struct str path)
{
	for (const struct grpc_method *m = s->cfg.methods; m->path; m++)
		if (str_is(path, m->path))
			return m;
	return NULL;
}

/* False: answered. */
static bool head_ok(struct grpc_call *call, const struct message *m)
{
	const struct field *coding = message_get(m, "grpc-encoding");
	if (!str_is(m->method, "POST"))
		grpc_answer_only(call, 405, GRPC_INTERNAL, "gRPC calls are POST");
	else if (!grpc_content_type(m))
		grpc_answer_only(call, 415, GRPC_INTERNAL, "the content type must be application/grpc");
	else if (coding && !str_ieq(coding->value, STR("identity")))
		grpc_answer_only(call, 200, GRPC_UNIMPLEMENTED, "compressed messages are not supported");
	else
		return true;
	return false;
}

/* grpc-timeout: at most 8 digits and a unit; what is not that is ignored, as grpc does. */
static uint64_t timeout_ms(const struct message *m)
{
	static const struct {
		char unit;
		uint64_t us;
	} units[] = {{'H', 3600000000u}, {'M', 60000000}, {'S', 1000000}, {'m', 1000}, {'u', 1}, {'n', 0}};
	const struct field *f = message_get(m, "grpc-timeout");
	uint64_t n;
	if (!f || f->value.len < 2 || !str_to_u64(str_make(f->value.p, f->value.len - 1), 99999999, &n))
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (f->value.p[f->value.len - 1] == units[i].unit)
			return MAX(n * units[i].us / 1000, 1);
	return 0;
}

void grpc_server_head(void *ctx, struct message *m)
{
	struct grpc_call *call = ctx;
	MUST_BE(call, GRPC_CALL_MAGIC);
	enum grpc_status status = GRPC_INTERNAL;
	const char *text = "";
	struct grpc_server *s = call->server;
	if (!head_ok(call, m))
		return;
	call->request = m;
	uint64_t ms = timeout_ms(m);
	if (ms)
		timer_start(&call->deadline, ms);
	const struct grpc_method *method = method_of(s, m->path);
	if (!method)
		grpc_answer_only(call, 200, GRPC_UNIMPLEMENTED, "there is no such method");
	else if (!method->on_call(s->cfg.ctx, call, &call->ev, &call->ctx, &status, &text) && !call->over)
		grpc_answer_only(call, 200, status, text);
}

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct grpc_conn *gc = ctx;
	struct grpc_call *call = grpc_call_make(gc->server->loop, false);
	call->server = gc->server;
	call->st = st;
	list_push(&gc->server->calls, &call->node);
	*ret_ev = &grpc_server_events;
	*ret_ctx = call;
	*ret_arena = &call->arena;
	return true;
}

static void on_closed(void *ctx, enum reason why, const struct err *err)
{
	conn_drop(ctx);
}

static const struct http_session_events session_events = {
    .on_stream = on_stream,
    .on_closed = on_closed,
};

/* --- connections --- */

static void begin_session(struct grpc_conn *gc)
{
	gc->session = codec_h2.session_new(gc->conn, HTTP_SERVER, &gc->server->lim, &session_events, gc);
	gc->conn = NULL;
}

static void on_open(void *ctx)
{
	struct grpc_conn *gc = ctx;
	if (str_is(conn_alpn(gc->conn), "h2"))
		begin_session(gc);
	else
		conn_drop(gc);
}

static void on_rx(void *ctx)
{
}

static void on_fail(void *ctx, const struct err *err)
{
	conn_drop(ctx);
}

static const struct conn_events handshake_events = {
    .on_open = on_open,
    .on_rx = on_rx,
    .on_fail = on_fail,
};

static void begin(struct grpc_conn *gc)
{
	struct grpc_server *s = gc->server;
	list_remove(&gc->node);
	list_push(&s->conns, &gc->node);
	gc->conn = conn_new(s->loop, gc->fd, &handshake_events, gc);
	gc->fd = -1;
	if (s->cfg.tls)
		conn_tls_accept(gc->conn, s->cfg.tls, NULL, HANDSHAKE_MS);
	else
		begin_session(gc);
}

/* A thousand proxies that come at once (weftd was restarted) must not keep those that are back from being served. */
static void on_begin(struct task *t)
{
	struct grpc_server *s = CONTAINER_OF(t, struct grpc_server, begin);
	for (unsigned i = 0; i < HANDSHAKES_A_TURN && !list_empty(&s->waiting); i++)
		begin(list_first(&s->waiting, struct grpc_conn, node));
	if (!list_empty(&s->waiting))
		loop_next_turn(s->loop, t);
}

struct grpc_server *grpc_server_new(struct loop *loop, const struct grpc_server_cfg *cfg)
{
	struct grpc_server *s = NEW(struct grpc_server);
	MUST(cfg->methods != NULL);
	s->loop = loop;
	s->cfg = *cfg;
	s->lim = http_limits_default;
	/* Streams of a push live as long as their proxies do: PING tells the dead from the quiet. */
	s->lim.stream_idle_ms = 0;
	s->lim.age_max_ms = 0;
	list_init(&s->conns);
	list_init(&s->calls);
	list_init(&s->waiting);
	task_init(&s->begin, on_begin);
	return s;
}

void grpc_server_set_tls(struct grpc_server *s, SSL_CTX *tls)
{
	s->cfg.tls = tls;
}

void grpc_server_accept(struct grpc_server *s, int fd)
{
	if (s->n_conns >= s->cfg.connections_max) {
		if (!s->full_said)
			event(EV_LINKS_FULL, "open=%u", s->n_conns);
		s->full_said = true;
		close(fd);
		return;
	}
	s->full_said = false;
	struct grpc_conn *gc = NEW(struct grpc_conn);
	gc->server = s;
	gc->fd = fd;
	list_push(&s->waiting, &gc->node);
	s->n_conns++;
	loop_next_turn(s->loop, &s->begin);
}

void grpc_server_free(struct grpc_server **ps)
{
	struct grpc_server *s = *ps;
	if (!s)
		return;
	*ps = NULL;
	task_cancel(&s->begin);
	list_for_each_safe (gc, &s->waiting, struct grpc_conn, node)
		conn_drop(gc);
	list_for_each_safe (gc, &s->conns, struct grpc_conn, node)
		conn_drop(gc);
	list_for_each_safe (call, &s->calls, struct grpc_call, node) {
		codec_h2.close(call->st);
		grpc_call_drop(call);
	}
	loop_defer_free(s->loop, s, conn_free);
}
