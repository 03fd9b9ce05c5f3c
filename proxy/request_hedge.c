/* SPDX-License-Identifier: Apache-2.0 */
/* request_hedge.c: a second attempt beside one that hangs. An application that has taken a request and gone silent cannot be told from a slow
 * one, so the first attempt goes on: the answer that begins first is the answer, the other attempt is cancelled.
 *
 * Only safe methods without a body (RFC 9110 9.2.1): a frozen application reads what lies in its socket when it thaws, and a PUT that runs then
 * would undo a later one. Only outbound, once a request, on another endpoint, within the retry budget of the service.
 * Why, and what was rejected: docs/decisions/2026-11-28-silent-endpoints.md. */
#include "proxy/hop.h"
#include "proxy/request_impl.h"

/* In the request's arena. */
struct hedge {
	struct request *r;
	struct pool_waiter waiter;
	struct http_stream *up; /* NULL: not yet */
	struct endpoint ep;
	struct attempt attempt;
	bool alone; /* the first attempt was lost meanwhile */
};

static bool safe(struct str method)
{
	return str_is(method, "GET") || str_is(method, "HEAD") || str_is(method, "OPTIONS");
}

static void end(struct hedge *h, enum outcome how, enum reason why)
{
	struct request *r = h->r;
	pool_cancel(r->p->pool, &h->waiter);
	if (h->up != NULL)
		ops_of(h->up)->reset(h->up, REASON_SILENT, false);
	h->up = NULL;
	balance_end(r->p->balancer, &h->attempt, how, why);
	r->hedge = NULL;
}

void request_hedge_drop(struct request *r)
{
	if (r->hedge != NULL)
		end(r->hedge, OUTCOME_NEUTRAL, REASON_NONE);
}

/* The second attempt came to nothing: the first is waited for as if it had never been. If that was lost before, the second was the request's
 * only one, and is lost as any. */
static void fail(struct hedge *h, const struct lost_attempt *lost)
{
	struct request *r = h->r;
	r->spared = r->spared || lost->kept;
	if (!h->alone) {
		end(h, balance_is_failure(lost->why) ? OUTCOME_FAILED : OUTCOME_NEUTRAL, lost->why);
		return;
	}
	if (h->up != NULL)
		ops_of(h->up)->reset(h->up, REASON_NONE, false);
	balance_move(&r->attempt, &h->attempt);
	r->waiter.reused = h->waiter.reused;
	r->ep = h->ep;
	r->hedge = NULL;
	request_lose(r, lost);
}

bool request_hedge_alone(struct request *r, const struct lost_attempt *lost)
{
	if (r->hedge == NULL || r->hedge->alone)
		return false;
	r->hedge->alone = true;
	r->touched = r->touched || !lost->unprocessed;
	request_end_attempt(r, lost->why);
	return true;
}

/* --- the second stream, until its answer begins --- */

/* An answer that the other sidecar made, or one that means "not here, not now", is none worth taking: the first endpoint may still give one. */
static bool worthless(const struct message *m)
{
	return message_get(m, "x-weft-unprocessed") != NULL || message_get(m, "x-weft-error") != NULL ||
	       (m->status >= 502 && m->status <= 504);
}

static void win(struct hedge *h, struct message *m)
{
	struct request *r = h->r;
	struct balancer *b = r->p->balancer;
	if (r->up != NULL)
		ops_of(r->up)->reset(r->up, REASON_SILENT, false);
	balance_end(b, &r->attempt, OUTCOME_FAILED, REASON_SILENT);
	balance_move(&r->attempt, &h->attempt);
	r->waiter.reused = h->waiter.reused;
	r->waiter.conn = h->waiter.conn;
	r->up = h->up;
	r->ep = h->ep;
	r->hedge = NULL;
	request_take(r, r->up, m);
}

static void on_head(void *ctx, struct message *m)
{
	struct hedge *h = ctx;
	MUST_BE(h->r, REQUEST_MAGIC);
	if (m->status < 200)
		return;
	if (worthless(m))
		fail(h, &(struct lost_attempt){.why = REASON_REFUSED});
	else
		win(h, m);
}

static void on_reset(void *ctx, const struct http_reset *why)
{
	struct hedge *h = ctx;
	MUST_BE(h->r, REQUEST_MAGIC);
	ops_of(h->up)->close(h->up);
	h->up = NULL;
	struct lost_attempt lost = request_lost(&h->waiter, why);
	if (lost.conn != 0)
		balance_lost(&h->attempt, lost.conn);
	fail(h, &lost);
}

/* Nothing but a head or the end can come first (codec.h). */
static void on_body(void *ctx, struct str bytes)
{
	(void)ctx, (void)bytes;
}
static void on_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	(void)ctx, (void)f, (void)a;
}
static void on_nothing(void *ctx)
{
	(void)ctx;
}

static const struct http_stream_events events = {
    .on_head = on_head,
    .on_body = on_body,
    .on_trailers = on_trailers,
    .on_end = on_nothing,
    .on_reset = on_reset,
    .on_room = on_nothing,
};

static void on_stream(struct pool_waiter *w, struct http_stream *st)
{
	struct hedge *h = CONTAINER_OF(w, struct hedge, waiter);
	MUST_BE(h->r, REQUEST_MAGIC);
	h->up = st;
	balance_sent(h->r->p->balancer, &h->attempt);
	ops_of(st)->send_head(st, h->r->head, true);
}

static void on_fail(struct pool_waiter *w, enum reason reason, const struct err *err)
{
	struct hedge *h = CONTAINER_OF(w, struct hedge, waiter);
	MUST_BE(h->r, REQUEST_MAGIC);
	(void)err;
	fail(h, &(struct lost_attempt){.why = reason, .unprocessed = true});
}

/* --- the begin --- */

/* The head is encoded for the hop of the first attempt: the other endpoint must be of that kind. */
static bool choose(struct request *r, struct hedge *h)
{
	enum reason why;
	const struct endpoint *ep = balance_pick(r->p->balancer, &r->permit, request_service(r), r->set, r->tried,
						 r->attempts, &h->attempt, &why);
	if (ep == NULL)
		return false;
	h->ep = *ep;
	if (!addr_eq(&ep->addr, &r->ep.addr) && ep->meshed == r->ep.meshed)
		return true;
	balance_end(r->p->balancer, &h->attempt, OUTCOME_NEUTRAL, REASON_NONE);
	return false;
}

static void on_silent(struct attempt *a)
{
	struct request *r = CONTAINER_OF(a, struct request, attempt);
	MUST_BE(r, REQUEST_MAGIC);
	if (r->step != STEP_RESPOND || r->head_down || r->hedge != NULL || r->attempts >= attempts_max(r))
		return;
	struct hedge *h = arena_alloc(&r->arena, sizeof(*h));
	if (h == NULL)
		return;
	*h = (struct hedge){.r = r};
	list_init(&h->waiter.node);
	if (!choose(r, h))
		return;
	bool within = circuit_retry(h->attempt.circuit, loop_now_ms(r->p->loop));
	stats_retry(r->p->stats, REASON_SILENT, within ? "sent" : "budget");
	if (!within) {
		balance_end(r->p->balancer, &h->attempt, OUTCOME_NEUTRAL, REASON_NONE);
		return;
	}
	r->hedge = h;
	r->tried[r->attempts++] = h->ep.addr;
	h->waiter.ev = &events;
	h->waiter.ctx = h;
	h->waiter.arena = &r->arena;
	h->waiter.circuit = h->attempt.circuit;
	h->waiter.fresh = r->attempts > RETRY_ATTEMPTS_MAX;
	h->waiter.on_stream = on_stream;
	h->waiter.on_fail = on_fail;
	pool_acquire(r->p->pool, &r->permit, &h->ep, r->hop, request_service(r), &h->waiter);
}

void request_hedge_arm(struct request *r)
{
	bool may = r->subject.direction == OUTBOUND && r->target.kind == TARGET_SERVICE &&
		   r->head->framing == FRAMING_NONE && safe(r->head->method);
	r->attempt.on_silent = may ? on_silent : NULL;
}
