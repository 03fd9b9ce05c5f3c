/* SPDX-License-Identifier: Apache-2.0 */
/* tunnel.c: the way of an opaque connection, in order: policy, balance, connect, hold, pump, finish. */
#include "proxy/tunnel.h"

#include "lib/mem.h"
#include "lib/pressure.h"
#include "proxy/retry.h"

#include <errno.h>

#define TUNNEL_MAGIC 0x74756e6c

enum verdict { NEXT, WAIT, DONE };

struct tunnel {
	uint32_t magic;
	struct proxy *p;
	struct task start;
	struct tunnel_from from;
	struct permit permit;
	struct endpoint_set *set; /* keeps `ep` alive */
	struct endpoint ep;
	struct attempt attempt; /* outbound */
	struct addr tried[RETRY_ATTEMPTS_MAX];
	struct timer backoff;
	struct conn *up;
	struct tls_peer *peer; /* mesh upstream */
	unsigned step;
	unsigned n_tried;
	uint64_t seen;                    /* moved() at the last look */
	bool up_open, down_done, up_done; /* *_done: the FIN of that side has been passed on */
	enum reason reason;
	struct err why;
};

/* Bound: 1,000 opaque connections are to cost at most 25 MB, OpenSSL and kernel included. */
_Static_assert(sizeof(struct tunnel) <= 1024, "struct tunnel is kept for the life of a connection");

static enum verdict step_policy(struct tunnel *t);
static enum verdict step_balance(struct tunnel *t);
static enum verdict step_connect(struct tunnel *t);
static enum verdict step_hold(struct tunnel *t);
static enum verdict step_pump(struct tunnel *t);
static enum verdict step_finish(struct tunnel *t);

static const struct {
	const char *name;
	enum verdict (*run)(struct tunnel *t);
} steps[] = {
    {"policy", step_policy},   /* may it? -> permit, or a reason                */
    {"balance", step_balance}, /* permit + target -> endpoint                   */
    {"connect", step_connect}, /* endpoint -> a connection of its own           */
    {"hold", step_hold},       /* speculative: until its client is known        */
    {"pump", step_pump},       /* bytes both ways until both sides have ended   */
    {"finish", step_finish},   /* counters, the owner hears, memory goes        */
};
enum { STEP_POLICY, STEP_BALANCE, STEP_CONNECT, STEP_HOLD, STEP_PUMP, STEP_FINISH };
_Static_assert(ARRAY_LEN(steps) == STEP_FINISH + 1, "a name for each step");

static void run(struct tunnel *t)
{
	MUST_BE(t, TUNNEL_MAGIC);
	for (;;) {
		switch (steps[t->step].run(t)) {
		case NEXT:
			t->step++;
			break;
		case WAIT:
			return;
		case DONE:
			return;
		}
	}
}

static enum verdict fail(struct tunnel *t, enum reason reason, const char *text)
{
	t->reason = reason;
	err_set(&t->why, ERR_SYSTEM, "%s", text);
	t->step = STEP_FINISH;
	return step_finish(t);
}

static enum verdict step_policy(struct tunnel *t)
{
	enum reason r = policy_connection(&t->from.subject, t->from.mesh, &t->permit);
	return r == REASON_NONE ? NEXT : fail(t, r, reason_row(r)->text);
}

static enum verdict step_balance(struct tunnel *t)
{
	const struct subject *s = &t->from.subject;
	if (s->direction == INBOUND || s->target->kind == TARGET_EXTERNAL) {
		t->ep = (struct endpoint){.addr = *s->to, .weight = 1, .zone = "", .workload = ""};
		return NEXT;
	}
	if (s->target->kind == TARGET_WORKLOAD) {
		t->ep = s->target->direct;
		balance_direct(t->p->balancer, &t->permit, &t->ep, &t->attempt);
		return NEXT;
	}
	enum reason why = REASON_NONE;
	endpoint_set_unref(&t->set);
	t->set = endpoint_set_ref(s->target->endpoints);
	const struct endpoint *ep = balance_pick(t->p->balancer, &t->permit, s->target->service->name, t->set, t->tried,
						 t->n_tried, &t->attempt, &why);
	if (ep == NULL)
		return fail(t, why, reason_row(why)->text);
	t->ep = *ep;
	return NEXT;
}

/* --- both connections --- */

static enum verdict step_hold(struct tunnel *t)
{
	if (t->from.down != NULL)
		return NEXT;
	struct buf *rx = conn_rx(t->up);
	if (rx->len > 0 || conn_rx_eof(t->up))
		t->from.on_heard(t->from.ctx);
	return WAIT;
}

/* What came from one side goes to the other; a full side leaves the rest in rx, where the mark stops the peer. */
static void move(struct conn *from, struct conn *to, bool *done)
{
	struct buf *rx = conn_rx(from), *tx = conn_tx(to);
	size_t room = tx->len < tx->mark ? tx->mark - tx->len : 0;
	size_t n = MIN(rx->len, room);
	if (n > 0) {
		buf_move(tx, rx, n);
		conn_flush(to);
	}
	if (rx->len == 0 && conn_rx_eof(from) && !*done) {
		*done = true;
		conn_end_tx(to);
	}
}

static enum verdict step_pump(struct tunnel *t)
{
	move(t->from.down, t->up, &t->down_done);
	move(t->up, t->from.down, &t->up_done);
	bool over = t->down_done && t->up_done && conn_tx_ended(t->up) && conn_tx_ended(t->from.down);
	return over ? NEXT : WAIT;
}

static void pump(void *ctx)
{
	struct tunnel *t = ctx;
	MUST_BE(t, TUNNEL_MAGIC);
	if (t->up_open)
		run(t);
}

static void on_down_fail(void *ctx, const struct err *err)
{
	fail(ctx, err->code == ERR_LIMIT ? REASON_FLOOD_TLS : REASON_CLIENT_GONE, err->text);
}

static const struct conn_events down_events = {
    .on_open = pump,
    .on_rx = pump,
    .on_tx_room = pump,
    .on_fail = on_down_fail,
};

static void on_up_open(void *ctx)
{
	struct tunnel *t = ctx;
	MUST_BE(t, TUNNEL_MAGIC);
	t->up_open = true;
	balance_answered(t->p->balancer, &t->attempt);
	t->step++;
	run(t);
}

static void on_backoff(struct timer *timer)
{
	run(CONTAINER_OF(timer, struct tunnel, backoff));
}

/* Another endpoint, as long as no byte of the client has gone up (it would be lost) and none came down. */
static bool try_again(struct tunnel *t, enum reason why)
{
	struct circuit *c = t->attempt.circuit;
	struct lost_attempt lost = {.why = why, .unprocessed = true};
	bool untouched =
	    conn_tx_bytes(t->up) == 0 && conn_tx(t->up)->len == 0 && conn_rx_bytes(t->up) == 0 && !t->down_done;
	if (t->n_tried + 1 >= RETRY_ATTEMPTS_MAX || c == NULL || !untouched || !retry_useful(&lost, STR("")))
		return false;
	bool within = circuit_retry(c, loop_now_ms(t->p->loop));
	stats_retry(t->p->stats, why, within ? "sent" : "budget");
	if (!within)
		return false;
	/* Want of descriptors is ours and may be over after the pause: the endpoint is not to blame. */
	balance_end(t->p->balancer, &t->attempt, why == REASON_OVERLOAD ? OUTCOME_NEUTRAL : OUTCOME_FAILED, why);
	t->tried[t->n_tried++] = t->ep.addr;
	conn_reset(&t->up);
	FREE(&t->peer);
	t->up_open = false;
	t->step = STEP_BALANCE;
	timer_start(&t->backoff, retry_backoff_ms(t->n_tried, (uint32_t)balance_random(t->p->balancer, 1ull << 32)));
	return true;
}

static void on_up_fail(void *ctx, const struct err *err)
{
	struct tunnel *t = ctx;
	MUST_BE(t, TUNNEL_MAGIC);
	bool untrusted = t->peer != NULL && t->peer->err.code != ERR_NONE;
	struct err why = untrusted ? t->peer->err : *err;
	bool limit = err->code == ERR_LIMIT; /* ours while it is dialled, of what it may say since */
	enum reason reason = untrusted                  ? REASON_UPSTREAM_UNTRUSTED
			     : t->up_open               ? (limit ? REASON_UPSTREAM_FLOOD : REASON_UPSTREAM_RESET)
			     : err->code == ERR_TIMEOUT ? REASON_CONNECT_TIMEOUT
			     : limit                    ? REASON_OVERLOAD
							: REASON_CONNECT_FAIL;
	if (try_again(t, reason))
		return;
	if (reason == REASON_OVERLOAD)
		balance_end(t->p->balancer, &t->attempt, OUTCOME_NEUTRAL, REASON_NONE);
	fail(t, reason, why.text);
}

static const struct conn_events up_events = {
    .on_open = on_up_open,
    .on_rx = pump,
    .on_tx_room = pump,
    .on_fail = on_up_fail,
};

/* --- dialling --- */

/* An application that bound its source is seen with it on the other side, as without a mesh: the address always, the port where it is
 * free for us too. What the kernel chose on loopback says nothing and is left to it. */
static bool bind_like_client(const struct tunnel *t, int fd, struct err *err)
{
	struct addr from = t->from.client;
	if (from.ip.len != t->ep.addr.ip.len || ip_is_loopback(&from.ip))
		return true;
	struct sockaddr_storage ss;
	int one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	socklen_t len = addr_to_sockaddr(&from, &ss);
	if (bind(fd, (struct sockaddr *)&ss, len) == 0)
		return true;
	from.port = 0;
	len = addr_to_sockaddr(&from, &ss);
	if (bind(fd, (struct sockaddr *)&ss, len) == 0)
		return true;
	char text[ADDR_TEXT_MAX];
	return err_errno(err, "binding the client's source address %s", addr_text(&from, text));
}

static bool prepare(void *arg, int fd, struct err *err)
{
	struct tunnel *t = arg;
	if (!pressure_may_use(fd))
		return err_set(err, ERR_LIMIT, "no descriptors left for connections");
	if (!mark_exempt(t->p->mark, fd, err))
		return false;
	if (t->from.subject.direction == OUTBOUND)
		return bind_like_client(t, fd, err);
	return mark_client(t->p->mark, fd, &t->from.client, &t->ep.addr, err);
}

static enum verdict step_connect(struct tunnel *t)
{
	static const uint8_t alpn[] = "\x09" ALPN_WEFT_TCP;
	bool inbound = t->from.subject.direction == INBOUND;
	struct conn_dial d = {
	    .to = t->ep.addr,
	    .timeout_ms = t->ep.meshed ? POOL_MESH_DIAL_MS : POOL_OTHER_DIAL_MS,
	    .prepare = prepare,
	    .prepare_arg = t,
	};
	if (inbound)
		d.from = mark_source(&t->ep.addr);
	if (t->ep.meshed && !inbound) {
		d.tls = identity_client(t->p->identity);
		if (d.tls == NULL)
			return fail(t, REASON_NOT_READY, "this proxy has no certificate yet");
		t->peer = NEW(struct tls_peer);
		t->peer->expect = t->ep.identity;
		d.tls_arg = t->peer;
		d.sni = t->from.service[0] != '\0' ? t->from.service : NULL;
		d.alpn = alpn;
		d.alpn_len = sizeof(alpn) - 1;
	}
	t->up = conn_open(t->p->loop, &d, &up_events, t);
	return WAIT;
}

/* --- the end --- */

static void tunnel_free(void *arg)
{
	struct tunnel *t = arg;
	endpoint_set_unref(&t->set);
	mem_free(t->peer);
	mem_free(t);
}

static void close_both(struct tunnel *t)
{
	if (t->up != NULL && t->reason == REASON_NONE)
		conn_close(&t->up);
	else if (t->up != NULL)
		conn_reset(&t->up);
	if (t->from.down != NULL && t->reason == REASON_NONE)
		conn_close(&t->from.down);
	else if (t->from.down != NULL)
		conn_reset(&t->from.down);
}

/* A connection that was cut before its endpoint said anything is a failure of the endpoint (its sidecar could not reach the application);
 * one that had been of use is not. */
static void end_attempt(struct tunnel *t)
{
	bool mute = t->up == NULL || conn_rx_bytes(t->up) == 0;
	enum outcome how = t->reason == REASON_NONE                ? OUTCOME_GOOD
			   : mute && balance_is_failure(t->reason) ? OUTCOME_FAILED
								   : OUTCOME_NEUTRAL;
	balance_end(t->p->balancer, &t->attempt, how, t->reason);
}

static enum verdict step_finish(struct tunnel *t)
{
	end_attempt(t);
	uint64_t up = t->up != NULL ? conn_tx_bytes(t->up) : 0;
	uint64_t down = t->up != NULL ? conn_rx_bytes(t->up) : 0;
	bool speculative = t->from.down == NULL;
	close_both(t);
	task_cancel(&t->start); /* the client may be gone before it ran */
	timer_stop(&t->backoff);
	if (!speculative)
		stats_tunnel(t->p->stats, t->from.subject.direction, t->from.service, t->reason, up, down);
	t->magic = 0;
	loop_defer_free(t->p->loop, t, tunnel_free);
	t->from.on_end(t->from.ctx, t->reason, t->why.text);
	return DONE;
}

/* The first steps run from the loop, so that on_end never comes before tunnel_new has returned. */
static void on_start(struct task *task)
{
	run(CONTAINER_OF(task, struct tunnel, start));
}

struct tunnel *tunnel_new(struct proxy *p, const struct tunnel_from *from)
{
	struct tunnel *t = NEW(struct tunnel);
	t->magic = TUNNEL_MAGIC;
	t->p = p;
	t->from = *from;
	if (t->from.down != NULL)
		conn_set_events(t->from.down, &down_events, t);
	task_init(&t->start, on_start);
	timer_init(&t->backoff, p->loop, on_backoff);
	loop_at_turn_end(p->loop, &t->start);
	return t;
}

struct str tunnel_heard(struct tunnel *t, size_t max, bool *ret_eof)
{
	MUST_BE(t, TUNNEL_MAGIC);
	*ret_eof = t->up_open && conn_rx_eof(t->up);
	if (!t->up_open)
		return STR("");
	struct buf *rx = conn_rx(t->up);
	return buf_pullup(rx, MIN(rx->len, max));
}

void tunnel_take(struct tunnel *t, struct conn *down)
{
	MUST_BE(t, TUNNEL_MAGIC);
	MUST(t->from.down == NULL);
	t->from.down = down;
	conn_set_events(down, &down_events, t);
	conn_rx_kick(down); /* what both have said already is moved from the loop */
}

void tunnel_drop(struct tunnel **tp)
{
	MUST((*tp)->from.down == NULL);
	tunnel_abort(tp, REASON_NONE);
}

void tunnel_abort(struct tunnel **tp, enum reason reason)
{
	struct tunnel *t = *tp;
	MUST_BE(t, TUNNEL_MAGIC);
	t->reason = reason;
	balance_end(t->p->balancer, &t->attempt, OUTCOME_NEUTRAL, REASON_NONE);
	close_both(t);
	task_cancel(&t->start);
	timer_stop(&t->backoff);
	t->magic = 0;
	loop_defer_free(t->p->loop, t, tunnel_free);
	*tp = NULL;
}

static size_t held(const struct conn *c)
{
	return c != NULL ? conn_held(c) : 0;
}

static uint64_t moved(const struct tunnel *t)
{
	return (t->up != NULL ? conn_tx_bytes(t->up) : 0) + (t->from.down != NULL ? conn_tx_bytes(t->from.down) : 0);
}

size_t tunnel_held(const struct tunnel *t, bool stalled)
{
	MUST_BE(t, TUNNEL_MAGIC);
	return stalled && moved(t) != t->seen ? 0 : held(t->up) + held(t->from.down);
}

void tunnel_look(struct tunnel *t)
{
	MUST_BE(t, TUNNEL_MAGIC);
	t->seen = moved(t);
}

void tunnel_shed(struct tunnel *t)
{
	MUST_BE(t, TUNNEL_MAGIC);
	balance_end(t->p->balancer, &t->attempt, OUTCOME_NEUTRAL, REASON_NONE);
	fail(t, REASON_SHED, reason_row(REASON_SHED)->text);
}

const char *tunnel_step(const struct tunnel *t)
{
	return steps[t->step].name;
}

const char *tunnel_endpoint(const struct tunnel *t, char out[static ADDR_TEXT_MAX])
{
	return t->ep.addr.ip.len != 0 ? addr_text(&t->ep.addr, out) : "";
}
