/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c: pages as rows. What the worker threads know they are asked for (crew.h), and the page is their answers put together. */
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
	struct admin_cfg cfg;
	struct http_server *status_server, *admin_server;
	struct listener *status, *admin;
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
	else if (!ready_now(a->cfg.identity, a->cfg.config, a->cfg.link, &why))
		reply_line(x, 503, "not ready", why.text);
	else
		reply_text(x, 200, "ready\n");
}

/* --- pages that the threads have a part in --- */

struct asked {
	struct admin *a;
	struct http_exchange *x;
	struct crew_inquiry *inquiry;
};

static void ask(struct admin *a, struct http_exchange *x, const struct crew_question *q)
{
	struct asked *k = NEW(struct asked);
	k->a = a;
	k->x = x;
	k->inquiry = crew_ask(a->cfg.crew, q, k);
	if (k->inquiry != NULL) {
		exchange_set_user(x, k);
		return;
	}
	mem_free(k);
	reply_text(x, 503, "too many questions are open: does a thread hang?\n");
}

/* The client went away. */
static void on_gone(void *ctx, struct http_exchange *x)
{
	struct admin *a = ctx;
	struct asked *k = exchange_user(x);
	if (x == a->upgrade) {
		a->upgrade = NULL;
		succession_forget(a->succession);
	}
	if (k == NULL)
		return;
	crew_forget(k->inquiry);
	mem_free(k);
}

static void *look_metrics(struct proxy *p)
{
	struct stats *copy = stats_new();
	stats_gauge(p->stats, "weft_endpoints", (int64_t)balance_known(p->balancer));
	stats_gauge(p->stats, "weft_endpoints_ejected", (int64_t)balance_ejected(p->balancer));
	stats_gauge(p->stats, "weft_handshakes", (int64_t)handshakes_begun(p->handshakes));
	stats_gauge(p->stats, "weft_handshakes_waiting", (int64_t)handshakes_waiting(p->handshakes));
	stats_gauge(p->stats, "weft_upstream_connections", (int64_t)pool_conns(p->pool));
	stats_sum(copy, p->stats);
	return copy;
}

static void drop_stats(void *answer)
{
	struct stats *s = answer;
	stats_free(&s);
}

static void own_gauges(const struct admin *a, struct stats *s)
{
	const struct snapshot *now = config_snapshot(a->cfg.config);
	const struct credential *c = identity_credential(a->cfg.identity);
	stats_gauge(s, "weft_identity_expiry_seconds", c != NULL ? credential_not_after(c) : 0);
	stats_gauge(s, "weft_config_services", (int64_t)snapshot_services(now));
	stats_gauge(s, "weft_config_workloads", (int64_t)snapshot_workloads(now));
	stats_gauge(s, "weft_config_serial", (int64_t)snapshot_serial(now));
	shed_gauges(s);
	crew_stats(a->cfg.crew, s);
}

/* A sum that lacks a thread would be read as counters that were set back. */
static void show_metrics(void *ctx, const struct crew_answer *v, unsigned n)
{
	struct asked *k = ctx;
	struct stats *sum = stats_new();
	struct buf out;
	bool all = true;
	own_gauges(k->a, sum);
	for (unsigned i = 0; i < n; i++) {
		all = all && v[i].there;
		if (v[i].there)
			stats_sum(sum, v[i].it);
	}
	if (all) {
		buf_init(&out, SIZE_MAX);
		stats_page(sum, &out);
		exchange_reply_buf(k->x, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
	} else {
		reply_text(k->x, 503, "a worker thread has not answered in time\n");
	}
	stats_free(&sum);
	mem_free(k);
}

static void page_metrics(struct admin *a, struct http_exchange *x)
{
	static const struct crew_question q = {look_metrics, drop_stats, show_metrics};
	ask(a, x, &q);
}

static void drop_json(void *answer)
{
	json_decref(answer);
}

/* Says in each entry whose it is. */
static json_t *of_thread(const struct proxy *p, json_t *list)
{
	size_t i;
	json_t *entry;
	json_array_foreach(list, i, entry) json_object_set_new(entry, "thread", json_integer(p->thread));
	return list;
}

/* The lists of all threads become one; who has not answered stands under "unanswered". */
static json_t *join(const struct crew_answer *v, unsigned n)
{
	json_t *all = json_object(), *silent = json_array(), *part;
	const char *name;
	for (unsigned i = 0; i < n; i++) {
		if (!v[i].there) {
			json_array_append_new(silent, json_integer(i));
			continue;
		}
		json_object_foreach((json_t *)v[i].it, name, part)
		{
			json_t *list = json_object_get(all, name);
			if (list == NULL)
				json_object_set(all, name, part);
			else
				json_array_extend(list, part);
		}
	}
	if (json_array_size(silent) > 0)
		json_object_set(all, "unanswered", silent);
	json_decref(silent);
	return all;
}

static void end_dump(struct asked *k, json_t *body)
{
	reply_json(k->x, body);
	mem_free(k);
}

static void *look_config(struct proxy *p)
{
	return json_pack("{s:[{s:I, s:I, s:I}]}", "threads", "thread", (json_int_t)p->thread, "serial",
			 (json_int_t)snapshot_serial(view_snapshot(p->view)), "waiting",
			 (json_int_t)view_waiting(p->view));
}

static void show_config(void *ctx, const struct crew_answer *v, unsigned n)
{
	struct asked *k = ctx;
	json_t *body = config_dump(k->a->cfg.config), *threads = join(v, n);
	json_object_update(body, threads);
	json_decref(threads);
	end_dump(k, body);
}

static void page_config(struct admin *a, struct http_exchange *x)
{
	static const struct crew_question q = {look_config, drop_json, show_config};
	ask(a, x, &q);
}

static void *look_connections(struct proxy *p)
{
	return json_pack("{s:o, s:o}", "sessions", of_thread(p, session_dump_all(p)), "pool",
			 of_thread(p, pool_dump(p->pool)));
}

static void show_connections(void *ctx, const struct crew_answer *v, unsigned n)
{
	end_dump(ctx, join(v, n));
}

static void page_connections(struct admin *a, struct http_exchange *x)
{
	static const struct crew_question q = {look_connections, drop_json, show_connections};
	ask(a, x, &q);
}

static void *look_endpoints(struct proxy *p)
{
	return json_pack("{s:o}", "endpoints", of_thread(p, balance_dump(p->balancer)));
}

static void show_endpoints(void *ctx, const struct crew_answer *v, unsigned n)
{
	struct asked *k = ctx;
	json_t *body = join(v, n);
	json_object_set_new(body, "balancer", json_string(crew_balancer(k->a->cfg.crew)));
	json_object_set_new(body, "services", crew_services(k->a->cfg.crew));
	end_dump(k, body);
}

static void page_endpoints(struct admin *a, struct http_exchange *x)
{
	static const struct crew_question q = {look_endpoints, drop_json, show_endpoints};
	ask(a, x, &q);
}

/* --- the others --- */

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
	a->cfg.on_drain(a->cfg.ctx);
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

struct admin *admin_new(const struct admin_cfg *cfg)
{
	struct admin *a = NEW(struct admin);
	a->cfg = *cfg;
	struct http_server_cfg server = {.body_max = BODY_MAX,
					 .connections_max = STATUS_CONNS,
					 .on_request = on_status,
					 .on_gone = on_gone,
					 .ctx = a};
	a->status_server = http_server_new(cfg->loop, &server);
	server.connections_max = ADMIN_CONNS;
	server.on_request = on_admin;
	a->admin_server = http_server_new(cfg->loop, &server);
	if (cfg->status_fd >= 0)
		a->status = listener_new(cfg->loop, cfg->status_fd, accept_on, a->status_server);
	if (cfg->admin_fd >= 0)
		a->admin = listener_new(cfg->loop, cfg->admin_fd, accept_on, a->admin_server);
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
