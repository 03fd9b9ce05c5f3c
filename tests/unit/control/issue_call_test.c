/* SPDX-License-Identifier: Apache-2.0 */
/* issue_call_test.c: the whole way of a certificate: a proxy without one joins over TLS pinned to its token's root, makes a credential
 * of the answer, renews with it over mutual TLS. And what a wrong caller hears. */
#include "control/issue_call.h"
#include "control/store.h"
#include "control/write_queue.h"

#include "certs/ca.h"
#include "certs/csr.h"
#include "certs/ossl.h"
#include "certs/tlsctx.h"
#include "certs/token.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "lib/listener.h"
#include "tests/unit/control/slow_writer.h"

#include <check.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TD    "weft.test"
#define WEFTD "spiffe://weft.test/ns/weft-system/sa/weftd"

static const char *const h2_only[] = {ALPN_H2, NULL};

struct world {
	char dir[64];
	struct loop *loop;
	struct store *store;
	struct write_queue *writes;
	struct ca *ca;
	struct bundle *bundle;
	struct issue *issue;
	SSL_CTX *tls; /* the server borrows it */
	struct grpc_server *server;
	struct listener *listener;
	struct addr at;
	uint8_t root_hash[32];
	/* client */
	struct http_session *session;
	struct conn *conn;
	struct tls_peer peer;
	struct grpc_call *call;
	bool ready, failed, ended;
	enum grpc_status status;
	char text[600];
	uint8_t *answer;
	size_t answer_len;
	EVP_PKEY *key;
};
static struct world w;
static struct err err;

/* --- weftd's side --- */

static bool on_call(void *ctx, struct grpc_call *call, const struct grpc_call_events **ev, void **cctx,
		    enum grpc_status *status, const char **text)
{
	return issue_call(w.issue, call, ev, cctx, status, text);
}

static const struct grpc_method methods[] = {{ISSUE_PATH, on_call}, {NULL, NULL}};

static void on_accept(void *ctx, int fd)
{
	grpc_server_accept(w.server, fd);
}

static struct credential *credential_of(const char *ns, const char *sa, bool with_root)
{
	struct spiffe id;
	EVP_PKEY *key = key_new(&err);
	uint8_t *der;
	size_t len;
	ck_assert(spiffe_make(STR(TD), str_of(ns), str_of(sa), &id, &err));
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

static void setup(void)
{
	struct store_mesh mesh = {.trust_domain = TD};
	struct ca_material m;
	char path[96];
	memset(&w, 0, sizeof(w));
	strcpy(w.dir, "/tmp/weft-call-XXXXXX");
	event_set_level(EVENT_ERROR);
	ck_assert_ptr_nonnull(mkdtemp(w.dir));
	snprintf(path, sizeof(path), "%s/weft.db", w.dir);
	ck_assert(ca_make(STR(TD), &m, &err) && store_create(path, &mesh, &m, &err));
	w.store = store_open(path, &err);
	w.ca = ca_new(&m, &err);
	ca_material_done(&m);
	ck_assert(w.store && w.ca);
	struct str root = ca_root_der(w.ca);
	SHA256((const unsigned char *)root.p, root.len, w.root_hash);
	w.bundle = bundle_new(STR(TD), &root, 1, &err);
	w.loop = loop_new(&err);
	w.writes = write_queue_new(w.loop, w.store);
	w.issue =
	    issue_new(&(struct issue_cfg){.store = w.store, .writes = w.writes, .ca = w.ca, .lifetime_s = 60}, &err);
	struct credential *own = credential_of("weft-system", "weftd", true);
	SSL_CTX *tls = tlsctx_server_optional(own, h2_only, conn_tls_arg_index(), &err);
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

static void run_ms(uint64_t ms)
{
	struct timer t;
	timer_init(&t, w.loop, stop);
	timer_start(&t, ms);
	loop_run(w.loop);
	timer_stop(&t);
}

static void until(const bool *a, const bool *b)
{
	uint64_t end = loop_now_ms(w.loop) + 10000;
	while (!*a && !*b && loop_now_ms(w.loop) < end)
		run_ms(2);
	ck_assert(*a || *b);
}

static void hang_up(void)
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

static void teardown(void)
{
	char command[96];
	hang_up();
	listener_free(&w.listener);
	issue_calls_end(w.issue);
	grpc_server_free(&w.server);
	run_ms(2);
	SSL_CTX_free(w.tls);
	issue_free(&w.issue);
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
static bool dial(SSL_CTX *tls, const char *expect)
{
	ck_assert_ptr_nonnull(tls);
	w.peer.expect = expect;
	struct conn_dial d = {.to = w.at, .tls = tls, .tls_arg = &w.peer};
	w.conn = conn_open(w.loop, &d, &conn_events, NULL);
	until(&w.ready, &w.failed);
	SSL_CTX_free(tls);
	return w.ready;
}

static void on_message(void *ctx, struct grpc_call *call, struct str m)
{
	ck_assert_ptr_null(w.answer);
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

static void begin_call(const char *token, const char *rejoin, const char *instance, int copies)
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
	mem_free(w.answer);
	w.answer = NULL;
	w.ended = false;
	w.call = grpc_call_new(w.session, "weftd", ISSUE_PATH, NULL, &call_events, NULL);
	ck_assert_ptr_nonnull(w.call);
	for (int i = 0; i < copies; i++)
		ck_assert(grpc_send(w.call, str_make(buf, len)));
	grpc_half_close(w.call);
}

static void call(const char *token, const char *rejoin, const char *instance, int copies)
{
	begin_call(token, rejoin, instance, copies);
	until(&w.ended, &w.failed);
}

static void token_text(char text[static TOKEN_TEXT_MAX])
{
	struct token t = {.not_after = (int64_t)time(NULL) + 600, .trust_domain = TD, .ns = "shop", .sa = "orders"};
	struct store_token row = {.not_after = t.not_after, .ns = "shop", .sa = "orders"};
	char id[65];
	ck_assert(token_secret_new(id, &err) && token_secret_new(t.secret, &err));
	snprintf(t.id, sizeof(t.id), "%.32s", id);
	memcpy(t.root_hash, w.root_hash, 32);
	memcpy(row.id, t.id, sizeof(row.id));
	token_secret_hash(t.secret, row.secret_hash);
	ck_assert(store_token_add(w.store, &row, &err) && token_format(&t, text, &err));
}

static struct credential *credential_of_answer(char rejoin[65])
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

static SSL_CTX *bootstrap(void)
{
	return tlsctx_bootstrap(w.root_hash, h2_only, conn_tls_arg_index(), &err);
}

START_TEST(a_proxy_joins_renews_and_rejoins)
{
	char token[TOKEN_TEXT_MAX], first[65], none[65], second[65];
	token_text(token);
	ck_assert_msg(dial(bootstrap(), WEFTD), "%s", w.peer.err.text);
	call(token, "", "orders-1", 1);
	ck_assert_msg(w.ended && w.status == GRPC_OK, "%d %s", w.status, w.text);
	struct credential *c = credential_of_answer(first);
	ck_assert_str_eq(credential_id(c)->id, "spiffe://weft.test/ns/shop/sa/orders");
	call(token, "", "orders-1", 1); /* the thief's try */
	ck_assert_int_eq(w.status, GRPC_PERMISSION_DENIED);
	ck_assert_ptr_nonnull(strstr(w.text, "was used by workload orders-1"));
	ck_assert_ptr_null(w.answer);
	hang_up();

	ck_assert_msg(dial(tlsctx_client(c, h2_only, conn_tls_arg_index(), &err), WEFTD), "%s", w.peer.err.text);
	call("", "", "orders-1", 1);
	ck_assert_msg(w.status == GRPC_OK, "%s", w.text);
	struct credential *renewed = credential_of_answer(none);
	ck_assert_str_eq(none, "");
	ck_assert_str_eq(credential_id(renewed)->id, credential_id(c)->id);
	hang_up();

	ck_assert(dial(bootstrap(), WEFTD)); /* a full restart: only the rejoin secret is left */
	call("", first, "orders-1", 1);
	ck_assert_msg(w.status == GRPC_OK, "%s", w.text);
	struct credential *again = credential_of_answer(second);
	ck_assert_str_ne(first, second);
	credential_unref(&again);
	credential_unref(&renewed);
	credential_unref(&c);
}
END_TEST

START_TEST(a_caller_without_credential_two_messages_and_none_are_refused)
{
	char token[TOKEN_TEXT_MAX];
	token_text(token);
	ck_assert(dial(bootstrap(), WEFTD));
	call("", "", "a", 1);
	ck_assert_int_eq(w.status, GRPC_UNAUTHENTICATED);
	call(token, "", "a", 2);
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	ck_assert_ptr_null(w.answer);
	call(token, "", "a", 0);
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	call(token, "", "a", 1); /* none of it spent the token */
	ck_assert_msg(w.status == GRPC_OK, "%s", w.text);
}
END_TEST

static void let_go(struct timer *t)
{
	ck_assert(!w.ended);
	slow_writer_let_go();
}

START_TEST(a_join_waits_for_the_transaction_of_another_connection_and_the_loop_does_not)
{
	char token[TOKEN_TEXT_MAX];
	struct timer t;
	token_text(token);
	ck_assert(dial(bootstrap(), WEFTD));
	slow_writer_begin(w.store);
	timer_init(&t, w.loop, let_go);
	timer_start(&t, 50); /* comes only if the loop does not wait */
	call(token, "", "orders-1", 1);
	ck_assert_msg(w.ended && w.status == GRPC_OK, "%d %s", w.status, w.text);
	slow_writer_join();
}
END_TEST

START_TEST(who_hangs_up_before_the_store_is_free_has_not_joined)
{
	char token[TOKEN_TEXT_MAX];
	struct store_instance none;
	token_text(token);
	ck_assert(dial(bootstrap(), WEFTD));
	slow_writer_begin(w.store);
	begin_call(token, "", "orders-1", 1);
	run_ms(50);
	ck_assert(!list_empty(issue_calls(w.issue)));
	hang_up();
	while (!list_empty(issue_calls(w.issue)))
		run_ms(2);
	slow_writer_let_go();
	slow_writer_join();
	run_ms(20);
	ck_assert(!store_instance_get(w.store, "shop", "orders-1", &none, &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_false_weftd_never_sees_the_token)
{
	w.root_hash[0] ^= 1; /* the token names another root */
	ck_assert(!dial(bootstrap(), WEFTD));
	ck_assert_ptr_null(w.session);
	ck_assert_ptr_nonnull(strstr(w.peer.err.text, "not the weftd that made the join token"));
}
END_TEST

START_TEST(calls_in_progress_end_when_weftd_stops)
{
	ck_assert(dial(bootstrap(), WEFTD));
	w.call = grpc_call_new(w.session, "weftd", ISSUE_PATH, NULL, &call_events, NULL);
	ck_assert(grpc_send(w.call, STR("half")));
	while (list_empty(issue_calls(w.issue)))
		run_ms(1);
	issue_calls_end(w.issue);
	until(&w.ended, &w.failed);
	ck_assert_int_eq(w.status, GRPC_UNAVAILABLE);
}
END_TEST

Suite *issue_call_suite(void);
Suite *issue_call_suite(void)
{
	Suite *s = suite_create("issue_call");
	TCase *tc = tcase_create("over gRPC and TLS");
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_proxy_joins_renews_and_rejoins);
	tcase_add_test(tc, a_caller_without_credential_two_messages_and_none_are_refused);
	tcase_add_test(tc, a_join_waits_for_the_transaction_of_another_connection_and_the_loop_does_not);
	tcase_add_test(tc, who_hangs_up_before_the_store_is_free_has_not_joined);
	tcase_add_test(tc, a_false_weftd_never_sees_the_token);
	tcase_add_test(tc, calls_in_progress_end_when_weftd_stops);
	suite_add_tcase(s, tc);
	return s;
}
