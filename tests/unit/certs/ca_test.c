/* SPDX-License-Identifier: Apache-2.0 */
/* ca_test.c: what the authority signs and what it refuses to; keys, requests and bundles, which it is made of. */
#include "tests/unit/certs/pki.h"

#include "certs/csr.h"
#include "certs/ossl.h"
#include "certs/peer.h"
#include "lib/mem.h"

#include <check.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <time.h>

static struct pki pki;

static void setup(void)
{
	pki_init(&pki, PKI_TD);
}

static void teardown(void)
{
	pki_done(&pki);
}

static X509 *sign(const char *td, uint64_t lifetime_s, struct err *err)
{
	struct spiffe id;
	EVP_PKEY *key = key_new(err);
	ck_assert(spiffe_make(str_of(td), STR("shop"), STR("orders"), &id, err));
	X509 *leaf = ca_sign(pki.ca, key, &(struct ca_leaf){.id = &id, .lifetime_s = lifetime_s}, err);
	EVP_PKEY_free(key);
	return leaf;
}

START_TEST(a_leaf_has_exactly_what_it_should)
{
	struct err err = {0};
	struct spiffe id;
	int64_t now = (int64_t)time(NULL);
	X509 *leaf = sign(PKI_TD, 600, &err);
	ck_assert_msg(leaf != NULL, "%s", err.text);
	ck_assert(peer_identity(leaf, STR(PKI_TD), &id, &err));
	ck_assert_str_eq(id.id, "spiffe://weft.test/ns/shop/sa/orders");
	ck_assert_int_eq(X509_NAME_entry_count(X509_get_subject_name(leaf)), 0);
	int critical = 0;
	GENERAL_NAMES *san = X509_get_ext_d2i(leaf, NID_subject_alt_name, &critical, NULL);
	ck_assert_int_eq(critical, 1);
	ck_assert_int_eq(sk_GENERAL_NAME_num(san), 1);
	GENERAL_NAMES_free(san);
	ck_assert_uint_eq(X509_get_key_usage(leaf), KU_DIGITAL_SIGNATURE);
	ck_assert_uint_eq(X509_get_extended_key_usage(leaf), XKU_SSL_SERVER | XKU_SSL_CLIENT);
	ck_assert_int_eq(ASN1_STRING_length(X509_get0_serialNumber(leaf)), 16);
	ck_assert_int_ge(ossl_time(X509_get0_notBefore(leaf)), now - 62);
	ck_assert_int_le(ossl_time(X509_get0_notBefore(leaf)), now - 58);
	ck_assert_int_ge(ossl_time(X509_get0_notAfter(leaf)), now + 600);
	ck_assert_int_le(ossl_time(X509_get0_notAfter(leaf)), now + 605);
	ck_assert_int_eq(X509_get_ext_count(leaf), 6);
	X509_free(leaf);
}
END_TEST

START_TEST(a_lifetime_is_capped_at_a_day_and_serials_differ)
{
	struct err err = {0};
	X509 *a = sign(PKI_TD, UINT64_MAX, &err), *b = sign(PKI_TD, 1, &err);
	int64_t now = (int64_t)time(NULL);
	ck_assert_int_le(ossl_time(X509_get0_notAfter(a)), now + 86400);
	ck_assert_int_ge(ossl_time(X509_get0_notAfter(a)), now + 86390);
	ck_assert_int_le(ossl_time(X509_get0_notAfter(b)), now + 2);
	ck_assert_int_ne(ASN1_INTEGER_cmp(X509_get0_serialNumber(a), X509_get0_serialNumber(b)), 0);
	X509_free(a);
	X509_free(b);
}
END_TEST

START_TEST(another_trust_domain_is_not_signed)
{
	struct err err = {0};
	ck_assert_ptr_null(sign("other.test", 600, &err));
	ck_assert_uint_eq(err.code, ERR_DENIED);
	ck_assert_ptr_nonnull(strstr(err.text, "trust domain weft.test only"));
}
END_TEST

START_TEST(another_kind_of_key_is_not_signed)
{
	struct err err = {0};
	struct spiffe id;
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
	spiffe_make(STR(PKI_TD), STR("shop"), STR("orders"), &id, &err);
	ck_assert_ptr_null(ca_sign(pki.ca, key, &(struct ca_leaf){.id = &id, .lifetime_s = 60}, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "P-256"));
	EVP_PKEY_free(key);
}
END_TEST

START_TEST(weftds_own_leaf_carries_names_and_only_its_own)
{
	static const char *const names[] = {"weftd.example", "10.0.0.1", "fd00::1", "localhost", NULL};
	struct err err = {0};
	struct spiffe id, seen;
	EVP_PKEY *key = key_new(&err);
	spiffe_make(STR(PKI_TD), STR(WEFTD_NAMESPACE), STR(WEFTD_SERVICE_ACCT), &id, &err);
	struct ca_leaf l = {.id = &id, .lifetime_s = 60, .server_name = true, .names = names};
	X509 *leaf = ca_sign(pki.ca, key, &l, &err);
	ck_assert_msg(leaf != NULL, "%s", err.text);
	ck_assert(X509_check_host(leaf, "weftd.example", 0, 0, NULL) == 1);
	ck_assert(X509_check_ip_asc(leaf, "10.0.0.1", 0) == 1);
	ck_assert(X509_check_ip_asc(leaf, "fd00::1", 0) == 1);
	ck_assert(X509_check_host(leaf, "other.example", 0, 0, NULL) == 0);
	ck_assert_msg(peer_identity(leaf, STR(PKI_TD), &seen, &err), "%s", err.text);
	X509_free(leaf);
	/* The same names on a workload's certificate: made on purpose it would be refused by every peer. */
	spiffe_make(STR(PKI_TD), STR("shop"), STR("orders"), &id, &err);
	leaf = ca_sign(pki.ca, key, &l, &err);
	ck_assert(!peer_identity(leaf, STR(PKI_TD), &seen, &err));
	X509_free(leaf);
	static const char *const bad[] = {"a b", NULL}, *const injected[] = {"a,URI:spiffe://x", NULL};
	l.names = bad;
	ck_assert_ptr_null(ca_sign(pki.ca, key, &l, &err));
	l.names = injected;
	ck_assert_ptr_null(ca_sign(pki.ca, key, &l, &err));
	EVP_PKEY_free(key);
}
END_TEST

START_TEST(material_that_does_not_belong_together_is_no_authority)
{
	struct pki other;
	struct err err = {0};
	pki_init(&other, PKI_TD);
	struct ca_material m = pki.material;
	m.issuer_key = other.material.issuer_key;
	m.issuer_key_len = other.material.issuer_key_len;
	ck_assert_ptr_null(ca_new(&m, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "does not belong"));
	m = pki.material;
	m.root_cert = other.material.root_cert;
	m.root_cert_len = other.material.root_cert_len;
	ck_assert_ptr_null(ca_new(&m, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "not signed by the root"));
	m = pki.material;
	m.issuer_cert_len--;
	ck_assert_ptr_null(ca_new(&m, &err));
	m = (struct ca_material){0};
	ck_assert_ptr_null(ca_new(&m, &err));
	struct ca_material none = {0};
	ck_assert(!ca_make(STR("UPPER"), &none, &err));
	pki_done(&other);
}
END_TEST

/* --- keys and requests --- */

START_TEST(a_key_survives_der_and_hostile_der_is_refused)
{
	struct err err = {0};
	EVP_PKEY *key = key_new(&err);
	uint8_t *der;
	size_t len;
	ck_assert(key_to_der(key, &der, &len, &err));
	EVP_PKEY *back = key_from_der(der, len, &err);
	ck_assert(back && EVP_PKEY_eq(key, back) == 1);
	EVP_PKEY_free(back);
	for (size_t i = 0; i < len; i++)
		ck_assert_ptr_null(key_from_der(der, i, &err));
	uint8_t big[2000] = {0};
	ck_assert_ptr_null(key_from_der(big, sizeof(big), &err));
	memcpy(big, der, len);
	ck_assert_ptr_null(key_from_der(big, len + 1, &err));
	mem_wipe_free(der, len);
	EVP_PKEY_free(key);
	key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	unsigned char *theirs = NULL;
	int n = i2d_PKCS8_PRIV_KEY_INFO(info, &theirs);
	ck_assert(n > 0 && !key_to_der(key, &der, &len, &err));
	ck_assert_ptr_null(key_from_der(theirs, (size_t)n, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "P-256"));
	PKCS8_PRIV_KEY_INFO_free(info);
	OPENSSL_free(theirs);
	EVP_PKEY_free(key);
}
END_TEST

static size_t request(EVP_PKEY *key, EVP_PKEY *signer, const EVP_MD *md, const char *cn, size_t padding, uint8_t **ret)
{
	X509_REQ *req = X509_REQ_new();
	X509_REQ_set_version(req, 0);
	X509_REQ_set_pubkey(req, key);
	if (cn)
		X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_ASC,
					   (const unsigned char *)cn, -1, -1, 0);
	if (padding) {
		char *text = mem_alloc(padding);
		memset(text, 'x', padding);
		X509_REQ_add1_attr_by_NID(req, NID_pkcs9_unstructuredName, MBSTRING_ASC, (unsigned char *)text,
					  (int)padding);
		mem_free(text);
	}
	ck_assert(X509_REQ_sign(req, signer, md) > 0);
	unsigned char *der = NULL;
	int len = i2d_X509_REQ(req, &der);
	*ret = mem_dup(der, (size_t)len);
	OPENSSL_free(der);
	X509_REQ_free(req);
	return (size_t)len;
}

static void refused(EVP_PKEY *key, EVP_PKEY *signer, const EVP_MD *md, size_t padding, const char *says)
{
	struct err err = {0};
	uint8_t *der;
	size_t len = request(key, signer, md, NULL, padding, &der);
	ck_assert_ptr_null(csr_check(der, len, &err));
	ck_assert_msg(strstr(err.text, says) != NULL, "said \"%s\", expected \"%s\"", err.text, says);
	mem_free(der);
}

START_TEST(a_request_proves_its_key_and_its_names_do_not_matter)
{
	struct err err = {0};
	EVP_PKEY *key = key_new(&err), *other = key_new(&err), *p384 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
	EVP_PKEY *rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	uint8_t *der;
	size_t len;
	ck_assert(csr_make(key, &der, &len, &err));
	EVP_PKEY *seen = csr_check(der, len, &err);
	ck_assert_msg(seen && EVP_PKEY_eq(seen, key) == 1, "%s", err.text);
	EVP_PKEY_free(seen);
	for (size_t i = 0; i < len; i++)
		ck_assert_ptr_null(csr_check(der, i, &err));
	for (size_t i = 0; i < len; i++) {
		der[i] ^= 0x10;
		seen = csr_check(der, len, &err);
		ck_assert_msg(!seen, "a request with byte %zu changed was taken", i);
		der[i] ^= 0x10;
	}
	mem_free(der);
	len = request(key, key, EVP_sha256(), "spiffe://weft.test/ns/weft-system/sa/weftd", 0, &der);
	seen = csr_check(der, len, &err);
	ck_assert_ptr_nonnull(seen);
	EVP_PKEY_free(seen);
	mem_free(der);
	refused(key, other, EVP_sha256(), 0, "signature is wrong");
	refused(p384, p384, EVP_sha256(), 0, "P-256");
	refused(rsa, rsa, EVP_sha256(), 0, "P-256");
	refused(key, key, EVP_sha1(), 0, "ecdsa-with-SHA256");
	refused(key, key, EVP_sha256(), 5000, "expected 1 to");
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
	EVP_PKEY_free(p384);
	EVP_PKEY_free(rsa);
}
END_TEST

/* --- bundles --- */

START_TEST(a_bundle_takes_roots_and_nothing_else)
{
	struct err err = {0};
	struct str root = ca_root_der(pki.ca), issuer = ca_issuer_der(pki.ca), many[17];
	uint8_t hash[32];
	ck_assert_ptr_null(bundle_new(STR(PKI_TD), &issuer, 1, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "not self-signed"));
	X509 *leaf = sign(PKI_TD, 60, &err);
	uint8_t *der;
	size_t len;
	ck_assert(ossl_cert_der(leaf, &der, &len, &err));
	struct str s = str_make(der, len);
	ck_assert_ptr_null(bundle_new(STR(PKI_TD), &s, 1, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "not a CA"));
	mem_free(der);
	X509_free(leaf);
	ck_assert_ptr_null(bundle_new(STR(PKI_TD), &root, 0, &err));
	ck_assert_ptr_null(bundle_new(STR("Weft.test"), &root, 1, &err));
	s = str_make(root.p, root.len - 1);
	ck_assert_ptr_null(bundle_new(STR(PKI_TD), &s, 1, &err));
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = root;
	ck_assert_ptr_null(bundle_new(STR(PKI_TD), many, 17, &err));
	SHA256((const unsigned char *)root.p, root.len, hash);
	ck_assert(bundle_has_hash(pki.bundle, hash));
	hash[0] ^= 1;
	ck_assert(!bundle_has_hash(pki.bundle, hash));
	ck_assert(str_eq(bundle_root(pki.bundle, 0), root));
}
END_TEST

Suite *ca_suite(void);
Suite *ca_suite(void)
{
	Suite *s = suite_create("ca");
	TCase *tc = tcase_create("authority");
	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_leaf_has_exactly_what_it_should);
	tcase_add_test(tc, a_lifetime_is_capped_at_a_day_and_serials_differ);
	tcase_add_test(tc, another_trust_domain_is_not_signed);
	tcase_add_test(tc, another_kind_of_key_is_not_signed);
	tcase_add_test(tc, weftds_own_leaf_carries_names_and_only_its_own);
	tcase_add_test(tc, material_that_does_not_belong_together_is_no_authority);
	tcase_add_test(tc, a_key_survives_der_and_hostile_der_is_refused);
	tcase_add_test(tc, a_request_proves_its_key_and_its_names_do_not_matter);
	tcase_add_test(tc, a_bundle_takes_roots_and_nothing_else);
	suite_add_tcase(s, tc);
	return s;
}
