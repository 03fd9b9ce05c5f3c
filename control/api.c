/* SPDX-License-Identifier: Apache-2.0 */
/* api.c: the API's transport: the HTTP server on 4811, who asks, JSON in and out. What the calls do is in api_call.c. */
#include "control/api.h"

#include "certs/tlsctx.h"
#include "control/api_call.h"
#include "lib/event.h"
#include "lib/http/server.h"
#include "lib/mem.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define API_MAGIC       0x57415049u
#define CONNECTIONS_MAX 1000
#define BEARER_MAX      256
#define WAITING_MAX     256 /* exchanges that are kept at once */
#define LOOK_MS         10  /* between two looks at what they wait for ... */
#define LOOK_SHARE      20  /* ... and at least so many times as long as a look takes */

/* An exchange that has no answer yet. Owned by api.waiting; ends with its answer or with its client. */
struct waiting {
	struct list node;
	struct http_exchange *x;
	uint64_t until_ms;
	char who[SPIFFE_ID_MAX];
};

struct api {
	uint32_t magic;
	struct loop *loop;
	struct api_cfg cfg;
	char admin[SPIFFE_ID_MAX];
	/* The second one has the certificate before the last renewal: its connections may end by themselves. */
	struct http_server *server, *former;
	struct list waiting;
	size_t waiting_len;
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

static void reply(struct http_exchange *x, unsigned status, json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT);

	MUST(text);
	struct buf body;
	buf_init(&body, SIZE_MAX);
	buf_add(&body, text, strlen(text));
	mem_wipe_free(text, strlen(text));
	exchange_reply_buf(x, (uint16_t)status, "application/json", &body);
}

static void note(const struct message *m, unsigned status, const char *who)
{
	event(EV_API_REQUEST, "method=\"" STR_FMT "\" path=\"" STR_FMT "\" status=%u who=\"%s\"", STR_ARG(m->method),
	      (int)MIN(m->path.len, 200), m->path.p, status, who);
}

/* Before a body is read: a stranger's 32 MiB are not for our memory. */
static bool admit(void *ctx, struct http_exchange *x)
{
	struct api *a = ctx;
	char who[SPIFFE_ID_MAX];
	struct err err;
	json_t *answer = NULL;

	MUST_BE(a, API_MAGIC);
	if (who_asks(a, x, who, sizeof(who), &err))
		return true;
	unsigned status = api_error(&err, &answer);
	note(exchange_request(x), status, "-");
	reply(x, status, answer);
	json_decref(answer);
	return false;
}

/* --- exchanges that wait --- */

static void waiting_free(struct api *a, struct waiting *w)
{
	list_remove(&w->node);
	a->waiting_len--;
	mem_free(w);
}

static void on_gone(void *ctx, struct http_exchange *x)
{
	struct waiting *w = exchange_user(x);

	if (w)
		waiting_free(ctx, w);
}

static void keep(struct api *a, struct http_exchange *x, const char *who, unsigned seconds)
{
	struct waiting *w = NEW(struct waiting);

	w->x = x;
	w->until_ms = loop_now_ms(a->loop) + seconds * 1000ull;
	snprintf(w->who, sizeof(w->who), "%s", who);
	exchange_set_user(x, w);
	list_push(&a->waiting, &w->node);
	a->waiting_len++;
	if (!timer_running(&a->look))
		timer_start(&a->look, LOOK_MS);
}

static void look_at(struct api *a, struct waiting *w)
{
	const struct message *m = exchange_request(w->x);
	struct api_request rq = {m->method, m->path, exchange_body(w->x), w->who, loop_now_ms(a->loop) < w->until_ms};
	json_t *answer = NULL;
	unsigned seconds, status = api_call(&a->cfg, &rq, &answer, &seconds);

	if (status == API_LATER)
		return;
	struct http_exchange *x = w->x;
	note(m, status, w->who);
	exchange_set_user(x, NULL);
	waiting_free(a, w);
	reply(x, status, answer);
	json_decref(answer);
}

static uint64_t clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Each look costs; the time between two grows with it, so that who waits slows down nobody else. */
static void look(struct api *a)
{
	uint64_t began = clock_us();

	list_for_each_safe (w, &a->waiting, struct waiting, node)
		look_at(a, w);
	if (list_empty(&a->waiting))
		timer_stop(&a->look);
	else
		timer_start(&a->look, MAX(LOOK_MS, (clock_us() - began) * LOOK_SHARE / 1000));
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

	if (!list_empty(&a->waiting))
		loop_at_turn_end(a->loop, &a->look_now);
}

static void on_request(void *ctx, struct http_exchange *x)
{
	struct api *a = ctx;
	const struct message *m = exchange_request(x);
	char who[SPIFFE_ID_MAX] = "-";
	struct err err;
	json_t *answer = NULL;
	unsigned status, seconds = 0;

	MUST_BE(a, API_MAGIC);
	if (who_asks(a, x, who, sizeof(who), &err)) { /* again: a bearer token may have expired since */
		struct api_request rq = {m->method, m->path, exchange_body(x), who, a->waiting_len < WAITING_MAX};
		status = api_call(&a->cfg, &rq, &answer, &seconds);
		if (status == API_LATER) {
			keep(a, x, who, seconds);
			return;
		}
	} else
		status = api_error(&err, &answer);
	note(m, status, who);
	reply(x, status, answer);
	json_decref(answer);
}

static struct http_server *server_new(struct api *a)
{
	struct http_server_cfg cfg = {.body_max = API_BODY_MAX,
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
	a->server = server_new(a);
	list_init(&a->waiting);
	timer_init(&a->look, loop, on_look);
	task_init(&a->look_now, on_look_now);
	list_init(&a->watch.node);
	a->watch.on_change = on_change;
	store_watch(cfg->store, &a->watch);
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

void api_free(struct api **ap)
{
	struct api *a = *ap;

	if (!a)
		return;
	MUST_BE(a, API_MAGIC);
	http_server_free(&a->server);
	if (a->former)
		http_server_free(&a->former);
	timer_stop(&a->look);
	task_cancel(&a->look_now);
	store_unwatch(&a->watch);
	SSL_CTX_free(a->cfg.tls);
	a->magic = 0;
	mem_free(a);
	*ap = NULL;
}
