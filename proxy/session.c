/* SPDX-License-Identifier: Apache-2.0 */
/* session.c: the way of a downstream connection, in order. A step returns NEXT, WAIT or DONE; what it waits for calls session_run() again. */
#include "proxy/session_impl.h"

#include "bpf/abi.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "lib/pressure.h"
#include "proxy/tunnel.h"

#include <string.h>
#include <unistd.h>

#define HANDSHAKE_LEFT_MS 1000

static enum verdict step_origdst(struct session *s);
static enum verdict step_target(struct session *s);
static enum verdict step_handshake(struct session *s);
static enum verdict step_serve(struct session *s);
static enum verdict step_close(struct session *s);

static const struct {
	const char *name;
	enum verdict (*run)(struct session *s);
} steps[] = {
    {"origdst", step_origdst},       /* where the client meant to go; nowhere: closed             */
    {"target", step_target},         /* outbound: what is there; asks the control plane if need be */
    {"detect", session_step_detect}, /* declared protocol, or the first bytes                      */
    {"handshake", step_handshake},   /* inbound from the mesh: mTLS, who it is                     */
    {"serve", step_serve},           /* requests of a codec, or a tunnel                           */
    {"close", step_close},           /* counters, memory goes                                      */
};
_Static_assert(ARRAY_LEN(steps) == STEP_CLOSE + 1, "a name for each step");

void session_run(struct session *s)
{
	MUST_BE(s, SESSION_MAGIC);
	while (steps[s->step].run(s) == NEXT)
		s->step++;
}

static void run_task(struct task *t)
{
	session_run(CONTAINER_OF(t, struct session, task));
}

enum verdict session_end(struct session *s, enum reason reason)
{
	s->reason = reason;
	s->step = STEP_CLOSE;
	return step_close(s);
}

/* --- origdst --- */

static bool own_port(uint16_t port)
{
	return port == WEFT_PORT_INBOUND || port == WEFT_PORT_STATUS ||
	       (port >= WEFT_PORT_OUT && port < WEFT_PORT_OUT + WEFT_OUT_PORTS);
}

static enum verdict step_origdst(struct session *s)
{
	int fd = conn_fd(s->conn);
	char peer[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
	s->peer = *conn_peer(s->conn);
	bool found = s->direction == OUTBOUND ? mark_original(fd, &s->peer, &s->to) : sock_local(fd, &s->to);
	event(EV_SESSION_OPEN, "direction=%s peer=\"%s\" to=\"%s\"", s->direction == OUTBOUND ? "outbound" : "inbound",
	      addr_text(&s->peer, peer), found ? addr_text(&s->to, to) : "");
	if (!found)
		return session_end(s, REASON_NO_ORIGDST);
	if (s->direction == INBOUND && own_port(s->to.port))
		return session_end(s, REASON_OWN_PORT);
	return NEXT;
}

/* --- target --- */

static void on_answer(struct view_waiter *w, bool known)
{
	struct session *s = CONTAINER_OF(w, struct session, waiter);
	MUST_BE(s, SESSION_MAGIC);
	(void)known;
	session_run(s);
}

static enum verdict step_target(struct session *s)
{
	if (s->direction == INBOUND)
		return NEXT;
	snapshot_unref(&s->snapshot);
	s->snapshot = snapshot_ref(view_snapshot(s->p->view));
	snapshot_find(s->snapshot, &s->to, &s->target);
	switch (s->target.kind) {
	case TARGET_EXTERNAL:
	case TARGET_SERVICE:
	case TARGET_WORKLOAD:
		view_touch(s->p->view, &s->to);
		return NEXT;
	case TARGET_UNKNOWN:
		return session_end(s, REASON_UNKNOWN_ADDRESS);
	case TARGET_NO_PORT:
		return session_end(s, REASON_NO_PORT);
	case TARGET_ASK:
		break;
	}
	if (s->asked)
		return session_end(s, REASON_CONFIG_TIMEOUT);
	s->asked = true;
	s->waiter.on_answer = on_answer;
	view_want(s->p->view, &s->waiter, &s->to);
	return WAIT;
}

/* --- handshake --- */

static void on_begin(struct handshake *h)
{
	session_run(CONTAINER_OF(h, struct session, handshake));
}

static void on_step(struct handshake *h)
{
	conn_tls_step(CONTAINER_OF(h, struct session, handshake)->conn);
}

static void on_evict(struct handshake *h)
{
	session_end(CONTAINER_OF(h, struct session, handshake), REASON_HANDSHAKE_OVERFLOW);
}

/* In its turn (handshakes.h). From the beginning of the connection to the end of the handshake there are HANDSHAKE_MS; who came with the
 * ClientHello late still has a second for the rest. */
static enum verdict step_handshake(struct session *s)
{
	if (s->detected != DETECT_MESH_H2 && s->detected != DETECT_MESH_TCP)
		return NEXT;
	if (s->owner.mesh) { /* on_open came: the peer is verified */
		handshakes_leave(s->p->handshakes, &s->handshake);
		session_learn_peer(s, true);
		s->detected = str_is(conn_alpn(s->conn), ALPN_WEFT_TCP) ? DETECT_MESH_TCP : DETECT_MESH_H2;
		return NEXT;
	}
	SSL_CTX *ctx = identity_server(s->p->identity);
	if (ctx == NULL)
		return session_end(s, REASON_NOT_READY);
	uint64_t waited = loop_now_ms(s->p->loop) - s->detect_ms;
	uint64_t left = waited + HANDSHAKE_LEFT_MS < HANDSHAKE_MS ? HANDSHAKE_MS - waited : HANDSHAKE_LEFT_MS;
	if (list_empty(&s->handshake.node)) {
		timer_start(&s->timer, left);
		return handshakes_enter(s->p->handshakes, &s->handshake) ? WAIT
									 : session_end(s, REASON_HANDSHAKE_OVERFLOW);
	}
	if (!s->handshake.begun) /* the timer */
		return session_end(s, REASON_HANDSHAKE_OVERFLOW);
	timer_stop(&s->timer);
	s->tls_peer = NEW(struct tls_peer);
	conn_tls_accept(s->conn, ctx, s->tls_peer, left);
	return WAIT;
}

/* --- the connection, until a codec or a tunnel has it --- */

static void on_open(void *ctx)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	s->owner.mesh = true;
	session_run(s);
}

static void on_bytes(void *ctx)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	if (s->step == STEP_DETECT)
		session_run(s);
}

static void on_room(void *ctx)
{
	(void)ctx;
}

static void on_fail(void *ctx, const struct err *err)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	bool untrusted = s->tls_peer != NULL && s->tls_peer->err.code != ERR_NONE;
	char peer[ADDR_TEXT_MAX];
	if (s->step == STEP_DETECT)
		session_doubt(s);
	if (s->step != STEP_HANDSHAKE || s->tls_peer == NULL) {
		session_end(s, REASON_CLIENT_GONE);
		return;
	}
	event(EV_PEER_REFUSED, "peer=\"%s\" why=\"%s\"", addr_text(&s->peer, peer),
	      untrusted ? s->tls_peer->err.text : err->text);
	session_end(s, untrusted                  ? REASON_PEER_UNTRUSTED
		       : err->code == ERR_TIMEOUT ? REASON_HANDSHAKE_TIMEOUT
						  : REASON_TLS_FAILED);
}

static bool on_handshake_step(void *ctx)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	return handshakes_step(s->p->handshakes, &s->handshake);
}

static const struct conn_events conn_evs = {
    .on_open = on_open,
    .on_rx = on_bytes,
    .on_tx_room = on_room,
    .on_fail = on_fail,
    .on_step = on_handshake_step,
};

/* --- serve --- */

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	if (!s->last && pressure_level() >= PRESSURE_CLOSE) { /* no connection is kept beyond this request */
		s->last = true;
		http_session_ops(s->http)->drain(s->http);
	}
	return request_begin(&s->owner, st, ret_ev, ret_ctx, ret_arena);
}

static void on_idle(void *ctx, bool idle)
{
	(void)ctx;
	(void)idle;
}

static void on_nothing(void *ctx)
{
	(void)ctx;
}

static void on_closed(void *ctx, enum reason reason, const struct err *err)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	(void)err;
	session_end(s, reason);
}

static const struct http_session_events http_evs = {
    .on_stream = on_stream,
    .on_ready = on_nothing,
    .on_idle = on_idle,
    .on_draining = on_nothing,
    .on_closed = on_closed,
};

static void on_tunnel_end(void *ctx, enum reason reason, const char *text)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	s->tunnel = NULL;
	if (s->conn != NULL) { /* it was a speculation */
		session_speculation_over(s, "failed");
		s->spec_failed = reason;
	}
	char peer[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
	if (reason == REASON_UPSTREAM_UNTRUSTED)
		event(EV_PEER_REFUSED, "peer=\"%s\" to=\"%s\" why=\"%s\"", addr_text(&s->peer, peer),
		      addr_text(&s->to, to), text);
	if (s->conn != NULL)
		session_run(s);
	else
		session_end(s, reason);
}

static void on_heard(void *ctx)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	MUST(s->step == STEP_DETECT);
	session_run(s);
}

/* down NULL: speculative. */
struct tunnel *session_open_tunnel(struct session *s, struct conn *down)
{
	struct tunnel_from from = {
	    .down = down,
	    .mesh = s->detected == DETECT_MESH_TCP,
	    .client = s->peer,
	    .service = s->target.kind == TARGET_SERVICE && s->direction == OUTBOUND ? s->target.service->name : "",
	    .on_heard = on_heard,
	    .on_end = on_tunnel_end,
	    .ctx = s,
	};
	if (s->direction == INBOUND) {
		snapshot_unref(&s->snapshot);
		s->snapshot = snapshot_ref(view_snapshot(s->p->view));
	}
	from.subject = (struct subject){
	    .direction = s->direction,
	    .peer = s->owner.mesh ? s->tls_peer->id.id : NULL,
	    .from = &s->peer,
	    .to = &s->to,
	    .target = &s->target,
	    .port = s->direction == INBOUND ? snapshot_inbound(s->snapshot, s->to.port) : NULL,
	};
	return tunnel_new(s->p, &from);
}

static void serve_opaque(struct session *s)
{
	struct conn *down = s->conn;
	s->conn = NULL;
	if (s->tunnel == NULL) {
		s->tunnel = session_open_tunnel(s, down);
		return;
	}
	session_speculation_over(s, "carried");
	tunnel_take(s->tunnel, down);
}

static enum verdict step_serve(struct session *s)
{
	if (s->detected != DETECT_HTTP1 && s->detected != DETECT_HTTP2 && s->detected != DETECT_MESH_H2) {
		serve_opaque(s);
		return WAIT;
	}
	const struct codec_ops *codec = s->detected == DETECT_HTTP1 ? &codec_h1 : &codec_h2;
	struct conn *c = s->conn;
	s->conn = NULL;
	/* Requests look the target up afresh, each in the snapshot of its time. */
	snapshot_unref(&s->snapshot);
	const struct http_limits *lim = s->direction == OUTBOUND        ? &s->p->own_limits
					: s->detected == DETECT_MESH_H2 ? &s->p->hop_limits
									: &s->p->limits;
	s->http = codec->session_new(c, HTTP_SERVER, lim, &http_evs, s);
	if (s->p->draining)
		codec->drain(s->http);
	return WAIT;
}

/* --- close --- */

static void session_free(void *arg)
{
	struct session *s = arg;
	snapshot_unref(&s->snapshot);
	mem_free(s->tls_peer);
	mem_free(s);
}

static enum verdict step_close(struct session *s)
{
	request_abort_all(&s->owner, s->reason);
	handshakes_leave(s->p->handshakes, &s->handshake);
	view_unwant(&s->waiter);
	session_drop_speculation(s);
	timer_stop(&s->timer);
	task_cancel(&s->task);
	if (s->http != NULL)
		http_session_ops(s->http)->session_close(&s->http);
	if (s->conn != NULL && s->reason == REASON_NONE)
		conn_close(&s->conn);
	else if (s->conn != NULL)
		conn_reset(&s->conn);
	event(EV_SESSION_END, "direction=%s reason=%s ms=%llu", s->direction == OUTBOUND ? "outbound" : "inbound",
	      reason_row(s->reason)->label, (unsigned long long)(loop_now_ms(s->p->loop) - s->began_ms));
	stats_close(s->p->stats, s->direction, s->owner.mesh, s->reason);
	list_remove(&s->node);
	__atomic_fetch_sub(&s->p->n_sessions, 1, __ATOMIC_RELEASE);
	s->magic = 0;
	loop_defer_free(s->p->loop, s, session_free);
	return DONE;
}

/* What requests ask: who speaks to whom, in the snapshot in force now. */
static void subject(struct request_owner *o, struct target *target, struct subject *ret)
{
	struct session *s = CONTAINER_OF(o, struct session, owner);
	const struct snapshot *now = view_snapshot(s->p->view);
	MUST_BE(s, SESSION_MAGIC);
	*ret = (struct subject){
	    .direction = s->direction,
	    .peer = o->mesh ? s->tls_peer->id.id : NULL,
	    .from = &s->peer,
	    .to = &s->to,
	    .target = target,
	};
	if (s->direction == INBOUND) {
		ret->port = snapshot_inbound(now, s->to.port);
		return;
	}
	view_touch(s->p->view, &s->to);
	snapshot_find(now, &s->to, target);
}

/* Why this process takes no further connection; REASON_NONE: it does. */
static enum reason hindrance(int fd)
{
	return pressure_level() == PRESSURE_REFUSE || !pressure_may_use(fd) ? REASON_OVERLOAD : REASON_NONE;
}

void session_accept(struct proxy *p, enum direction d, int fd)
{
	enum reason why = hindrance(fd);
	if (why != REASON_NONE) {
		stats_open(p->stats, d);
		stats_close(p->stats, d, false, why);
		sock_reset_close(fd);
		__atomic_fetch_sub(&p->n_sessions, 1, __ATOMIC_RELEASE);
		return;
	}
	pressure_admit();
	struct session *s = NEW(struct session);
	s->magic = SESSION_MAGIC;
	s->p = p;
	s->direction = d;
	s->began_ms = loop_now_ms(p->loop);
	s->owner = (struct request_owner){.p = p, .subject = subject, .answered = session_answered};
	list_init(&s->owner.requests);
	list_init(&s->waiter.node);
	handshake_init(&s->handshake);
	s->handshake.on_begin = on_begin;
	s->handshake.on_step = on_step;
	s->handshake.on_evict = on_evict;
	timer_init(&s->timer, p->loop, session_on_timer);
	task_init(&s->task, run_task);
	list_push(&p->sessions, &s->node);
	stats_open(p->stats, d);
	s->conn = conn_new(p->loop, fd, &conn_evs, s);
	loop_at_turn_end(p->loop, &s->task);
}

/* --- all of them --- */

void session_drain_all(struct proxy *p)
{
	p->draining = true;
	list_for_each_safe (s, &p->sessions, struct session, node) {
		if (s->http != NULL) {
			http_session_ops(s->http)->drain(s->http);
		} else if (session_idle_before_first(s)) {
			session_drop_speculation(s);
			conn_close(&s->conn);
			session_end(s, REASON_DRAINING);
		}
	}
}

void session_retire_all(struct proxy *p)
{
	p->draining = true;
	list_for_each (s, &p->sessions, struct session, node)
		if (s->http != NULL)
			http_session_ops(s->http)->last(s->http);
}

void session_abort_all(struct proxy *p)
{
	while (!list_empty(&p->sessions)) {
		struct session *s = CONTAINER_OF(p->sessions.next, struct session, node);
		if (s->tunnel != NULL && s->conn == NULL)
			tunnel_abort(&s->tunnel, REASON_DRAINING);
		session_end(s, REASON_DRAINING);
	}
}

static json_t *dump_one(const struct session *s)
{
	char peer[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX], ep[ADDR_TEXT_MAX];
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "direction",
			      s->direction == OUTBOUND ? "outbound" : "inbound", "peer", addr_text(&s->peer, peer),
			      "to", addr_text(&s->to, to), "identity", s->owner.mesh ? s->tls_peer->id.id : "",
			      "protocol", detected_name(s->detected), "step",
			      s->tunnel != NULL ? tunnel_step(s->tunnel) : steps[s->step].name, "ageMs",
			      (json_int_t)(loop_now_ms(s->p->loop) - s->began_ms));
	if (s->tunnel != NULL)
		json_object_set_new(o, "endpoint", json_string(tunnel_endpoint(s->tunnel, ep)));
	if (s->http != NULL)
		json_object_set_new(o, "requests", request_dump(&s->owner));
	return o;
}

json_t *session_dump_all(const struct proxy *p)
{
	json_t *out = json_array();
	size_t n = 0;
	list_for_each (s, &p->sessions, struct session, node) {
		if (n++ == 1000)
			break;
		json_array_append_new(out, dump_one(s));
	}
	return out;
}
