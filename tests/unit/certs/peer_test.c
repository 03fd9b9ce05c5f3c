/* SPDX-License-Identifier: Apache-2.0 */
/* peer_test.c: whose certificate lets in, through real handshakes in memory and in the verifier itself. Every refusal must
 * name its reason, and not one application byte may arrive. */
#include "tests/unit/certs/pki.h"

#include "certs/peer.h"

#include <check.h>
#include <time.h>

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

static const struct pki_leaf evils[] = {
    {"expired", "has expired", .from_s = -7200, .to_s = -1},
    {"not yet valid", "clocks differ", .from_s = 40},
    {"two URI SANs", "2 URI SANs", .uris = {{PKI_ORDERS, sizeof(PKI_ORDERS) - 1}, {PKI_OTHER, sizeof(PKI_OTHER) - 1}},
     .uris_n = 2},
    {"the same URI SAN twice", "2 URI SANs",
     .uris = {{PKI_ORDERS, sizeof(PKI_ORDERS) - 1}, {PKI_ORDERS, sizeof(PKI_ORDERS) - 1}}, .uris_n = 2},
    {"two SAN extensions", "", .san_twice = true},
    {"NUL in the SAN", "NUL", PKI_URI(PKI_ORDERS "\0.evil")},
    {"NUL at the end of the SAN", "NUL", PKI_URI(PKI_ORDERS "\0")},
    {"no SAN", "", .no_uri = true},
    {"DNS SAN only", "no URI SAN", .no_uri = true, .dns = "orders"},
    {"DNS SAN beside", "only weftd's own", .dns = "orders.shop.mesh"},
    {"other trust domain", "is of trust domain other.test", PKI_URI("spiffe://other.test/ns/shop/sa/orders")},
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
    {"scheme in upper case", "spiffe://", PKI_URI("SPIFFE://weft.test/ns/shop/sa/orders")},
    {"other scheme", "spiffe://", PKI_URI("https://weft.test/ns/shop/sa/orders")},
    {"no path", "form", PKI_URI("spiffe://weft.test")},
    {"root path", "form", PKI_URI("spiffe://weft.test/")},
    {"trailing slash", "DNS", PKI_URI(PKI_ORDERS "/")},
    {"double slash", "form", PKI_URI("spiffe://weft.test//ns/shop/sa/orders")},
    {"dot segment", "DNS label", PKI_URI("spiffe://weft.test/ns/./sa/orders")},
    {"dot-dot segment", "DNS", PKI_URI("spiffe://weft.test/ns/shop/sa/..")},
    {"percent-encoded", "DNS", PKI_URI("spiffe://weft.test/ns/shop/sa/orders%2fx")},
    {"trust domain in upper case", "trust domain", PKI_URI("spiffe://WEFT.test/ns/shop/sa/orders")},
    {"port", "trust domain", PKI_URI("spiffe://weft.test:1/ns/shop/sa/orders")},
    {"userinfo", "trust domain", PKI_URI("spiffe://a@weft.test/ns/shop/sa/orders")},
    {"query", "DNS", PKI_URI(PKI_ORDERS "?a=b")},
    {"fragment", "DNS", PKI_URI(PKI_ORDERS "#a")},
    {"not ASCII", "DNS", PKI_URI("spiffe://weft.test/ns/shop/sa/\xc3\xb6rders")},
    {"empty PKI_URI", "spiffe://", PKI_URI("")},
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
		struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "cart", NULL)};
		pki_handshake(&c, &s);
		ck_assert_msg(!s.done, "%s", l->name);
		pki_assert_refused(&s, &c, shown(l) ? l->says : "", l->name);
		if (shown(l))
			ck_assert_msg(s.peer.err.text[0], "%s: no reason", l->name);
		pki_end_done(&c);
		pki_end_done(&s);
	}
	if (l->as != PKI_AS_CLIENT) {
		struct pki_end c = {.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", NULL), .peer.expect = PKI_ORDERS};
		struct pki_end s = {.ctx = pki_evil_ctx(&evil, true)};
		pki_handshake(&c, &s);
		ck_assert_msg(!c.done, "%s", l->name);
		pki_assert_refused(&c, &s, shown(l) ? l->says : "", l->name);
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
		struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "cart", NULL)};
		pki_handshake(&c, &s);
		ck_assert_msg(s.done && s.reads == 5, "%s: %s", l->name, s.peer.err.text);
		ck_assert_str_eq(s.peer.id.id, PKI_ORDERS);
		pki_end_done(&c);
		pki_end_done(&s);
	}
	if (l->as != PKI_AS_CLIENT) {
		struct pki_end c = {.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", NULL), .peer.expect = PKI_ORDERS};
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
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "cart", NULL)};
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
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_SERVER, "shop", "cart", NULL)};
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
	    "two", "", .uris = {{PKI_ORDERS, sizeof(PKI_ORDERS) - 1}, {PKI_OTHER, sizeof(PKI_OTHER) - 1}}, .uris_n = 2};
	struct pki_evil evil;
	struct err heard = {0};
	pki_evil(&pki, &foreign, &two, &evil);
	struct pki_end c = {.ctx = pki_evil_ctx(&evil, false)};
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL), .no_peer = true};
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
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL)};
	pki_handshake(&c, &s);
	ck_assert(s.done && s.reads == 5 && !s.peer.verified);
	ck_assert_ptr_null(tlsctx_peer(s.ssl, pki_arg_index()));
	pki_end_done(&c);
	pki_end_done(&s);

	c = (struct pki_end){.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", NULL), .peer.expect = PKI_WEFTD};
	s = (struct pki_end){.ctx = pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL)};
	pki_handshake(&c, &s);
	ck_assert_msg(s.done && c.done, "%s / %s", c.peer.err.text, s.peer.err.text);
	ck_assert_str_eq(tlsctx_peer(s.ssl, pki_arg_index())->id.id, "spiffe://weft.test/ns/shop/sa/cart");
	pki_end_done(&c);
	pki_end_done(&s);

	static const struct pki_leaf expired = {"expired", "", .from_s = -7200, .to_s = -1};
	struct pki_evil evil;
	pki_evil(&pki, &foreign, &expired, &evil);
	c = (struct pki_end){.ctx = pki_evil_ctx(&evil, false)};
	s = (struct pki_end){.ctx = pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL)};
	pki_handshake(&c, &s);
	pki_assert_refused(&s, &c, "has expired", "expired, optional");
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
		struct pki_end s = {.ctx = pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL)};
		tlsctx_allow_lapsed(s.ctx, 100);
		pki_handshake(&c, &s);
		ck_assert_msg(s.done == cases[i].in, "%s", cases[i].leaf.name);
		ck_assert(!s.peer.verified && s.peer.lapsed == cases[i].in);
		ck_assert_ptr_null(tlsctx_peer(s.ssl, pki_arg_index()));
		ck_assert_int_eq(tlsctx_lapsed_peer(s.ssl) != NULL, cases[i].in);
		if (cases[i].in)
			ck_assert_str_eq(tlsctx_lapsed_peer(s.ssl)->id.id, PKI_ORDERS);
		pki_end_done(&c);
		pki_end_done(&s);
		pki_evil_done(&evil);
	}
	/* A valid one is what it always is. */
	struct pki_end c = {.ctx = pki_ctx(&pki, PKI_CLIENT, "shop", "cart", NULL)};
	struct pki_end s = {.ctx = pki_ctx(&pki, PKI_OPTIONAL, "weft-system", "weftd", NULL)};
	tlsctx_allow_lapsed(s.ctx, 100);
	pki_handshake(&c, &s);
	ck_assert(s.peer.verified && !s.peer.lapsed && tlsctx_peer(s.ssl, pki_arg_index()));
	ck_assert_ptr_null(tlsctx_lapsed_peer(s.ssl));
	pki_end_done(&c);
	pki_end_done(&s);
}
END_TEST

Suite *peer_suite(void);
Suite *peer_suite(void)
{
	Suite *s = suite_create("peer");
	TCase *tc = tcase_create("handshakes");
	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
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
	suite_add_tcase(s, tc);
	return s;
}
