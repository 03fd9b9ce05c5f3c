/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c: pages as rows. */
#include "proxy/admin.h"

#include "lib/event.h"
#include "lib/http/server.h"
#include "lib/listener.h"
#include "lib/mem.h"
#include "proxy/link.h"
#include "proxy/ready.h"
#include "proxy/session.h"
#include "proxy/succession.h"
#include "proxy/shed.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATUS_CONNS 64
#define ADMIN_CONNS  16
#define BODY_MAX     1024

struct admin {
	struct proxy *p;
	struct http_server *status_server, *admin_server;
	struct listener *status, *admin;
	void (*on_drain)(void *ctx);
	void *ctx;
	bool draining;
	struct succession *succession; /* NULL: without a supervisor */
	struct http_exchange *upgrade; /* waits for what becomes of it */
};

static void reply_text(struct http_exchange *x, uint16_t status, const char *text)
{
	exchange_reply(x, status, "text/plain; charset=utf-8", str_of(text));
}

static void reply_json(struct http_exchange *x, json_t *body)
{
	char *text = json_dumps(body, JSON_INDENT(2) | JSON_SORT_KEYS);
	exchange_reply(x, 200, "application/json", str_of(text));
	free(text);
	json_decref(body);
}

static void page_live(struct admin *a, struct http_exchange *x)
{
	(void)a;
	reply_text(x, 200, "live\n");
}

static void reply_line(struct http_exchange *x, uint16_t status, const char *what, const char *why)
{
	struct buf out;
	buf_init(&out, 0);
	buf_printf(&out, "%s: %s\n", what, why);
	exchange_reply_buf(x, status, "text/plain; charset=utf-8", &out);
}

static void page_ready(struct admin *a, struct http_exchange *x)
{
	struct err why;
	if (a->draining)
		reply_text(x, 503, "not ready: draining\n");
	else if (!ready_now(a->p, &why))
		reply_line(x, 503, "not ready", why.text);
	else
		reply_text(x, 200, "ready\n");
}

static void page_metrics(struct admin *a, struct http_exchange *x)
{
	struct buf out;
	struct stats *s = a->p->stats;
	const struct snapshot *now = config_snapshot(a->p->config);
	const struct credential *c = identity_credential(a->p->identity);
	stats_gauge(s, "weft_identity_expiry_seconds", c != NULL ? credential_not_after(c) : 0);
	stats_gauge(s, "weft_config_services", (int64_t)snapshot_services(now));
	stats_gauge(s, "weft_config_workloads", (int64_t)snapshot_workloads(now));
	stats_gauge(s, "weft_config_serial", (int64_t)snapshot_serial(now));
	stats_gauge(s, "weft_endpoints", (int64_t)balance_known(a->p->balancer));
	stats_gauge(s, "weft_endpoints_ejected", (int64_t)balance_ejected(a->p->balancer));
	stats_gauge(s, "weft_handshakes", (int64_t)handshakes_begun(a->p->handshakes));
	stats_gauge(s, "weft_handshakes_waiting", (int64_t)handshakes_waiting(a->p->handshakes));
	stats_gauge(s, "weft_upstream_connections", (int64_t)pool_conns(a->p->pool));
	shed_gauges(s);
	buf_init(&out, SIZE_MAX);
	stats_page(s, &out);
	exchange_reply_buf(x, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

static void page_config(struct admin *a, struct http_exchange *x)
{
	reply_json(x, config_dump(a->p->config));
}

static void page_connections(struct admin *a, struct http_exchange *x)
{
	reply_json(x, json_pack("{s:o, s:o}", "sessions", session_dump_all(a->p), "pool", pool_dump(a->p->pool)));
}

static void page_endpoints(struct admin *a, struct http_exchange *x)
{
	reply_json(x, balance_dump(a->p->balancer));
}

static void page_log_level(struct admin *a, struct http_exchange *x)
{
	enum event_level level;
	(void)a;
	struct str body = str_trim(exchange_body(x));
	char *text = mem_strndup(body.p, body.len);
	text[strcspn(text, "\r\n")] = '\0';
	if (event_level_parse(text, &level)) {
		event_set_level(level);
		reply_text(x, 200, "ok\n");
	} else {
		reply_text(x, 400, "not a level: debug, info, warn or error\n");
	}
	mem_free(text);
}

/* Stays up until the signal comes: for a stop hook that wants the endpoint gone first. */
static void page_drain(struct admin *a, struct http_exchange *x)
{
	a->on_drain(a->ctx);
	reply_text(x, 200, "draining: not ready, no new requests on open connections; end it with SIGTERM\n");
}

static void page_version(struct admin *a, struct http_exchange *x)
{
	const char *supervisor = a->succession ? succession_supervisor(a->succession) : "unknown";
	reply_json(x, json_pack("{s:{s:s, s:i}, s:{s:s, s:i}}", "worker", "version", WEFT_VERSION, "pid", (int)getpid(),
				"supervisor", "version", supervisor, "pid", (int)getppid()));
}

static void on_upgrade(void *arg, bool ok, const char *text)
{
	struct admin *a = arg;
	struct http_exchange *x = a->upgrade;
	a->upgrade = NULL;
	reply_line(x, ok ? 200 : 500,
		   ok ? "upgraded: another worker serves now" : "not upgraded, this worker serves on", text);
}

/* Answered when it is decided: by this worker, which is the former one then. */
static void page_upgrade(struct admin *a, struct http_exchange *x)
{
	if (a->succession && succession_ask(a->succession, on_upgrade, a))
		a->upgrade = x;
	else
		reply_text(x, 409, "an upgrade is under way already\n");
}

static void on_gone(void *ctx, struct http_exchange *x)
{
	struct admin *a = ctx;
	if (x != a->upgrade)
		return;
	a->upgrade = NULL;
	succession_forget(a->succession);
}

static const struct page {
	bool admin; /* only on the admin socket */
	const char *method, *path;
	void (*show)(struct admin *a, struct http_exchange *x);
} pages[] = {
    {false, "GET", "/live", page_live},
    {false, "GET", "/ready", page_ready},
    {false, "GET", "/metrics", page_metrics},
    {true, "GET", "/config", page_config},
    {true, "GET", "/connections", page_connections},
    {true, "GET", "/endpoints", page_endpoints},
    {true, "GET", "/version", page_version},
    {true, "PUT", "/log-level", page_log_level},
    {true, "POST", "/upgrade", page_upgrade},
    {true, "POST", "/drain", page_drain},
};

static void serve(struct admin *a, bool admin, struct http_exchange *x)
{
	const struct message *m = exchange_request(x);
	bool known = false;
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		if ((pages[i].admin && !admin) || !str_is(m->path, pages[i].path))
			continue;
		known = true;
		if (str_is(m->method, pages[i].method)) {
			pages[i].show(a, x);
			return;
		}
	}
	if (known)
		reply_text(x, 405, "the method is not allowed here\n");
	else
		reply_text(x, 404,
			   admin ? "no such page: /live /ready /metrics /config /connections /endpoints /version "
				   "/log-level /upgrade "
				   "/drain\n"
				 : "no such page: /live /ready /metrics\n");
}

static void on_status(void *ctx, struct http_exchange *x)
{
	serve(ctx, false, x);
}

static void on_admin(void *ctx, struct http_exchange *x)
{
	serve(ctx, true, x);
}

static void accept_on(void *ctx, int fd)
{
	http_server_accept(ctx, fd);
}

struct admin *admin_new(struct proxy *p, int status_fd, int admin_fd, void (*on_drain)(void *ctx), void *ctx)
{
	struct admin *a = NEW(struct admin);
	a->p = p;
	a->on_drain = on_drain;
	a->ctx = ctx;
	struct http_server_cfg cfg = {
	    .body_max = BODY_MAX, .connections_max = STATUS_CONNS, .on_request = on_status, .ctx = a};
	a->status_server = http_server_new(p->loop, &cfg);
	cfg.connections_max = ADMIN_CONNS;
	cfg.on_request = on_admin;
	cfg.on_gone = on_gone;
	a->admin_server = http_server_new(p->loop, &cfg);
	if (status_fd >= 0)
		a->status = listener_new(p->loop, status_fd, accept_on, a->status_server);
	if (admin_fd >= 0)
		a->admin = listener_new(p->loop, admin_fd, accept_on, a->admin_server);
	return a;
}

void admin_not_ready(struct admin *a)
{
	a->draining = true;
}

void admin_set_succession(struct admin *a, struct succession *s)
{
	a->succession = s;
}

void admin_retire(struct admin *a)
{
	listener_free(&a->status);
	listener_free(&a->admin);
	http_server_drain(a->status_server);
	http_server_drain(a->admin_server);
}

void admin_free(struct admin **ap)
{
	struct admin *a = *ap;
	if (a == NULL)
		return;
	listener_free(&a->status);
	listener_free(&a->admin);
	http_server_free(&a->status_server);
	http_server_free(&a->admin_server);
	FREE(ap);
}
