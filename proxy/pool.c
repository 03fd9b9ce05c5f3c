/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c: upstream connections and who waits for them. A key is a place (hop, address, expected identity); under it stand its
 * connections and its waiters. Every change of either runs serve(), once, at the end of the turn: it hands streams to waiters in
 * order and dials when there are more waiters than room to come. */
#include "proxy/pool.h"

#include "lib/event.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/pressure.h"

#define UPSTREAM_MAGIC 0x75707374
#define KEY_MAX        (1 + ADDR_KEY_LEN + SPIFFE_ID_MAX)

struct pool {
	struct pool_cfg cfg;
	struct http_limits limits, hop_limits; /* the hop's resets are counted as the sidecar there counts them */
	struct map keys;
	struct timer sweep; /* lets idle places go */
	struct task refuse;
	struct list refused; /* waiters that found a full queue, or waited too long */
	size_t conns;
	uint64_t numbers; /* of connections, given so far */
	bool draining;
};

struct pool_key {
	struct map_node node;
	struct pool *pool;
	enum hop hop;
	struct addr addr;
	char *identity; /* NULL: not meshed */
	char *sni;
	struct circuit *circuit; /* of the service that came first; NULL: none */
	struct list conns, waiters;
	size_t n_conns, n_waiters, n_dialing;
	struct task task; /* serve() */
	uint64_t used_ms;
	uint64_t single_until_ms; /* HTTP/1: see good_for() */
	char key[];               /* hop, address, identity */
};

/* One connection: dialling until it has a session, then serving streams until it drains or fails. Freed after the turn. */
struct upstream {
	uint32_t magic;
	struct list node;
	struct pool_key *key;
	struct conn *conn; /* until the codec takes it */
	struct http_session *session;
	const struct codec_ops *ops;
	struct tls_peer *peer;  /* HOP_MESH */
	uint64_t idle_since_ms; /* 0: busy */
	uint64_t freed_ms;      /* when its last stream ended */
	uint64_t ready_ms;      /* when streams could be opened first */
	uint64_t number;
	bool ready, draining;
	bool used; /* has served a stream */
};

const char *hop_name(enum hop h)
{
	static const char *const names[HOP_COUNT] = {"mesh", "plain", "plain-h2", "local", "local-h2"};
	return names[h];
}

static bool is_local(enum hop h)
{
	return h == HOP_LOCAL || h == HOP_LOCAL_H2;
}

static const struct codec_ops *codec_of(enum hop h)
{
	return h == HOP_PLAIN || h == HOP_LOCAL ? &codec_h1 : &codec_h2;
}

static void serve_soon(struct pool_key *k)
{
	loop_at_turn_end(k->pool->cfg.loop, &k->task);
}

static void upstream_free(void *arg)
{
	struct upstream *u = arg;
	mem_free(u->peer);
	mem_free(u);
}

/* Takes the connection out of its key; its memory goes after the turn. */
static void drop(struct upstream *u)
{
	struct pool_key *k = u->key;
	MUST_BE(u, UPSTREAM_MAGIC);
	if (u->session != NULL)
		u->ops->session_close(&u->session);
	if (u->conn != NULL)
		conn_close(&u->conn);
	if (!u->ready)
		k->n_dialing--;
	list_remove(&u->node);
	k->n_conns--;
	k->pool->conns--;
	if (k->circuit != NULL)
		circuit_give(&k->circuit->conns);
	u->magic = 0;
	loop_defer_free(k->pool->cfg.loop, u, upstream_free);
	serve_soon(k);
}

/* False: too many wait for this place, or for this service. */
static bool enlist(struct pool_key *k, struct pool_waiter *w)
{
	if (k->n_waiters >= POOL_WAITING_MAX ||
	    (w->circuit != NULL && !circuit_take(&w->circuit->pending, CIRCUIT_PENDING_MAX)))
		return false;
	w->key = k;
	w->until_ms = loop_now_ms(k->pool->cfg.loop) + k->pool->cfg.wait_ms;
	list_push(&k->waiters, &w->node);
	k->n_waiters++;
	return true;
}

/* Out of the queue, into none. */
static void delist(struct pool_waiter *w)
{
	list_remove(&w->node);
	if (w->key == NULL)
		return;
	w->key->n_waiters--;
	w->key = NULL;
	if (w->circuit != NULL)
		circuit_give(&w->circuit->pending);
}

/* Fails those who wait at this place, oldest first, until `keep` are left: the ones that other dials will have room for. Who may retry
 * goes to another endpoint. */
static void fail_waiters(struct pool_key *k, size_t keep, enum reason reason, const struct err *err)
{
	struct list now;
	list_init(&now);
	while (k->n_waiters > keep) {
		struct pool_waiter *w = CONTAINER_OF(k->waiters.next, struct pool_waiter, node);
		delist(w);
		list_push(&now, &w->node);
	}
	while (!list_empty(&now)) {
		struct pool_waiter *w = CONTAINER_OF(now.next, struct pool_waiter, node);
		list_remove(&w->node);
		w->on_fail(w, reason, err);
	}
}

static enum reason dial_reason(const struct upstream *u, const struct err *err)
{
	if (u->peer != NULL && u->peer->err.code != ERR_NONE)
		return REASON_UPSTREAM_UNTRUSTED;
	switch (err->code) {
	case ERR_TIMEOUT:
		return REASON_CONNECT_TIMEOUT;
	case ERR_TLS:
		return REASON_TLS_FAILED;
	case ERR_LIMIT:
		return REASON_OVERLOAD;
	default:
		return REASON_CONNECT_FAIL;
	}
}

static size_t room_of(const struct upstream *u)
{
	return u->ready && !u->draining && u->session != NULL ? u->ops->room(u->session) : 0;
}

static enum http_peer peer_of(const struct upstream *u)
{
	return u->ops->peer != NULL ? u->ops->peer(u->session) : HTTP_PEER_HEARD;
}

/* Streams that the connections now being dialled will have room for, and those whose peers are being asked whether they are there. */
static size_t room_to_come(const struct pool_key *k)
{
	const struct codec_ops *ops = codec_of(k->hop);
	size_t n = k->n_dialing * (ops == &codec_h2 ? k->pool->limits.streams_max : 1);
	if (ops->peer == NULL)
		return n;
	list_for_each (u, &k->conns, struct upstream, node)
		n += room_of(u) > 0 && peer_of(u) == HTTP_PEER_ASKED ? room_of(u) : 0;
	return n;
}

static void lost_before_ready(struct upstream *u, const struct err *err)
{
	struct pool_key *k = u->key;
	enum reason reason = dial_reason(u, err);
	struct err why = u->peer != NULL && u->peer->err.code != ERR_NONE ? u->peer->err : *err;
	if (reason == REASON_UPSTREAM_UNTRUSTED) {
		char to[ADDR_TEXT_MAX];
		event(EV_PEER_REFUSED, "to=\"%s\" why=\"%s\"", addr_text(&k->addr, to), why.text);
	}
	drop(u);
	fail_waiters(k, room_to_come(k), reason, &why);
}

/* --- events of the session --- */

static void on_ready(void *ctx)
{
	struct upstream *u = ctx;
	MUST_BE(u, UPSTREAM_MAGIC);
	if (!u->ready) {
		u->ready = true;
		u->key->n_dialing--;
		u->idle_since_ms = u->ready_ms = loop_now_ms(u->key->pool->cfg.loop);
	}
	serve_soon(u->key);
}

static void on_idle(void *ctx, bool idle)
{
	struct upstream *u = ctx;
	MUST_BE(u, UPSTREAM_MAGIC);
	u->idle_since_ms = idle ? loop_now_ms(u->key->pool->cfg.loop) : 0;
	if (!idle)
		return;
	u->freed_ms = u->idle_since_ms;
	serve_soon(u->key);
}

/* An application that closes after its answer without having said so: a request that had just been sent there would be lost, so
 * nothing is sent on such connections any more. */
static void closes_unasked(struct upstream *u)
{
	uint64_t now = loop_now_ms(u->key->pool->cfg.loop);
	if (u->ops == &codec_h1 && u->used && !u->draining && u->freed_ms != 0 && now - u->freed_ms <= POOL_CLOSES_MS)
		u->key->single_until_ms = now + POOL_SINGLE_MS;
}

static void on_draining(void *ctx)
{
	struct upstream *u = ctx;
	MUST_BE(u, UPSTREAM_MAGIC);
	u->draining = true;
	serve_soon(u->key);
}

static void on_closed(void *ctx, enum reason reason, const struct err *err)
{
	struct upstream *u = ctx;
	MUST_BE(u, UPSTREAM_MAGIC);
	static const struct err closed = {.code = ERR_CLOSED, .text = "the upstream closed the connection"};
	if (!u->ready) {
		lost_before_ready(u, err != NULL ? err : &closed);
		return;
	}
	closes_unasked(u);
	drop(u);
}

static const struct http_session_events session_events = {
    .on_ready = on_ready,
    .on_idle = on_idle,
    .on_draining = on_draining,
    .on_closed = on_closed,
};

/* --- events of the connection while dialling --- */

static void on_open(void *ctx)
{
	struct upstream *u = ctx;
	MUST_BE(u, UPSTREAM_MAGIC);
	struct conn *c = u->conn;
	u->conn = NULL;
	const struct pool *p = u->key->pool;
	const struct http_limits *lim = u->key->hop == HOP_MESH ? &p->hop_limits : &p->limits;
	u->session = u->ops->session_new(c, HTTP_CLIENT, lim, &session_events, u);
}

static void on_dial_fail(void *ctx, const struct err *err)
{
	lost_before_ready(ctx, err);
}

static void on_dial_bytes(void *ctx)
{
	/* Bytes before on_open are left in rx for the codec. */
	(void)ctx;
}

static const struct conn_events dial_events = {
    .on_open = on_open,
    .on_rx = on_dial_bytes,
    .on_tx_room = on_dial_bytes,
    .on_fail = on_dial_fail,
};

static bool prepare(void *arg, int fd, struct err *err)
{
	const struct pool_key *k = arg;
	if (!pressure_may_use(fd))
		return err_set(err, ERR_LIMIT, "no descriptors left for connections");
	if (!mark_exempt(k->pool->cfg.mark, fd, err))
		return false;
	return !is_local(k->hop) || mark_client_pooled(k->pool->cfg.mark, fd, &k->addr, err);
}

static void dial(struct pool_key *k)
{
	static const uint8_t alpn[] = "\x08" ALPN_WEFT_H2;
	struct pool *p = k->pool;
	struct upstream *u = NEW(struct upstream);
	u->magic = UPSTREAM_MAGIC;
	u->key = k;
	u->number = ++p->numbers;
	u->ops = codec_of(k->hop);
	struct conn_dial d = {
	    .to = k->addr,
	    .timeout_ms = k->hop == HOP_MESH ? POOL_MESH_DIAL_MS : POOL_OTHER_DIAL_MS,
	    .prepare = prepare,
	    .prepare_arg = k,
	};
	if (is_local(k->hop))
		d.from = mark_source(&k->addr);
	if (k->hop == HOP_MESH) {
		u->peer = NEW(struct tls_peer);
		u->peer->expect = k->identity;
		d.tls = identity_client(p->cfg.identity);
		d.tls_arg = u->peer;
		d.sni = k->sni;
		d.alpn = alpn;
		d.alpn_len = sizeof(alpn) - 1;
	}
	list_push(&k->conns, &u->node);
	k->n_conns++;
	k->n_dialing++;
	p->conns++;
	u->conn = conn_open(p->cfg.loop, &d, &dial_events, u);
}

/* --- waiters --- */

/* To a place that closes unasked a connection goes a second time only when it has stayed open for a while: then the place has changed its
 * habit. */
static bool keeps(const struct upstream *u)
{
	uint64_t now = loop_now_ms(u->key->pool->cfg.loop);
	bool stayed = u->idle_since_ms != 0 && now - u->idle_since_ms > POOL_CLOSES_MS;
	return now >= u->key->single_until_ms || stayed;
}

/* While each request gets a connection of its own, those that have served are of no use but to see whether they stay open: the longest open
 * ones are kept for that. */
static void thin(struct pool_key *k)
{
	size_t kept = 0;
	if (codec_of(k->hop) != &codec_h1 || loop_now_ms(k->pool->cfg.loop) >= k->single_until_ms)
		return;
	list_for_each_safe (u, &k->conns, struct upstream, node)
		if (u->ready && u->used && u->idle_since_ms != 0 && ++kept > POOL_PROBES)
			drop(u);
}

/* A kept HTTP/1 connection may have been closed by its server while we were about to use it. Who cannot be sent twice gets one that the
 * kernel has no end of yet; the loop will hear of the other one by itself. */
static bool good_for(const struct upstream *u, const struct pool_waiter *w)
{
	if (!u->used || u->key->n_conns >= POOL_CONNS_MAX)
		return true;
	/* Those who lost a shared connection together share the next one, too. */
	if (w->fresh)
		return u->ops == &codec_h2 && loop_now_ms(u->key->pool->cfg.loop) - u->ready_ms <= POOL_YOUNG_MS;
	if (!keeps(u))
		return false;
	return !w->once || u->ops != &codec_h1 || conn_is_quiet(u->ops->conn(u->session));
}

/* A connection with room for this waiter; NULL instead of a waiter: for any. One whose peer is silent, or may be, has none: what is sent there
 * may be lost, and while it is not sent it can go elsewhere. */
static struct upstream *with_room(struct pool_key *k, const struct pool_waiter *w)
{
	list_for_each (u, &k->conns, struct upstream, node) {
		bool room = room_of(u) > 0 && peer_of(u) == HTTP_PEER_HEARD;
		if (room && (w == NULL || good_for(u, w)))
			return u;
	}
	return NULL;
}

static void hand_out(struct pool_waiter *w, struct upstream *u)
{
	struct pool_key *k = u->key;
	delist(w);
	if (u->used)
		k->single_until_ms = 0;
	w->reused = u->used;
	w->conn = u->number;
	u->used = true;
	u->idle_since_ms = 0;
	w->on_stream(w, u->ops->open(u->session, w->ev, w->ctx, w->arena));
}

/* Who may not have what is there does not hold up those behind. */
static bool hand_out_one(struct pool_key *k)
{
	if (list_empty(&k->waiters) || with_room(k, NULL) == NULL)
		return false;
	list_for_each (w, &k->waiters, struct pool_waiter, node) {
		struct upstream *u = with_room(k, w);
		if (u != NULL) {
			hand_out(w, u);
			return true;
		}
		if (!w->fresh && !w->once) /* then nobody behind may, either */
			return false;
	}
	return false;
}

/* Why no connection can be dialled now; REASON_NONE: it can. */
static enum reason hindrance(const struct pool_key *k, struct err *err)
{
	if (k->hop == HOP_MESH && identity_client(k->pool->cfg.identity) == NULL) {
		err_set(err, ERR_IDENTITY, "this proxy has no certificate yet");
		return REASON_NOT_READY;
	}
	return REASON_NONE;
}

/* A connection's share of the service's limit; drop() gives it back. */
static bool may_dial(struct pool_key *k)
{
	return k->n_conns < POOL_CONNS_MAX &&
	       (k->circuit == NULL || circuit_take(&k->circuit->conns, CIRCUIT_CONNS_MAX));
}

static void serve(struct task *t)
{
	struct pool_key *k = CONTAINER_OF(t, struct pool_key, task);
	struct err err;
	while (hand_out_one(k))
		;
	thin(k);
	if (k->n_waiters <= room_to_come(k))
		return;
	enum reason why = hindrance(k, &err);
	if (why != REASON_NONE)
		fail_waiters(k, 0, why, &err);
	while (k->n_waiters > room_to_come(k) && may_dial(k))
		dial(k);
	if (k->n_conns > 0 || k->n_waiters == 0)
		return;
	/* No connection of this place will come free: others have all of them. */
	err_set(&err, ERR_LIMIT, "the service has all the connections that it may have");
	fail_waiters(k, 0, REASON_OVERFLOW, &err);
}

static struct pool_key *key_of(struct pool *p, const struct endpoint *ep, enum hop hop, const char *service)
{
	char key[KEY_MAX];
	struct str identity = str_of(hop == HOP_MESH ? ep->identity : "");
	size_t n = 1 + ADDR_KEY_LEN + identity.len;
	MUST(n <= sizeof(key));
	key[0] = (char)hop;
	addr_key(&ep->addr, key + 1);
	memcpy(key + 1 + ADDR_KEY_LEN, identity.p, identity.len);
	struct map_node *found = map_get(&p->keys, str_make(key, n));
	if (found != NULL)
		return CONTAINER_OF(found, struct pool_key, node);
	struct pool_key *k = mem_zalloc(sizeof(*k) + n);
	k->pool = p;
	k->hop = hop;
	k->addr = ep->addr;
	k->identity = hop == HOP_MESH ? mem_strdup(ep->identity) : NULL;
	k->sni = mem_strdup(service);
	list_init(&k->conns);
	list_init(&k->waiters);
	task_init(&k->task, serve);
	memcpy(k->key, key, n);
	map_put(&p->keys, &k->node, str_make(k->key, n));
	return k;
}

/* Those who found a place's queue full, or whose time in it is over: told at the end of the turn, never before pool_acquire has returned. */
static void refuse(struct task *t)
{
	struct pool *p = CONTAINER_OF(t, struct pool, refuse);
	static const struct err full = {.code = ERR_LIMIT, .text = "too many requests wait for this endpoint"};
	static const struct err late = {.code = ERR_TIMEOUT,
					.text = "no connection to this endpoint has had room in time"};
	while (!list_empty(&p->refused)) {
		struct pool_waiter *w = CONTAINER_OF(p->refused.next, struct pool_waiter, node);
		list_remove(&w->node);
		w->on_fail(w, w->why, w->why == REASON_OVERFLOW ? &full : &late);
	}
}

static void refuse_soon(struct pool *p, struct pool_waiter *w, enum reason why)
{
	w->why = why;
	list_push(&p->refused, &w->node);
	loop_at_turn_end(p->cfg.loop, &p->refuse);
}

/* The queue is one of time, too: the first has waited longest. */
static void refuse_late(struct pool_key *k, uint64_t now_ms)
{
	struct pool_waiter *w;
	while ((w = list_first(&k->waiters, struct pool_waiter, node)) != NULL && w->until_ms <= now_ms) {
		delist(w);
		refuse_soon(k->pool, w, REASON_QUEUE_TIMEOUT);
	}
}

void pool_acquire(struct pool *p, const struct permit *permit, const struct endpoint *ep, enum hop hop,
		  const char *service, struct pool_waiter *w)
{
	MUST(permit != NULL && permit->policy != NULL && w->key == NULL);
	MUST(hop != HOP_MESH || ep->identity != NULL);
	struct pool_key *k = key_of(p, ep, hop, service);
	k->used_ms = loop_now_ms(p->cfg.loop);
	if (k->circuit == NULL && k->n_conns == 0)
		k->circuit = circuit_ref(w->circuit);
	if (enlist(k, w)) {
		serve_soon(k);
		return;
	}
	refuse_soon(p, w, REASON_OVERFLOW);
}

void pool_cancel(struct pool *p, struct pool_waiter *w)
{
	(void)p;
	delist(w);
}

static void key_free(struct pool_key *k)
{
	MUST(list_empty(&k->conns) && list_empty(&k->waiters));
	task_cancel(&k->task);
	map_del(&k->pool->keys, &k->node);
	circuit_unref(&k->circuit);
	mem_free(k->identity);
	mem_free(k->sni);
	mem_free(k);
}

/* Closes the connections of a place that have been idle for so long. Returns how many. */
static size_t close_idle(struct pool_key *k, uint64_t idle_ms)
{
	uint64_t now = loop_now_ms(k->pool->cfg.loop);
	size_t n = 0;
	list_for_each_safe (u, &k->conns, struct upstream, node) {
		bool idle = u->ready && u->idle_since_ms != 0;
		if (idle && (u->draining || now - u->idle_since_ms >= idle_ms)) {
			drop(u);
			n++;
		}
	}
	return n;
}

void pool_rest(struct pool *p)
{
	map_for_each (node, &p->keys) {
		struct pool_key *k = CONTAINER_OF(node, struct pool_key, node);
		list_for_each (u, &k->conns, struct upstream, node)
			if (u->session != NULL && u->ops->rest != NULL)
				u->ops->rest(u->session);
	}
}

size_t pool_shed(struct pool *p)
{
	size_t n = 0;
	map_for_each (node, &p->keys) {
		struct pool_key *k = CONTAINER_OF(node, struct pool_key, node);
		n += k->n_waiters == 0 ? close_idle(k, 0) : 0; /* else they are about to be used */
	}
	return n;
}

/* Once a second: who has waited for too long is told, connections idle for too long close, places without connections and waiters go. */
static void sweep(struct timer *t)
{
	struct pool *p = CONTAINER_OF(t, struct pool, sweep);
	uint64_t now = loop_now_ms(p->cfg.loop);
	map_for_each (n, &p->keys) {
		struct pool_key *k = CONTAINER_OF(n, struct pool_key, node);
		refuse_late(k, now);
		close_idle(k, p->draining ? 0 : p->cfg.idle_ms);
		if (k->n_conns == 0 && k->n_waiters == 0 && now - k->used_ms > p->cfg.idle_ms)
			key_free(k);
	}
	timer_start(&p->sweep, 1000);
}

struct http_limits pool_limits(uint64_t idle_ms)
{
	struct http_limits l = http_limits_default;
	l.head_max += 4096;
	l.fields_max += 8;
	/* The client's pool lets idle connections go first: a GOAWAY that crosses a request costs that request a second try. */
	l.idle_timeout_ms = 10 * (idle_ms != 0 ? idle_ms : POOL_IDLE_MS);
	return l;
}

struct pool *pool_new(const struct pool_cfg *cfg)
{
	struct pool *p = NEW(struct pool);
	p->cfg = *cfg;
	if (p->cfg.idle_ms == 0)
		p->cfg.idle_ms = POOL_IDLE_MS;
	if (p->cfg.wait_ms == 0)
		p->cfg.wait_ms = POOL_WAIT_MS;
	p->limits = pool_limits(p->cfg.idle_ms);
	/* The sweep above lets idle connections go; the codec's own idle limit would race with a request that has just been given. */
	p->limits.idle_timeout_ms = 0;
	if (cfg->stream_idle_ms != 0)
		p->limits.stream_idle_ms = cfg->stream_idle_ms;
	if (cfg->age_ms != 0)
		p->limits.age_max_ms = cfg->age_ms;
	p->hop_limits = p->limits;
	p->hop_limits.doubt_ms = POOL_DOUBT_MS;
	p->hop_limits.resets_burst = OWN_RESETS_BURST;
	p->hop_limits.resets_rate = OWN_RESETS_RATE;
	map_init(&p->keys);
	list_init(&p->refused);
	task_init(&p->refuse, refuse);
	timer_init(&p->sweep, cfg->loop, sweep);
	timer_start(&p->sweep, 1000);
	return p;
}

void pool_drain(struct pool *p)
{
	p->draining = true;
	timer_start(&p->sweep, 0);
}

void pool_free(struct pool **pp)
{
	struct pool *p = *pp;
	if (p == NULL)
		return;
	MUST(list_empty(&p->refused));
	timer_stop(&p->sweep);
	task_cancel(&p->refuse);
	map_for_each (n, &p->keys) {
		struct pool_key *k = CONTAINER_OF(n, struct pool_key, node);
		MUST(list_empty(&k->waiters));
		list_for_each_safe (u, &k->conns, struct upstream, node)
			drop(u);
		key_free(k);
	}
	map_done(&p->keys);
	FREE(pp);
}

size_t pool_conns(const struct pool *p)
{
	return p->conns;
}

static json_t *dump_conn(const struct upstream *u)
{
	return json_pack("{s:b, s:b, s:I, s:b}", "ready", u->ready, "draining", u->draining, "streams",
			 (json_int_t)(u->session != NULL ? u->ops->open_streams(u->session) : 0), "idle",
			 u->idle_since_ms != 0);
}

json_t *pool_dump(const struct pool *p)
{
	json_t *out = json_array();
	map_for_each (n, &p->keys) {
		struct pool_key *k = CONTAINER_OF(n, struct pool_key, node);
		char addr[ADDR_TEXT_MAX];
		json_t *conns = json_array();
		list_for_each (u, &k->conns, struct upstream, node)
			json_array_append_new(conns, dump_conn(u));
		json_array_append_new(out, json_pack("{s:s, s:s, s:s?, s:I, s:o}", "hop", hop_name(k->hop), "address",
						     addr_text(&k->addr, addr), "identity", k->identity, "waiting",
						     (json_int_t)k->n_waiters, "connections", conns));
	}
	return out;
}
