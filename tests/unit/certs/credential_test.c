/* SPDX-License-Identifier: Apache-2.0 */
/* credential_test.c: key, chain and roots together; the blob of the memfd, whole and hostile; PEM. */
#include "tests/unit/certs/pki.h"

#include "certs/ossl.h"
#include "lib/mem.h"

#include <check.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>

static struct pki pki;

static void setup(void)
{
	pki_init(&pki, PKI_TD);
}

static void teardown(void)
{
	pki_done(&pki);
}

static void assert_same(const struct credential *a, const struct credential *b)
{
	ck_assert_str_eq(credential_id(a)->id, credential_id(b)->id);
	ck_assert(EVP_PKEY_eq(credential_key(a), credential_key(b)) == 1);
	ck_assert_uint_eq(credential_chain_len(a), credential_chain_len(b));
	for (size_t i = 0; i < credential_chain_len(a); i++)
		ck_assert_int_eq(X509_cmp(credential_chain(a, i), credential_chain(b, i)), 0);
	ck_assert_int_eq(credential_not_before(a), credential_not_before(b));
	ck_assert_int_eq(credential_not_after(a), credential_not_after(b));
	ck_assert(str_eq(bundle_root(credential_bundle(a), 0), bundle_root(credential_bundle(b), 0)));
	ck_assert(str_eq(bundle_trust_domain(credential_bundle(a)), bundle_trust_domain(credential_bundle(b))));
}

START_TEST(a_credential_survives_the_blob)
{
	struct err err = {0};
	struct credential *c = pki_credential(&pki, "shop", "orders", false);
	uint8_t *blob;
	size_t len;
	ck_assert(credential_pack(c, &blob, &len, &err));
	struct credential *back = credential_unpack(blob, len, &err);
	ck_assert_msg(back != NULL, "%s", err.text);
	assert_same(c, back);
	mem_wipe_free(blob, len);
	credential_unref(&back);
	credential_unref(&c);
}
END_TEST

START_TEST(no_part_of_a_blob_is_taken_for_the_whole)
{
	struct err err = {0};
	struct credential *c = pki_credential(&pki, "shop", "orders", false);
	uint8_t *blob;
	size_t len;
	ck_assert(credential_pack(c, &blob, &len, &err));
	for (size_t i = 0; i < len; i++) {
		uint8_t *cut = mem_dup(blob, i ? i : 1); /* exact size: ASan sees a read past it */
		ck_assert_ptr_null(credential_unpack(cut, i, &err));
		mem_free(cut);
	}
	uint8_t *longer = mem_zalloc(len + 1);
	memcpy(longer, blob, len);
	ck_assert_ptr_null(credential_unpack(longer, len + 1, &err));
	mem_free(longer);
	mem_wipe_free(blob, len);
	credential_unref(&c);
}
END_TEST

START_TEST(a_changed_blob_is_refused_or_still_consistent)
{
	struct err err = {0};
	struct credential *c = pki_credential(&pki, "shop", "orders", false);
	uint8_t *blob;
	size_t len;
	ck_assert(credential_pack(c, &blob, &len, &err));
	for (size_t i = 0; i < len; i++) {
		blob[i] ^= 0xff;
		struct credential *back = credential_unpack(blob, len, &err);
		if (back) /* a bit of a signature, say: others will refuse it; who we are must not have changed */
			ck_assert(EVP_PKEY_eq(credential_key(back), X509_get0_pubkey(credential_chain(back, 0))) == 1);
		credential_unref(&back);
		blob[i] ^= 0xff;
	}
	/* Lengths that would wrap or reach far behind the end. */
	static const size_t at[] = {8, 8 + 4 + sizeof(PKI_TD) - 1};
	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		memset(blob + at[i], 0xff, 4);
		ck_assert_ptr_null(credential_unpack(blob, len, &err));
	}
	mem_wipe_free(blob, len);
	credential_unref(&c);
}
END_TEST

START_TEST(a_key_of_another_certificate_is_refused)
{
	struct err err = {0};
	struct credential *c = pki_credential(&pki, "shop", "orders", false);
	EVP_PKEY *other = key_new(&err);
	uint8_t *der;
	size_t len;
	ck_assert(ossl_cert_der(credential_chain(c, 0), &der, &len, &err));
	struct str chain = str_make(der, len);
	ck_assert_ptr_null(credential_new(other, &chain, 1, pki.bundle, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "belongs to another certificate"));
	ck_assert_ptr_null(credential_new(other, &chain, 0, pki.bundle, &err));
	struct str issuer = ca_issuer_der(pki.ca);
	ck_assert_ptr_null(credential_new(pki.issuer_key, &issuer, 1, pki.bundle, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "CA:TRUE"));
	mem_free(der);
	EVP_PKEY_free(other);
	credential_unref(&c);
}
END_TEST

/* As OpenSSL writes it, with or without the public point. */
static struct str openssl_der(EVP_PKEY *key, bool with_point)
{
	unsigned char *der = NULL;
	ck_assert_int_eq(EVP_PKEY_set_int_param(key, OSSL_PKEY_PARAM_EC_INCLUDE_PUBLIC, with_point), 1);
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	int len = i2d_PKCS8_PRIV_KEY_INFO(info, &der);
	ck_assert_int_gt(len, 0);
	PKCS8_PRIV_KEY_INFO_free(info);
	return str_make(der, (size_t)len);
}

START_TEST(keys_are_written_and_read_as_openssl_does_it)
{
	struct err err = {0};
	for (int i = 0; i < 300; i++) { /* one in 256 begins with a zero byte */
		EVP_PKEY *key = key_new(&err);
		uint8_t *der;
		size_t len;
		ck_assert(key_to_der(key, &der, &len, &err));
		for (int with_point = 0; with_point < 2; with_point++) {
			struct str theirs = openssl_der(key, with_point);
			ck_assert(!with_point || str_eq(theirs, str_make(der, len)));
			EVP_PKEY *back = key_from_der((const uint8_t *)theirs.p, theirs.len, &err);
			ck_assert_msg(back && EVP_PKEY_eq(back, key) == 1, "%s", err.text);
			uint8_t *again;
			ck_assert(key_to_der(back, &again, &len, &err) && memcmp(again, der, len) == 0);
			mem_wipe_free(again, len);
			EVP_PKEY_free(back);
			OPENSSL_free((void *)(uintptr_t)theirs.p);
		}
		mem_wipe_free(der, len);
		EVP_PKEY_free(key);
	}
}
END_TEST

START_TEST(what_is_no_p256_key_is_refused)
{
	struct err err = {0};
	EVP_PKEY *key = key_new(&err), *p384 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
	uint8_t *der;
	size_t len;
	ck_assert(!key_to_der(p384, &der, &len, &err));
	struct str theirs = openssl_der(p384, true);
	ck_assert_ptr_null(key_from_der((const uint8_t *)theirs.p, theirs.len, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "P-256"));
	OPENSSL_free((void *)(uintptr_t)theirs.p);
	ck_assert(key_to_der(key, &der, &len, &err));
	der[len - 1] ^= 1; /* a point that is not on the curve */
	ck_assert_ptr_null(key_from_der(der, len, &err));
	ck_assert_ptr_null(key_from_der(der, len - 1, &err));
	mem_wipe_free(der, len);
	EVP_PKEY_free(key);
	EVP_PKEY_free(p384);
}
END_TEST

/* --- PEM --- */

static struct str bio_text(BIO *b)
{
	char *p;
	long n = BIO_get_mem_data(b, &p);
	return str_make(p, (size_t)n);
}

START_TEST(pem_gives_the_same_credential_and_says_what_is_missing)
{
	struct err err = {0};
	struct credential *c = pki_credential(&pki, "shop", "orders", false), *back;
	BIO *certs = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem()), *roots = BIO_new(BIO_s_mem());
	BIO *locked = BIO_new(BIO_s_mem()), *many = BIO_new(BIO_s_mem());
	for (size_t i = 0; i < credential_chain_len(c); i++)
		PEM_write_bio_X509(certs, credential_chain(c, i));
	PEM_write_bio_PKCS8PrivateKey(key, credential_key(c), NULL, NULL, 0, NULL, NULL);
	PEM_write_bio_PKCS8PrivateKey(locked, credential_key(c), EVP_aes_128_cbc(), "pass", 4, NULL, NULL);
	PEM_write_bio_X509(roots, pki.root);
	for (int i = 0; i < 20; i++)
		PEM_write_bio_X509(many, pki.root);
	back = credential_from_pem(bio_text(certs), bio_text(key), bio_text(roots), &err);
	ck_assert_msg(back != NULL, "%s", err.text);
	assert_same(c, back);
	credential_unref(&back);

	ck_assert_ptr_null(credential_from_pem(STR(""), bio_text(key), bio_text(roots), &err));
	ck_assert_ptr_nonnull(strstr(err.text, "certificate chain: no PEM certificate"));
	ck_assert_ptr_null(credential_from_pem(bio_text(certs), STR("x"), bio_text(roots), &err));
	ck_assert_ptr_nonnull(strstr(err.text, "private key"));
	ck_assert_ptr_null(credential_from_pem(bio_text(certs), bio_text(locked), bio_text(roots), &err));
	ck_assert_ptr_nonnull(strstr(err.text, "without a password"));
	ck_assert_ptr_null(credential_from_pem(bio_text(certs), bio_text(key), (struct str){0}, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "roots"));
	ck_assert_ptr_null(credential_from_pem(bio_text(roots), bio_text(key), bio_text(roots), &err));
	ck_assert_ptr_null(credential_from_pem(bio_text(certs), bio_text(key), bio_text(many), &err));
	ck_assert_ptr_nonnull(strstr(err.text, "more than 16"));
	ck_assert_ptr_null(credential_from_pem(bio_text(many), bio_text(key), bio_text(roots), &err));
	char *huge = mem_zalloc(70000);
	ck_assert_ptr_null(credential_from_pem(str_make(huge, 70000), bio_text(key), bio_text(roots), &err));
	ck_assert_uint_eq(err.code, ERR_LIMIT);
	mem_free(huge);
	BIO_free(certs);
	BIO_free(key);
	BIO_free(roots);
	BIO_free(locked);
	BIO_free(many);
	credential_unref(&c);
}
END_TEST

Suite *credential_suite(void);
Suite *credential_suite(void)
{
	Suite *s = suite_create("credential");
	TCase *tc = tcase_create("whole and hostile");
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_credential_survives_the_blob);
	tcase_add_test(tc, no_part_of_a_blob_is_taken_for_the_whole);
	tcase_add_test(tc, a_changed_blob_is_refused_or_still_consistent);
	tcase_add_test(tc, a_key_of_another_certificate_is_refused);
	tcase_add_test(tc, keys_are_written_and_read_as_openssl_does_it);
	tcase_add_test(tc, what_is_no_p256_key_is_refused);
	tcase_add_test(tc, pem_gives_the_same_credential_and_says_what_is_missing);
	suite_add_tcase(s, tc);
	return s;
}
