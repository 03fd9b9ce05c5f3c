/* SPDX-License-Identifier: Apache-2.0 */
/* session.c: the way of a downstream connection, in order. A step returns NEXT, WAIT or DONE; what it waits for calls run() again. */
#include "proxy/session.h"

#include "bpf/abi.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "lib/pressure.h"
#include "proxy/detect.h"
#include "proxy/request.h"
#include "proxy/tunnel.h"

#include <string.h>
#include <unistd.h>

#define SESSION_MAGIC     0x73657373
#define HANDSHAKE_MS      10000
#define HANDSHAKE_LEFT_MS 1000
#define DETECT_SILENT_MS  50 /* who has not said what it speaks by then may be waiting for the server: it is dialled */
#define DETECT_HELD_MS \
	1000 /* so long, what the server said may have to wait for the client, and so does a failed dial */
#define DETECT_UNSURE_MS   5000 /* what has come by then may be HTTP or not; or nothing came on a port declared HTTP */
#define SHED_MIN           ((size_t)16 << 10) /* who holds less is not worth a reset */
#define DETECT_NEVER       UINT64_MAX
#define SPECULATE_AGAIN_MS 250

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
	struct view_waiter waiter;
	struct tls_peer *tls_peer;  /* inbound from the mesh */
	struct handshake handshake; /* waiting or begun */
	struct request_owner owner; /* of its requests */
	struct timer timer;         /* detection: time may decide something; a handshake that waits */
	uint64_t detect_ms;         /* it began; 0: not yet */
	uint64_t spec_after_ms;     /* no speculation before */
	enum reason spec_failed;    /* the speculative dial failed, so */
	struct task task;           /* run() from the loop */
	enum detected detected;
	unsigned step;
	enum reason reason;
	uint64_t began_ms;
	uint64_t seen; /* HTTP: bytes that had left the connection at the last look */
	bool asked, speculated, last;
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

static struct tunnel *open_tunnel(struct session *s, struct conn *down);

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

static void on_answer(struct view_waiter *w, bool known)
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
	s->snapshot = snapshot_ref(view_snapshot(s->p->view));
	snapshot_find(s->snapshot, &s->to, &s->target);
	switch (s->target.kind) {
	case TARGET_EXTERNAL:
	case TARGET_SERVICE:
	case TARGET_WORKLOAD:
		view_touch(s->p->view, &s->to);
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
	view_want(s->p->view, &s->waiter, &s->to);
	return WAIT;
}

/* --- detect --- */

static enum protocol declared(const struct session *s)
{
	if (s->direction == OUTBOUND)
		return s->target.kind == TARGET_EXTERNAL ? PROTOCOL_TCP : s->target.protocol;
	const struct inbound_port *port = snapshot_inbound(view_snapshot(s->p->view), s->to.port);
	return port != NULL ? port->protocol : PROTOCOL_UNDECLARED;
}

static bool http(enum protocol p)
{
	return p == PROTOCOL_HTTP || p == PROTOCOL_HTTP2;
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

static void on_timer(struct timer *t)
{
	run(CONTAINER_OF(t, struct session, timer));
}

/* Where what is learned about the destination is kept. */
static struct verdict_key *place_of(const struct session *s, const struct target *t, struct verdict_key *k)
{
	if (s->direction == OUTBOUND && t->kind == TARGET_SERVICE)
		verdict_key_service(k, t->service->name, t->service->version, s->to.port);
	else
		verdict_key_addr(k, &s->to);
	return k;
}

static struct verdict_key *place(const struct session *s, struct verdict_key *k)
{
	return place_of(s, &s->target, k); /* as long as the snapshot is held: until it is served */
}

static enum known known_of(const struct session *s, enum protocol p)
{
	struct verdict_key k;
	if (p == PROTOCOL_UNDECLARED)
		return verdict_get(s->p->verdicts, place(s, &k), loop_now_ms(s->p->loop));
	return http(p) ? KNOWN_HTTP : KNOWN_SERVER_FIRST;
}

/* Whether the client's address is in the mesh's own networks. */
static bool inside(const struct session *s)
{
	struct target t;
	snapshot_find(view_snapshot(s->p->view), &s->peer, &t);
	return t.kind != TARGET_EXTERNAL;
}

/* Inbound: whether the client may yet turn out to be a sidecar, which must not be answered in plaintext. One always speaks first, but what
 * it says may be late. Whoever is outside the mesh, or has only ever come in plaintext, is none. */
static bool may_be_mesh(const struct session *s)
{
	struct verdict_key k;
	if (s->direction == OUTBOUND || !inside(s))
		return false;
	verdict_key_ip(&k, &s->peer.ip);
	return verdict_get(s->p->peers, &k, loop_now_ms(s->p->loop)) != KNOWN_PLAIN;
}

/* The other threads need not find out again. */
static void tell(const struct session *s, struct finding f, const struct verdict_key *k)
{
	if (s->p->tell == NULL)
		return;
	f.direction = s->direction;
	f.key = *k;
	s->p->tell(s->p, &f);
}

/* What a client's address stands for: a sidecar, once one of its certificates was verified; else plaintext. */
static bool peer_is(struct proxy *p, const struct verdict_key *k, enum known is)
{
	uint64_t now = loop_now_ms(p->loop);
	return (is == KNOWN_MESH || verdict_get(p->peers, k, now) != KNOWN_MESH) && verdict_learn(p->peers, k, is, now);
}

static void learn_peer(struct session *s, bool mesh)
{
	struct verdict_key k;
	enum known is = mesh ? KNOWN_MESH : KNOWN_PLAIN;
	if (s->direction == OUTBOUND || (!mesh && !inside(s)))
		return;
	verdict_key_ip(&k, &s->peer.ip);
	if (peer_is(s->p, &k, is))
		tell(s, (struct finding){.peer = true, .is = is}, &k);
}

/* A client that waited in vain and left where HTTP is known: perhaps it is not HTTP any more. */
static void doubt(struct session *s)
{
	struct verdict_key k;
	uint64_t now = loop_now_ms(s->p->loop);
	if (conn_rx(s->conn)->len == 0 && now - s->detect_ms >= DETECT_HELD_MS && declared(s) == PROTOCOL_UNDECLARED)
		verdict_doubt(s->p->verdicts, place(s, &k), now);
}

static void speculate(struct session *s)
{
	s->speculated = true;
	s->tunnel = open_tunnel(s, NULL);
	s->p->n_speculative++;
}

static void speculation_over(struct session *s, const char *outcome)
{
	s->p->n_speculative--;
	stats_speculation(s->p->stats, s->direction, outcome);
}

/* Closed unused. */
static void drop_speculation(struct session *s)
{
	if (s->tunnel == NULL)
		return;
	tunnel_drop(&s->tunnel);
	speculation_over(s, "unused");
}

/* A client speaks HTTP at this place. The speculations of others there step aside: one may be what keeps a server with a single thread
 * from this request. They are made again after a while, unless HTTP is known by then. */
static void step_aside(struct proxy *p, const struct session *s, enum direction d, const struct verdict_key *k)
{
	struct verdict_key other;
	uint64_t now = loop_now_ms(p->loop);
	if (p->n_speculative == 0)
		return;
	list_for_each (x, &p->sessions, struct session, node) {
		if (x == s || x->step != STEP_DETECT || x->tunnel == NULL || x->direction != d)
			continue;
		if (place(x, &other)->len != k->len || memcmp(other.text, k->text, k->len) != 0)
			continue;
		drop_speculation(x);
		x->speculated = false;
		x->spec_after_ms = now + DETECT_HELD_MS;
		timer_start(&x->timer, DETECT_HELD_MS);
	}
}

/* The client's first bytes. */
static enum detected look(struct session *s)
{
	struct buf *rx = conn_rx(s->conn);
	enum detected seen = detect_bytes(buf_pullup(rx, MIN(rx->len, (size_t)DETECT_BYTES_MAX)));
	bool whole = rx->len >= DETECT_BYTES_MAX || (conn_rx_eof(s->conn) && rx->len > 0);
	return seen == DETECT_MORE && whole ? DETECT_OPAQUE : seen;
}

/* The server's, on the speculative connection: enough of them make it opaque, SETTINGS and 408 do not (detect.h). */
static enum detected overhear(struct session *s, uint64_t waited, uint64_t *ret_until)
{
	bool eof, held = may_be_mesh(s) && waited < DETECT_HELD_MS;
	struct verdict_key k;
	struct str said = tunnel_heard(s->tunnel, HEARD_BYTES, &eof);
	enum heard h = detect_server(said, eof);
	if (h == HEARD_NOTHING || h == HEARD_HTTP)
		return DETECT_MORE;
	if (held || (h == HEARD_MORE && waited < DETECT_HELD_MS)) {
		*ret_until = DETECT_HELD_MS;
		return DETECT_MORE;
	}
	if (h == HEARD_SPEECH && declared(s) == PROTOCOL_UNDECLARED &&
	    verdict_learn(s->p->verdicts, place(s, &k), KNOWN_SERVER_FIRST, loop_now_ms(s->p->loop)))
		tell(s, (struct finding){.is = KNOWN_SERVER_FIRST}, &k);
	return DETECT_OPAQUE;
}

/* The client has not said yet what it speaks: the server, or time, may tell. *ret_until: when to look again, ms after the beginning. */
static enum detected guess(struct session *s, enum protocol p, uint64_t waited, uint64_t *ret_until)
{
	enum known known = known_of(s, p);
	const struct buf *rx = conn_rx(s->conn);
	bool hello = rx->len > 0 && (uint8_t)buf_peek(rx).p[0] == 22;
	uint64_t patience = s->direction == OUTBOUND && known == KNOWN_SERVER_FIRST ? 0 : DETECT_SILENT_MS;
	*ret_until = rx->len == 0 && !http(p) ? DETECT_NEVER : hello ? HANDSHAKE_MS : DETECT_UNSURE_MS;
	if (waited >= *ret_until)
		return p == PROTOCOL_UNDECLARED && known == KNOWN_HTTP && !hello ? DETECT_HTTP1 : DETECT_OPAQUE;
	if (rx->len == 0 && conn_rx_eof(s->conn)) /* nothing will come; a server may still have something to say */
		return DETECT_OPAQUE;
	if (s->tunnel != NULL)
		return overhear(s, waited, ret_until);
	if (s->speculated || known == KNOWN_HTTP || (hello && s->direction == INBOUND))
		return DETECT_MORE;
	if (s->spec_after_ms > s->detect_ms)
		patience = s->spec_after_ms - s->detect_ms;
	if (waited < patience)
		*ret_until = patience;
	else if (known != KNOWN_SERVER_FIRST && pressure_level() != PRESSURE_NONE)
		*ret_until = MIN(*ret_until, waited + SPECULATE_AGAIN_MS); /* short of memory: later */
	else
		speculate(s);
	return DETECT_MORE;
}

/* A speculative dial that failed is the end for who still says nothing: at once where the server is known to speak first, else there is
 * time to turn out as HTTP, which has its own way and says why. */
static bool failed(const struct session *s, enum protocol p, uint64_t waited, uint64_t *ret_until)
{
	if (s->spec_failed == REASON_NONE || conn_rx((struct conn *)s->conn)->len > 0)
		return false;
	if (s->direction == OUTBOUND && known_of(s, p) == KNOWN_SERVER_FIRST)
		return true;
	*ret_until = DETECT_HELD_MS;
	return waited >= DETECT_HELD_MS;
}

static void settle(struct session *s, enum detected seen, enum protocol p)
{
	struct verdict_key k;
	timer_stop(&s->timer);
	s->detected = judge(seen, p);
	if (s->detected != DETECT_MESH_H2 && s->detected != DETECT_MESH_TCP)
		learn_peer(s, false);
	/* Only the hop speaks weft1-*: an application that offers it outbound is left to its own TLS. */
	if (s->direction == OUTBOUND && (s->detected == DETECT_MESH_H2 || s->detected == DETECT_MESH_TCP))
		s->detected = DETECT_OPAQUE;
	if (p == PROTOCOL_UNDECLARED && s->detected == DETECT_OPAQUE && known_of(s, p) == KNOWN_HTTP) {
		verdict_forget(s->p->verdicts, place(s, &k));
		tell(s, (struct finding){.is = KNOWN_NOTHING}, &k);
	}
	if (s->detected == DETECT_OPAQUE)
		return;
	drop_speculation(s);
	if (p != PROTOCOL_UNDECLARED || known_of(s, p) == KNOWN_HTTP)
		return;
	step_aside(s->p, s, s->direction, place(s, &k));
	tell(s, (struct finding){.aside = true}, &k);
}

static enum verdict step_detect(struct session *s)
{
	enum protocol p = declared(s);
	if (s->direction == OUTBOUND && (p == PROTOCOL_TCP || p == PROTOCOL_TLS)) {
		s->detected = DETECT_OPAQUE;
		return NEXT;
	}
	if (s->detect_ms == 0)
		s->detect_ms = loop_now_ms(s->p->loop);
	uint64_t waited = loop_now_ms(s->p->loop) - s->detect_ms, until = DETECT_NEVER, fails = DETECT_NEVER;
	enum detected seen = look(s);
	if (seen == DETECT_MORE && conn_rx_eof(s->conn) && known_of(s, p) == KNOWN_HTTP) {
		doubt(s);
		return end(s, REASON_NONE);
	}
	if (seen == DETECT_MORE)
		seen = guess(s, p, waited, &until);
	if (seen != DETECT_MORE) {
		settle(s, seen, p);
		return NEXT;
	}
	if (failed(s, p, waited, &fails))
		return end(s, s->spec_failed);
	until = MIN(until, fails);
	if (until == DETECT_NEVER)
		timer_stop(&s->timer);
	else
		timer_start(&s->timer, until - waited);
	return WAIT;
}

/* --- handshake --- */

static void on_begin(struct handshake *h)
{
	run(CONTAINER_OF(h, struct session, handshake));
}

static void on_evict(struct handshake *h)
{
	end(CONTAINER_OF(h, struct session, handshake), REASON_HANDSHAKE_OVERFLOW);
}

/* In its turn (handshakes.h). From the beginning of the connection to the end of the handshake there are HANDSHAKE_MS; who came with the
 * ClientHello late still has a second for the rest. */
static enum verdict step_handshake(struct session *s)
{
	if (s->detected != DETECT_MESH_H2 && s->detected != DETECT_MESH_TCP)
		return NEXT;
	if (s->owner.mesh) { /* on_open came: the peer is verified */
		handshakes_leave(s->p->handshakes, &s->handshake);
		learn_peer(s, true);
		s->detected = str_is(conn_alpn(s->conn), ALPN_WEFT_TCP) ? DETECT_MESH_TCP : DETECT_MESH_H2;
		return NEXT;
	}
	SSL_CTX *ctx = identity_server(s->p->identity);
	if (ctx == NULL)
		return end(s, REASON_NOT_READY);
	uint64_t waited = loop_now_ms(s->p->loop) - s->detect_ms;
	uint64_t left = waited + HANDSHAKE_LEFT_MS < HANDSHAKE_MS ? HANDSHAKE_MS - waited : HANDSHAKE_LEFT_MS;
	if (list_empty(&s->handshake.node)) {
		timer_start(&s->timer, left);
		return handshakes_enter(s->p->handshakes, &s->handshake) ? WAIT : end(s, REASON_HANDSHAKE_OVERFLOW);
	}
	if (!s->handshake.begun) /* the timer */
		return end(s, REASON_HANDSHAKE_OVERFLOW);
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
	if (s->step == STEP_DETECT)
		doubt(s);
	if (s->step != STEP_HANDSHAKE || s->tls_peer == NULL) {
		end(s, REASON_CLIENT_GONE);
		return;
	}
	event(EV_PEER_REFUSED, "peer=\"%s\" why=\"%s\"", addr_text(&s->peer, peer),
	      untrusted ? s->tls_peer->err.text : err->text);
	end(s, untrusted                  ? REASON_PEER_UNTRUSTED
	       : err->code == ERR_TIMEOUT ? REASON_HANDSHAKE_TIMEOUT
					  : REASON_TLS_FAILED);
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
	if (s->conn != NULL) { /* it was a speculation */
		speculation_over(s, "failed");
		s->spec_failed = reason;
	}
	char peer[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
	if (reason == REASON_UPSTREAM_UNTRUSTED)
		event(EV_PEER_REFUSED, "peer=\"%s\" to=\"%s\" why=\"%s\"", addr_text(&s->peer, peer),
		      addr_text(&s->to, to), text);
	if (s->conn != NULL)
		run(s);
	else
		end(s, reason);
}

static void on_heard(void *ctx)
{
	struct session *s = ctx;
	MUST_BE(s, SESSION_MAGIC);
	MUST(s->step == STEP_DETECT);
	run(s);
}

/* down NULL: speculative. */
static struct tunnel *open_tunnel(struct session *s, struct conn *down)
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
		s->tunnel = open_tunnel(s, down);
		return;
	}
	speculation_over(s, "carried");
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
	drop_speculation(s);
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

/* An application has answered in HTTP: that is what is spoken there. */
static void answered(struct request_owner *o)
{
	struct session *s = CONTAINER_OF(o, struct session, owner);
	struct verdict_key k;
	struct target t = {.kind = TARGET_UNKNOWN};
	struct subject sub;
	MUST_BE(s, SESSION_MAGIC);
	if (declared(s) != PROTOCOL_UNDECLARED)
		return;
	subject(o, &t, &sub);
	if (!verdict_learn(s->p->verdicts, place_of(s, &t, &k), KNOWN_HTTP, loop_now_ms(s->p->loop)))
		return;
	step_aside(s->p, s, s->direction, &k);
	tell(s, (struct finding){.is = KNOWN_HTTP, .aside = true}, &k);
}

void session_learn(struct proxy *p, const struct finding *f)
{
	if (f->peer)
		peer_is(p, &f->key, f->is);
	else if (f->is != KNOWN_NOTHING)
		verdict_learn(p->verdicts, &f->key, f->is, loop_now_ms(p->loop));
	else if (!f->aside)
		verdict_forget(p->verdicts, &f->key);
	if (f->aside)
		step_aside(p, NULL, f->direction, &f->key);
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
	s->owner = (struct request_owner){.p = p, .subject = subject, .answered = answered};
	list_init(&s->owner.requests);
	list_init(&s->waiter.node);
	list_init(&s->handshake.node);
	s->handshake.on_begin = on_begin;
	s->handshake.on_evict = on_evict;
	timer_init(&s->timer, p->loop, on_timer);
	task_init(&s->task, run_task);
	list_push(&p->sessions, &s->node);
	stats_open(p->stats, d);
	s->conn = conn_new(p->loop, fd, &conn_evs, s);
	loop_at_turn_end(p->loop, &s->task);
}

/* --- all of them --- */

/* Nothing was asked on it yet: closing it now is what a server does with an idle connection. */
static bool idle_before_first(struct session *s)
{
	return s->step == STEP_DETECT && known_of(s, declared(s)) == KNOWN_HTTP && conn_rx(s->conn)->len == 0;
}

void session_drain_all(struct proxy *p)
{
	p->draining = true;
	list_for_each_safe (s, &p->sessions, struct session, node) {
		if (s->http != NULL) {
			http_session_ops(s->http)->drain(s->http);
		} else if (idle_before_first(s)) {
			drop_speculation(s);
			conn_close(&s->conn);
			end(s, REASON_DRAINING);
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
		end(s, REASON_DRAINING);
	}
}

/* --- short of memory, or idle --- */

void session_rest_all(struct proxy *p)
{
	list_for_each (s, &p->sessions, struct session, node)
		if (s->http != NULL && http_session_ops(s->http)->rest != NULL)
			http_session_ops(s->http)->rest(s->http);
}

size_t session_shed_idle(struct proxy *p)
{
	size_t n = 0;
	list_for_each (s, &p->sessions, struct session, node) {
		if (s->http == NULL || s->last || http_session_ops(s->http) != &codec_h2 ||
		    http_session_ops(s->http)->open_streams(s->http) > 0)
			continue;
		s->last = true;
		http_session_ops(s->http)->drain(s->http);
		n++;
	}
	return n;
}

static bool pumps(const struct session *s)
{
	return s->tunnel != NULL && s->conn == NULL;
}

/* What the connection of a codec holds beside its requests. */
static size_t queued(const struct session *s, bool stalled)
{
	const struct codec_ops *ops = s->http != NULL ? http_session_ops(s->http) : NULL;
	const struct conn *c = ops != NULL ? ops->conn(s->http) : NULL;
	return c == NULL || (stalled && conn_tx_bytes(c) != s->seen) ? 0 : ops->held(s->http);
}

static void shed_one(struct session *s, bool stalled, size_t least, size_t want, struct shed_count *n)
{
	size_t tunnel = pumps(s) ? tunnel_held(s->tunnel, stalled) : 0;
	request_shed(&s->owner, stalled, least, want, n);
	size_t bytes = MAX(tunnel, queued(s, stalled));
	if (bytes < least || n->bytes >= want)
		return;
	n->bytes += bytes;
	n->connections++;
	if (tunnel > 0)
		tunnel_shed(s->tunnel);
	else
		end(s, REASON_SHED);
}

struct shed_count session_shed(struct proxy *p, bool stalled, size_t want)
{
	struct shed_count n = {0, 0, 0};
	size_t most = 0;
	list_for_each (s, &p->sessions, struct session, node) {
		most = MAX(most, request_held(&s->owner, stalled));
		most = MAX(most, pumps(s) ? tunnel_held(s->tunnel, stalled) : queued(s, stalled));
	}
	if (most < SHED_MIN)
		return n;
	list_for_each_safe (s, &p->sessions, struct session, node)
		shed_one(s, stalled, MAX(most / 2, SHED_MIN), want, &n);
	return n;
}

void session_look_all(struct proxy *p)
{
	list_for_each (s, &p->sessions, struct session, node) {
		struct conn *c = s->http != NULL ? http_session_ops(s->http)->conn(s->http) : NULL;
		s->seen = c != NULL ? conn_tx_bytes(c) : 0;
		request_look_all(&s->owner);
		if (pumps(s))
			tunnel_look(s->tunnel);
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
