/* SPDX-License-Identifier: Apache-2.0 */
/* api.c: the API's transport: the HTTP server on 4811, who asks, what is asked and what waits. What the calls do is in
 * api_call.c, where they do it in api_clerk.c. */
#include "control/api.h"

#include "certs/tlsctx.h"
#include "control/api_call.h"
#include "control/api_clerk.h"
#include "lib/event.h"
#include "lib/http/server.h"
#include "lib/mem.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define API_MAGIC       0x57415049u
#define CONNECTIONS_MAX 1000
#define BEARER_MAX      256
#define WAITING_MAX     256 /* exchanges that are kept at once */
#define LOOK_MS         10  /* between two looks at proxies that they wait for ... */
#define LOOK_SHARE      20  /* ... and at least so many times as long as a look takes */

/* What was asked and has no answer yet: with the clerk, or put off and in api.waiting. Ends with its answer; without one when its
 * client has gone, but not while it is run. */
struct asked {
	struct list node;        /* api.waiting */
	struct http_exchange *x; /* NULL: its client has gone */
	struct call *call;
	uint64_t until_ms; /* 0: it was not put off yet */
	bool changed;      /* something was committed since it was run */
	char who[SPIFFE_ID_MAX];
};

struct api {
	uint32_t magic;
	struct loop *loop;
	struct api_cfg cfg;
	char admin[SPIFFE_ID_MAX];
	/* The second one has the certificate before the last renewal: its connections may end by themselves. */
	struct http_server *server, *former;
	struct clerk *clerk;
	struct list waiting;
	size_t waiting_len; /* that were put off: in `waiting`, and again with the clerk */
	struct timer look;
	struct task look_now;
	struct store_watch watch;
};

static bool bearer_of(const struct message *m, char *out, size_t size)
{
	const struct field *f = message_get(m, "authorization");
	struct str scheme, value;

	if (!f || !str_cut(f->value, ' ', &scheme, &value) || !str_ieq(scheme, STR("Bearer")))
		return false;
	value = str_trim(value);
	if (value.len == 0 || value.len >= size)
		return false;
	memcpy(out, value.p, value.len);
	out[value.len] = 0;
	return true;
}

/* Who asks, by client certificate or bearer token; ERR_IDENTITY (401) when nobody shows, ERR_DENIED (403) when it is the
 * wrong one. */
static bool who_asks(struct api *a, const struct http_exchange *x, char *ret, size_t size, struct err *err)
{
	SSL *ssl = conn_ssl(exchange_conn(x));
	const struct tls_peer *peer = ssl ? tlsctx_peer(ssl, conn_tls_arg_index()) : NULL;
	char bearer[BEARER_MAX], name[64];
	uint8_t hash[STORE_HASH_LEN];

	if (peer) {
		if (strcmp(peer->id.id, a->admin) != 0)
			return err_set(err, ERR_DENIED, "%s is not the administrator (%s)", peer->id.id, a->admin);
		snprintf(ret, size, "%s", peer->id.id);
		return true;
	}
	if (!bearer_of(exchange_request(x), bearer, sizeof(bearer)))
		return err_set(err, ERR_IDENTITY,
			       "the API wants a client certificate of the administrator, or a bearer token");
	MUST(EVP_Digest(bearer, strlen(bearer), hash, NULL, EVP_sha256(), NULL) == 1);
	mem_wipe(bearer, sizeof(bearer));
	if (!store_bearer_find(a->cfg.store, hash, name, sizeof(name), err))
		return false;
	snprintf(ret, size, "bearer:%s", name);
	return true;
}

/* Takes over the text. */
static void reply(struct http_exchange *x, unsigned status, char *text, size_t len)
{
	struct buf body;

	buf_init(&body, SIZE_MAX);
	buf_add(&body, text, len);
	mem_wipe_free(text, len);
	exchange_reply_buf(x, (uint16_t)status, "application/json", &body);
}

static void note(const struct message *m, unsigned status, const char *who)
{
	event(EV_API_REQUEST, "method=\"" STR_FMT "\" path=\"" STR_FMT "\" status=%u who=\"%s\"", STR_ARG(m->method),
	      (int)MIN(m->path.len, 200), m->path.p, status, who);
}

static void refuse(struct http_exchange *x, const struct err *err)
{
	size_t len;
	char *text;
	unsigned status = api_error(err, &text, &len);

	note(exchange_request(x), status, "-");
	reply(x, status, text, len);
}

/* Before a body is read: a stranger's 32 MiB are not for our memory. */
static bool admit(void *ctx, struct http_exchange *x)
{
	struct api *a = ctx;
	char who[SPIFFE_ID_MAX];
	struct err err;

	MUST_BE(a, API_MAGIC);
	if (who_asks(a, x, who, sizeof(who), &err))
		return true;
	refuse(x, &err);
	return false;
}

/* --- what is asked --- */

static void asked_free(struct api *a, struct asked *q)
{
	list_remove(&q->node);
	if (q->until_ms)
		a->waiting_len--;
	call_free(&q->call);
	mem_free(q);
}

static void on_gone(void *ctx, struct http_exchange *x)
{
	struct api *a = ctx;
	struct asked *q = exchange_user(x);

	if (!q)
		return;
	q->x = NULL;
	if (!list_empty(&q->node) || clerk_drop(a->clerk, q->call))
		asked_free(a, q);
}

static void put_off(struct api *a, struct asked *q)
{
	if (!q->until_ms) {
		q->until_ms = loop_now_ms(a->loop) + call_seconds(q->call) * 1000ull;
		a->waiting_len++;
	}
	if (list_empty(&q->node))
		list_push(&a->waiting, &q->node);
	if (!timer_running(&a->look))
		timer_start(&a->look, LOOK_MS);
}

static bool may_wait(const struct api *a, const struct asked *q)
{
	return q->until_ms ? loop_now_ms(a->loop) < q->until_ms : a->waiting_len < WAITING_MAX;
}

static void finish(struct api *a, struct asked *q)
{
	struct http_exchange *x = q->x;
	size_t len;
	char *text;
	unsigned status = call_finish(q->call, &a->cfg, may_wait(a, q), &text, &len);

	if (status == API_LATER) {
		put_off(a, q);
		return;
	}
	note(exchange_request(x), status, q->who);
	exchange_set_user(x, NULL);
	asked_free(a, q);
	reply(x, status, text, len);
}

static void on_run(void *ctx, struct call *c)
{
	struct api *a = ctx;
	struct asked *q = call_owner(c);

	MUST_BE(a, API_MAGIC);
	if (q->x)
		finish(a, q);
	else
		asked_free(a, q);
}

static void on_told(void *ctx)
{
	struct api *a = ctx;

	if (a->cfg.told)
		a->cfg.told(a->cfg.ctx);
	else
		clerk_settle(a->clerk);
}

static void ask_clerk(struct api *a, struct asked *q)
{
	list_remove(&q->node);
	list_init(&q->node);
	q->changed = false;
	clerk_take(a->clerk, q->call);
}

/* --- what waits --- */

static void look_at(struct api *a, struct asked *q)
{
	if (!call_wants_store(q->call) || (!q->changed && loop_now_ms(a->loop) >= q->until_ms))
		finish(a, q); /* at its time, whatever the clerk has to do: what the store said still holds */
	else if (q->changed)
		ask_clerk(a, q);
}

/* Each look costs; the time between two grows with it, so that who waits slows down nobody else. */
static void look(struct api *a)
{
	uint64_t began = loop_clock_us();

	list_for_each_safe (q, &a->waiting, struct asked, node)
		look_at(a, q);
	if (list_empty(&a->waiting))
		timer_stop(&a->look);
	else
		timer_start(&a->look, MAX(LOOK_MS, (loop_clock_us() - began) * LOOK_SHARE / 1000));
}

static void on_look(struct timer *t)
{
	look(CONTAINER_OF(t, struct api, look));
}

static void on_look_now(struct task *t)
{
	look(CONTAINER_OF(t, struct api, look_now));
}

static void on_change(struct store_watch *w, uint64_t revision, const struct store_change *changes, size_t n)
{
	struct api *a = CONTAINER_OF(w, struct api, watch);

	list_for_each (q, &a->waiting, struct asked, node)
		q->changed = true;
	if (!list_empty(&a->waiting))
		loop_at_turn_end(a->loop, &a->look_now);
}

static void on_request(void *ctx, struct http_exchange *x)
{
	struct api *a = ctx;
	const struct message *m = exchange_request(x);
	char who[SPIFFE_ID_MAX];
	struct err err;

	MUST_BE(a, API_MAGIC);
	if (!who_asks(a, x, who, sizeof(who), &err)) { /* again: a bearer token may have expired since */
		refuse(x, &err);
		return;
	}
	struct asked *q = NEW(struct asked);
	struct api_request rq = {.method = m->method, .path = m->path, .who = who};
	rq.body = exchange_take_body(x, &rq.body_len);
	q->x = x;
	memcpy(q->who, who, sizeof(who));
	q->call = call_new(&rq, q);
	list_init(&q->node);
	exchange_set_user(x, q);
	clerk_take(a->clerk, q->call);
}

static struct http_server *server_new(struct api *a)
{
	struct http_server_cfg cfg = {.body_max = API_BODY_MAX,
				      .bodies_max = API_BODIES_MAX,
				      .tls = a->cfg.tls,
				      .connections_max = CONNECTIONS_MAX,
				      .admit = admit,
				      .on_request = on_request,
				      .on_gone = on_gone,
				      .ctx = a};
	return http_server_new(a->loop, &cfg);
}

struct api *api_new(struct loop *loop, const struct api_cfg *cfg, struct err *err)
{
	struct store_mesh mesh;
	struct spiffe admin;

	if (!store_mesh_get(cfg->store, &mesh, err) ||
	    !spiffe_make(str_of(mesh.trust_domain), STR("weft-system"), STR(ADMIN_SA), &admin, err))
		return NULL;
	struct api *a = NEW(struct api);
	a->magic = API_MAGIC;
	a->loop = loop;
	a->cfg = *cfg;
	SSL_CTX_up_ref(cfg->tls);
	memcpy(a->admin, admin.id, sizeof(a->admin));
	struct clerk_events ev = {.on_run = on_run, .on_told = on_told, .ctx = a};
	a->clerk = clerk_new(loop, &a->cfg, &ev, err);
	a->server = server_new(a);
	list_init(&a->waiting);
	timer_init(&a->look, loop, on_look);
	task_init(&a->look_now, on_look_now);
	list_init(&a->watch.node);
	a->watch.on_change = on_change;
	store_watch(cfg->store, &a->watch);
	if (!a->clerk)
		api_free(&a);
	return a;
}

void api_accept(struct api *a, int fd)
{
	http_server_accept(a->server, fd);
}

void api_set_tls(struct api *a, SSL_CTX *tls)
{
	SSL_CTX_up_ref(tls);
	SSL_CTX_free(a->cfg.tls);
	a->cfg.tls = tls;
	if (a->former)
		http_server_free(&a->former);
	a->former = a->server;
	a->server = server_new(a);
}

bool api_telling(const struct api *a)
{
	return clerk_telling(a->clerk);
}

bool api_busy(const struct api *a)
{
	return clerk_busy(a->clerk);
}

void api_settle(struct api *a)
{
	clerk_settle(a->clerk);
}

void api_free(struct api **ap)
{
	struct api *a = *ap;

	if (!a)
		return;
	MUST_BE(a, API_MAGIC);
	http_server_free(&a->server);
	if (a->former)
		http_server_free(&a->former);
	clerk_free(&a->clerk);
	timer_stop(&a->look);
	task_cancel(&a->look_now);
	store_unwatch(&a->watch);
	SSL_CTX_free(a->cfg.tls);
	a->magic = 0;
	mem_free(a);
	*ap = NULL;
}
