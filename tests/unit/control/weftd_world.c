/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/control/weftd_world.h"

#include "certs/csr.h"
#include "certs/ossl.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"

#include <check.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

const char *const world_alpn[] = {ALPN_H2, NULL};
struct weftd_world w;
static struct err err;

/* --- weftd's side --- */

static bool on_call(void *ctx, struct grpc_call *call, const struct grpc_call_events **ev, void **cctx,
		    enum grpc_status *status, const char **text)
{
	return issue_call(w.issue, call, ev, cctx, status, text);
}

static bool on_talk(void *ctx, struct grpc_call *call, const struct grpc_call_events **ev, void **cctx,
		    enum grpc_status *status, const char **text)
{
	return talk_server_call(w.talks, call, ev, cctx, status, text);
}

static const struct grpc_method methods[] = {{ISSUE_PATH, on_call}, {TALK_METHOD_PATH, on_talk}, {NULL, NULL}};

static uint64_t now_ms(void *ctx)
{
	return loop_now_ms(w.loop);
}

static int64_t wall_ms(void *ctx)
{
	return (int64_t)time(NULL) * 1000;
}

static bool instance(void *ctx, const char *ns, const char *name, struct store_instance *ret, struct err *e)
{
	return store_instance_get(w.store, ns, name, ret, e);
}

static bool save(void *ctx, const struct store_instance *i, struct err *e)
{
	return store_instance_register(w.store, i, e);
}

static bool leases(void *ctx, const struct store_lease *l, size_t n, struct err *e)
{
	return store_lease_set(w.store, l, n, e);
}

static bool busy(void *ctx)
{
	return store_busy(w.store);
}

static void on_change(void *ctx, const struct registry_workload *x)
{
}

static void on_gone(void *ctx, const struct registry_workload *x, const char *why)
{
}

static void on_guard(void *ctx, size_t kept, size_t of)
{
}

static const struct registry_hooks hooks = {.now_ms = now_ms,
					    .wall_ms = wall_ms,
					    .instance = instance,
					    .save = save,
					    .leases = leases,
					    .busy = busy,
					    .on_change = on_change,
					    .on_gone = on_gone,
					    .on_guard = on_guard};

static void on_accept(void *ctx, int fd)
{
	grpc_server_accept(w.server, fd);
}

struct credential *world_credential(const char *ns, const char *sa, bool with_root)
{
	struct spiffe id;
	EVP_PKEY *key = key_new(&err);
	uint8_t *der;
	size_t len;
	ck_assert(spiffe_make(STR(WORLD_TD), str_of(ns), str_of(sa), &id, &err));
	X509 *leaf = ca_sign(w.ca, key, &(struct ca_leaf){.id = &id, .lifetime_s = 600}, &err);
	ck_assert(leaf && ossl_cert_der(leaf, &der, &len, &err));
	struct str chain[3] = {str_make(der, len), ca_issuer_der(w.ca), ca_root_der(w.ca)};
	struct credential *c = credential_new(key, chain, with_root ? 3 : 2, w.bundle, &err);
	ck_assert_ptr_nonnull(c);
	mem_free(der);
	X509_free(leaf);
	EVP_PKEY_free(key);
	return c;
}

void world_make(void)
{
	struct store_mesh mesh = {.trust_domain = WORLD_TD};
	struct ca_material m;
	char path[96];
	memset(&w, 0, sizeof(w));
	strcpy(w.dir, "/tmp/weft-call-XXXXXX");
	event_set_level(EVENT_ERROR);
	ck_assert_ptr_nonnull(mkdtemp(w.dir));
	snprintf(path, sizeof(path), "%s/weft.db", w.dir);
	ck_assert(ca_make(STR(WORLD_TD), &m, &err) && store_create(path, &mesh, &m, &err));
	w.store = store_open(path, &err);
	w.ca = ca_new(&m, &err);
	ca_material_done(&m);
	ck_assert(w.store && w.ca);
	struct str root = ca_root_der(w.ca);
	SHA256((const unsigned char *)root.p, root.len, w.root_hash);
	w.bundle = bundle_new(STR(WORLD_TD), &root, 1, &err);
	w.loop = loop_new(&err);
	w.writes = write_queue_new(w.loop, w.store);
	w.issue =
	    issue_new(&(struct issue_cfg){.store = w.store, .writes = w.writes, .ca = w.ca, .lifetime_s = 60}, &err);
	w.registry = registry_new(&hooks, NULL, WORLD_TD, 15000);
	w.talks = talk_server_new(&(struct talk_server_cfg){.loop = w.loop,
							    .registry = w.registry,
							    .writes = w.writes,
							    .held_max = WORLD_HELD_MAX,
							    .wall_ms = wall_ms});
	struct credential *own = world_credential("weft-system", "weftd", true);
	SSL_CTX *tls = tlsctx_server_optional(own, world_alpn, conn_tls_arg_index(), &err);
	ck_assert_msg(tls != NULL, "%s", err.text);
	w.server =
	    grpc_server_new(w.loop, &(struct grpc_server_cfg){.tls = tls, .methods = methods, .connections_max = 8});
	w.tls = tls;
	credential_unref(&own);
	ck_assert(addr_parse(STR("127.0.0.1:0"), &w.at));
	int fd = sock_listen_tcp(&w.at, false, 8, &err);
	ck_assert(fd >= 0 && sock_local(fd, &w.at));
	w.listener = listener_new(w.loop, fd, on_accept, NULL);
	w.key = key_new(&err);
}

static void stop(struct timer *t)
{
	loop_stop(t->loop);
}

void world_run_ms(uint64_t ms)
{
	struct timer t;
	timer_init(&t, w.loop, stop);
	timer_start(&t, ms);
	loop_run(w.loop);
	timer_stop(&t);
}

void world_until(const bool *a, const bool *b)
{
	uint64_t end = loop_now_ms(w.loop) + 10000;
	while (!*a && !*b && loop_now_ms(w.loop) < end)
		world_run_ms(2);
	ck_assert(*a || *b);
}

void world_hang_up(void)
{
	grpc_cancel(&w.call);
	if (w.session)
		codec_h2.session_close(&w.session);
	else if (w.conn)
		conn_close(&w.conn);
	w.conn = NULL;
	mem_free(w.answer);
	w.answer = NULL;
	w.ready = w.failed = w.ended = false;
	memset(&w.peer, 0, sizeof(w.peer));
}

void world_drop(void)
{
	char command[96];
	world_hang_up();
	listener_free(&w.listener);
	issue_calls_end(w.issue);
	talk_server_end_all(w.talks, "stopping");
	grpc_server_free(&w.server);
	world_run_ms(2);
	SSL_CTX_free(w.tls);
	issue_free(&w.issue);
	talk_server_free(&w.talks);
	registry_free(&w.registry);
	write_queue_free(&w.writes);
	loop_free(&w.loop);
	ca_free(&w.ca);
	store_free(&w.store);
	bundle_unref(&w.bundle);
	EVP_PKEY_free(w.key);
	snprintf(command, sizeof(command), "rm -rf '%s'", w.dir);
	ck_assert_int_eq(system(command), 0);
}

/* --- the proxy's side --- */

static void on_ready(void *ctx)
{
	w.ready = true;
}

static void on_closed(void *ctx, enum reason why, const struct err *e)
{
	w.failed = true;
	codec_h2.session_close(&w.session);
}

static const struct http_session_events session_events = {.on_ready = on_ready, .on_closed = on_closed};

static void on_open(void *ctx)
{
	struct conn *c = w.conn;
	w.conn = NULL;
	w.session = codec_h2.session_new(c, HTTP_CLIENT, &http_limits_default, &session_events, NULL);
}

static void on_fail(void *ctx, const struct err *e)
{
	w.failed = true;
}

static const struct conn_events conn_events = {.on_open = on_open, .on_fail = on_fail};

/* True when connected; takes tls over. */
bool world_dial(SSL_CTX *tls, const char *expect)
{
	ck_assert_ptr_nonnull(tls);
	w.peer.expect = expect;
	struct conn_dial d = {.to = w.at, .tls = tls, .tls_arg = &w.peer};
	w.conn = conn_open(w.loop, &d, &conn_events, NULL);
	world_until(&w.ready, &w.failed);
	SSL_CTX_free(tls);
	return w.ready;
}

static void on_message(void *ctx, struct grpc_call *call, struct str m)
{
	mem_free(w.answer);
	w.answers++;
	w.answer = mem_dup(m.p, m.len);
	w.answer_len = m.len;
}

static void on_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	w.ended = true;
	w.status = status;
	w.call = NULL;
	snprintf(w.text, sizeof(w.text), "%s", text ? text : "");
}

static const struct grpc_call_events call_events = {.on_message = on_message, .on_end = on_end};

void world_open_call(const char *path)
{
	mem_free(w.answer);
	w.answer = NULL;
	w.answers = 0;
	w.ended = false;
	w.call = grpc_call_new(w.session, "weftd", path, NULL, &call_events, NULL);
	ck_assert_ptr_nonnull(w.call);
}

void world_begin_call(const char *token, const char *rejoin, const char *instance, int copies)
{
	Weft__V1__IssueRequest m = WEFT__V1__ISSUE_REQUEST__INIT;
	uint8_t *csr, buf[ISSUE_REQUEST_MAX];
	ck_assert(csr_make(w.key, &csr, &m.csr.len, &err));
	m.csr.data = csr;
	m.token = (char *)(uintptr_t)token;
	m.rejoin = (char *)(uintptr_t)rejoin;
	m.instance = (char *)(uintptr_t)instance;
	ck_assert_uint_lt(weft__v1__issue_request__get_packed_size(&m), sizeof(buf));
	size_t len = weft__v1__issue_request__pack(&m, buf);
	mem_free(csr);
	world_open_call(ISSUE_PATH);
	for (int i = 0; i < copies; i++)
		ck_assert(grpc_send(w.call, str_make(buf, len)));
	grpc_half_close(w.call);
}

void world_call(const char *token, const char *rejoin, const char *instance, int copies)
{
	world_begin_call(token, rejoin, instance, copies);
	world_until(&w.ended, &w.failed);
	ck_assert_uint_le(w.answers, 1);
}

void world_token(char text[static TOKEN_TEXT_MAX])
{
	struct token t = {
	    .not_after = (int64_t)time(NULL) + 600, .trust_domain = WORLD_TD, .ns = "shop", .sa = "orders"};
	struct store_token row = {.not_after = t.not_after, .ns = "shop", .sa = "orders"};
	char id[65];
	ck_assert(token_secret_new(id, &err) && token_secret_new(t.secret, &err));
	snprintf(t.id, sizeof(t.id), "%.32s", id);
	memcpy(t.root_hash, w.root_hash, 32);
	memcpy(row.id, t.id, sizeof(row.id));
	token_secret_hash(t.secret, row.secret_hash);
	ck_assert(store_token_add(w.store, &row, &err) && token_format(&t, text, &err));
}

struct credential *world_credential_of_answer(char rejoin[65])
{
	Weft__V1__IssueResponse *m = weft__v1__issue_response__unpack(NULL, w.answer_len, w.answer);
	struct str chain[4], root;
	ck_assert_ptr_nonnull(m);
	ck_assert_uint_le(m->n_chain, 4);
	for (size_t i = 0; i < m->n_chain; i++)
		chain[i] = str_make(m->chain[i].data, m->chain[i].len);
	root = str_make(m->roots[0].data, m->roots[0].len);
	struct bundle *b = bundle_new(str_of(m->trust_domain), &root, 1, &err);
	struct credential *c = credential_new(w.key, chain, m->n_chain, b, &err);
	ck_assert_msg(c != NULL, "%s", err.text);
	snprintf(rejoin, 65, "%s", m->rejoin);
	bundle_unref(&b);
	weft__v1__issue_response__free_unpacked(m, NULL);
	return c;
}

SSL_CTX *world_bootstrap(void)
{
	return tlsctx_bootstrap(w.root_hash, world_alpn, conn_tls_arg_index(), &err);
}
