/* SPDX-License-Identifier: Apache-2.0 */
/* tls_pair.c: certificates made on the spot. */
#include "tests/unit/lib/tls_pair.h"

#include "lib/base.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

static X509 *self_signed(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);

	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"weft test", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	MUST(X509_sign(cert, key, EVP_sha256()) > 0);
	return cert;
}

static SSL_CTX *context(const SSL_METHOD *method)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	MUST(ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION));
	SSL_CTX_set_num_tickets(ctx, 0);
	return ctx;
}

void tls_pair_init(struct tls_pair *p)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = self_signed(key);

	p->server = context(TLS_server_method());
	MUST(SSL_CTX_use_certificate(p->server, cert) == 1 && SSL_CTX_use_PrivateKey(p->server, key) == 1);
	p->client = context(TLS_client_method());
	MUST(X509_STORE_add_cert(SSL_CTX_get_cert_store(p->client), cert) == 1);
	SSL_CTX_set_verify(p->client, SSL_VERIFY_PEER, NULL);
	p->doubter = context(TLS_client_method());
	SSL_CTX_set_verify(p->doubter, SSL_VERIFY_PEER, NULL);
	X509_free(cert);
	EVP_PKEY_free(key);
}

void tls_pair_done(struct tls_pair *p)
{
	SSL_CTX_free(p->server);
	SSL_CTX_free(p->client);
	SSL_CTX_free(p->doubter);
}
