/* SPDX-License-Identifier: Apache-2.0 */
/* pki.h: certificates for tests, good ones through ca.h and wrong ones made field by field; and a TLS handshake in memory. */
#ifndef WEFT_TESTS_UNIT_CERTS_PKI_H
#define WEFT_TESTS_UNIT_CERTS_PKI_H

#include "certs/ca.h"
#include "certs/credential.h"
#include "certs/tlsctx.h"

#define PKI_TD "weft.test"

struct pki {
	struct ca_material material;
	struct ca *ca;
	struct bundle *bundle;
	EVP_PKEY *issuer_key;
	X509 *issuer, *root;
};
void pki_init(struct pki *p, const char *trust_domain);
void pki_done(struct pki *p);
/* As weftd would issue it; with_root: chain of leaf, issuer, root (weftd's own). */
struct credential *pki_credential(const struct pki *p, const char *ns, const char *sa, bool with_root);

/* A leaf that is wrong in what is not zero; all zero: a good leaf of spiffe://weft.test/ns/shop/sa/orders. */
struct pki_leaf {
	const char *name; /* for messages */
	const char *says; /* what the refusal must say */
	struct str uris[3];
	size_t uris_n; /* 0: the good one; no_uri: none */
	bool no_uri, san_twice;
	const char *dns;
	const char *basic, *usage, *ext_usage; /* OpenSSL's syntax; "-": the extension is left out */
	int from_s, to_s;                      /* from now; 0: -60 and 3600 */
	const char *curve;                     /* "P-384", "RSA-1024" */
	const EVP_MD *(*md)(void);
	bool self_signed, no_aki, version1, foreign_issuer, explicit_curve;
	int intermediates;                                     /* additional CA certificates between issuer and leaf */
	size_t padding;                                        /* bytes of a useless extension */
	enum { PKI_AS_BOTH, PKI_AS_CLIENT, PKI_AS_SERVER } as; /* where the refusal is to be expected */
};
/* The one URI of a struct pki_leaf, NUL bytes and all. */
#define PKI_URI(text) .uris = {{text, sizeof(text) - 1}}, .uris_n = 1
struct pki_evil {
	EVP_PKEY *key;
	STACK_OF(X509) * chain; /* leaf first */
};
void pki_evil(const struct pki *p, const struct pki *foreign, const struct pki_leaf *leaf, struct pki_evil *ret);
void pki_evil_done(struct pki_evil *e);
/* A plain OpenSSL end that shows this and accepts everybody, at security level 0. */
SSL_CTX *pki_evil_ctx(const struct pki_evil *e, bool server);

struct pki_end {
	SSL_CTX *ctx;
	struct tls_peer peer; /* expect is set by the test */
	bool no_peer;         /* no tls_arg at all */
	bool done;            /* its handshake came to an end without an error */
	SSL *ssl;
	char alert[80]; /* the error that this end reports */
	unsigned reads; /* application bytes it got */
};
int pki_arg_index(void);
/* Runs both ends until nothing moves any more, then lets the client send 5 bytes and both read. */
void pki_handshake(struct pki_end *client, struct pki_end *server);
void pki_end_done(struct pki_end *e); /* SSL and SSL_CTX */
/* Our end refused this peer: with words that hold `says`, and not one application byte arrived. name: for messages. */
void pki_assert_refused(struct pki_end *ours, struct pki_end *theirs, const char *says, const char *name);

enum pki_kind { PKI_CLIENT, PKI_SERVER, PKI_OPTIONAL };
/* What certs/tlsctx.h makes for such a workload; alpn ends with NULL, or is NULL. The caller frees it, or pki_end_done(). */
SSL_CTX *pki_ctx(const struct pki *p, enum pki_kind kind, const char *ns, const char *sa, const char *const *alpn);

#define PKI_ORDERS "spiffe://" PKI_TD "/ns/shop/sa/orders"
#define PKI_OTHER  "spiffe://" PKI_TD "/ns/shop/sa/other"
#define PKI_WEFTD  "spiffe://" PKI_TD "/ns/weft-system/sa/weftd"
#define PKI_H2     ((const char *const[]){ALPN_WEFT_H2, NULL})

#endif
