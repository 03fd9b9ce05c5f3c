/* SPDX-License-Identifier: Apache-2.0 */
/* pki.c: see pki.h. */
#include "tests/unit/certs/pki.h"

#include "lib/mem.h"

#include <check.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

void pki_init(struct pki *p, const char *trust_domain)
{
	struct err err = {0};
	*p = (struct pki){0};
	ck_assert_msg(ca_make(str_of(trust_domain), &p->material, &err), "%s", err.text);
	p->ca = ca_new(&p->material, &err);
	ck_assert_msg(p->ca != NULL, "%s", err.text);
	struct str root = ca_root_der(p->ca);
	p->bundle = bundle_new(str_of(trust_domain), &root, 1, &err);
	ck_assert_msg(p->bundle != NULL, "%s", err.text);
	p->issuer_key = key_from_der(p->material.issuer_key, p->material.issuer_key_len, &err);
	const unsigned char *d = p->material.issuer_cert;
	p->issuer = d2i_X509(NULL, &d, (long)p->material.issuer_cert_len);
	d = p->material.root_cert;
	p->root = d2i_X509(NULL, &d, (long)p->material.root_cert_len);
	ck_assert(p->issuer_key && p->issuer && p->root);
}

void pki_done(struct pki *p)
{
	X509_free(p->issuer);
	X509_free(p->root);
	EVP_PKEY_free(p->issuer_key);
	bundle_unref(&p->bundle);
	ca_free(&p->ca);
	ca_material_done(&p->material);
}

struct credential *pki_credential(const struct pki *p, const char *ns, const char *sa, bool with_root)
{
	struct err err = {0};
	struct spiffe id;
	ck_assert(spiffe_make(bundle_trust_domain(p->bundle), str_of(ns), str_of(sa), &id, &err));
	EVP_PKEY *key = key_new(&err);
	X509 *leaf = ca_sign(p->ca, key, &(struct ca_leaf){.id = &id, .lifetime_s = 3600}, &err);
	ck_assert_msg(leaf != NULL, "%s", err.text);
	unsigned char *der = NULL;
	int len = i2d_X509(leaf, &der);
	struct str chain[3] = {str_make(der, (size_t)len), ca_issuer_der(p->ca), ca_root_der(p->ca)};
	struct credential *c = credential_new(key, chain, with_root ? 3 : 2, p->bundle, &err);
	ck_assert_msg(c != NULL, "%s", err.text);
	OPENSSL_free(der);
	X509_free(leaf);
	EVP_PKEY_free(key);
	return c;
}

static void add_ext(X509 *cert, X509 *issuer, int nid, const char *value, const char *fallback)
{
	if (value && strcmp(value, "-") == 0)
		return;
	X509V3_CTX v3;
	X509V3_set_ctx(&v3, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &v3, nid, value ? value : fallback);
	ck_assert_ptr_nonnull(ext);
	ck_assert(X509_add_ext(cert, ext, -1));
	X509_EXTENSION_free(ext);
}

static void add_name(GENERAL_NAMES *names, int type, struct str s)
{
	GENERAL_NAME *n = GENERAL_NAME_new();
	ASN1_IA5STRING *v = ASN1_IA5STRING_new();
	ck_assert(ASN1_STRING_set(v, s.p, (int)s.len));
	GENERAL_NAME_set0_value(n, type, v);
	sk_GENERAL_NAME_push(names, n);
}

static void add_san(X509 *cert, const struct pki_leaf *l)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	if (!l->no_uri && l->uris_n == 0)
		add_name(names, GEN_URI, STR("spiffe://weft.test/ns/shop/sa/orders"));
	for (size_t i = 0; i < l->uris_n; i++)
		add_name(names, GEN_URI, l->uris[i]);
	if (l->dns)
		add_name(names, GEN_DNS, str_of(l->dns));
	if (sk_GENERAL_NAME_num(names) > 0)
		ck_assert(X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 1, X509V3_ADD_APPEND));
	if (l->san_twice)
		ck_assert(X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 1, X509V3_ADD_APPEND));
	GENERAL_NAMES_free(names);
}

static EVP_PKEY *make_key(const char *curve)
{
	if (!curve)
		curve = "P-256";
	EVP_PKEY *key = strcmp(curve, "RSA-1024") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024)
						       : EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve);
	ck_assert_ptr_nonnull(key);
	return key;
}

static X509 *begin(EVP_PKEY *key, int from_s, int to_s)
{
	static long serial = 1000;
	X509 *cert = X509_new();
	time_t now = time(NULL);
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
	ASN1_TIME_set(X509_getm_notBefore(cert), now + (from_s ? from_s : -60));
	ASN1_TIME_set(X509_getm_notAfter(cert), now + (to_s ? to_s : 3600));
	X509_set_pubkey(cert, key);
	return cert;
}

static X509 *make_intermediate(X509 *issuer, EVP_PKEY *issuer_key, EVP_PKEY *key, int number)
{
	char cn[32];
	X509 *cert = begin(key, 0, 0);
	snprintf(cn, sizeof(cn), "intermediate %d", number);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(issuer));
	add_ext(cert, issuer, NID_basic_constraints, "critical,CA:TRUE", NULL);
	add_ext(cert, issuer, NID_key_usage, "critical,keyCertSign", NULL);
	add_ext(cert, issuer, NID_subject_key_identifier, "hash", NULL);
	add_ext(cert, issuer, NID_authority_key_identifier, "keyid:always", NULL);
	ck_assert(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
	return cert;
}

static void add_padding(X509 *cert, size_t n)
{
	ASN1_OCTET_STRING *v = ASN1_OCTET_STRING_new();
	uint8_t *b = mem_zalloc(n);
	ASN1_OCTET_STRING_set(v, b, (int)n);
	X509_EXTENSION *ext = X509_EXTENSION_create_by_NID(NULL, NID_netscape_comment, 0, v);
	ck_assert(X509_add_ext(cert, ext, -1));
	X509_EXTENSION_free(ext);
	ASN1_OCTET_STRING_free(v);
	mem_free(b);
}

static X509 *make_leaf(const struct pki_leaf *l, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	X509 *cert = begin(key, l->from_s, l->to_s);
	X509 *signer = l->self_signed ? cert : issuer;
	if (l->self_signed)
		X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (unsigned char *)"self", -1,
					   -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(signer));
	if (!l->version1) {
		add_ext(cert, signer, NID_basic_constraints, l->basic, "critical,CA:FALSE");
		add_ext(cert, signer, NID_key_usage, l->usage, "critical,digitalSignature");
		add_ext(cert, signer, NID_ext_key_usage, l->ext_usage, "serverAuth,clientAuth");
		add_ext(cert, signer, NID_subject_key_identifier, "hash", NULL);
		if (!l->no_aki)
			add_ext(cert, signer, NID_authority_key_identifier, "keyid:always", NULL);
		add_san(cert, l);
		if (l->padding)
			add_padding(cert, l->padding);
	} else {
		X509_set_version(cert, X509_VERSION_1);
		X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (unsigned char *)"v1", -1,
					   -1, 0);
	}
	ck_assert(X509_sign(cert, l->self_signed ? key : issuer_key, l->md ? l->md() : EVP_sha256()) > 0);
	unsigned char *der = NULL; /* read back: what a peer sees has come over the wire */
	int len = i2d_X509(cert, &der);
	const unsigned char *p = der;
	X509_free(cert);
	cert = d2i_X509(NULL, &p, len);
	ck_assert_ptr_nonnull(cert);
	OPENSSL_free(der);
	return cert;
}

void pki_evil(const struct pki *p, const struct pki *foreign, const struct pki_leaf *l, struct pki_evil *ret)
{
	const struct pki *from = l->foreign_issuer ? foreign : p;
	X509 *issuer = l->intermediates ? from->root : from->issuer;
	EVP_PKEY *issuer_key = from->issuer_key;
	struct err err;
	ret->key = make_key(l->curve);
	if (l->explicit_curve)
		ck_assert(EVP_PKEY_set_utf8_string_param(ret->key, OSSL_PKEY_PARAM_EC_ENCODING,
							 OSSL_PKEY_EC_ENCODING_EXPLICIT));
	ret->chain = sk_X509_new_null();
	X509_up_ref(issuer);
	EVP_PKEY_up_ref(issuer_key);
	if (l->intermediates) {
		EVP_PKEY_free(issuer_key);
		issuer_key = key_from_der(from->material.root_key, from->material.root_key_len, &err);
	}
	for (int i = 0; i < l->intermediates; i++) {
		EVP_PKEY *key = key_new(&err);
		X509 *cert = make_intermediate(issuer, issuer_key, key, i);
		EVP_PKEY_free(issuer_key);
		X509_free(issuer);
		issuer = cert;
		issuer_key = key;
		X509_up_ref(cert);
		sk_X509_unshift(ret->chain, cert);
	}
	if (!l->intermediates) {
		X509_up_ref(issuer);
		sk_X509_unshift(ret->chain, issuer);
	}
	sk_X509_unshift(ret->chain, make_leaf(l, ret->key, issuer, issuer_key));
	X509_free(issuer);
	EVP_PKEY_free(issuer_key);
}

void pki_evil_done(struct pki_evil *e)
{
	EVP_PKEY_free(e->key);
	sk_X509_pop_free(e->chain, X509_free);
}

static int accept_all(X509_STORE_CTX *ctx, void *arg)
{
	return 1;
}

SSL_CTX *pki_evil_ctx(const struct pki_evil *e, bool server)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, accept_all, NULL);
	if (!e)
		return ctx;
	ck_assert_msg(SSL_CTX_use_certificate(ctx, sk_X509_value(e->chain, 0)) == 1, "%s",
		      ERR_reason_error_string(ERR_peek_last_error()));
	ck_assert(SSL_CTX_use_PrivateKey(ctx, e->key) == 1);
	for (int i = 1; i < sk_X509_num(e->chain); i++)
		ck_assert(SSL_CTX_add1_chain_cert(ctx, sk_X509_value(e->chain, i)) == 1);
	return ctx;
}

int pki_arg_index(void)
{
	static int index = -1;
	if (index < 0)
		index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	return index;
}

static void end_init(struct pki_end *e, bool server)
{
	e->ssl = SSL_new(e->ctx);
	if (!e->no_peer)
		SSL_set_ex_data(e->ssl, pki_arg_index(), &e->peer);
	if (server)
		SSL_set_accept_state(e->ssl);
	else
		SSL_set_connect_state(e->ssl);
}

/* One try; true while it may come further. */
static bool step(struct pki_end *e, int n)
{
	if (n > 0)
		return true;
	int code = SSL_get_error(e->ssl, n);
	if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
		return true;
	const char *reason = ERR_reason_error_string(ERR_peek_error());
	snprintf(e->alert, sizeof(e->alert), "%s", reason ? reason : "?");
	ERR_clear_error();
	return false;
}

static void turn(struct pki_end *e)
{
	char buf[64];
	if (e->alert[0])
		return;
	if (!e->done) {
		int n = SSL_do_handshake(e->ssl);
		if (step(e, n))
			e->done = n > 0;
		else
			e->done = false;
		return;
	}
	int n = SSL_read(e->ssl, buf, sizeof(buf));
	if (n > 0)
		e->reads += (unsigned)n;
	else
		step(e, n);
}

void pki_handshake(struct pki_end *client, struct pki_end *server)
{
	BIO *a, *b;
	end_init(client, false);
	end_init(server, true);
	ck_assert(BIO_new_bio_pair(&a, 128 << 10, &b, 128 << 10));
	SSL_set_bio(client->ssl, a, a);
	SSL_set_bio(server->ssl, b, b);
	ERR_clear_error();
	for (int i = 0; i < 10; i++) {
		turn(client);
		turn(server);
	}
	if (client->done && !client->alert[0])
		ck_assert_int_eq(SSL_write(client->ssl, "hello", 5), 5);
	for (int i = 0; i < 3; i++) {
		turn(server);
		turn(client);
	}
}

void pki_end_done(struct pki_end *e)
{
	SSL_free(e->ssl);
	SSL_CTX_free(e->ctx);
	e->ssl = NULL;
	e->ctx = NULL;
}

SSL_CTX *pki_ctx(const struct pki *p, enum pki_kind kind, const char *ns, const char *sa, const char *const *alpn)
{
	struct err err = {0};
	struct credential *c = pki_credential(p, ns, sa, kind == PKI_OPTIONAL);
	SSL_CTX *ctx = kind == PKI_CLIENT   ? tlsctx_client(c, alpn, pki_arg_index(), &err)
		       : kind == PKI_SERVER ? tlsctx_server(c, alpn, pki_arg_index(), &err)
					    : tlsctx_server_optional(c, alpn, pki_arg_index(), &err);
	ck_assert_msg(ctx != NULL, "%s", err.text);
	credential_unref(&c); /* the context holds its own */
	return ctx;
}

void pki_assert_refused(struct pki_end *ours, struct pki_end *theirs, const char *says, const char *name)
{
	ck_assert_msg(ours->alert[0] != 0, "%s: accepted", name);
	ck_assert_msg(!ours->peer.verified, "%s: verified", name);
	ck_assert_msg(strstr(ours->peer.err.text, says) != NULL, "%s: said \"%s\", expected \"%s\"", name,
		      ours->peer.err.text, says);
	ck_assert_msg(ours->reads == 0 && theirs->reads == 0, "%s: application bytes arrived", name);
	ck_assert_ptr_null(tlsctx_peer(ours->ssl, pki_arg_index()));
}
