/* SPDX-License-Identifier: Apache-2.0 */
/* session.c: the way of a downstream connection, in order. A step returns NEXT, WAIT or DONE; what it waits for calls run() again. */
#include "proxy/session.h"

#include "bpf/abi.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "proxy/detect.h"
#include "proxy/request.h"
#include "proxy/tunnel.h"

#include <string.h>
#include <unistd.h>

#define SESSION_MAGIC 0x73657373
#define HANDSHAKE_MS  10000
#define DETECT_DECLARED_MS \
	1000 /* inbound: a silent client of a port declared as TCP is a plaintext peer that listens first */
#define DETECT_SILENT_MS 5000 /* undeclared: who says nothing for so long is taken for opaque */

enum verdict { NEXT, WAIT, DONE };

struct session {
	uint32_t magic;
	struct list node; /* in proxy.sessions */
	struct proxy *p;
	enum direction direction;
	struct conn *conn; /* until a codec or a tunnel takes it */
	struct http_session *http;
	struct tunnel *tunnel;
	struct snapshot *snapshot; /* opaque: what the tunnel's subject points into */
	struct addr peer, to;
	struct target target; /* outbound, opaque */
	struct config_waiter waiter;
	struct tls_peer *tls_peer;  /* inbound from the mesh */
	struct request_owner owner; /* of its requests */
	struct timer timer;         /* detection */
	struct task task;           /* run() from the loop */
	enum detected detected;
	unsigned step;
	enum reason reason;
	uint64_t began_ms;
	bool asked, silent;
};

/* Kept for the life of a connection, idle ones too. */
_Static_assert(sizeof(struct session) <= 768, "struct session is kept for the life of a connection");

static enum verdict step_origdst(struct session *s);
static enum verdict step_target(struct session *s);
static enum verdict step_detect(struct session *s);
static enum verdict step_handshake(struct session *s);
static enum verdict step_serve(struct session *s);
static enum verdict step_close(struct session *s);

static const struct {
	const char *name;
	enum verdict (*run)(struct session *s);
} steps[] = {
    {"origdst", step_origdst},     /* where the client meant to go; nowhere: closed             */
    {"target", step_target},       /* outbound: what is there; asks the control plane if need be */
    {"detect", step_detect},       /* declared protocol, or the first bytes                      */
    {"handshake", step_handshake}, /* inbound from the mesh: mTLS, who it is                     */
    {"serve", step_serve},         /* requests of a codec, or a tunnel                           */
    {"close", step_close},         /* counters, memory goes                                      */
};
enum { STEP_ORIGDST, STEP_TARGET, STEP_DETECT, STEP_HANDSHAKE, STEP_SERVE, STEP_CLOSE };
_Static_assert(ARRAY_LEN(steps) == STEP_CLOSE + 1, "a name for each step");

static void run(struct session *s)
{
	MUST_BE(s, SESSION_MAGIC);
	while (steps[s->step].run(s) == NEXT)
		s->step++;
}

static void run_task(struct task *t)
{
	run(CONTAINER_OF(t, struct session, task));
}

static enum verdict end(struct session *s, enum reason reason)
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
	bool found = s->direction == OUTBOUND ? mark_original(fd, &s->to) : sock_local(fd, &s->to);
	char peer[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
	s->peer = *conn_peer(s->conn);
	event(EV_SESSION_OPEN, "direction=%s peer=\"%s\" to=\"%s\"", s->direction == OUTBOUND ? "outbound" : "inbound",
	      addr_text(&s->peer, peer), found ? addr_text(&s->to, to) : "");
	if (!found)
		return end(s, REASON_NO_ORIGDST);
	if (s->direction == INBOUND && own_port(s->to.port))
		return end(s, REASON_OWN_PORT);
	return NEXT;
}

/* --- target --- */

static void on_answer(struct config_waiter *w, bool known)
{
	struct session *s = CONTAINER_OF(w, struct session, waiter);
	MUST_BE(s, SESSION_MAGIC);
	(void)known;
	run(s);
}

static enum verdict step_target(struct session *s)
{
	if (s->direction == INBOUND)
		return NEXT;
	snapshot_unref(&s->snapshot);
	s->snapshot = snapshot_ref(config_snapshot(s->p->config));
	snapshot_find(s->snapshot, &s->to, &s->target);
	switch (s->target.kind) {
	case TARGET_EXTERNAL:
	case TARGET_SERVICE:
	case TARGET_WORKLOAD:
		config_touch(s->p->config, &s->to);
		return NEXT;
	case TARGET_UNKNOWN:
		return end(s, REASON_UNKNOWN_ADDRESS);
	case TARGET_NO_PORT:
		return end(s, REASON_NO_PORT);
	case TARGET_ASK:
		break;
	}
	if (s->asked)
		return end(s, REASON_CONFIG_TIMEOUT);
	s->asked = true;
	s->waiter.on_answer = on_answer;
	config_want(s->p->config, &s->waiter, &s->to);
	return WAIT;
}

/* --- detect --- */

static enum protocol declared(const struct session *s)
{
	if (s->direction == OUTBOUND)
		return s->target.kind == TARGET_EXTERNAL ? PROTOCOL_TCP : s->target.protocol;
	const struct inbound_port *port = snapshot_inbound(config_snapshot(s->p->config), s->to.port);
	return port != NULL ? port->protocol : PROTOCOL_UNDECLARED;
}

static bool http(enum protocol p)
{
	return p == PROTOCOL_HTTP || p == PROTOCOL_HTTP2;
}

static void on_silence(struct timer *t)
{
	struct session *s = CONTAINER_OF(t, struct session, timer);
	s->silent = true;
	run(s);
}

static enum verdict wait_for_bytes(struct session *s, enum protocol p)
{
	if (!timer_running(&s->timer))
		timer_start(&s->timer, s->direction == INBOUND && !http(p) && p != PROTOCOL_UNDECLARED
					   ? DETECT_DECLARED_MS
					   : DETECT_SILENT_MS);
	return WAIT;
}

/* What has been seen, as the declaration allows: an HTTP port takes everything but TLS as HTTP and lets the strict parser refuse the rest;
 * a TCP port is opaque whatever passes over it. */
static enum detected judge(enum detected seen, enum protocol p)
{
	if (seen == DETECT_MESH_H2 || seen == DETECT_MESH_TCP)
		return seen;
	if (p == PROTOCOL_TCP || p == PROTOCOL_TLS || seen == DETECT_TLS)
		return DETECT_OPAQUE;
	if (seen == DETECT_HTTP1 || seen == DETECT_HTTP2)
		return seen;
	return p == PROTOCOL_HTTP ? DETECT_HTTP1 : p == PROTOCOL_HTTP2 ? DETECT_HTTP2 : DETECT_OPAQUE;
}

static enum verdict step_detect(struct session *s)
{
	enum protocol p = declared(s);
	if (s->direction == OUTBOUND && (p == PROTOCOL_TCP || p == PROTOCOL_TLS)) {
		s->detected = DETECT_OPAQUE;
		return NEXT;
	}
	struct buf *rx = conn_rx(s->conn);
	enum detected seen = detect_bytes(buf_pullup(rx, MIN(rx->len, (size_t)DETECT_BYTES_MAX)));
	if (seen == DETECT_MORE && rx->len >= DETECT_BYTES_MAX)
		seen = DETECT_OPAQUE;
	if (seen == DETECT_MORE && conn_rx_eof(s->conn)) {
		if (rx->len == 0)
			return end(s, REASON_NONE);
		seen = DETECT_OPAQUE;
	}
	if (seen == DETECT_MORE && !s->silent)
		return wait_for_bytes(s, p);
	timer_stop(&s->timer);
	s->detected = judge(seen, p);
	/* Only the hop speaks weft1-*: an application that offers it outbound is left to its own TLS. */
	if (s->direction == OUTBOUND && (s->detected == DETECT_MESH_H2 || s->detected == DETECT_MESH_TCP))
		s->detected = DETECT_OPAQUE;
	return NEXT;
}

/* --- handshake --- */

static enum verdict step_handshake(struct session *s)
{
	if (s->detected != DETECT_MESH_H2 && s->detected != DETECT_MESH_TCP)
		return NEXT;
	if (s->owner.mesh) { /* on_open came: the peer is verified */
		s->detected = str_is(conn_alpn(s->conn), ALPN_WEFT_TCP) ? DETECT_MESH_TCP : DETECT_MESH_H2;
		return NEXT;
	}
	SSL_CTX *ctx = identity_server(s->p->identity);
	if (ctx == NULL)
		return end(s, REASON_NOT_READY);
	s->tls_peer = NEW(struct tls_peer);
	conn_tls_accept(s->conn, ctx, s->tls_peer, HANDSHAKE_MS);
	return WAIT;
}

/* --- the connection, until a codec or a tunnel has it --- */

static void on_open(void *ctx)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	s->owner.mesh = true;
	run(s);
}

static void on_bytes(void *ctx)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	if (s->step == STEP_DETECT)
		run(s);
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
	if (s->step == STEP_HANDSHAKE)
		event(EV_PEER_REFUSED, "peer=\"%s\" why=\"%s\"", addr_text(&s->peer, peer),
		      untrusted ? s->tls_peer->err.text : err->text);
	end(s, s->step != STEP_HANDSHAKE ? REASON_CLIENT_GONE : untrusted ? REASON_PEER_UNTRUSTED : REASON_TLS_FAILED);
}

static const struct conn_events conn_evs = {
    .on_open = on_open,
    .on_rx = on_bytes,
    .on_tx_room = on_room,
    .on_fail = on_fail,
};

/* --- serve --- */

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
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
	end(s, reason);
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
	char peer[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
	if (reason == REASON_UPSTREAM_UNTRUSTED)
		event(EV_PEER_REFUSED, "peer=\"%s\" to=\"%s\" why=\"%s\"", addr_text(&s->peer, peer),
		      addr_text(&s->to, to), text);
	end(s, reason);
}

static void serve_opaque(struct session *s)
{
	struct tunnel_from from = {
	    .down = s->conn,
	    .mesh = s->detected == DETECT_MESH_TCP,
	    .client = s->peer,
	    .service = s->target.kind == TARGET_SERVICE && s->direction == OUTBOUND ? s->target.service->name : "",
	    .on_end = on_tunnel_end,
	    .ctx = s,
	};
	if (s->direction == INBOUND) {
		snapshot_unref(&s->snapshot);
		s->snapshot = snapshot_ref(config_snapshot(s->p->config));
	}
	from.subject = (struct subject){
	    .direction = s->direction,
	    .peer = s->owner.mesh ? s->tls_peer->id.id : NULL,
	    .from = &s->peer,
	    .to = &s->to,
	    .target = &s->target,
	    .port = s->direction == INBOUND ? snapshot_inbound(s->snapshot, s->to.port) : NULL,
	};
	s->conn = NULL;
	s->tunnel = tunnel_new(s->p, &from);
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
	config_unwant(&s->waiter);
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
	s->p->n_sessions--;
	s->magic = 0;
	loop_defer_free(s->p->loop, s, session_free);
	return DONE;
}

/* What requests ask: who speaks to whom, in the snapshot in force now. */
static void subject(struct request_owner *o, struct target *target, struct subject *ret)
{
	struct session *s = CONTAINER_OF(o, struct session, owner);
	const struct snapshot *now = config_snapshot(s->p->config);
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
	config_touch(s->p->config, &s->to);
	snapshot_find(now, &s->to, target);
}

void session_accept(struct proxy *p, enum direction d, int fd)
{
	if (p->n_sessions >= SESSIONS_MAX) {
		stats_open(p->stats, d);
		stats_close(p->stats, d, false, REASON_OVERFLOW);
		sock_reset_close(fd);
		return;
	}
	struct session *s = NEW(struct session);
	s->magic = SESSION_MAGIC;
	s->p = p;
	s->direction = d;
	s->began_ms = loop_now_ms(p->loop);
	s->owner = (struct request_owner){.p = p, .subject = subject};
	list_init(&s->owner.requests);
	list_init(&s->waiter.node);
	timer_init(&s->timer, p->loop, on_silence);
	task_init(&s->task, run_task);
	list_push(&p->sessions, &s->node);
	p->n_sessions++;
	stats_open(p->stats, d);
	s->conn = conn_new(p->loop, fd, &conn_evs, s);
	loop_at_turn_end(p->loop, &s->task);
}

/* --- all of them --- */

/* Nothing was asked on it yet: closing it now is what a server does with an idle connection. */
static bool idle_before_first(struct session *s)
{
	return s->step == STEP_DETECT && http(declared(s)) && conn_rx(s->conn)->len == 0;
}

void session_drain_all(struct proxy *p)
{
	p->draining = true;
	list_for_each_safe (s, &p->sessions, struct session, node) {
		if (s->http != NULL) {
			http_session_ops(s->http)->drain(s->http);
		} else if (idle_before_first(s)) {
			conn_close(&s->conn);
			end(s, REASON_DRAINING);
		}
	}
}

void session_abort_all(struct proxy *p)
{
	while (!list_empty(&p->sessions)) {
		struct session *s = CONTAINER_OF(p->sessions.next, struct session, node);
		if (s->tunnel != NULL)
			tunnel_abort(&s->tunnel, REASON_DRAINING);
		end(s, REASON_DRAINING);
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
