/* SPDX-License-Identifier: Apache-2.0 */
/* uplink.c: dialling weftd, again and again. One attempt: context, TCP, TLS with the expected identity, HTTP/2 SETTINGS; then
 * it is up. Whatever goes wrong at any step ends in down(), which is the only place that closes and schedules. */
#include "proxy/uplink.h"

#include "lib/mem.h"

#include <sys/random.h>

#define BACKOFF_FIRST_MS 10
#define BACKOFF_MAX_MS   15000
#define DIAL_MS          10000

struct uplink {
	struct uplink_cfg cfg;
	struct timer retry;
	uint64_t backoff_ms;  /* most that the next attempt waits */
	uint64_t patience_ms; /* most that any attempt waits */
	bool active;          /* an attempt is under way, or it is up */
	bool up, last;
	SSL_CTX *tls;         /* of this attempt */
	struct tls_peer peer; /* of this attempt */
	struct conn *conn;    /* until the session has it */
	struct http_session *session;
};

uint64_t uplink_jitter(uint64_t max)
{
	uint64_t r = 0;
	if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r = max / 2;
	return r % (max + 1);
}

static void drop(struct uplink *u)
{
	u->active = u->up = false;
	if (u->session)
		codec_h2.session_close(&u->session);
	else if (u->conn)
		conn_close(&u->conn);
	u->conn = NULL;
	SSL_CTX_free(u->tls);
	u->tls = NULL;
}

static void down(struct uplink *u, const struct err *err)
{
	if (!u->active)
		return;
	u->active = false;
	u->cfg.on_down(u->cfg.ctx, err);
	drop(u);
	if (u->last)
		return;
	timer_start(&u->retry, uplink_jitter(u->backoff_ms));
	u->backoff_ms = MIN(2 * u->backoff_ms, u->patience_ms);
}

/* --- HTTP/2 --- */

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	return false; /* weftd opens none */
}

static void on_ready(void *ctx)
{
	struct uplink *u = ctx;
	if (u->up)
		return;
	u->up = true;
	u->cfg.on_up(u->cfg.ctx, u->session);
}

static void on_idle(void *ctx, bool idle)
{
}

static void on_draining(void *ctx)
{
	struct err err;
	err_set(&err, ERR_CLOSED, "weftd is stopping");
	down(ctx, &err);
}

static void on_closed(void *ctx, enum reason reason, const struct err *why)
{
	struct err err;
	if (!why || why->code == ERR_NONE)
		err_set(&err, ERR_CLOSED, "weftd closed the connection");
	down(ctx, why && why->code != ERR_NONE ? why : &err);
}

static const struct http_session_events session_events = {
    .on_stream = on_stream,
    .on_ready = on_ready,
    .on_idle = on_idle,
    .on_draining = on_draining,
    .on_closed = on_closed,
};

/* --- TCP and TLS --- */

static void on_open(void *ctx)
{
	struct uplink *u = ctx;
	u->session = codec_h2.session_new(u->conn, HTTP_CLIENT, &http_limits_default, &session_events, u);
}

static void on_nothing(void *ctx)
{
}

static void on_fail(void *ctx, const struct err *err)
{
	struct uplink *u = ctx;
	struct err why = u->peer.err.code != ERR_NONE ? u->peer.err : *err;
	char text[ADDR_TEXT_MAX];
	err_prefix(&why, "weftd at %s", addr_text(&u->cfg.to, text));
	down(u, &why);
}

static const struct conn_events conn_events = {
    .on_open = on_open,
    .on_rx = on_nothing,
    .on_tx_room = on_nothing,
    .on_fail = on_fail,
};

static bool prepare(void *arg, int fd, struct err *err)
{
	return mark_exempt(arg, fd, err);
}

static void attempt(struct timer *t)
{
	static const uint8_t h2[] = {2, 'h', '2'};
	struct uplink *u = CONTAINER_OF(t, struct uplink, retry);
	struct err err;
	u->active = true;
	u->peer = (struct tls_peer){.expect = u->cfg.expect};
	u->tls = u->cfg.context(u->cfg.ctx, &err);
	if (!u->tls) {
		down(u, &err);
		return;
	}
	struct conn_dial dial = {
	    .to = u->cfg.to,
	    .timeout_ms = DIAL_MS,
	    .tls = u->tls,
	    .alpn = h2,
	    .alpn_len = sizeof(h2),
	    .tls_arg = &u->peer,
	    .prepare = u->cfg.mark ? prepare : NULL,
	    .prepare_arg = (void *)(uintptr_t)u->cfg.mark,
	};
	u->conn = conn_open(u->cfg.loop, &dial, &conn_events, u);
}

/* --- for its user --- */

struct uplink *uplink_new(const struct uplink_cfg *cfg)
{
	struct uplink *u = NEW(struct uplink);
	u->cfg = *cfg;
	u->backoff_ms = BACKOFF_FIRST_MS;
	u->patience_ms = BACKOFF_MAX_MS;
	timer_init(&u->retry, cfg->loop, attempt);
	timer_start(&u->retry, 0);
	return u;
}

void uplink_free(struct uplink **u)
{
	if (!*u)
		return;
	timer_stop(&(*u)->retry);
	drop(*u);
	FREE(u);
}

void uplink_worked(struct uplink *u)
{
	u->backoff_ms = BACKOFF_FIRST_MS;
}

void uplink_patience(struct uplink *u, uint64_t ms)
{
	u->patience_ms = MIN(MAX(ms, BACKOFF_FIRST_MS), BACKOFF_MAX_MS);
}

void uplink_fail(struct uplink *u, const struct err *err)
{
	down(u, err);
}

void uplink_again(struct uplink *u)
{
	drop(u);
	uplink_worked(u);
	timer_start(&u->retry, 0);
}

void uplink_last(struct uplink *u)
{
	u->last = true;
	if (!u->active)
		timer_stop(&u->retry);
}

struct http_session *uplink_session(const struct uplink *u)
{
	return u->up ? u->session : NULL;
}
