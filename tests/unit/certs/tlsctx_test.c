/* SPDX-License-Identifier: Apache-2.0 */
/* tlsctx_test.c: who meets whom through real handshakes in memory: identities, renewals, the bootstrap with a token and the
 * protocol itself. What is wrong about a certificate is peer_test.c's. */
#include "tests/unit/certs/pki.h"

#include "lib/mem.h"

#include <check.h>
#include <openssl/sha.h>

#define BOTH ((const char *const[]){ALPN_WEFT_H2, ALPN_WEFT_TCP, NULL})
#define TCP  ((const char *const[]){ALPN_WEFT_TCP, NULL})

static struct pki pki, foreign;

static void setup(void)
{
	pki_init(&pki, PKI_TD);
	pki_init(&foreign, "other.test");
}

static void teardown(void)
{
	pki_done(&pki);
	pki_done(&foreign);
}

START_TEST(two_workloads_see_each_others_identity)
{
	struct pki_end c = {.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", BOTH), .peer.expect = PKI_ORDERS};
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "orders", BOTH)};
	pki_handshake(&c, &s);
	ck_assert_msg(c.done && s.done && !c.alert[0] && !s.alert[0], "%s / %s", c.peer.err.text, s.peer.err.text);
	ck_assert(c.peer.verified && s.peer.verified);
	ck_assert_str_eq(c.peer.id.id, PKI_ORDERS);
	ck_assert_str_eq(s.peer.id.id, "spiffe://weft.test/ns/shop/sa/cart");
	ck_assert_str_eq(tlsctx_peer(s.ssl, pki_arg_index())->id.id, s.peer.id.id);
	ck_assert(str_is(tlsctx_peer(s.ssl, pki_arg_index())->id.sa, "cart"));
	ck_assert_uint_eq(s.reads, 5);
	ck_assert_int_eq(SSL_version(c.ssl), TLS1_3_VERSION);
	const unsigned char *alpn;
	unsigned len;
	SSL_get0_alpn_selected(c.ssl, &alpn, &len);
	ck_assert(str_is(str_make(alpn, len), ALPN_WEFT_H2));
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

START_TEST(a_server_may_do_without_tls_peer_and_a_client_may_not)
{
	struct pki_end c = {.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", PKI_H2)};
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "orders", PKI_H2), .no_peer = true};
	pki_handshake(&c, &s);
	ck_assert_uint_eq(s.reads, 5);
	ck_assert_str_eq(tlsctx_peer(s.ssl, pki_arg_index())->id.id, "spiffe://weft.test/ns/shop/sa/cart");
	pki_end_done(&c);
	pki_end_done(&s);
	c = (struct pki_end){.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", PKI_H2), .no_peer = true};
	s = (struct pki_end){.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "orders", PKI_H2)};
	pki_handshake(&c, &s);
	ck_assert(!c.done && c.alert[0] && s.reads == 0);
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

/* A client that expects this identity, against what a server's context shows now. */
static void assert_shows(SSL_CTX *server, const char *expect)
{
	SSL_CTX_up_ref(server);
	struct pki_end c = {.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", PKI_H2), .peer.expect = expect};
	struct pki_end s = {.ctx = server};
	pki_handshake(&c, &s);
	ck_assert_msg(c.peer.verified && s.peer.verified, "%s: %s", expect, c.peer.err.text);
	ck_assert_uint_eq(s.reads, 5);
	pki_end_done(&c);
	pki_end_done(&s);
}

START_TEST(after_a_renewal_former_contexts_show_the_new_certificate)
{
	SSL_CTX *first = pki_ctx(&pki, PKI_SERVER, "shop", "orders", PKI_H2),
		*second = pki_ctx(&pki, PKI_SERVER, "shop", "other", PKI_H2);
	assert_shows(first, PKI_ORDERS);
	assert_shows(second, PKI_OTHER);
	tlsctx_succeed(second, first);
	assert_shows(first, PKI_OTHER);
	assert_shows(second, PKI_OTHER);
	SSL_CTX *third = pki_ctx(&pki, PKI_SERVER, "shop", "orders", PKI_H2);
	tlsctx_succeed(third, second);
	SSL_CTX_free(second);
	assert_shows(first, PKI_ORDERS); /* a connection of the first generation may still hold its context */
	SSL_CTX_free(first);
	assert_shows(third, PKI_ORDERS);
	SSL_CTX_free(third);
}
END_TEST

START_TEST(the_wrong_server_is_refused_and_both_identities_are_named)
{
	struct pki_end c = {.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", PKI_H2), .peer.expect = PKI_ORDERS};
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "other", PKI_H2)};
	pki_handshake(&c, &s);
	pki_assert_refused(&c, &s, "expected " PKI_ORDERS ", the peer is " PKI_OTHER, "wrong server");
	ck_assert_uint_eq(c.peer.err.code, ERR_IDENTITY);
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

/* --- bootstrap --- */

static void root_hash(const struct pki *p, uint8_t out[32])
{
	struct str der = ca_root_der(p->ca);
	SHA256((const unsigned char *)der.p, der.len, out);
}

static void bootstrap(const uint8_t hash[32], const char *expect, SSL_CTX *server, struct pki_end *c, struct pki_end *s)
{
	*c = (struct pki_end){.ctx = tlsctx_bootstrap(hash, NULL, pki_arg_index(), NULL), .peer.expect = expect};
	*s = (struct pki_end){.ctx = server};
	pki_handshake(c, s);
}

START_TEST(a_joining_proxy_trusts_exactly_the_root_of_its_token)
{
	struct pki_end c, s;
	uint8_t hash[32];
	root_hash(&pki, hash);
	bootstrap(hash, PKI_WEFTD, pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL), &c, &s);
	ck_assert_msg(c.done && c.peer.verified && s.reads == 5, "%s", c.peer.err.text);
	ck_assert_str_eq(c.peer.id.id, PKI_WEFTD);
	pki_end_done(&c);
	pki_end_done(&s);

	hash[31] ^= 1;
	bootstrap(hash, PKI_WEFTD, pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL), &c, &s);
	pki_assert_refused(&c, &s, "not the weftd that made the join token", "wrong hash");
	pki_end_done(&c);
	pki_end_done(&s);

	root_hash(&pki, hash);
	bootstrap(hash, PKI_WEFTD, pki_ctx(&pki, PKI_SERVER, "weft-system", "weftd", NULL), &c,
		  &s); /* root not in its chain */
	pki_assert_refused(&c, &s, "not the weftd that made the join token", "root not shown");
	pki_end_done(&c);
	pki_end_done(&s);

	bootstrap(hash, PKI_WEFTD, pki_ctx(&pki, PKI_OPTIONAL, "shop", "orders", NULL), &c,
		  &s); /* a workload plays weftd */
	pki_assert_refused(&c, &s, "expected " PKI_WEFTD ", the peer is " PKI_ORDERS, "workload as weftd");
	pki_end_done(&c);
	pki_end_done(&s);

	bootstrap(hash, NULL, pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL), &c, &s);
	pki_assert_refused(&c, &s, "no expected identity", "no expectation");
	pki_end_done(&c);
	pki_end_done(&s);

	struct str issuer = ca_issuer_der(pki.ca); /* its hash names a certificate of the chain that is no root */
	SHA256((const unsigned char *)issuer.p, issuer.len, hash);
	bootstrap(hash, PKI_WEFTD, pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL), &c, &s);
	pki_assert_refused(&c, &s, "not the weftd that made the join token", "hash of the issuer");
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

START_TEST(a_false_weftd_that_shows_the_true_root_beside_its_own_chain_is_refused)
{
	static const struct pki_leaf leaf = {"false weftd", "", PKI_URI(PKI_WEFTD), .foreign_issuer = true};
	struct pki_evil evil;
	struct pki_end c, s;
	uint8_t hash[32];
	pki_evil(&pki, &foreign, &leaf, &evil);
	X509_up_ref(pki.root);
	sk_X509_push(evil.chain, pki.root);
	root_hash(&pki, hash);
	bootstrap(hash, PKI_WEFTD, pki_evil_ctx(&evil, true), &c, &s);
	pki_assert_refused(&c, &s, "not signed by a trusted root", "false weftd");
	pki_end_done(&c);
	pki_end_done(&s);
	pki_evil_done(&evil);
}
END_TEST

/* --- the protocol --- */

START_TEST(no_common_protocol_and_no_protocol_at_all_are_fatal)
{
	struct pki_end c = {.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", TCP)};
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "orders", PKI_H2)};
	pki_handshake(&c, &s);
	ck_assert(!c.done && !s.done);
	ck_assert_ptr_nonnull(strstr(c.alert, "no application protocol"));
	pki_end_done(&c);
	pki_end_done(&s);

	c = (struct pki_end){.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", NULL)};
	s = (struct pki_end){.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "orders", PKI_H2)};
	pki_handshake(&c, &s);
	ck_assert(!c.done && !s.done);
	ck_assert_ptr_nonnull(strstr(c.alert, "no application protocol"));
	pki_end_done(&c);
	pki_end_done(&s);

	c = (struct pki_end){.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", PKI_H2)};
	s = (struct pki_end){.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "orders", NULL)};
	pki_handshake(&c, &s);
	pki_assert_refused(&c, &s, "chose no protocol", "server without ALPN");
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

START_TEST(nothing_below_tls_1_3_is_spoken)
{
	for (int version = TLS1_VERSION; version <= TLS1_2_VERSION; version++) {
		struct pki_end c = {.ctx = pki_evil_ctx(NULL, false)};
		struct pki_end s = {.ctx = pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL)};
		SSL_CTX_set_max_proto_version(c.ctx, version);
		pki_handshake(&c, &s);
		ck_assert(!c.done && !s.done);
		pki_end_done(&c);
		pki_end_done(&s);
		struct pki_evil good;
		pki_evil(&pki, &foreign, &(struct pki_leaf){.name = "plain"}, &good);
		c = (struct pki_end){.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", NULL)};
		s = (struct pki_end){.ctx = pki_evil_ctx(&good, true)};
		SSL_CTX_set_max_proto_version(s.ctx, version);
		pki_handshake(&c, &s);
		ck_assert(!c.done && !s.done);
		pki_end_done(&c);
		pki_end_done(&s);
		pki_evil_done(&good);
	}
}
END_TEST

START_TEST(nothing_can_be_resumed)
{
	struct pki_evil good;
	pki_evil(&pki, &foreign, &(struct pki_leaf){.name = "plain"}, &good);
	struct pki_end c = {.ctx = pki_evil_ctx(&good, false)}; /* a client that would like to */
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "orders", NULL)};
	SSL_CTX_set_session_cache_mode(c.ctx, SSL_SESS_CACHE_CLIENT);
	pki_handshake(&c, &s);
	ck_assert(c.done && s.done);
	SSL_SESSION *session = SSL_get1_session(c.ssl);
	ck_assert(!SSL_SESSION_is_resumable(session) && !SSL_SESSION_has_ticket(session));
	SSL_SESSION_free(session);
	ck_assert_int_eq(SSL_session_reused(s.ssl), 0);
	pki_end_done(&c);
	pki_end_done(&s);
	pki_evil_done(&good);
}
END_TEST

START_TEST(two_roots_are_trusted_side_by_side_and_none_after_its_removal)
{
	struct pki next;
	struct err err;
	pki_init(&next, PKI_TD);
	struct str both[2] = {ca_root_der(pki.ca), ca_root_der(next.ca)};
	struct bundle *overlap = bundle_new(STR(PKI_TD), both, 2, &err);
	struct bundle *bundles[3] = {pki.bundle, overlap, next.bundle};
	static const bool expected[3] = {true, true, false}; /* for a client of the old root */
	struct pki_evil old;
	pki_evil(&pki, &foreign, &(struct pki_leaf){.name = "plain"}, &old);
	for (int i = 0; i < 3; i++) {
		struct credential *mine = pki_credential(i == 0 ? &pki : &next, "shop", "cart", false);
		EVP_PKEY *key = credential_key(mine);
		unsigned char *der = NULL;
		int len = i2d_X509(credential_chain(mine, 0), &der);
		struct str chain = str_make(der, (size_t)len);
		struct credential *c = credential_new(key, &chain, 1, bundles[i], &err);
		struct pki_end cl = {.ctx = pki_evil_ctx(&old, false)};
		struct pki_end s = {.ctx = tlsctx_server(c, NULL, pki_arg_index(), &err)};
		pki_handshake(&cl, &s);
		ck_assert_int_eq(s.done, expected[i]);
		pki_end_done(&cl);
		pki_end_done(&s);
		OPENSSL_free(der);
		credential_unref(&c);
		credential_unref(&mine);
	}
	pki_evil_done(&old);
	bundle_unref(&overlap);
	pki_done(&next);
}
END_TEST

START_TEST(names_that_cannot_be_offered_are_an_error)
{
	struct credential *c = pki_credential(&pki, "shop", "cart", false);
	struct err err = {0};
	char long_name[400];
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[399] = 0;
	const char *const names[] = {long_name, NULL}, *const empty[] = {"", NULL};
	ck_assert_ptr_null(tlsctx_client(c, names, pki_arg_index(), &err));
	ck_assert_ptr_nonnull(strstr(err.text, "ALPN"));
	ck_assert_ptr_null(tlsctx_server(c, empty, pki_arg_index(), &err));
	credential_unref(&c);
}
END_TEST

Suite *tlsctx_suite(void);
Suite *tlsctx_suite(void)
{
	Suite *s = suite_create("tlsctx");
	TCase *tc = tcase_create("handshakes");
	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, two_workloads_see_each_others_identity);
	tcase_add_test(tc, a_server_may_do_without_tls_peer_and_a_client_may_not);
	tcase_add_test(tc, after_a_renewal_former_contexts_show_the_new_certificate);
	tcase_add_test(tc, the_wrong_server_is_refused_and_both_identities_are_named);
	tcase_add_test(tc, a_joining_proxy_trusts_exactly_the_root_of_its_token);
	tcase_add_test(tc, a_false_weftd_that_shows_the_true_root_beside_its_own_chain_is_refused);
	tcase_add_test(tc, no_common_protocol_and_no_protocol_at_all_are_fatal);
	tcase_add_test(tc, nothing_below_tls_1_3_is_spoken);
	tcase_add_test(tc, nothing_can_be_resumed);
	tcase_add_test(tc, two_roots_are_trusted_side_by_side_and_none_after_its_removal);
	tcase_add_test(tc, names_that_cannot_be_offered_are_an_error);
	suite_add_tcase(s, tc);
	return s;
}
