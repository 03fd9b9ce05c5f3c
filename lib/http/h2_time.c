/* SPDX-License-Identifier: Apache-2.0 */
/* h2_time.c: everything of an HTTP/2 connection that happens because time passes: preface and head deadlines, PING, idle
 * connection and streams, age, and the two steps of a drain. One timer: it runs to the nearest deadline or earlier; when it
 * fires too early it only looks again. */
#include "lib/http/h2_session.h"

#include <stdlib.h>

#define DRAIN_NOTICE_MS 1000 /* the last id goes out when the PING after the notice is answered, or then */
#define SCAN_MIN_MS     250
#define PING_LEN        17

static const uint8_t ping_alive[8] = "weft-up?";
static const uint8_t ping_drain[8] = "weftlast";

static uint64_t ping_ms(const struct h2_session *s)
{
	return s->lim.ping_ms ? s->lim.ping_ms : H2_PING_MS;
}

void h2_time_stop(struct h2_session *s)
{
	timer_stop(&s->timer);
}

static void nearer(uint64_t *next, uint64_t at)
{
	if (at && (!*next || at < *next))
		*next = at;
}

void h2_time_arm(struct h2_session *s)
{
	uint64_t next = 0, now = h2_now(s);
	if (s->finished || s->closed)
		return;
	nearer(&next, s->preface_at);
	nearer(&next, s->head_at);
	nearer(&next, s->ping_at);
	nearer(&next, s->age_at);
	nearer(&next, s->drain_at);
	nearer(&next, s->rest_at);
	nearer(&next, s->doubt_at);
	if (s->n_streams == 0)
		nearer(&next, s->idle_at);
	else if (!s->ping_at)
		nearer(&next, s->last_rx_ms + ping_ms(s));
	if (s->n_streams && s->lim.stream_idle_ms) {
		if (!s->scan_at)
			s->scan_at = now + s->lim.stream_idle_ms;
		nearer(&next, s->scan_at);
	}
	if (!next || (timer_running(&s->timer) && s->timer_at <= next))
		return;
	s->timer_at = next;
	timer_start(&s->timer, next > now ? next - now : 1);
}

/* --- PING --- */

static void ping_send(struct h2_session *s)
{
	nghttp2_submit_ping(s->ng, NGHTTP2_FLAG_NONE, ping_alive);
	s->ping_at = h2_now(s) + ping_ms(s);
	/* That it leaves itself shows nothing. */
	s->ping_tx = conn_tx_bytes(s->conn) + conn_tx(s->conn)->len + PING_LEN;
	h2_kick(s);
}

void h2_time_ping_ack(struct h2_session *s, const uint8_t *opaque)
{
	if (memcmp(opaque, ping_alive, 8) == 0)
		s->ping_at = 0;
	else if (memcmp(opaque, ping_drain, 8) == 0 && s->drain_at)
		s->drain_at = h2_now(s); /* at once, but from the timer */
	h2_time_arm(s);
}

/* No answer in time. What came or left meanwhile shows life too: a slow reader has the PING still before it. */
static void ping_due(struct h2_session *s, uint64_t now)
{
	bool heard = s->last_rx_ms + ping_ms(s) > s->ping_at;
	if (heard || conn_tx_bytes(s->conn) != s->ping_tx) {
		s->ping_at = now + ping_ms(s);
		s->ping_tx = conn_tx_bytes(s->conn);
		return;
	}
	h2_fail(s, s->role == HTTP_SERVER ? REASON_CLIENT_GONE : REASON_UPSTREAM_RESET, ERR_TIMEOUT,
		"the HTTP/2 peer does not answer PING");
}

/* --- doubt --- */

/* Who waits to open a stream is told at the end of the turn that it is settled. */
static void settle(struct h2_session *s, enum http_peer peer)
{
	s->peer = peer;
	s->doubt_at = 0;
	s->room_was_zero = true;
	h2_kick(s);
}

void h2_time_sent(struct h2_session *s)
{
	if (s->role == HTTP_CLIENT && s->owed_at == 0)
		s->owed_at = h2_now(s);
}

void h2_time_heard(struct h2_session *s)
{
	s->last_rx_ms = h2_now(s);
	s->owed_at = 0;
	if (s->peer != HTTP_PEER_HEARD)
		settle(s, HTTP_PEER_HEARD);
}

/* Two numbers are compared, as long as the peer is heard. */
enum http_peer h2_time_peer(struct h2_session *s)
{
	uint64_t now = h2_now(s);
	if (s->owed_at == 0 || s->lim.doubt_ms == 0 || now - s->owed_at < s->lim.doubt_ms)
		return HTTP_PEER_HEARD;
	if (s->peer == HTTP_PEER_HEARD) {
		s->peer = HTTP_PEER_ASKED;
		s->doubt_at = now + s->lim.doubt_ms;
		if (!s->ping_at)
			ping_send(s);
		h2_time_arm(s);
	}
	return s->peer;
}

/* --- drain --- */

void h2_time_drain(struct h2_session *s)
{
	if (s->draining || s->finished)
		return;
	s->draining = true;
	if (s->role == HTTP_SERVER) {
		nghttp2_submit_shutdown_notice(s->ng);
		nghttp2_submit_ping(s->ng, NGHTTP2_FLAG_NONE, ping_drain);
		s->drain = H2_DRAIN_NOTICE;
		s->drain_at = h2_now(s) + DRAIN_NOTICE_MS;
		h2_time_arm(s);
	} else {
		s->drain = H2_DRAIN_LAST;
	}
	h2_kick(s);
}

static void drain_due(struct h2_session *s)
{
	s->drain_at = 0;
	s->drain = H2_DRAIN_LAST;
	nghttp2_submit_goaway(s->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(s->ng),
			      NGHTTP2_NO_ERROR, NULL, 0);
	h2_kick(s);
}

/* --- streams without progress --- */

static uint64_t patience(const struct h2_session *s, const struct h2_stream *st)
{
	bool owed = s->role == HTTP_SERVER && st->in_ended && !st->head_queued;
	return s->lim.stream_idle_ms + (owed ? http_answer_slack_ms(s->lim.stream_idle_ms) : 0);
}

static void scan_due(struct h2_session *s, uint64_t now)
{
	uint64_t next = 0;
	list_for_each_safe (st, &s->streams, struct h2_stream, node) {
		uint64_t end = st->progress_ms + patience(s, st);
		if (end > now) {
			nearer(&next, end);
			continue;
		}
		h2_stream_rst(st, NGHTTP2_CANCEL);
		if (st->attached)
			h2_stream_lost(st, s->role == HTTP_SERVER ? REASON_IDLE : REASON_TIMEOUT, false);
	}
	s->scan_at = next ? MAX(next, now + SCAN_MIN_MS) : 0;
}

static void end_softly(struct h2_session *s)
{
	h2_time_drain(s);
	h2_drain_told(s);
}

static void on_timer(struct timer *t)
{
	struct h2_session *s = CONTAINER_OF(t, struct h2_session, timer);
	MUST_BE(s, H2_SESSION_MAGIC);
	uint64_t now = h2_now(s);
	if (s->closed || s->finished)
		return;
	if (s->preface_at && now >= s->preface_at)
		h2_fail(s, s->role == HTTP_SERVER ? REASON_HEAD_TIMEOUT : REASON_UPSTREAM_PROTOCOL, ERR_TIMEOUT,
			"no HTTP/2 preface and SETTINGS in time");
	else if (s->head_at && now >= s->head_at)
		h2_fail(s, s->role == HTTP_SERVER ? REASON_HEAD_TIMEOUT : REASON_UPSTREAM_PROTOCOL, ERR_TIMEOUT,
			"a header block, or a frame, did not end in time");
	else if (s->ping_at && now >= s->ping_at)
		ping_due(s, now);
	else if (!s->ping_at && s->n_streams && now >= s->last_rx_ms + ping_ms(s))
		ping_send(s);
	if (s->doubt_at && now >= s->doubt_at)
		settle(s, HTTP_PEER_SILENT);
	if (s->drain_at && now >= s->drain_at)
		drain_due(s);
	if (s->scan_at && now >= s->scan_at)
		scan_due(s, now);
	if (s->rest_at && now >= s->rest_at) {
		s->rest_at = 0;
		h2_kick(s); /* there is room again */
	}
	if (s->age_at && now >= s->age_at) {
		s->age_at = 0;
		end_softly(s);
	}
	if (s->n_streams == 0 && s->idle_at && now >= s->idle_at) {
		s->idle_at = 0;
		end_softly(s);
	}
	h2_time_arm(s);
}

void h2_time_start(struct h2_session *s)
{
	uint64_t now = h2_now(s);
	timer_init(&s->timer, s->loop, on_timer);
	s->last_rx_ms = now;
	s->preface_at = now + (s->lim.preface_ms ? s->lim.preface_ms : H2_PREFACE_MS);
	if (s->lim.idle_timeout_ms)
		s->idle_at = now + s->lim.idle_timeout_ms;
	if (s->lim.age_max_ms) {
		/* +-10 %: connections that began together do not end together. */
		uint64_t span = s->lim.age_max_ms / 5;
		s->age_at = now + s->lim.age_max_ms - span / 2 +
			    (span ? arc4random_uniform((uint32_t)MIN(span, UINT32_MAX)) : 0);
	}
	h2_time_arm(s);
}
