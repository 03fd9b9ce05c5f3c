/* SPDX-License-Identifier: Apache-2.0 */
/* tlsctx_test.c: who gets in and who does not, through real handshakes in memory. Every refusal must name its reason, and not
 * one application byte may arrive. */
#include "tests/unit/certs/pki.h"

#include "certs/peer.h"
#include "lib/mem.h"

#include <check.h>
#include <openssl/sha.h>
#include <time.h>

#define ORDERS "spiffe://weft.test/ns/shop/sa/orders"
#define OTHER  "spiffe://weft.test/ns/shop/sa/other"
#define WEFTD  "spiffe://weft.test/ns/weft-system/sa/weftd"
#define H2     ((const char *const[]){ALPN_WEFT_H2, NULL})
#define BOTH   ((const char *const[]){ALPN_WEFT_H2, ALPN_WEFT_TCP, NULL})
#define TCP    ((const char *const[]){ALPN_WEFT_TCP, NULL})

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

enum kind { CLIENT, SERVER, OPTIONAL };

static SSL_CTX *ctx_of(enum kind kind, const char *ns, const char *sa, const char *const *alpn)
{
	struct err err = {0};
	struct credential *c = pki_credential(&pki, ns, sa, kind == OPTIONAL);
	SSL_CTX *ctx = kind == CLIENT   ? tlsctx_client(c, alpn, pki_arg_index(), &err)
		       : kind == SERVER ? tlsctx_server(c, alpn, pki_arg_index(), &err)
					: tlsctx_server_optional(c, alpn, pki_arg_index(), &err);
	ck_assert_msg(ctx != NULL, "%s", err.text);
	credential_unref(&c); /* the context holds its own */
	return ctx;
}

static void assert_refused(struct pki_end *ours, struct pki_end *theirs, const char *says, const char *name)
{
	ck_assert_msg(ours->alert[0] != 0, "%s: accepted", name);
	ck_assert_msg(!ours->peer.verified, "%s: verified", name);
	ck_assert_msg(strstr(ours->peer.err.text, says) != NULL, "%s: said \"%s\", expected \"%s\"", name,
		      ours->peer.err.text, says);
	ck_assert_msg(ours->reads == 0 && theirs->reads == 0, "%s: application bytes arrived", name);
	ck_assert_ptr_null(tlsctx_peer(ours->ssl, pki_arg_index()));
}

START_TEST(two_workloads_see_each_others_identity)
{
	struct pki_end c = {.ctx = ctx_of(CLIENT, "shop", "cart", BOTH), .peer.expect = ORDERS};
	struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "orders", BOTH)};
	pki_handshake(&c, &s);
	ck_assert_msg(c.done && s.done && !c.alert[0] && !s.alert[0], "%s / %s", c.peer.err.text, s.peer.err.text);
	ck_assert(c.peer.verified && s.peer.verified);
	ck_assert_str_eq(c.peer.id.id, ORDERS);
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
	struct pki_end c = {.ctx = ctx_of(CLIENT, "shop", "cart", H2)};
	struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "orders", H2), .no_peer = true};
	pki_handshake(&c, &s);
	ck_assert_uint_eq(s.reads, 5);
	ck_assert_str_eq(tlsctx_peer(s.ssl, pki_arg_index())->id.id, "spiffe://weft.test/ns/shop/sa/cart");
	pki_end_done(&c);
	pki_end_done(&s);
	c = (struct pki_end){.ctx = ctx_of(CLIENT, "shop", "cart", H2), .no_peer = true};
	s = (struct pki_end){.ctx = ctx_of(SERVER, "shop", "orders", H2)};
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
	struct pki_end c = {.ctx = ctx_of(CLIENT, "shop", "cart", H2), .peer.expect = expect};
	struct pki_end s = {.ctx = server};
	pki_handshake(&c, &s);
	ck_assert_msg(c.peer.verified && s.peer.verified, "%s: %s", expect, c.peer.err.text);
	ck_assert_uint_eq(s.reads, 5);
	pki_end_done(&c);
	pki_end_done(&s);
}

START_TEST(after_a_renewal_former_contexts_show_the_new_certificate)
{
	SSL_CTX *first = ctx_of(SERVER, "shop", "orders", H2), *second = ctx_of(SERVER, "shop", "other", H2);
	assert_shows(first, ORDERS);
	assert_shows(second, OTHER);
	tlsctx_succeed(second, first);
	assert_shows(first, OTHER);
	assert_shows(second, OTHER);
	SSL_CTX *third = ctx_of(SERVER, "shop", "orders", H2);
	tlsctx_succeed(third, second);
	SSL_CTX_free(second);
	assert_shows(first, ORDERS); /* a connection of the first generation may still hold its context */
	SSL_CTX_free(first);
	assert_shows(third, ORDERS);
	SSL_CTX_free(third);
}
END_TEST

START_TEST(the_wrong_server_is_refused_and_both_identities_are_named)
{
	struct pki_end c = {.ctx = ctx_of(CLIENT, "shop", "cart", H2), .peer.expect = ORDERS};
	struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "other", H2)};
	pki_handshake(&c, &s);
	assert_refused(&c, &s, "expected " ORDERS ", the peer is " OTHER, "wrong server");
	ck_assert_uint_eq(c.peer.err.code, ERR_IDENTITY);
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

#define URI(text) .uris = {{text, sizeof(text) - 1}}, .uris_n = 1

static const struct pki_leaf evils[] = {
    {"expired", "has expired", .from_s = -7200, .to_s = -1},
    {"not yet valid", "clocks differ", .from_s = 40},
    {"two URI SANs", "2 URI SANs", .uris = {{ORDERS, sizeof(ORDERS) - 1}, {OTHER, sizeof(OTHER) - 1}}, .uris_n = 2},
    {"the same URI SAN twice", "2 URI SANs", .uris = {{ORDERS, sizeof(ORDERS) - 1}, {ORDERS, sizeof(ORDERS) - 1}},
     .uris_n = 2},
    {"two SAN extensions", "", .san_twice = true},
    {"NUL in the SAN", "NUL", URI(ORDERS "\0.evil")},
    {"NUL at the end of the SAN", "NUL", URI(ORDERS "\0")},
    {"no SAN", "", .no_uri = true},
    {"DNS SAN only", "no URI SAN", .no_uri = true, .dns = "orders"},
    {"DNS SAN beside", "only weftd's own", .dns = "orders.shop.mesh"},
    {"other trust domain", "is of trust domain other.test", URI("spiffe://other.test/ns/shop/sa/orders")},
    {"other authority", "not signed by a trusted root", .foreign_issuer = true},
    {"self-signed", "self-signed", .self_signed = true},
    {"CA:TRUE leaf", "CA:TRUE", .basic = "critical,CA:TRUE", .usage = "critical,digitalSignature,keyCertSign"},
    {"keyCertSign leaf", "keyCertSign", .usage = "critical,digitalSignature,keyCertSign"},
    {"cRLSign leaf", "cRLSign", .usage = "critical,digitalSignature,cRLSign"},
    {"no basicConstraints", "basicConstraints", .basic = "-"},
    {"no keyUsage", "keyUsage", .usage = "-"},
    {"keyUsage without digitalSignature", "keyUsage", .usage = "critical,keyAgreement"},
    {"no extendedKeyUsage", "lacks extendedKeyUsage", .ext_usage = "-"},
    {"wrong extendedKeyUsage", "extendedKeyUsage", .ext_usage = "codeSigning"},
    {"serverAuth only, as a client", "clientAuth", .ext_usage = "serverAuth", .as = PKI_AS_CLIENT},
    {"clientAuth only, as a server", "serverAuth", .ext_usage = "clientAuth", .as = PKI_AS_SERVER},
    {"SHA-1", "too weak", .md = EVP_sha1},
    {"SHA-512", "ecdsa-with-SHA256", .md = EVP_sha512},
    {"no authority key identifier", "", .no_aki = true},
    {"X.509 version 1", "", .version1 = true},
    {"chain too long", "longer than depth 3", .intermediates = 3},
    {"chain far too long", "longer than depth 3", .intermediates = 6},
    {"scheme in upper case", "spiffe://", URI("SPIFFE://weft.test/ns/shop/sa/orders")},
    {"other scheme", "spiffe://", URI("https://weft.test/ns/shop/sa/orders")},
    {"no path", "form", URI("spiffe://weft.test")},
    {"root path", "form", URI("spiffe://weft.test/")},
    {"trailing slash", "DNS", URI(ORDERS "/")},
    {"double slash", "form", URI("spiffe://weft.test//ns/shop/sa/orders")},
    {"dot segment", "DNS label", URI("spiffe://weft.test/ns/./sa/orders")},
    {"dot-dot segment", "DNS", URI("spiffe://weft.test/ns/shop/sa/..")},
    {"percent-encoded", "DNS", URI("spiffe://weft.test/ns/shop/sa/orders%2fx")},
    {"trust domain in upper case", "trust domain", URI("spiffe://WEFT.test/ns/shop/sa/orders")},
    {"port", "trust domain", URI("spiffe://weft.test:1/ns/shop/sa/orders")},
    {"userinfo", "trust domain", URI("spiffe://a@weft.test/ns/shop/sa/orders")},
    {"query", "DNS", URI(ORDERS "?a=b")},
    {"fragment", "DNS", URI(ORDERS "#a")},
    {"not ASCII", "DNS", URI("spiffe://weft.test/ns/shop/sa/\xc3\xb6rders")},
    {"empty URI", "spiffe://", URI("")},
    {"P-384 key", "P-256", .curve = "P-384"},
    {"P-521 key", "P-256", .curve = "P-521"},
    {"secp256k1 key", "P-256", .curve = "secp256k1"},
    {"explicit curve parameters", "P-256", .explicit_curve = true},
    {"RSA-1024 key", "P-256", .curve = "RSA-1024"},
};

/* A peer that offers only keys we have no signature algorithm for fails before it can show its certificate. */
static bool shown(const struct pki_leaf *l)
{
	return !l->curve && !l->explicit_curve;
}

START_TEST(every_wrong_certificate_is_refused_by_name_as_client_and_as_server)
{
	const struct pki_leaf *l = &evils[_i];
	struct pki_evil evil;
	pki_evil(&pki, &foreign, l, &evil);
	if (l->as != PKI_AS_SERVER) {
		struct pki_end c = {.ctx = pki_evil_ctx(&evil, false)};
		struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "cart", NULL)};
		pki_handshake(&c, &s);
		ck_assert_msg(!s.done, "%s", l->name);
		assert_refused(&s, &c, shown(l) ? l->says : "", l->name);
		if (shown(l))
			ck_assert_msg(s.peer.err.text[0], "%s: no reason", l->name);
		pki_end_done(&c);
		pki_end_done(&s);
	}
	if (l->as != PKI_AS_CLIENT) {
		struct pki_end c = {.ctx = ctx_of(CLIENT, "shop", "cart", NULL), .peer.expect = ORDERS};
		struct pki_end s = {.ctx = pki_evil_ctx(&evil, true)};
		pki_handshake(&c, &s);
		ck_assert_msg(!c.done, "%s", l->name);
		assert_refused(&c, &s, shown(l) ? l->says : "", l->name);
		pki_end_done(&c);
		pki_end_done(&s);
	}
	pki_evil_done(&evil);
}
END_TEST

/* The same without a handshake: also those that TLS refuses before it gets to the certificate. */
START_TEST(every_wrong_certificate_is_refused_by_name_in_the_verifier_itself)
{
	const struct pki_leaf *l = &evils[_i];
	struct pki_evil evil;
	struct verified *verified = verified_new(); /* no refusal may get in */
	pki_evil(&pki, &foreign, l, &evil);
	for (int i = 0; i < 4; i++) {
		enum peer_role role = i % 2 ? PEER_SERVER : PEER_CLIENT;
		if ((l->as == PKI_AS_CLIENT && role == PEER_SERVER) || (l->as == PKI_AS_SERVER && role == PEER_CLIENT))
			continue;
		struct peer_want want = {role, STR(PKI_TD), NULL, 0, verified};
		struct spiffe id;
		struct err err = {0};
		X509_STORE_CTX *ctx = X509_STORE_CTX_new();
		ck_assert(X509_STORE_CTX_init(ctx, bundle_store(pki.bundle), sk_X509_value(evil.chain, 0), evil.chain));
		ck_assert_msg(!peer_verify(ctx, &want, &id, &err), "%s: accepted", l->name);
		ck_assert_msg(err.code == ERR_IDENTITY && err.text[0], "%s", l->name);
		ck_assert_msg(strstr(err.text, l->says) != NULL, "%s: said \"%s\", expected \"%s\"", l->name, err.text,
			      l->says);
		ck_assert_int_ne(X509_STORE_CTX_get_error(ctx), X509_V_OK);
		X509_STORE_CTX_free(ctx);
	}
	pki_evil_done(&evil);
	verified_free(&verified);
}
END_TEST

static X509_STORE_CTX *store_ctx(const struct pki_evil *e)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	ck_assert(X509_STORE_CTX_init(ctx, bundle_store(pki.bundle), sk_X509_value(e->chain, 0), e->chain));
	return ctx;
}

static bool passes(const struct pki_evil *e, struct verified *v, const char *expect)
{
	struct peer_want want = {PEER_SERVER, STR(PKI_TD), expect, 0, v};
	struct spiffe id;
	struct err err;
	X509_STORE_CTX *ctx = store_ctx(e);
	bool ok = peer_verify(ctx, &want, &id, &err);
	ck_assert_int_eq(X509_STORE_CTX_get_error(ctx) == X509_V_OK, ok);
	X509_STORE_CTX_free(ctx);
	return ok;
}

static bool known(const struct pki_evil *e, struct verified *v, int64_t in_s)
{
	X509_STORE_CTX *ctx = store_ctx(e);
	bool has = verified_has(v, ctx, (int64_t)time(NULL) + in_s, PEER_CLOCK_SKEW_S);
	X509_STORE_CTX_free(ctx);
	return has;
}

START_TEST(a_chain_that_was_verified_vouches_for_itself_only_and_while_it_is_valid)
{
	struct verified *v = verified_new();
	struct pki_evil good, other, expired;
	pki_evil(&pki, &foreign, &(struct pki_leaf){.name = "good"}, &good);
	pki_evil(&pki, &foreign, &(struct pki_leaf){.name = "another"}, &other);
	pki_evil(&pki, &foreign, &(struct pki_leaf){.name = "expired", .from_s = -100, .to_s = -10}, &expired);
	ck_assert(!known(&good, v, 0));
	ck_assert(passes(&good, v, NULL));
	ck_assert(known(&good, v, 0) && known(&good, v, 3500));
	ck_assert(!known(&good, v, 3700));                        /* past its end */
	ck_assert(!known(&good, v, -60 - PEER_CLOCK_SKEW_S - 5)); /* before its begin */
	ck_assert(!known(&other, v, 0) && !passes(&expired, v, NULL) && !known(&expired, v, 0));
	/* The identity is asked for each time. */
	ck_assert(passes(&good, v, "spiffe://" PKI_TD "/ns/shop/sa/orders"));
	ck_assert(!passes(&good, v, "spiffe://" PKI_TD "/ns/shop/sa/ledger"));
	/* One certificate more or less in what is shown is another chain. */
	X509 *last = sk_X509_pop(good.chain);
	ck_assert(!known(&good, v, 0));
	ck_assert(sk_X509_push(good.chain, last) > 0 && known(&good, v, 0));
	/* A signature with one bit changed. */
	unsigned char *der = NULL;
	int len = i2d_X509(sk_X509_value(good.chain, 0), &der);
	der[len - 1] ^= 1;
	const unsigned char *d = der;
	X509 *forged = d2i_X509(NULL, &d, len), *true_one = sk_X509_value(good.chain, 0);
	ck_assert_ptr_nonnull(forged);
	sk_X509_set(good.chain, 0, forged);
	ck_assert(!known(&good, v, 0) && !passes(&good, v, NULL));
	sk_X509_set(good.chain, 0, true_one);
	X509_free(forged);
	OPENSSL_free(der);
	/* However many come: the table stays as it is. */
	for (int i = 0; i < 3 * VERIFIED_MAX; i++) {
		struct pki_evil one;
		pki_evil(&pki, &foreign, &(struct pki_leaf){.name = "one of many"}, &one);
		ck_assert(passes(&one, v, NULL) && known(&one, v, 0));
		pki_evil_done(&one);
	}
	pki_evil_done(&good);
	pki_evil_done(&other);
	pki_evil_done(&expired);
	verified_free(&v);
}
END_TEST

static const struct pki_leaf goods[] = {
    {"plain", ""},
    {"young within the allowed skew", "", .from_s = 15},
    {"one intermediate", "", .intermediates = 1},
    {"two intermediates", "", .intermediates = 2},
    {"the longest life", "", .to_s = 86400},
    {"serverAuth only, as a server", "", .ext_usage = "serverAuth", .as = PKI_AS_SERVER},
    {"clientAuth only, as a client", "", .ext_usage = "clientAuth", .as = PKI_AS_CLIENT},
};

/* Proves that the table above refuses for its reasons and not because nothing of its making would pass. */
START_TEST(certificates_made_the_same_way_without_a_fault_are_accepted)
{
	const struct pki_leaf *l = &goods[_i];
	struct pki_evil good;
	pki_evil(&pki, &foreign, l, &good);
	if (l->as != PKI_AS_SERVER) {
		struct pki_end c = {.ctx = pki_evil_ctx(&good, false)};
		struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "cart", NULL)};
		pki_handshake(&c, &s);
		ck_assert_msg(s.done && s.reads == 5, "%s: %s", l->name, s.peer.err.text);
		ck_assert_str_eq(s.peer.id.id, ORDERS);
		pki_end_done(&c);
		pki_end_done(&s);
	}
	if (l->as != PKI_AS_CLIENT) {
		struct pki_end c = {.ctx = ctx_of(CLIENT, "shop", "cart", NULL), .peer.expect = ORDERS};
		struct pki_end s = {.ctx = pki_evil_ctx(&good, true)};
		pki_handshake(&c, &s);
		ck_assert_msg(c.done && s.reads == 5, "%s: %s", l->name, c.peer.err.text);
		pki_end_done(&c);
		pki_end_done(&s);
	}
	pki_evil_done(&good);
}
END_TEST

START_TEST(a_certificate_list_over_16_kib_is_refused)
{
	static const struct pki_leaf big = {"big", "", .padding = 17000};
	struct pki_evil evil;
	pki_evil(&pki, &foreign, &big, &evil);
	struct pki_end c = {.ctx = pki_evil_ctx(&evil, false)};
	struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "cart", NULL)};
	pki_handshake(&c, &s);
	ck_assert(!s.done && s.reads == 0 && !s.peer.verified);
	ck_assert_str_eq(s.alert, "excessive message size");
	pki_end_done(&c);
	pki_end_done(&s);
	pki_evil_done(&evil);
}
END_TEST

START_TEST(a_client_without_certificate_is_refused_where_one_is_required)
{
	struct pki_end c = {.ctx = pki_evil_ctx(NULL, false)};
	struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "cart", NULL)};
	pki_handshake(&c, &s);
	ck_assert(!s.done && s.reads == 0);
	ck_assert_str_eq(s.alert, "peer did not return a certificate");
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

static void note(void *arg, const struct err *why)
{
	*(struct err *)arg = *why;
}

START_TEST(a_server_without_tls_peer_still_hears_whom_it_refused)
{
	static const struct pki_leaf two = {
	    "two", "", .uris = {{ORDERS, sizeof(ORDERS) - 1}, {OTHER, sizeof(OTHER) - 1}}, .uris_n = 2};
	struct pki_evil evil;
	struct err heard = {0};
	pki_evil(&pki, &foreign, &two, &evil);
	struct pki_end c = {.ctx = pki_evil_ctx(&evil, false)};
	struct pki_end s = {.ctx = ctx_of(OPTIONAL, "weft-system", "weftd", NULL), .no_peer = true};
	tlsctx_on_refused(s.ctx, note, &heard);
	pki_handshake(&c, &s);
	ck_assert(!s.done && s.reads == 0);
	ck_assert_uint_eq(heard.code, ERR_IDENTITY);
	ck_assert_ptr_nonnull(strstr(heard.text, "2 URI SANs"));
	pki_end_done(&c);
	pki_end_done(&s);
	pki_evil_done(&evil);
}
END_TEST

START_TEST(where_it_is_optional_a_certificate_is_still_verified)
{
	struct pki_end c = {.ctx = pki_evil_ctx(NULL, false)};
	struct pki_end s = {.ctx = ctx_of(OPTIONAL, "weft-system", "weftd", NULL)};
	pki_handshake(&c, &s);
	ck_assert(s.done && s.reads == 5 && !s.peer.verified);
	ck_assert_ptr_null(tlsctx_peer(s.ssl, pki_arg_index()));
	pki_end_done(&c);
	pki_end_done(&s);

	c = (struct pki_end){.ctx = ctx_of(CLIENT, "shop", "cart", NULL), .peer.expect = WEFTD};
	s = (struct pki_end){.ctx = ctx_of(OPTIONAL, "weft-system", "weftd", NULL)};
	pki_handshake(&c, &s);
	ck_assert_msg(s.done && c.done, "%s / %s", c.peer.err.text, s.peer.err.text);
	ck_assert_str_eq(tlsctx_peer(s.ssl, pki_arg_index())->id.id, "spiffe://weft.test/ns/shop/sa/cart");
	pki_end_done(&c);
	pki_end_done(&s);

	static const struct pki_leaf expired = {"expired", "", .from_s = -7200, .to_s = -1};
	struct pki_evil evil;
	pki_evil(&pki, &foreign, &expired, &evil);
	c = (struct pki_end){.ctx = pki_evil_ctx(&evil, false)};
	s = (struct pki_end){.ctx = ctx_of(OPTIONAL, "weft-system", "weftd", NULL)};
	pki_handshake(&c, &s);
	assert_refused(&s, &c, "has expired", "expired, optional");
	pki_end_done(&c);
	pki_end_done(&s);
	pki_evil_done(&evil);
}
END_TEST

START_TEST(within_the_grace_an_expired_certificate_is_let_in_for_renewal_only)
{
	static const struct {
		struct pki_leaf leaf;
		bool in;
	} cases[] = {{{"expired within", "", .from_s = -7200, .to_s = -50}, true},
		     {{"expired before", "", .from_s = -7200, .to_s = -150}, false},
		     {{"expired and foreign", "", .from_s = -7200, .to_s = -50, .foreign_issuer = true}, false},
		     {{"expired and wrong", "", .from_s = -7200, .to_s = -50, .ext_usage = "-"}, false}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct pki_evil evil;
		pki_evil(&pki, &foreign, &cases[i].leaf, &evil);
		struct pki_end c = {.ctx = pki_evil_ctx(&evil, false)};
		struct pki_end s = {.ctx = ctx_of(OPTIONAL, "weft-system", "weftd", NULL)};
		tlsctx_allow_lapsed(s.ctx, 100);
		pki_handshake(&c, &s);
		ck_assert_msg(s.done == cases[i].in, "%s", cases[i].leaf.name);
		ck_assert(!s.peer.verified && s.peer.lapsed == cases[i].in);
		ck_assert_ptr_null(tlsctx_peer(s.ssl, pki_arg_index()));
		ck_assert_int_eq(tlsctx_lapsed_peer(s.ssl) != NULL, cases[i].in);
		if (cases[i].in)
			ck_assert_str_eq(tlsctx_lapsed_peer(s.ssl)->id.id, ORDERS);
		pki_end_done(&c);
		pki_end_done(&s);
		pki_evil_done(&evil);
	}
	/* A valid one is what it always is. */
	struct pki_end c = {.ctx = ctx_of(CLIENT, "shop", "cart", NULL)};
	struct pki_end s = {.ctx = ctx_of(OPTIONAL, "weft-system", "weftd", NULL)};
	tlsctx_allow_lapsed(s.ctx, 100);
	pki_handshake(&c, &s);
	ck_assert(s.peer.verified && !s.peer.lapsed && tlsctx_peer(s.ssl, pki_arg_index()));
	ck_assert_ptr_null(tlsctx_lapsed_peer(s.ssl));
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
	bootstrap(hash, WEFTD, ctx_of(OPTIONAL, "weft-system", "weftd", NULL), &c, &s);
	ck_assert_msg(c.done && c.peer.verified && s.reads == 5, "%s", c.peer.err.text);
	ck_assert_str_eq(c.peer.id.id, WEFTD);
	pki_end_done(&c);
	pki_end_done(&s);

	hash[31] ^= 1;
	bootstrap(hash, WEFTD, ctx_of(OPTIONAL, "weft-system", "weftd", NULL), &c, &s);
	assert_refused(&c, &s, "not the weftd that made the join token", "wrong hash");
	pki_end_done(&c);
	pki_end_done(&s);

	root_hash(&pki, hash);
	bootstrap(hash, WEFTD, ctx_of(SERVER, "weft-system", "weftd", NULL), &c, &s); /* root not in its chain */
	assert_refused(&c, &s, "not the weftd that made the join token", "root not shown");
	pki_end_done(&c);
	pki_end_done(&s);

	bootstrap(hash, WEFTD, ctx_of(OPTIONAL, "shop", "orders", NULL), &c, &s); /* a workload plays weftd */
	assert_refused(&c, &s, "expected " WEFTD ", the peer is " ORDERS, "workload as weftd");
	pki_end_done(&c);
	pki_end_done(&s);

	bootstrap(hash, NULL, ctx_of(OPTIONAL, "weft-system", "weftd", NULL), &c, &s);
	assert_refused(&c, &s, "no expected identity", "no expectation");
	pki_end_done(&c);
	pki_end_done(&s);

	struct str issuer = ca_issuer_der(pki.ca); /* its hash names a certificate of the chain that is no root */
	SHA256((const unsigned char *)issuer.p, issuer.len, hash);
	bootstrap(hash, WEFTD, ctx_of(OPTIONAL, "weft-system", "weftd", NULL), &c, &s);
	assert_refused(&c, &s, "not the weftd that made the join token", "hash of the issuer");
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

START_TEST(a_false_weftd_that_shows_the_true_root_beside_its_own_chain_is_refused)
{
	static const struct pki_leaf leaf = {"false weftd", "", URI(WEFTD), .foreign_issuer = true};
	struct pki_evil evil;
	struct pki_end c, s;
	uint8_t hash[32];
	pki_evil(&pki, &foreign, &leaf, &evil);
	X509_up_ref(pki.root);
	sk_X509_push(evil.chain, pki.root);
	root_hash(&pki, hash);
	bootstrap(hash, WEFTD, pki_evil_ctx(&evil, true), &c, &s);
	assert_refused(&c, &s, "not signed by a trusted root", "false weftd");
	pki_end_done(&c);
	pki_end_done(&s);
	pki_evil_done(&evil);
}
END_TEST

/* --- the protocol --- */

START_TEST(no_common_protocol_and_no_protocol_at_all_are_fatal)
{
	struct pki_end c = {.ctx = ctx_of(CLIENT, "shop", "cart", TCP)};
	struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "orders", H2)};
	pki_handshake(&c, &s);
	ck_assert(!c.done && !s.done);
	ck_assert_ptr_nonnull(strstr(c.alert, "no application protocol"));
	pki_end_done(&c);
	pki_end_done(&s);

	c = (struct pki_end){.ctx = ctx_of(CLIENT, "shop", "cart", NULL)};
	s = (struct pki_end){.ctx = ctx_of(SERVER, "shop", "orders", H2)};
	pki_handshake(&c, &s);
	ck_assert(!c.done && !s.done);
	ck_assert_ptr_nonnull(strstr(c.alert, "no application protocol"));
	pki_end_done(&c);
	pki_end_done(&s);

	c = (struct pki_end){.ctx = ctx_of(CLIENT, "shop", "cart", H2)};
	s = (struct pki_end){.ctx = ctx_of(SERVER, "shop", "orders", NULL)};
	pki_handshake(&c, &s);
	assert_refused(&c, &s, "chose no protocol", "server without ALPN");
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

START_TEST(nothing_below_tls_1_3_is_spoken)
{
	for (int version = TLS1_VERSION; version <= TLS1_2_VERSION; version++) {
		struct pki_end c = {.ctx = pki_evil_ctx(NULL, false)};
		struct pki_end s = {.ctx = ctx_of(OPTIONAL, "weft-system", "weftd", NULL)};
		SSL_CTX_set_max_proto_version(c.ctx, version);
		pki_handshake(&c, &s);
		ck_assert(!c.done && !s.done);
		pki_end_done(&c);
		pki_end_done(&s);
		struct pki_evil good;
		pki_evil(&pki, &foreign, &goods[0], &good);
		c = (struct pki_end){.ctx = ctx_of(CLIENT, "shop", "cart", NULL)};
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
	pki_evil(&pki, &foreign, &goods[0], &good);
	struct pki_end c = {.ctx = pki_evil_ctx(&good, false)}; /* a client that would like to */
	struct pki_end s = {.ctx = ctx_of(SERVER, "shop", "orders", NULL)};
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
	pki_evil(&pki, &foreign, &goods[0], &old);
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
	tcase_add_loop_test(tc, every_wrong_certificate_is_refused_by_name_as_client_and_as_server, 0,
			    (int)ARRAY_LEN(evils));
	tcase_add_loop_test(tc, every_wrong_certificate_is_refused_by_name_in_the_verifier_itself, 0,
			    (int)ARRAY_LEN(evils));
	tcase_add_test(tc, a_chain_that_was_verified_vouches_for_itself_only_and_while_it_is_valid);
	tcase_add_loop_test(tc, certificates_made_the_same_way_without_a_fault_are_accepted, 0, (int)ARRAY_LEN(goods));
	tcase_add_test(tc, a_certificate_list_over_16_kib_is_refused);
	tcase_add_test(tc, a_client_without_certificate_is_refused_where_one_is_required);
	tcase_add_test(tc, a_server_without_tls_peer_still_hears_whom_it_refused);
	tcase_add_test(tc, where_it_is_optional_a_certificate_is_still_verified);
	tcase_add_test(tc, within_the_grace_an_expired_certificate_is_let_in_for_renewal_only);
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
