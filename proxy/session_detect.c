/* SPDX-License-Identifier: Apache-2.0 */
/* session_detect.c: what a connection speaks (docs/hop.md, "Detection"): the declaration, the client's first bytes, the server's on a connection that is
 * dialled while the client is silent, and time. What was learned is kept by place and peer (verdict.h), and told to the other threads. */
#include "lib/pressure.h"
#include "proxy/session_impl.h"

#include <string.h>

#define DETECT_SILENT_MS 50 /* who has not said what it speaks by then may be waiting for the server: it is dialled */
#define DETECT_HELD_MS \
	1000 /* so long, what the server said may have to wait for the client, and so does a failed dial */
#define DETECT_UNSURE_MS   5000 /* what has come by then may be HTTP or not; or nothing came on a port declared HTTP */
#define DETECT_NEVER       UINT64_MAX
#define SPECULATE_AGAIN_MS 250

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

void session_on_timer(struct timer *t)
{
	session_run(CONTAINER_OF(t, struct session, timer));
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

void session_learn_peer(struct session *s, bool mesh)
{
	struct verdict_key k;
	enum known is = mesh ? KNOWN_MESH : KNOWN_PLAIN;
	if (s->direction == OUTBOUND || (!mesh && !inside(s)))
		return;
	verdict_key_ip(&k, &s->peer.ip);
	if (peer_is(s->p, &k, is))
		tell(s, (struct finding){.peer = true, .is = is}, &k);
}

void session_doubt(struct session *s)
{
	struct verdict_key k;
	uint64_t now = loop_now_ms(s->p->loop);
	if (conn_rx(s->conn)->len == 0 && now - s->detect_ms >= DETECT_HELD_MS && declared(s) == PROTOCOL_UNDECLARED)
		verdict_doubt(s->p->verdicts, place(s, &k), now);
}

static void speculate(struct session *s)
{
	s->speculated = true;
	s->tunnel = session_open_tunnel(s, NULL);
	s->p->n_speculative++;
}

void session_speculation_over(struct session *s, const char *outcome)
{
	s->p->n_speculative--;
	stats_speculation(s->p->stats, s->direction, outcome);
}

/* Closed unused. */
void session_drop_speculation(struct session *s)
{
	if (s->tunnel == NULL)
		return;
	tunnel_drop(&s->tunnel);
	session_speculation_over(s, "unused");
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
		session_drop_speculation(x);
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
		session_learn_peer(s, false);
	/* Only the hop speaks weft1-*: an application that offers it outbound is left to its own TLS. */
	if (s->direction == OUTBOUND && (s->detected == DETECT_MESH_H2 || s->detected == DETECT_MESH_TCP))
		s->detected = DETECT_OPAQUE;
	if (p == PROTOCOL_UNDECLARED && s->detected == DETECT_OPAQUE && known_of(s, p) == KNOWN_HTTP) {
		verdict_forget(s->p->verdicts, place(s, &k));
		tell(s, (struct finding){.is = KNOWN_NOTHING}, &k);
	}
	if (s->detected == DETECT_OPAQUE)
		return;
	session_drop_speculation(s);
	if (p != PROTOCOL_UNDECLARED || known_of(s, p) == KNOWN_HTTP)
		return;
	step_aside(s->p, s, s->direction, place(s, &k));
	tell(s, (struct finding){.aside = true}, &k);
}

enum verdict session_step_detect(struct session *s)
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
		session_doubt(s);
		return session_end(s, REASON_NONE);
	}
	if (seen == DETECT_MORE)
		seen = guess(s, p, waited, &until);
	if (seen != DETECT_MORE) {
		settle(s, seen, p);
		return NEXT;
	}
	if (failed(s, p, waited, &fails))
		return session_end(s, s->spec_failed);
	until = MIN(until, fails);
	if (until == DETECT_NEVER)
		timer_stop(&s->timer);
	else
		timer_start(&s->timer, until - waited);
	return WAIT;
}

/* An application has answered in HTTP: that is what is spoken there. */
void session_answered(struct request_owner *o)
{
	struct session *s = CONTAINER_OF(o, struct session, owner);
	struct verdict_key k;
	struct target t = {.kind = TARGET_UNKNOWN};
	struct subject sub;
	MUST_BE(s, SESSION_MAGIC);
	if (declared(s) != PROTOCOL_UNDECLARED)
		return;
	o->subject(o, &t, &sub);
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

bool session_idle_before_first(struct session *s)
{
	return s->step == STEP_DETECT && known_of(s, declared(s)) == KNOWN_HTTP && conn_rx(s->conn)->len == 0;
}
