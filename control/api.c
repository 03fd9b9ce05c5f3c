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

#define API_MAGIC       0x57415049u
#define CONNECTIONS_MAX 1000
#define BEARER_MAX      256

struct api {
	uint32_t magic;
	struct loop *loop;
	struct api_cfg cfg;
	char admin[SPIFFE_ID_MAX];
	/* The second one has the certificate before the last renewal: its connections may end by themselves. */
	struct http_server *server, *former;
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

static void on_request(void *ctx, struct http_exchange *x)
{
	struct api *a = ctx;
	const struct message *m = exchange_request(x);
	char who[SPIFFE_ID_MAX] = "-";
	struct err err;
	json_t *answer = NULL;
	unsigned status;

	MUST_BE(a, API_MAGIC);
	if (who_asks(a, x, who, sizeof(who), &err)) { /* again: a bearer token may have expired since */
		struct api_request rq = {m->method, m->path, exchange_body(x), who};
		status = api_call(&a->cfg, &rq, &answer);
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
	SSL_CTX_free(a->cfg.tls);
	a->magic = 0;
	mem_free(a);
	*ap = NULL;
}
