/* SPDX-License-Identifier: Apache-2.0 */
/* issue_test.c: who gets a certificate and, above all, who does not. Every refusal is named, and nothing is signed or spent by it. */
#include "control/issue.h"
#include "control/issue_limit.h"
#include "control/store.h"

#include "certs/ca.h"
#include "certs/csr.h"
#include "certs/ossl.h"
#include "certs/peer.h"
#include "certs/token.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"

#include <check.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static char dir[64];
static struct ca_material material;
static struct store *store;
static struct ca *ca;
static struct issue *is;
static struct err err;
static uint64_t clock_ms;
static EVP_PKEY *key;
static uint8_t *csr;
static size_t csr_len;

static uint64_t test_clock(void)
{
	return clock_ms;
}

static void setup(void)
{
	struct store_mesh mesh = {.trust_domain = "weft.test", .cidrs_len = 1};
	char path[96];
	ck_assert(cidr_parse(STR("10.0.0.0/8"), &mesh.cidrs[0]));
	snprintf(dir, sizeof(dir), "/tmp/weft-issue-XXXXXX");
	event_set_level(EVENT_ERROR);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/weft.db", dir);
	ck_assert(ca_make(STR("weft.test"), &material, &err));
	ck_assert_msg(store_create(path, &mesh, &material, &err), "%s", err.text);
	store = store_open(path, &err);
	ck_assert_msg(store != NULL, "%s", err.text);
	ca = ca_new(&material, &err);
	clock_ms = 1000000;
	struct issue_cfg cfg = {.store = store, .ca = ca, .lifetime_s = 600, .now_ms = test_clock};
	is = issue_new(&cfg, &err);
	ck_assert_msg(is != NULL, "%s", err.text);
	key = key_new(&err);
	ck_assert(csr_make(key, &csr, &csr_len, &err));
}

static void teardown(void)
{
	char command[96];
	issue_free(&is);
	ca_free(&ca);
	store_free(&store);
	ca_material_done(&material);
	EVP_PKEY_free(key);
	mem_free(csr);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

/* A token as `weft token create` makes it: a row in the store and a text. */
static struct token new_token(const char *ns, const char *sa, int lives_s)
{
	struct token t = {.not_after = (int64_t)time(NULL) + lives_s};
	struct store_token row = {.not_after = t.not_after};
	char id[65];
	ck_assert(token_secret_new(id, &err));
	snprintf(t.id, sizeof(t.id), "%.32s", id);
	ck_assert(token_secret_new(t.secret, &err));
	struct str root = ca_root_der(ca);
	SHA256((const unsigned char *)root.p, root.len, t.root_hash);
	strcpy(t.trust_domain, "weft.test");
	snprintf(t.ns, sizeof(t.ns), "%s", ns);
	snprintf(t.sa, sizeof(t.sa), "%s", sa);
	strcpy(row.id, t.id);
	strcpy(row.ns, t.ns);
	strcpy(row.sa, t.sa);
	token_secret_hash(t.secret, row.secret_hash);
	ck_assert_msg(store_token_add(store, &row, &err), "%s", err.text);
	return t;
}

/* What is asked; answers are checked and kept in `last` (unpacked) until the next. */
struct ask {
	const char *token, *rejoin, *instance, *version;
	const struct spiffe *id;
	const char *ip;
	bool lapsed, no_csr;
	const uint8_t *csr;
	size_t csr_len;
};

static struct issue_answer ask(const struct ask *q)
{
	struct issue_from from = {.id = q->id, .lapsed = q->lapsed};
	struct issue_answer a;
	Weft__V1__IssueRequest m = WEFT__V1__ISSUE_REQUEST__INIT;
	ck_assert(ip_parse(str_of(q->ip ? q->ip : "10.0.0.5"), &from.ip));
	if (!q->no_csr)
		m.csr =
		    (ProtobufCBinaryData){q->csr ? q->csr_len : csr_len, (uint8_t *)(uintptr_t)(q->csr ? q->csr : csr)};
	m.token = (char *)(uintptr_t)(q->token ? q->token : "");
	m.rejoin = (char *)(uintptr_t)(q->rejoin ? q->rejoin : "");
	m.instance = (char *)(uintptr_t)(q->instance ? q->instance : "");
	m.version = (char *)(uintptr_t)(q->version ? q->version : "");
	size_t len = weft__v1__issue_request__get_packed_size(&m);
	uint8_t *buf = mem_alloc(len + 1);
	weft__v1__issue_request__pack(&m, buf);
	issue_answer(is, &from, str_make(buf, len), &a);
	mem_free(buf);
	return a;
}

static void refused(const struct ask *q, enum grpc_status status, const char *says)
{
	struct issue_answer a = ask(q);
	ck_assert_msg(a.status == status, "status %d, expected %d: %s", a.status, status, a.text);
	ck_assert_msg(strstr(a.text, says) != NULL, "said \"%s\", expected \"%s\"", a.text, says);
	ck_assert_ptr_null(a.message);
	issue_answer_done(&a);
}

/* Issued for `id`; the new rejoin secret into `rejoin`. */
static void issued(const struct ask *q, const char *id, char rejoin[65])
{
	struct issue_answer a = ask(q);
	ck_assert_msg(a.status == GRPC_OK && a.message, "%d: %s", a.status, a.text);
	Weft__V1__IssueResponse *m = weft__v1__issue_response__unpack(NULL, a.len, a.message);
	ck_assert_ptr_nonnull(m);
	ck_assert_str_eq(m->identity, id);
	ck_assert_str_eq(m->trust_domain, "weft.test");
	ck_assert_uint_eq(m->n_chain, 2);
	ck_assert_uint_eq(m->n_roots, 1);
	ck_assert_uint_eq(m->n_cidrs, 1);
	ck_assert(m->cidrs[0]->bits == 8 && m->cidrs[0]->address.len == 4 && m->cidrs[0]->address.data[0] == 10);
	X509 *leaf = ossl_cert(str_make(m->chain[0].data, m->chain[0].len), &err);
	struct spiffe seen;
	ck_assert(leaf && peer_identity(leaf, STR("weft.test"), &seen, &err));
	ck_assert_str_eq(seen.id, id);
	ck_assert(EVP_PKEY_eq(X509_get0_pubkey(leaf), key) == 1);
	ck_assert_int_eq(m->not_after, ossl_time(X509_get0_notAfter(leaf)));
	ck_assert_int_ge(m->not_after, (int64_t)time(NULL) + 595);
	ck_assert_int_le(m->not_after, (int64_t)time(NULL) + 600);
	X509_free(leaf);
	if (rejoin) {
		ck_assert_uint_eq(strlen(m->rejoin), 64);
		strcpy(rejoin, m->rejoin);
	} else {
		ck_assert_str_eq(m->rejoin, "");
	}
	weft__v1__issue_response__free_unpacked(m, NULL);
	issue_answer_done(&a);
}

static const char *text_of(const struct token *t)
{
	static char text[TOKEN_TEXT_MAX];
	ck_assert_msg(token_format(t, text, &err), "%s", err.text);
	return text;
}

#define ORDERS "spiffe://weft.test/ns/shop/sa/orders"

START_TEST(a_join_token_gives_the_identity_of_its_row)
{
	struct token t = new_token("shop", "orders", 600);
	struct store_instance inst;
	char rejoin[65];
	issued(&(struct ask){.token = text_of(&t), .instance = "orders-1", .version = "1.0"}, ORDERS, rejoin);
	ck_assert(store_instance_get(store, "shop", "orders-1", &inst, &err));
	ck_assert_str_eq(inst.sa, "orders");
	ck_assert_str_eq(inst.token_id, t.id);
	store_instance_done(&inst);
}
END_TEST

START_TEST(a_token_serves_each_instance_once)
{
	struct token t = new_token("shop", "orders", 600);
	char rejoin[65];
	issued(&(struct ask){.token = text_of(&t), .instance = "orders-1"}, ORDERS, rejoin);
	refused(&(struct ask){.token = text_of(&t), .instance = "orders-1"}, GRPC_PERMISSION_DENIED,
		"was used by workload orders-1");
	issued(&(struct ask){.token = text_of(&t), .instance = "orders-2"}, ORDERS, rejoin);
}
END_TEST

START_TEST(expired_deleted_forged_and_foreign_tokens_get_nothing)
{
	struct token t = new_token("shop", "orders", -5), u = new_token("shop", "orders", 600), f;
	struct store_instance inst;
	refused(&(struct ask){.token = text_of(&t), .instance = "a"}, GRPC_PERMISSION_DENIED, "expired");
	f = t;
	f.not_after += 100000; /* the copy inside says otherwise: the row decides */
	refused(&(struct ask){.token = text_of(&f), .instance = "a"}, GRPC_PERMISSION_DENIED, "expired");
	f = u;
	f.secret[0] = f.secret[0] == '0' ? '1' : '0';
	refused(&(struct ask){.token = text_of(&f), .instance = "a"}, GRPC_PERMISSION_DENIED, "not one of this weftd");
	f = u;
	f.secret[63] = f.secret[63] == '0' ? '1' : '0';
	refused(&(struct ask){.token = text_of(&f), .instance = "a"}, GRPC_PERMISSION_DENIED, "not one of this weftd");
	f = u;
	f.id[5] = f.id[5] == '0' ? '1' : '0';
	refused(&(struct ask){.token = text_of(&f), .instance = "a"}, GRPC_PERMISSION_DENIED, "not one of this weftd");
	f = u;
	strcpy(f.sa, "admin");
	refused(&(struct ask){.token = text_of(&f), .instance = "a"}, GRPC_PERMISSION_DENIED, "not one of this weftd");
	f = u;
	strcpy(f.ns, "bank");
	refused(&(struct ask){.token = text_of(&f), .instance = "a"}, GRPC_PERMISSION_DENIED, "not one of this weftd");
	f = u;
	strcpy(f.trust_domain, "other.test");
	refused(&(struct ask){.token = text_of(&f), .instance = "a"}, GRPC_PERMISSION_DENIED, "not one of this weftd");
	ck_assert(store_token_delete(store, u.id, &err));
	refused(&(struct ask){.token = text_of(&u), .instance = "a"}, GRPC_PERMISSION_DENIED, "not one of this weftd");
	refused(&(struct ask){.token = "weft1.garbage", .instance = "a"}, GRPC_INVALID_ARGUMENT, "join token");
	ck_assert(!store_instance_get(store, "shop", "a", &inst, &err)); /* nothing was written by any of it */
	ck_assert_uint_eq(err.code, ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_refused_request_does_not_spend_the_token)
{
	struct token t = new_token("shop", "orders", 600);
	char rejoin[65];
	refused(&(struct ask){.token = text_of(&t), .instance = "a", .no_csr = true}, GRPC_INVALID_ARGUMENT,
		"certificate request");
	refused(&(struct ask){.token = text_of(&t), .instance = "A"}, GRPC_INVALID_ARGUMENT, "instance");
	issued(&(struct ask){.token = text_of(&t), .instance = "a"}, ORDERS, rejoin);
}
END_TEST

START_TEST(a_rejoin_secret_rotates_and_survives_a_lost_answer)
{
	struct token t = new_token("shop", "orders", 600);
	char first[65], second[65], lost[65], third[65];
	issued(&(struct ask){.token = text_of(&t), .instance = "a"}, ORDERS, first);
	issued(&(struct ask){.rejoin = first, .instance = "a"}, ORDERS, lost);
	ck_assert_str_ne(first, lost);
	issued(&(struct ask){.rejoin = first, .instance = "a"}, ORDERS, second); /* the answer was lost: once more */
	refused(&(struct ask){.rejoin = lost, .instance = "a"}, GRPC_PERMISSION_DENIED, "rejoin secret is not known");
	issued(&(struct ask){.rejoin = second, .instance = "a"}, ORDERS, third);
	refused(&(struct ask){.rejoin = first, .instance = "a"}, GRPC_PERMISSION_DENIED, "rejoin secret is not known");
	ck_assert(store_token_delete(store, t.id, &err)); /* the token may go: who joined stays */
	issued(&(struct ask){.rejoin = third, .instance = "a"}, ORDERS, first);
}
END_TEST

START_TEST(a_rejoin_secret_is_bound_to_its_instance)
{
	struct token t = new_token("shop", "orders", 600);
	char a[65], b[65];
	issued(&(struct ask){.token = text_of(&t), .instance = "a"}, ORDERS, a);
	refused(&(struct ask){.rejoin = a, .instance = "b"}, GRPC_PERMISSION_DENIED,
		"of workload shop/a, not of \"b\"");
	issued(&(struct ask){.rejoin = a, .instance = "a"}, ORDERS, b); /* and its owner is not locked out by that */
	refused(&(struct ask){.rejoin = "00", .instance = "a"}, GRPC_PERMISSION_DENIED, "damaged");
	memset(a, '0', 64);
	refused(&(struct ask){.rejoin = a, .instance = "a"}, GRPC_PERMISSION_DENIED, "not known");
	ck_assert(store_instance_delete(store, "shop", "a", &err));
	refused(&(struct ask){.rejoin = b, .instance = "a"}, GRPC_PERMISSION_DENIED, "not known");
}
END_TEST

START_TEST(a_certificate_renews_itself_and_nothing_else)
{
	struct spiffe id;
	ck_assert(spiffe_parse(STR(ORDERS), &id, &err));
	issued(&(struct ask){.id = &id}, ORDERS, NULL);
	issued(&(struct ask){.id = &id, .instance = "a"}, ORDERS, NULL);
	issued(&(struct ask){.id = &id, .lapsed = true}, ORDERS, NULL);
	ck_assert(spiffe_parse(STR("spiffe://other.test/ns/shop/sa/orders"), &id, &err));
	refused(&(struct ask){.id = &id}, GRPC_PERMISSION_DENIED, "another trust domain");
}
END_TEST

START_TEST(exactly_one_credential_is_taken)
{
	struct token t = new_token("shop", "orders", 600);
	struct spiffe id;
	char secret[65];
	ck_assert(spiffe_parse(STR(ORDERS), &id, &err));
	ck_assert(token_secret_new(secret, &err));
	refused(&(struct ask){.instance = "a"}, GRPC_UNAUTHENTICATED, "no credential");
	refused(&(struct ask){.token = text_of(&t), .rejoin = secret, .instance = "a"}, GRPC_INVALID_ARGUMENT,
		"more than one");
	refused(&(struct ask){.token = text_of(&t), .id = &id, .instance = "a"}, GRPC_INVALID_ARGUMENT,
		"more than one");
	refused(&(struct ask){.rejoin = secret, .id = &id, .instance = "a"}, GRPC_INVALID_ARGUMENT, "more than one");
}
END_TEST

START_TEST(weftds_own_identity_is_never_issued)
{
	struct token t = new_token("weft-system", "weftd", 600);
	struct spiffe id;
	refused(&(struct ask){.token = text_of(&t), .instance = "a"}, GRPC_PERMISSION_DENIED, "weftd's own identity");
	ck_assert(spiffe_parse(STR("spiffe://weft.test/ns/weft-system/sa/weftd"), &id, &err));
	refused(&(struct ask){.id = &id}, GRPC_PERMISSION_DENIED, "weftd's own identity");
}
END_TEST

static size_t evil_csr(int n, uint8_t **ret)
{
	X509_REQ *req = X509_REQ_new();
	EVP_PKEY *other = key_new(&err), *p384 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
	unsigned char *der = NULL;
	X509_REQ_set_pubkey(req, n == 1 ? p384 : key);
	ck_assert(X509_REQ_sign(req, n == 0 ? other : n == 1 ? p384 : key, n == 2 ? EVP_sha1() : EVP_sha256()) > 0);
	int len = i2d_X509_REQ(req, &der);
	*ret = mem_dup(der, (size_t)len);
	OPENSSL_free(der);
	EVP_PKEY_free(other);
	EVP_PKEY_free(p384);
	X509_REQ_free(req);
	return (size_t)len;
}

START_TEST(a_bad_request_for_a_certificate_is_refused_by_name)
{
	static const char *const says[] = {"signature is wrong", "P-256", "ecdsa-with-SHA256"};
	struct token t = new_token("shop", "orders", 600);
	for (int i = 0; i < 3; i++) {
		uint8_t *der;
		size_t len = evil_csr(i, &der);
		refused(&(struct ask){.token = text_of(&t), .instance = "a", .csr = der, .csr_len = len},
			GRPC_INVALID_ARGUMENT, says[i]);
		mem_free(der);
	}
	refused(&(struct ask){.token = text_of(&t), .instance = "a", .csr = csr, .csr_len = csr_len - 1},
		GRPC_INVALID_ARGUMENT, "PKCS#10");
}
END_TEST

START_TEST(names_in_the_csr_do_not_matter)
{
	struct token t = new_token("shop", "orders", 600);
	char rejoin[65];
	X509_REQ *req = X509_REQ_new();
	unsigned char *der = NULL;
	STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
	X509V3_CTX v3;
	X509V3_set_ctx(&v3, NULL, NULL, req, NULL, 0);
	sk_X509_EXTENSION_push(exts, X509V3_EXT_nconf_nid(NULL, &v3, NID_subject_alt_name,
							  "URI:spiffe://weft.test/ns/bank/sa/vault,DNS:evil"));
	sk_X509_EXTENSION_push(exts, X509V3_EXT_nconf_nid(NULL, &v3, NID_basic_constraints, "critical,CA:TRUE"));
	X509_REQ_add_extensions(req, exts);
	X509_REQ_set_pubkey(req, key);
	X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_ASC, (const unsigned char *)"vault",
				   -1, -1, 0);
	ck_assert(X509_REQ_sign(req, key, EVP_sha256()) > 0);
	int len = i2d_X509_REQ(req, &der);
	issued(&(struct ask){.token = text_of(&t), .instance = "a", .csr = der, .csr_len = (size_t)len}, ORDERS,
	       rejoin);
	OPENSSL_free(der);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	X509_REQ_free(req);
}
END_TEST

START_TEST(a_name_is_not_taken_from_another_service_account)
{
	struct token t = new_token("shop", "orders", 600), u = new_token("shop", "cart", 600);
	char rejoin[65], other[65];
	issued(&(struct ask){.token = text_of(&t), .instance = "a"}, ORDERS, rejoin);
	refused(&(struct ask){.token = text_of(&u), .instance = "a"}, GRPC_PERMISSION_DENIED, "cannot take its name");
	issued(&(struct ask){.rejoin = rejoin, .instance = "a"}, ORDERS, other);
}
END_TEST

static void raw(const void *bytes, size_t len, const char *says)
{
	struct issue_from from = {.ip = {.len = 4, .b = {10, 0, 0, 5}}};
	struct issue_answer a;
	uint8_t *exact = mem_dup(bytes, len ? len : 1);
	issue_answer(is, &from, str_make(exact, len), &a);
	ck_assert_ptr_null(a.message);
	ck_assert_msg(strstr(a.text, says) != NULL, "said \"%s\", expected \"%s\"", a.text, says);
	ck_assert_int_ne(a.status, GRPC_OK);
	issue_answer_done(&a);
	mem_free(exact);
}

START_TEST(what_is_no_request_is_refused)
{
	static uint8_t big[ISSUE_REQUEST_MAX + 1];
	raw("", 0, "no credential");
	raw("\xff\xff\xff\xff", 4, "not an IssueRequest");
	raw("\x0a\xff\xff\xff\xff\x0f", 6, "not an IssueRequest");
	raw("\x12\x05"
	    "ab",
	    4, "not an IssueRequest");
	raw("\xf8\x01\x01", 3, "does not know"); /* field 31 */
	raw(big, sizeof(big), "expected at most");
}
END_TEST

START_TEST(a_source_that_is_refused_too_often_has_to_wait)
{
	struct token t = new_token("shop", "orders", 600);
	struct spiffe id;
	char rejoin[65];
	ck_assert(spiffe_parse(STR(ORDERS), &id, &err));
	for (int i = 0; i < ISSUE_LIMIT_BURST; i++)
		refused(&(struct ask){.instance = "a"}, GRPC_UNAUTHENTICATED, "no credential");
	refused(&(struct ask){.token = text_of(&t), .instance = "a"}, GRPC_RESOURCE_EXHAUSTED, "try again in 3 s");
	issued(&(struct ask){.token = text_of(&t), .instance = "b", .ip = "10.0.0.6"}, ORDERS,
	       rejoin);                                 /* another source */
	issued(&(struct ask){.id = &id}, ORDERS, NULL); /* who is in renews */
	clock_ms += ISSUE_LIMIT_EACH_MS;
	issued(&(struct ask){.token = text_of(&t), .instance = "a"}, ORDERS, rejoin);
	refused(&(struct ask){.instance = "a"}, GRPC_UNAUTHENTICATED, "no credential");
	refused(&(struct ask){.instance = "a"}, GRPC_RESOURCE_EXHAUSTED, "try again");
}
END_TEST

START_TEST(the_table_of_sources_is_bounded_and_forgets_the_oldest)
{
	struct issue_limit *l = issue_limit_new();
	struct ip v6 = {.len = 16, .b = {0x20, 1}}, v4 = {.len = 4, .b = {9, 9, 9, 9}};
	for (int i = 0; i < ISSUE_LIMIT_BURST; i++)
		issue_limit_refused(l, &v4, 1000);
	ck_assert_uint_eq(issue_limit_wait_ms(l, &v4, 1000), ISSUE_LIMIT_EACH_MS);
	for (unsigned i = 0; i < 5000; i++) { /* one /64: one source */
		v6.b[14] = (uint8_t)(i >> 8);
		v6.b[15] = (uint8_t)i;
		issue_limit_refused(l, &v6, 1000);
	}
	ck_assert_uint_eq(issue_limit_sources(l), 2);
	ck_assert(issue_limit_wait_ms(l, &v6, 1000) > 0);
	for (unsigned i = 0; i < 5000; i++) {
		v6.b[6] = (uint8_t)(i >> 8);
		v6.b[7] = (uint8_t)i;
		issue_limit_refused(l, &v6, 1000);
	}
	ck_assert_uint_eq(issue_limit_sources(l), ISSUE_LIMIT_SOURCES);
	ck_assert_uint_eq(issue_limit_wait_ms(l, &v4, 1000), 0);
	ck_assert_uint_eq(issue_limit_wait_ms(l, &v6, 500), 0); /* a clock that went back harms nobody */
	issue_limit_free(&l);
}
END_TEST

START_TEST(a_lifetime_outside_its_bounds_is_refused)
{
	struct issue_cfg cfg = {.store = store, .ca = ca, .lifetime_s = 0};
	ck_assert_ptr_null(issue_new(&cfg, &err));
	cfg.lifetime_s = 86401;
	ck_assert_ptr_null(issue_new(&cfg, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "lifetime"));
	cfg.lifetime_s = 4;
	struct issue *brief = issue_new(&cfg, &err);
	ck_assert_ptr_nonnull(brief);
	issue_free(&brief);
}
END_TEST

Suite *issue_suite(void);
Suite *issue_suite(void)
{
	Suite *s = suite_create("issue");
	TCase *tc = tcase_create("credentials");
	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_join_token_gives_the_identity_of_its_row);
	tcase_add_test(tc, a_token_serves_each_instance_once);
	tcase_add_test(tc, expired_deleted_forged_and_foreign_tokens_get_nothing);
	tcase_add_test(tc, a_refused_request_does_not_spend_the_token);
	tcase_add_test(tc, a_rejoin_secret_rotates_and_survives_a_lost_answer);
	tcase_add_test(tc, a_rejoin_secret_is_bound_to_its_instance);
	tcase_add_test(tc, a_certificate_renews_itself_and_nothing_else);
	tcase_add_test(tc, exactly_one_credential_is_taken);
	tcase_add_test(tc, weftds_own_identity_is_never_issued);
	tcase_add_test(tc, a_bad_request_for_a_certificate_is_refused_by_name);
	tcase_add_test(tc, names_in_the_csr_do_not_matter);
	tcase_add_test(tc, a_name_is_not_taken_from_another_service_account);
	tcase_add_test(tc, what_is_no_request_is_refused);
	tcase_add_test(tc, a_source_that_is_refused_too_often_has_to_wait);
	tcase_add_test(tc, the_table_of_sources_is_bounded_and_forgets_the_oldest);
	tcase_add_test(tc, a_lifetime_outside_its_bounds_is_refused);
	suite_add_tcase(s, tc);
	return s;
}
