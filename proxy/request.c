/* SPDX-License-Identifier: Apache-2.0 */
/* request.c: the way of a request through the proxy, in order; the way of its answer is request_answer.c. A step returns NEXT,
 * WAIT or DONE; what it waits for calls request_run() again.
 *
 * Owns: the request's arena, the downstream stream until it is closed, the upstream stream of the current attempt, and at most
 * REPLAY_MAX bytes of the body for further attempts. These are made only while no byte of an answer has gone down, and only
 * if the application provably has not had the request ("unprocessed") or it is idempotent (retry.h). */
#include "proxy/request_impl.h"

#include "lib/pressure.h"
#include "proxy/forward.h"
#include "proxy/hop.h"
#include "proxy/route.h"
#include "proxy/upgrade.h"

#include <sys/random.h>

static enum verdict step_head(struct request *r);
static enum verdict step_route(struct request *r);
static enum verdict step_policy(struct request *r);
static enum verdict step_balance(struct request *r);
static enum verdict step_acquire(struct request *r);
static enum verdict step_send(struct request *r);
static enum verdict step_respond(struct request *r);
static enum verdict step_finish(struct request *r);

static const struct {
	const char *name;
	enum verdict (*run)(struct request *r);
} steps[] = {
    {"head", step_head},       /* a complete, valid message head has arrived        */
    {"route", step_route},     /* snapshot + original destination -> target         */
    {"policy", step_policy},   /* target -> permit, or an answer                    */
    {"balance", step_balance}, /* permit + target -> endpoint                       */
    {"acquire", step_acquire}, /* endpoint -> a stream on a pooled connection       */
    {"send", step_send},       /* head upstream; the body follows as it comes       */
    {"respond", step_respond}, /* the answer downstream, until both ways have ended */
    {"finish", step_finish},   /* counters, streams closed, arena dropped           */
};
_Static_assert(ARRAY_LEN(steps) == STEP_FINISH + 1, "a name for each step");

void request_run(struct request *r)
{
	MUST_BE(r, REQUEST_MAGIC);
	while (steps[r->step].run(r) == NEXT)
		r->step++;
}

enum verdict request_finish(struct request *r)
{
	r->step = STEP_FINISH;
	return step_finish(r);
}

static const char *service_label(const struct request *r)
{
	if (r->target.kind == TARGET_SERVICE && r->subject.direction == OUTBOUND)
		return r->target.service->name;
	return "";
}

void request_end_attempt(struct request *r, enum reason why)
{
	enum outcome how = balance_is_failure(why) ? OUTCOME_FAILED
			   : why == REASON_NONE    ? OUTCOME_GOOD
						   : OUTCOME_NEUTRAL;
	balance_end(r->p->balancer, &r->attempt, how, why);
}

/* --- the steps --- */

/* The request keeps the snapshot that it began with. */
static void look_up(struct request *r)
{
	snapshot_unref(&r->snapshot);
	r->snapshot = snapshot_ref(view_snapshot(r->p->view));
	r->owner->subject(r->owner, &r->target, &r->subject);
}

static enum verdict step_head(struct request *r)
{
	if (r->snapshot != view_snapshot(r->p->view)) /* a head of HTTP/1 may come long after its connection */
		look_up(r);
	if (pressure_level() == PRESSURE_REFUSE)
		return request_answer(r, REASON_OVERLOAD, true);
	if (r->subject.direction == OUTBOUND) {
		hop_strip(r->head);
		return NEXT;
	}
	bool ok = true;
	if (r->owner->mesh)
		ok = hop_decode(r->head, NULL);
	else
		hop_strip(r->head);
	if (!ok || !forward_client(r->head, &r->subject.from->ip))
		return request_answer(r, REASON_HEAD_TOO_LARGE, true);
	return NEXT;
}

static void on_answer(struct view_waiter *w, bool known)
{
	struct request *r = CONTAINER_OF(w, struct request, config);
	MUST_BE(r, REQUEST_MAGIC);
	(void)known;
	look_up(r);
	request_run(r);
}

/* The routes of the service: from here on the target's port is that of the backend they chose. */
static enum verdict follow_routes(struct request *r)
{
	uint32_t *seed = &r->p->route_random;
	if (*seed == 0 && getrandom(seed, sizeof(*seed), GRND_NONBLOCK) != sizeof(*seed))
		*seed = 1;
	*seed = *seed * 747796405u + 2891336453u; /* PCG: a step, then a permutation of the state */
	uint32_t word = ((*seed >> ((*seed >> 28) + 4)) ^ *seed) * 277803737u;
	enum reason reason =
	    route_pick(r->target.service->routes, r->target.port->port, r->head, (word >> 22) ^ word, &r->choice);
	if (reason != REASON_NONE)
		return request_answer(r, reason, true);
	if (r->choice.backend != NULL) {
		r->target.port = r->choice.backend->port;
		r->target.endpoints = service_port_endpoints(r->target.port, &r->subject.to->ip);
		r->target.protocol = r->target.port->protocol;
	}
	return NEXT;
}

static enum verdict step_route(struct request *r)
{
	if (r->subject.direction == INBOUND)
		return NEXT;
	switch (r->target.kind) {
	case TARGET_SERVICE:
		return follow_routes(r);
	case TARGET_EXTERNAL:
	case TARGET_WORKLOAD:
		return NEXT;
	case TARGET_NO_PORT:
		return request_answer(r, REASON_NO_PORT, true);
	case TARGET_UNKNOWN:
		return request_answer(r, REASON_UNKNOWN_ADDRESS, true);
	case TARGET_ASK:
		break;
	}
	/* A kept-alive connection that slept so long that its address was let go. */
	if (r->asked)
		return request_answer(r, REASON_CONFIG_TIMEOUT, true);
	r->asked = true;
	r->config.on_answer = on_answer;
	view_want(r->p->view, &r->config, r->subject.to);
	return WAIT;
}

static enum verdict step_policy(struct request *r)
{
	enum reason reason = policy_request(&r->subject, r->head, &r->permit);
	return reason == REASON_NONE ? NEXT : request_answer(r, reason, true);
}

/* An application is spoken to as it declared itself, or else as it was asked. But for extended CONNECT: that the proxy offers on its own
 * account, and nearly every application that takes WebSockets takes them over HTTP/1.1. */
static enum hop application_hop(const struct request *r)
{
	bool inbound = r->subject.direction == INBOUND;
	enum protocol p = !inbound                  ? r->target.protocol
			  : r->subject.port != NULL ? r->subject.port->protocol
						    : PROTOCOL_UNDECLARED;
	bool asked_h2 = r->head->version == HTTP_2 && r->head->protocol.len == 0;
	bool h2 = p == PROTOCOL_HTTP2 || asked_h2;
	if (inbound)
		return h2 ? HOP_LOCAL_H2 : HOP_LOCAL;
	return h2 ? HOP_PLAIN_H2 : HOP_PLAIN;
}

const char *request_service(const struct request *r)
{
	if (r->subject.direction == INBOUND || r->target.kind != TARGET_SERVICE)
		return NULL;
	return r->choice.backend != NULL ? r->choice.backend->service->name : r->target.service->name;
}

/* The endpoint of this attempt; REASON_NONE, or why there is none. */
static enum reason choose(struct request *r)
{
	size_t n_tried = MIN(r->attempts, (unsigned)ARRAY_LEN(r->tried));
	enum reason why = REASON_NONE;
	if (r->target.kind == TARGET_WORKLOAD) {
		balance_direct(r->p->balancer, &r->permit, &r->target.direct, &r->attempt);
		r->ep = r->target.direct;
		return REASON_NONE;
	}
	endpoint_set_unref(&r->set);
	r->set = endpoint_set_ref(r->target.endpoints);
	const struct endpoint *ep =
	    balance_pick(r->p->balancer, &r->permit, request_service(r), r->set, r->tried, n_tried, &r->attempt, &why);
	if (ep == NULL)
		return why;
	r->ep = *ep;
	if (r->attempts < ARRAY_LEN(r->tried))
		r->tried[r->attempts] = ep->addr;
	return REASON_NONE;
}

static enum verdict step_balance(struct request *r)
{
	if (r->subject.direction == INBOUND || r->target.kind == TARGET_EXTERNAL) {
		r->hop = application_hop(r);
		r->ep = (struct endpoint){.addr = *r->subject.to, .weight = 1, .zone = "", .workload = ""};
		return NEXT;
	}
	enum reason why = choose(r);
	if (why != REASON_NONE)
		return request_answer(r, why, true);
	request_hedge_arm(r);
	r->hop = r->ep.meshed ? HOP_MESH : application_hop(r);
	return NEXT;
}

static void on_stream(struct pool_waiter *w, struct http_stream *st);
static void on_no_stream(struct pool_waiter *w, enum reason reason, const struct err *err);

static enum verdict step_acquire(struct request *r)
{
	if (r->up != NULL)
		return NEXT;
	r->attempts++;
	r->waiter = (struct pool_waiter){
	    .ev = &request_up_events,
	    .ctx = r,
	    .arena = &r->arena,
	    .circuit = r->attempt.circuit,
	    .fresh = r->fresh,
	    .once = !retry_idempotent(r->head->method),
	    .on_stream = on_stream,
	    .on_fail = on_no_stream,
	};
	list_init(&r->waiter.node);
	pool_acquire(r->p->pool, &r->permit, &r->ep, r->hop, request_service(r), &r->waiter);
	return WAIT;
}

static void on_stream(struct pool_waiter *w, struct http_stream *st)
{
	struct request *r = CONTAINER_OF(w, struct request, waiter);
	MUST_BE(r, REQUEST_MAGIC);
	r->up = st;
	balance_sent(r->p->balancer, &r->attempt);
	request_run(r);
}

static void on_no_stream(struct pool_waiter *w, enum reason reason, const struct err *err)
{
	struct request *r = CONTAINER_OF(w, struct request, waiter);
	MUST_BE(r, REQUEST_MAGIC);
	(void)err;
	/* Another endpoint would not change it. */
	bool ours = reason == REASON_OVERFLOW || reason == REASON_NOT_READY || reason == REASON_OVERLOAD;
	if (reason == REASON_OVERLOAD)
		balance_end(r->p->balancer, &r->attempt, OUTCOME_NEUTRAL, REASON_NONE);
	if (ours)
		request_answer(r, reason, !r->touched);
	else
		request_lose(r, &(struct lost_attempt){.why = reason, .unprocessed = true});
}

void request_send_up(struct request *r)
{
	const struct codec_ops *ops = ops_of(r->up);
	size_t room;
	while (r->body.len > 0 && (room = ops->send_room(r->up)) > 0) {
		struct str piece = buf_peek(&r->body);
		piece.len = MIN(piece.len, MIN(room, (size_t)16384));
		ops->send_body(r->up, piece);
		r->moved += piece.len;
		if (r->replayable && r->replay.len + piece.len <= REPLAY_MAX)
			buf_add_str(&r->replay, piece);
		else
			r->replayable = false;
		size_t known = MIN(r->again, piece.len);
		r->again -= known;
		ops_of(r->down)->consumed(r->down, piece.len - known);
		buf_drain(&r->body, piece.len);
	}
	if (!r->replayable)
		buf_done(&r->replay);
	if (r->body.len == 0 && r->body_ended && !r->body_sent) {
		r->body_sent = true;
		if (r->head->framing != FRAMING_NONE)
			ops->send_end(r->up, r->trailers_up);
	}
}

/* HTTP/2 has no request without an authority: servers end the connection over it. One of HTTP/1.0 without Host is for the address that it was
 * sent to (RFC 9112 3.3). */
static bool name_authority(struct request *r)
{
	char text[ADDR_TEXT_MAX];
	bool to_h2 = r->hop == HOP_LOCAL_H2 || r->hop == HOP_PLAIN_H2;
	if (!to_h2 || r->head->authority.len > 0)
		return true;
	r->head->authority = arena_str(&r->arena, str_of(addr_text(r->subject.to, text)));
	return r->head->authority.p != NULL;
}

static enum verdict step_send(struct request *r)
{
	struct message *m = r->head;
	if (r->hop == HOP_MESH && !r->encoded && !hop_encode(m))
		return request_answer(r, REASON_HEAD_TOO_LARGE, true);
	if (r->hop != HOP_MESH && r->encoded && !hop_decode(m, NULL))
		return request_answer(r, REASON_HEAD_TOO_LARGE, true);
	r->encoded = r->hop == HOP_MESH;
	if (r->hop != HOP_MESH && !r->fitted &&
	    !upgrade_ask(&r->upgrade, m, r->hop == HOP_LOCAL_H2 || r->hop == HOP_PLAIN_H2))
		return request_answer(r, REASON_HEAD_TOO_LARGE, true);
	r->fitted = r->hop != HOP_MESH;
	if (!name_authority(r))
		return request_answer(r, REASON_HEAD_TOO_LARGE, true);
	ops_of(r->up)->send_head(r->up, m, m->framing == FRAMING_NONE);
	request_send_up(r);
	return NEXT;
}

static enum verdict step_respond(struct request *r)
{
	/* An answer that ends before the request does ends the exchange: the codec stops the rest of the request. The two ways of a tunnel end
	 * each for itself. */
	return r->answer_sent && (!r->tunnel || r->body_sent) ? NEXT : WAIT;
}

static void request_free(void *arg)
{
	struct request *r = arg;
	buf_done(&r->body);
	buf_done(&r->replay);
	buf_done(&r->answer);
	endpoint_set_unref(&r->set);
	snapshot_unref(&r->snapshot);
	arena_done(&r->arena);
	small_free(r);
}

static enum verdict step_finish(struct request *r)
{
	request_hedge_drop(r);
	pool_cancel(r->p->pool, &r->waiter);
	view_unwant(&r->config);
	timer_stop(&r->backoff);
	request_end_attempt(r, r->reason != REASON_NONE ? r->reason : r->failure);
	if (r->up != NULL && r->body_sent && r->answer_ended)
		ops_of(r->up)->close(r->up);
	else if (r->up != NULL)
		ops_of(r->up)->reset(r->up, r->reason, false);
	if (r->down != NULL)
		ops_of(r->down)->close(r->down);
	r->up = r->down = NULL;
	uint64_t took_us = r->began_us != 0 ? loop_now_us(r->p->loop) - r->began_us : 0;
	stats_request(r->p->stats, r->subject.direction, service_label(r), r->status, r->reason, took_us);
	list_remove(&r->node);
	r->magic = 0;
	loop_defer_free(r->p->loop, r, request_free);
	return DONE;
}

/* --- events of the downstream stream --- */

void request_tunnel_moved(struct request *r)
{
	if (r->tunnel && r->step == STEP_RESPOND)
		request_run(r);
}

static void down_head(void *ctx, struct message *m)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	r->head = m;
	r->began_us = loop_now_us(r->p->loop);
	request_run(r);
}

static void down_body(void *ctx, struct str bytes)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	buf_add_str(&r->body, bytes);
	if (r->up != NULL && r->step > STEP_SEND)
		request_send_up(r);
}

struct fields *request_keep_trailers(struct request *r, const struct fields *f, const struct arena *a,
				     bool from_sidecar)
{
	struct fields *copy = arena_alloc(&r->arena, sizeof(*copy));
	if (copy == NULL)
		return NULL;
	*copy = (struct fields){NULL, 0, 0};
	for (size_t i = 0; i < f->len; i++)
		if (!hop_bars_trailer(f->v[i].name, from_sidecar) &&
		    !fields_add(copy, &r->arena, f->v[i].name, f->v[i].value, a == &r->arena))
			return NULL;
	return copy;
}

static void down_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	r->trailers_up = request_keep_trailers(r, f, a, false);
	if (r->trailers_up == NULL)
		request_answer(r, REASON_HEAD_TOO_LARGE, false);
}

static void down_end(void *ctx)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	r->body_ended = true;
	if (r->up != NULL && r->step > STEP_SEND)
		request_send_up(r);
	request_tunnel_moved(r);
}

static void down_reset(void *ctx, const struct http_reset *why)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	r->reason = why->reason != REASON_NONE ? why->reason : REASON_CLIENT_GONE;
	if (why->by_peer && r->up != NULL) {
		ops_of(r->up)->reset_as(r->up, why->code);
		r->up = NULL;
	}
	/* The codec has answered what it refused by itself. */
	if (!r->head_down && r->head == NULL)
		r->status = reason_row(r->reason)->http_status;
	ops_of(r->down)->close(r->down);
	r->down = NULL;
	request_drop_upstream(r, r->reason);
	request_finish(r);
}

static void down_room(void *ctx)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	if (r->step != STEP_RESPOND)
		return;
	request_send_down(r);
	request_run(r);
}

static const struct http_stream_events down_events = {
    .on_head = down_head,
    .on_body = down_body,
    .on_trailers = down_trailers,
    .on_end = down_end,
    .on_reset = down_reset,
    .on_room = down_room,
};

/* --- the begin, and lists --- */

bool request_begin(struct request_owner *o, struct http_stream *st, const struct http_stream_events **ret_ev,
		   void **ret_ctx, struct arena **ret_arena)
{
	struct request *r = small_zalloc(sizeof(*r));
	r->magic = REQUEST_MAGIC;
	r->owner = o;
	r->p = o->p;
	r->down = st;
	arena_init(&r->arena, ARENA_MAX);
	buf_init(&r->body, REPLAY_MAX);
	buf_init(&r->replay, REPLAY_MAX);
	buf_init(&r->answer, REPLAY_MAX);
	list_init(&r->waiter.node);
	list_init(&r->config.node);
	request_retry_init(r);
	list_push(&o->requests, &r->node);
	look_up(r); /* again once the head is there: labels want it if none ever comes */
	r->replayable = r->subject.direction == OUTBOUND; /* inbound no body is kept: try_fresh */
	*ret_ev = &down_events;
	*ret_ctx = r;
	*ret_arena = &r->arena;
	return true;
}

void request_abort_all(struct request_owner *o, enum reason reason)
{
	struct list *all = &o->requests;
	while (!list_empty(all)) {
		struct request *r = CONTAINER_OF(all->next, struct request, node);
		if (!r->answer_sent)
			r->reason = reason;
		balance_end(r->p->balancer, &r->attempt, OUTCOME_NEUTRAL, REASON_NONE);
		request_drop_upstream(r, r->reason);
		ops_of(r->down)->reset(r->down, r->reason, false);
		r->down = NULL;
		request_finish(r);
	}
}

static json_t *dump_one(const struct request *r)
{
	char addr[ADDR_TEXT_MAX];
	uint64_t age_us = r->began_us != 0 ? loop_now_us(r->p->loop) - r->began_us : 0;
	return json_pack("{s:s, s:s, s:I, s:i, s:s, s:s}", "route", r->choice.rule != NULL ? r->choice.rule->route : "",
			 "step", steps[r->step].name, "ageUs", (json_int_t)age_us, "attempts", (int)r->attempts,
			 "service", service_label(r), "endpoint",
			 r->ep.addr.ip.len != 0 ? addr_text(&r->ep.addr, addr) : "");
}

json_t *request_dump(const struct request_owner *o)
{
	json_t *out = json_array();
	list_for_each (r, &o->requests, struct request, node)
		json_array_append_new(out, dump_one(r));
	return out;
}
