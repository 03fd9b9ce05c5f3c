/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's identity: contexts swapped together, what is asked of weftd and what is taken from it, when it is renewed. */
#include "proxy/identity.h"

#include "certs/csr.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "proxy/issue.h"
#include "proxy/renew.h"
#include "tests/unit/certs/pki.h"

#include <check.h>

static struct pki pki;

static void setup(void)
{
	pki_init(&pki, PKI_TD);
}

static void teardown(void)
{
	pki_done(&pki);
}

START_TEST(contexts_are_swapped_together)
{
	struct err err = {0};
	struct identity *id = identity_new();
	struct credential *a = pki_credential(&pki, "shop", "a", false), *b = pki_credential(&pki, "shop", "b", false);
	ck_assert(!identity_ready(id));
	ck_assert_ptr_null(identity_client(id));
	ck_assert_ptr_null(identity_server(id));
	ck_assert_msg(identity_set(id, a, &err), "%s", err.text);
	ck_assert(identity_ready(id));
	ck_assert_ptr_eq(identity_credential(id), a);
	SSL_CTX *client = identity_client(id), *server = identity_server(id);
	ck_assert_ptr_nonnull(client);
	ck_assert_ptr_nonnull(server);
	SSL_CTX_up_ref(client); /* a connection that keeps what it began with */
	ck_assert(identity_set(id, b, &err));
	ck_assert_ptr_ne(identity_client(id), client);
	ck_assert_ptr_eq(identity_credential(id), b);
	SSL_CTX_free(client);
	credential_unref(&a);
	credential_unref(&b);
	identity_free(&id);
	ck_assert_ptr_null(id);
}
END_TEST

/* --- issuing --- */

struct answer { /* as weftd would give it; the test bends it */
	Weft__V1__IssueResponse m;
	ProtobufCBinaryData chain[2], roots[1];
	X509 *leaf;
	uint8_t *der;
	char td[64], rejoin[600];
	EVP_PKEY *key; /* ours */
};

static void answer_make(struct answer *a, const char *ns, const char *sa)
{
	struct err err = {0};
	struct spiffe id;
	memset(a, 0, sizeof(*a));
	weft__v1__issue_response__init(&a->m);
	a->key = key_new(&err);
	ck_assert(spiffe_make(STR(PKI_TD), str_of(ns), str_of(sa), &id, &err));
	struct ca_leaf leaf = {.id = &id, .lifetime_s = 3600};
	a->leaf = ca_sign(pki.ca, a->key, &leaf, &err);
	ck_assert_ptr_nonnull(a->leaf);
	int len = i2d_X509(a->leaf, &a->der);
	ck_assert_int_gt(len, 0);
	struct str issuer = ca_issuer_der(pki.ca), root = ca_root_der(pki.ca);
	a->chain[0] = (ProtobufCBinaryData){(size_t)len, a->der};
	a->chain[1] = (ProtobufCBinaryData){issuer.len, (uint8_t *)(uintptr_t)issuer.p};
	a->roots[0] = (ProtobufCBinaryData){root.len, (uint8_t *)(uintptr_t)root.p};
	strcpy(a->td, PKI_TD);
	strcpy(a->rejoin, "next-secret");
	a->m.chain = a->chain;
	a->m.n_chain = 2;
	a->m.roots = a->roots;
	a->m.n_roots = 1;
	a->m.trust_domain = a->td;
	a->m.rejoin = a->rejoin;
}

static bool take(struct answer *a, const struct issue_expect *x, struct issued *ret, struct err *err)
{
	uint8_t bytes[16384];
	ck_assert_uint_le(weft__v1__issue_response__get_packed_size(&a->m), sizeof(bytes));
	size_t len = weft__v1__issue_response__pack(&a->m, bytes);
	return issue_unpack(str_make(bytes, len), x, ret, err);
}

static void answer_done(struct answer *a)
{
	X509_free(a->leaf);
	OPENSSL_free(a->der);
	EVP_PKEY_free(a->key);
}

START_TEST(the_request_proves_the_key_and_says_one_proof)
{
	struct err err = {0};
	struct issue_ask ask = {.key = key_new(&err), .token = "weft1.x", .instance = "orders-1"};
	uint8_t *bytes;
	size_t len;
	ck_assert(issue_pack(&ask, &bytes, &len, &err));
	Weft__V1__IssueRequest *m = weft__v1__issue_request__unpack(NULL, len, bytes);
	ck_assert_str_eq(m->token, "weft1.x");
	ck_assert_str_eq(m->rejoin, "");
	ck_assert_str_eq(m->instance, "orders-1");
	EVP_PKEY *got = csr_check(m->csr.data, m->csr.len, &err);
	ck_assert_ptr_nonnull(got);
	ck_assert_int_eq(EVP_PKEY_eq(got, ask.key), 1);
	EVP_PKEY_free(got);
	EVP_PKEY_free(ask.key);
	weft__v1__issue_request__free_unpacked(m, NULL);
	mem_wipe_free(bytes, len);
}
END_TEST

START_TEST(a_good_answer_is_a_credential)
{
	struct answer a;
	struct issued got;
	struct err err = {0};
	uint8_t hash[32], addr[] = {10, 0, 0, 0};
	Weft__V1__MeshCidr c = WEFT__V1__MESH_CIDR__INIT, *cidrs[] = {&c};
	answer_make(&a, "shop", "orders");
	c.address = (ProtobufCBinaryData){4, addr};
	c.bits = 8;
	a.m.cidrs = cidrs;
	a.m.n_cidrs = 1;
	ck_assert(EVP_Digest(a.roots[0].data, a.roots[0].len, hash, NULL, EVP_sha256(), NULL));
	struct issue_expect x = {.key = a.key, .trust_domain = PKI_TD, .ns = "shop", .sa = "orders", .root_hash = hash};
	ck_assert_msg(take(&a, &x, &got, &err), "%s", err.text);
	ck_assert_str_eq(credential_id(got.credential)->id, "spiffe://" PKI_TD "/ns/shop/sa/orders");
	ck_assert_str_eq(got.rejoin, "next-secret");
	ck_assert_uint_eq(got.n_cidrs, 1);
	ck_assert_uint_eq(got.cidrs[0].bits, 8);
	credential_unref(&got.credential);
	answer_done(&a);
}
END_TEST

static void refused(struct answer *a, const struct issue_expect *x, const char *words)
{
	struct issued got;
	struct err err = {0};
	ck_assert(!take(a, x, &got, &err));
	ck_assert_msg(strstr(err.text, words) != NULL, "\"%s\" is not in \"%s\"", words, err.text);
}

START_TEST(a_wrong_answer_is_refused_by_name)
{
	struct answer a;
	struct err err = {0};
	uint8_t hash[32] = {1};
	answer_make(&a, "shop", "orders");
	struct issue_expect x = {.key = a.key, .trust_domain = PKI_TD, .ns = "shop", .sa = "orders"};
	x.ns = "other";
	refused(&a, &x, "namespace shop, expected other");
	x.ns = "shop";
	x.sa = "other";
	refused(&a, &x, "service account orders, expected other");
	x.sa = NULL;
	x.root_hash = hash;
	refused(&a, &x, "do not hold the one");
	x.root_hash = NULL;
	x.trust_domain = "other.mesh";
	refused(&a, &x, "trust domain " PKI_TD ", expected other.mesh");
	x.trust_domain = PKI_TD;
	x.key = key_new(&err);
	refused(&a, &x, "");
	EVP_PKEY_free(x.key);
	x.key = a.key;
	a.m.n_chain = 0;
	refused(&a, &x, "chain: 0 certificates");
	a.m.n_chain = 2;
	a.m.n_roots = 0;
	refused(&a, &x, "roots: 0 certificates");
	a.m.n_roots = 1;
	memset(a.rejoin, 'x', sizeof(a.rejoin) - 1);
	refused(&a, &x, "rejoin: longer");
	struct issued got;
	ck_assert(!issue_unpack(STR("\xff\xff"), &x, &got, &err));
	answer_done(&a);
}
END_TEST

/* --- renewal --- */

START_TEST(renewal_is_due_around_half_of_the_life)
{
	/* 24 h, dated back by a minute; now is the moment of issuing */
	const int64_t now = 1000000, life = 24 * 3600;
	ck_assert_uint_eq(renew_delay_ms(now - 60, now + life, now, 500), (uint64_t)life * 500);
	ck_assert_uint_eq(renew_delay_ms(now - 60, now + life, now, 0), (uint64_t)life * 400);
	ck_assert_uint_eq(renew_delay_ms(now - 60, now + life, now, 1000), (uint64_t)life * 600);
	/* half way through already: now, or soon */
	ck_assert_uint_eq(renew_delay_ms(now - 60, now + life, now + life * 6 / 10, 1000), 0);
	ck_assert_uint_eq(renew_delay_ms(now - 60, now + life, now + 2 * life, 500), 0);
	/* four seconds */
	ck_assert_uint_eq(renew_delay_ms(now - 60, now + 4, now, 500), 2000);
	/* no back-dating, and nonsense */
	ck_assert_uint_eq(renew_delay_ms(now, now + 40, now, 500), 20000);
	ck_assert_uint_eq(renew_delay_ms(now, now, now, 500), 0);
	ck_assert_uint_eq(renew_delay_ms(now, now - 5, now, 500), 0);
	/* a clock that is a day behind does not put it off for a day */
	ck_assert_uint_le(renew_delay_ms(now - 60, now + 3600, now - 86400, 500), 3600 * 600);
}
END_TEST

static struct loop *loop;
static int due;

static void on_due(struct renew *r)
{
	if (++due == 1)
		renew_later(r);
	else
		loop_stop(loop);
}

START_TEST(renewal_comes_and_is_tried_again)
{
	struct err err;
	struct renew r;
	due = 0;
	loop = loop_new(&err);
	struct credential *c = pki_credential(&pki, "shop", "orders", false);
	renew_init(&r, loop, on_due);
	renew_set(&r, c);
	ck_assert_uint_gt(r.due_ms, 0);
	renew_later(&r); /* 0.5 to 1 s */
	loop_run(loop);
	ck_assert_int_eq(due, 2);
	ck_assert(!renew_expired(c));
	renew_stop(&r);
	credential_unref(&c);
	loop_free(&loop);
}
END_TEST

Suite *identity_suite(void);
Suite *identity_suite(void)
{
	Suite *s = suite_create("identity");
	TCase *t = tcase_create("identity");
	tcase_set_timeout(t, 20);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, contexts_are_swapped_together);
	tcase_add_test(t, the_request_proves_the_key_and_says_one_proof);
	tcase_add_test(t, a_good_answer_is_a_credential);
	tcase_add_test(t, a_wrong_answer_is_refused_by_name);
	tcase_add_test(t, renewal_is_due_around_half_of_the_life);
	tcase_add_test(t, renewal_comes_and_is_tried_again);
	suite_add_tcase(s, t);
	return s;
}
