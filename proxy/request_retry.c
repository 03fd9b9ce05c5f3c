/* SPDX-License-Identifier: Apache-2.0 */
/* request_retry.c: further attempts of a request (docs/hop.md, "Unprocessed"). Whether one is useful is retry.h's to say, what the service may
 * spend on them its circuit's. */
#include "proxy/request_impl.h"

/* What was sent goes again, in front of what was not. */
static void rewind_body(struct request *r)
{
	if (r->replay.len > 0) {
		r->again += r->replay.len;
		buf_move(&r->replay, &r->body, r->body.len);
		buf_move(&r->body, &r->replay, r->replay.len);
	}
	r->body_sent = false;
	r->step = STEP_BALANCE;
}

static void on_backoff(struct timer *t)
{
	struct request *r = CONTAINER_OF(t, struct request, backoff);
	request_run(r);
}

struct lost_attempt request_lost(const struct pool_waiter *w, const struct http_reset *why)
{
	enum reason reason = why->reason != REASON_NONE ? why->reason : REASON_UPSTREAM_RESET;
	/* A stream that the peer itself has reset was lost on a connection that lives. */
	bool ended = !why->by_peer && (reason == REASON_UPSTREAM_RESET || why->unprocessed);
	return (struct lost_attempt){.why = reason,
				     .unprocessed = why->unprocessed,
				     .answered = !why->before_response,
				     .kept = w->reused && ended && why->before_response,
				     .conn = ended ? w->conn : 0};
}

/* An attempt that met the end of a kept connection is made up for: without that, two such ends (or one, after an endpoint that refused) were
 * all that a request could stand, though neither says that the next endpoint is not well. The last attempt does not depend on a kept one. */
bool request_try_again(struct request *r, const struct lost_attempt *lost)
{
	r->spared = r->spared || lost->kept;
	if (request_hedge_alone(r, lost))
		return true;
	struct circuit *c = r->attempt.circuit;
	struct loop *loop = r->p->loop;
	if (r->attempts >= attempts_max(r) || r->head_down || !r->replayable || c == NULL ||
	    !retry_useful(lost, r->head->method))
		return false;
	bool within = circuit_retry(c, loop_now_ms(loop)), fresh = r->attempts >= RETRY_ATTEMPTS_MAX;
	stats_retry(r->p->stats, lost->why, !within ? "budget" : fresh ? "fresh" : "sent");
	if (!within)
		return false;
	r->fresh = r->fresh || fresh;
	request_end_attempt(r, lost->why);
	r->touched = r->touched || !lost->unprocessed;
	rewind_body(r);
	timer_start(&r->backoff, retry_backoff_ms(r->attempts, (uint32_t)balance_random(r->p->balancer, 1ull << 32)));
	return true;
}

/* A server closes a connection of HTTP/1 that it kept just as the next request leaves (RFC 9112 9.3.1). That is nobody's failure, so it goes
 * again at once, on a new connection, when that harms nothing: nothing of it had left, or it is idempotent. */
static bool try_fresh(struct request *r, const struct lost_attempt *lost)
{
	bool h1 = r->hop == HOP_LOCAL || r->hop == HOP_PLAIN;
	bool harmless = lost->unprocessed || retry_idempotent(r->head->method);
	if (!h1 || r->hedge != NULL || r->fresh || !r->waiter.reused || !harmless ||
	    lost->why != REASON_UPSTREAM_RESET || lost->answered || r->head_down || r->head->framing != FRAMING_NONE)
		return false;
	stats_retry(r->p->stats, lost->why, "fresh");
	balance_end(r->p->balancer, &r->attempt, OUTCOME_NEUTRAL, REASON_NONE);
	r->fresh = r->spared = true;
	r->touched = r->touched || !lost->unprocessed;
	rewind_body(r);
	request_run(r);
	return true;
}

void request_lose(struct request *r, const struct lost_attempt *how)
{
	r->up = NULL;
	if (!try_fresh(r, how) && (r->subject.direction == INBOUND || !request_try_again(r, how)))
		request_answer(r, how->why, how->unprocessed && !r->touched);
}

void request_retry_init(struct request *r)
{
	timer_init(&r->backoff, r->p->loop, on_backoff);
}
