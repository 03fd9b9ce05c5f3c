/* SPDX-License-Identifier: Apache-2.0 */
/* request_answer.c: what a request gets for an answer: one made here, or what comes of the upstream stream, passed on downstream. */
#include "proxy/request_impl.h"

#include "proxy/answer.h"
#include "proxy/hop.h"

/* --- answers made here --- */

void request_drop_upstream(struct request *r, enum reason reason)
{
	request_hedge_drop(r);
	pool_cancel(r->p->pool, &r->waiter);
	if (r->up != NULL)
		ops_of(r->up)->reset(r->up, reason, false);
	r->up = NULL;
}

/* No answer can be given (any more): the stream is cut. */
static enum verdict cut(struct request *r, enum reason reason, bool unprocessed)
{
	ops_of(r->down)->reset(r->down, reason, unprocessed);
	r->down = NULL;
	return request_finish(r);
}

/* `unprocessed` is told to the other sidecar only. */
static struct answer about(const struct request *r, enum reason reason, bool unprocessed)
{
	const char *policy = r->permit.policy != NULL ? r->permit.policy : "";
	if (policy[0] == '\0' && r->choice.rule != NULL)
		policy = r->choice.rule->route;
	return (struct answer){
	    .reason = reason,
	    .side = r->subject.direction == OUTBOUND ? "outbound" : "inbound",
	    .policy = policy,
	    .unprocessed = unprocessed && r->owner->mesh,
	};
}

/* A call whose answer has begun cannot be given another, but trailers: without them a client sees an internal error where a connection that
 * ended says that it may try again. What came of the answer goes first. */
static enum verdict end_grpc(struct request *r, enum reason reason)
{
	struct answer a = about(r, reason, false);
	struct message *m = arena_alloc(&r->arena, sizeof(*m));
	if (m == NULL)
		return cut(r, reason, false);
	message_init(m, &r->arena, false);
	if (!answer_grpc_trailers(&a, m))
		return cut(r, reason, false);
	r->calls = false;
	r->trailers_down = &m->fields;
	r->answer_ended = true;
	request_send_down(r);
	request_run(r);
	return WAIT;
}

enum verdict request_answer(struct request *r, enum reason reason, bool unprocessed)
{
	struct answer a = about(r, reason, unprocessed);
	struct message m;
	struct str body = {NULL, 0};
	r->reason = reason;
	request_end_attempt(r, reason);
	request_drop_upstream(r, reason);
	if (r->calls && r->down != NULL && !r->answer_ended)
		return end_grpc(r, reason);
	if (r->head_down || reason_row(reason)->http_status == 0)
		return cut(r, reason, unprocessed);
	message_init(&m, &r->arena, false);
	bool grpc = r->head != NULL && answer_wants_grpc(r->head);
	bool head_only = grpc || (r->head != NULL && str_is(r->head->method, "HEAD"));
	if (!(grpc ? answer_grpc(&a, &m) : answer_http(&a, head_only, &m, &body)))
		return cut(r, REASON_OVERLOAD, unprocessed);
	r->status = m.status;
	r->head_down = true;
	ops_of(r->down)->send_head(r->down, &m, head_only);
	if (!head_only) {
		ops_of(r->down)->send_body(r->down, body);
		ops_of(r->down)->send_end(r->down, NULL);
	}
	r->answer_ended = r->answer_sent = true;
	return request_finish(r);
}

/* --- answers of the upstream stream --- */

void request_send_down(struct request *r)
{
	const struct codec_ops *ops = ops_of(r->down);
	size_t room;
	while (r->answer.len > 0 && (room = ops->send_room(r->down)) > 0) {
		struct str piece = buf_peek(&r->answer);
		piece.len = MIN(piece.len, MIN(room, (size_t)16384));
		ops->send_body(r->down, piece);
		r->moved += piece.len;
		if (r->up != NULL)
			ops_of(r->up)->consumed(r->up, piece.len);
		buf_drain(&r->answer, piece.len);
	}
	if (r->answer.len == 0 && r->answer_ended && !r->answer_sent) {
		r->answer_sent = true;
		ops->send_end(r->down, r->trailers_down);
	}
}

/* 502, 503 and 504 are failures of the endpoint whoever made them; an application's 500 may be the caller's doing. */
static enum reason judge(const struct message *m, enum reason cause)
{
	if (cause != REASON_NONE)
		return balance_is_failure(cause) ? cause : REASON_NONE;
	return m->status == 504 ? REASON_TIMEOUT : m->status == 502 || m->status == 503 ? REASON_REFUSED : REASON_NONE;
}

/* An answer that no proxy made: HTTP is what is spoken there. */
static void note_answer(struct request_owner *o, const struct message *m)
{
	if (o->was_answered || message_get(m, "x-weft-error") != NULL)
		return;
	o->was_answered = true;
	o->answered(o);
}

/* A 2xx that is no 101 ignores an upgrade of HTTP/1.1 (RFC 9110 7.8): a sidecar is told, since to it a 2xx is a 101; a client of HTTP/2
 * cannot be. False: it is not for the client. */
static bool fit_answer(struct request *r, struct message *m, enum reason *ret_reason)
{
	bool asked = r->head->framing == FRAMING_TUNNEL && r->head->protocol.len > 0;
	bool opened = m->framing == FRAMING_TUNNEL;
	*ret_reason = REASON_UPSTREAM_PROTOCOL;
	if (opened && r->hop != HOP_MESH)
		return upgrade_open(&r->upgrade, m);
	if (!asked || opened || m->status / 100 != 2)
		return true;
	if (r->head->version == HTTP_2) {
		*ret_reason = REASON_NO_UPGRADE;
		return false;
	}
	return !r->owner->mesh || hop_add_declined(m);
}

static void up_head(void *ctx, struct message *m)
{
	struct request *r = ctx;
	bool unprocessed = false, ok = true;
	MUST_BE(r, REQUEST_MAGIC);
	bool interim = m->status < 200 && m->status != 101;
	if (r->hop == HOP_MESH)
		ok = hop_decode(m, &unprocessed);
	else
		hop_strip(m);
	enum reason cause = ok ? hop_cause(m) : REASON_NONE; /* an application's own x-weft-error was deleted */
	if (unprocessed && cause == REASON_NONE)
		cause = REASON_REFUSED;
	if (ok && !interim && cause != REASON_NONE && r->subject.direction == OUTBOUND) {
		struct http_stream *up = r->up;
		if (request_try_again(r, &(struct lost_attempt){.why = cause, .unprocessed = unprocessed})) {
			r->up = NULL;
			ops_of(up)->reset(up, REASON_NONE, false);
			return;
		}
	}
	enum reason reason = REASON_UPSTREAM_PROTOCOL;
	ok = ok && (interim || fit_answer(r, m, &reason));
	if (ok && r->owner->mesh)
		ok = hop_encode(m);
	if (!ok) {
		request_answer(r, reason, false);
		return;
	}
	if (!interim) {
		request_hedge_drop(r);
		r->tunnel = m->framing == FRAMING_TUNNEL;
		r->calls = m->framing == FRAMING_CHUNKED && answer_wants_grpc(r->head);
		r->status = m->status;
		r->head_down = true;
		r->replayable = false;
		buf_done(&r->replay);
		r->failure = judge(m, cause);
		balance_answered(r->p->balancer, &r->attempt);
	}
	note_answer(r->owner, m);
	bool end = !interim && m->framing == FRAMING_NONE;
	ops_of(r->down)->send_head(r->down, m, end);
	if (end)
		r->answer_sent = true;
}

static void up_body(void *ctx, struct str bytes)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	size_t room = ops_of(r->down)->send_room(r->down);
	if (r->answer.len == 0 && room >= bytes.len && bytes.len <= 16384) { /* the usual case: no copy of ours */
		ops_of(r->down)->send_body(r->down, bytes);
		ops_of(r->up)->consumed(r->up, bytes.len);
		return;
	}
	buf_add_str(&r->answer, bytes);
	request_send_down(r);
}

static void up_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	r->trailers_down = request_keep_trailers(r, f, a, r->hop == HOP_MESH);
	if (r->trailers_down == NULL)
		request_answer(r, REASON_UPSTREAM_PROTOCOL, false);
}

static void up_end(void *ctx)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	r->answer_ended = true;
	request_send_down(r);
	request_run(r);
}

static void up_reset(void *ctx, const struct http_reset *why)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	ops_of(r->up)->close(r->up);
	r->up = NULL;
	/* It has answered in full and does not want the rest of the request; the answer may still be on its way down. */
	if (r->answer_ended && !r->tunnel)
		return;
	struct lost_attempt how = request_lost(&r->waiter, why);
	if (how.conn != 0)
		balance_lost(&r->attempt, how.conn);
	/* The application (or the sidecar beside it) chose to end this stream: a client of HTTP/2 is told so, in its words. */
	if (why->by_peer && !why->unprocessed && r->head->version == HTTP_2 && r->hedge == NULL) {
		r->reason = how.why;
		balance_end(r->p->balancer, &r->attempt, OUTCOME_NEUTRAL, REASON_NONE);
		ops_of(r->down)->reset_as(r->down, why->code);
		r->down = NULL;
		request_finish(r);
		return;
	}
	request_lose(r, &how);
}

static void up_room(void *ctx)
{
	struct request *r = ctx;
	MUST_BE(r, REQUEST_MAGIC);
	if (r->step > STEP_SEND)
		request_send_up(r);
	request_tunnel_moved(r);
}

const struct http_stream_events request_up_events = {
    .on_head = up_head,
    .on_body = up_body,
    .on_trailers = up_trailers,
    .on_end = up_end,
    .on_reset = up_reset,
    .on_room = up_room,
};

void request_take(struct request *r, struct http_stream *up, struct message *m)
{
	http_stream_set_events(up, &request_up_events, r);
	r->up = up;
	up_head(r, m);
}
