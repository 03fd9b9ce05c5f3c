/* SPDX-License-Identifier: Apache-2.0 */
/* handshake.c: CPU of a full mutual TLS handshake, both sides, in memory: a bare OpenSSL program against the mesh's contexts, turn by turn.
 *   handshake [ROUNDS]
 * The bare one does what any mTLS 1.3 program does: P-256 certificates, both chains verified by OpenSSL, no tickets, no identity rules. Prints one line of JSON:
 * microseconds (medians of the rounds) and their ratio. */
#include "certs/ca.h"
#include "certs/tlsctx.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCH 40 /* handshakes a round */

static int arg_index;

struct pair {
	SSL_CTX *client, *server;
};

static struct credential *issue(struct ca *ca, struct bundle *b, const char *sa)
{
	struct err err;
	struct spiffe id;
	MUST(spiffe_make(bundle_trust_domain(b), STR("shop"), str_of(sa), &id, &err));
	EVP_PKEY *key = key_new(&err);
	X509 *leaf = ca_sign(ca, key, &(struct ca_leaf){.id = &id, .lifetime_s = 3600}, &err);
	MUST(leaf != NULL);
	unsigned char *der = NULL;
	int len = i2d_X509(leaf, &der);
	struct str chain[2] = {str_make(der, (size_t)len), ca_issuer_der(ca)};
	struct credential *c = credential_new(key, chain, 2, b, &err);
	MUST(c != NULL);
	OPENSSL_free(der);
	X509_free(leaf);
	EVP_PKEY_free(key);
	return c;
}

/* As a program would be written after OpenSSL's manual. */
static SSL_CTX *bare_ctx(struct credential *c, bool server)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	STACK_OF(X509) *rest = sk_X509_new_null();
	MUST(ctx != NULL && rest != NULL && sk_X509_push(rest, credential_chain(c, 1)) > 0);
	MUST(SSL_CTX_use_cert_and_key(ctx, credential_chain(c, 0), credential_key(c), rest, 1) == 1);
	sk_X509_free(rest);
	SSL_CTX_set1_cert_store(ctx, bundle_store(credential_bundle(c)));
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	return ctx;
}

static double cpu_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void shake(const struct pair *p, struct tls_peer *peer)
{
	SSL *c = SSL_new(p->client), *s = SSL_new(p->server);
	BIO *a, *b;
	char byte;
	MUST(BIO_new_bio_pair(&a, 32 << 10, &b, 32 << 10));
	SSL_set_bio(c, a, a);
	SSL_set_bio(s, b, b);
	SSL_set_connect_state(c);
	SSL_set_accept_state(s);
	if (peer != NULL)
		SSL_set_ex_data(c, arg_index, peer);
	int done = 0;
	for (int i = 0; i < 10 && done != 2; i++)
		done = (SSL_do_handshake(c) == 1) + (SSL_do_handshake(s) == 1);
	MUST(done == 2);
	MUST(SSL_write(c, "x", 1) == 1 && SSL_read(s, &byte, 1) == 1);
	SSL_free(c);
	SSL_free(s);
}

static double batch(const struct pair *p, const char *expect)
{
	double began = cpu_us();
	for (int i = 0; i < BATCH; i++) {
		struct tls_peer peer = {.expect = expect};
		shake(p, expect != NULL ? &peer : NULL);
	}
	return (cpu_us() - began) / BATCH;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_size);
	return v[n / 2];
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 1 ? (size_t)atoi(argv[1]) : 15;
	double *bare_us = calloc(rounds, sizeof(double)), *mesh_us = calloc(rounds, sizeof(double));
	struct err err;
	struct ca_material material;
	MUST(rounds > 0 && bare_us != NULL && mesh_us != NULL);
	MUST(ca_make(STR("bench.test"), &material, &err));
	struct ca *ca = ca_new(&material, &err);
	MUST(ca != NULL);
	struct str root = ca_root_der(ca);
	struct bundle *bundle = bundle_new(STR("bench.test"), &root, 1, &err);
	struct credential *web = issue(ca, bundle, "web"), *orders = issue(ca, bundle, "orders");
	const char *const alpn[] = {ALPN_WEFT_H2, NULL};
	arg_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	struct pair bare = {bare_ctx(web, false), bare_ctx(orders, true)};
	struct pair mesh = {tlsctx_client(web, alpn, arg_index, &err), tlsctx_server(orders, alpn, arg_index, &err)};
	MUST(mesh.client != NULL && mesh.server != NULL);
	const char *expect = credential_id(orders)->id;
	batch(&bare, NULL);
	batch(&mesh, expect);
	for (size_t i = 0; i < rounds; i++) {
		bare_us[i] = batch(&bare, NULL);
		mesh_us[i] = batch(&mesh, expect);
	}
	double b = median(bare_us, rounds), m = median(mesh_us, rounds);
	printf("{\"bare_us\": %.1f, \"mesh_us\": %.1f, \"ratio\": %.3f, \"openssl\": \"%s\"}\n", b, m, m / b,
	       OpenSSL_version(OPENSSL_VERSION_STRING));
	return 0;
}
