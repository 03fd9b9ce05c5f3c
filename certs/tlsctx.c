/* SPDX-License-Identifier: Apache-2.0 */
/* tlsctx.c: making the SSL_CTXs. What differs between the four kinds is in struct tlsctx, which hangs on the SSL_CTX and dies with
 * it; everything that OpenSSL would do by default and the mesh does not want is switched off in harden(). */
#include "certs/tlsctx.h"
#include "certs/ossl.h"
#include "certs/peer.h"

#include "lib/mem.h"

#include <openssl/sha.h>
#include <openssl/tls1.h>
#include <openssl/x509v3.h>
#include <pthread.h>

#define TLSCTX_MAGIC   0x746c7363u
#define CERT_LIST_MAX  (16u << 10)
#define ALPN_WIRE_MAX  128
#define SECURITY_LEVEL 2
#define CIPHERSUITES   "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS         "X25519:P-256"
#define SIGNATURES     "ECDSA+SHA256"

/* The credential that is shown, of a context and of those that succeeded it: each handshake takes what is in force then. A connection
 * keeps its SSL_CTX, and an SSL_CTX with a key in it would keep that key in memory for as long as the oldest connection lives. */
struct shown {
	pthread_mutex_t lock;
	unsigned refs;
	struct credential *credential;
};

struct tlsctx {
	uint32_t magic;
	enum peer_role peer_role; /* what the others are to us */
	struct shown *shown;      /* NULL in a bootstrap context */
	struct bundle *bundle;    /* whom it trusts; NULL in a bootstrap context */
	uint8_t root_hash[SHA256_DIGEST_LENGTH];
	int arg_index;
	int64_t grace_s;
	struct verified *verified;                            /* NULL in a bootstrap context: its root is the peer's */
	void (*on_refused)(void *arg, const struct err *why); /* NULL: nobody listens */
	void *refused_arg;
	unsigned char alpn[ALPN_WIRE_MAX]; /* wire format */
	size_t alpn_len;
};

/* --- what is shown --- */

static struct shown *shown_new(struct credential *c)
{
	struct shown *s = NEW(struct shown);
	MUST(pthread_mutex_init(&s->lock, NULL) == 0);
	s->refs = 1;
	s->credential = credential_ref(c);
	return s;
}

static void shown_unref(struct shown **ps)
{
	struct shown *s = *ps;
	*ps = NULL;
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	bool last = --s->refs == 0;
	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	credential_unref(&s->credential);
	pthread_mutex_destroy(&s->lock);
	mem_free(s);
}

static struct credential *shown_get(struct shown *s)
{
	pthread_mutex_lock(&s->lock);
	struct credential *c = credential_ref(s->credential);
	pthread_mutex_unlock(&s->lock);
	return c;
}

/* --- what OpenSSL keeps for us: struct tlsctx on the SSL_CTX, struct tls_peer on the SSL --- */

static int ctx_index, peer_index;
static pthread_once_t indexes_once = PTHREAD_ONCE_INIT;

static void free_tlsctx(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	struct tlsctx *t = ptr;
	if (!t)
		return;
	MUST_BE(t, TLSCTX_MAGIC);
	shown_unref(&t->shown);
	bundle_unref(&t->bundle);
	verified_free(&t->verified);
	t->magic = 0;
	mem_free(t);
}

static void free_peer(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	mem_free(ptr);
}

static void make_indexes(void)
{
	ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_tlsctx);
	peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_peer);
	MUST(ctx_index >= 0 && peer_index >= 0);
}

const struct tls_peer *tlsctx_peer(SSL *ssl, int arg_index)
{
	pthread_once(&indexes_once, make_indexes);
	const struct tls_peer *p = SSL_get_ex_data(ssl, peer_index);
	if (!p)
		p = SSL_get_ex_data(ssl, arg_index);
	return p && p->verified ? p : NULL;
}

const struct tls_peer *tlsctx_lapsed_peer(SSL *ssl)
{
	pthread_once(&indexes_once, make_indexes);
	const struct tls_peer *p = SSL_get_ex_data(ssl, peer_index);
	return p && p->lapsed ? p : NULL;
}

void tlsctx_on_refused(SSL_CTX *ctx, void (*fn)(void *arg, const struct err *why), void *arg)
{
	struct tlsctx *t = SSL_CTX_get_ex_data(ctx, ctx_index);
	MUST_BE(t, TLSCTX_MAGIC);
	t->on_refused = fn;
	t->refused_arg = arg;
}

void tlsctx_allow_lapsed(SSL_CTX *ctx, int64_t grace_s)
{
	struct tlsctx *t = SSL_CTX_get_ex_data(ctx, ctx_index);
	MUST_BE(t, TLSCTX_MAGIC);
	MUST(t->peer_role == PEER_CLIENT && grace_s >= 0);
	t->grace_s = grace_s;
}

/* --- verification --- */

/* The presented certificate that the join token's hash names, if there: alone it becomes the trusted root. */
static STACK_OF(X509) * pinned_root(const struct tlsctx *t, X509_STORE_CTX *store)
{
	STACK_OF(X509) *presented = X509_STORE_CTX_get0_untrusted(store);
	for (int i = 0; i < sk_X509_num(presented); i++) {
		X509 *cert = sk_X509_value(presented, i);
		uint8_t hash[EVP_MAX_MD_SIZE];
		unsigned len = 0;
		if (X509_digest(cert, EVP_sha256(), hash, &len) != 1 || len != SHA256_DIGEST_LENGTH ||
		    memcmp(hash, t->root_hash, SHA256_DIGEST_LENGTH) != 0 ||
		    !(X509_get_extension_flags(cert) & EXFLAG_SS) || X509_check_ca(cert) != 1)
			continue;
		STACK_OF(X509) *roots = sk_X509_new_null();
		MUST(roots && sk_X509_push(roots, cert));
		return roots;
	}
	return NULL;
}

static bool verify_bootstrap(const struct tlsctx *t, X509_STORE_CTX *store, struct tls_peer *peer)
{
	struct spiffe expected;
	if (!spiffe_parse(str_of(peer->expect), &expected, &peer->err))
		return err_prefix(&peer->err, "the identity that weftd must have");
	STACK_OF(X509) *roots = pinned_root(t, store);
	if (!roots)
		return err_set(&peer->err, ERR_IDENTITY,
			       "this is not the weftd that made the join token: the root named in the token (SHA-256 "
			       "%02x%02x%02x%02x...) is not in its chain. If its root was replaced, make a new token",
			       t->root_hash[0], t->root_hash[1], t->root_hash[2], t->root_hash[3]);
	struct peer_want want = {PEER_SERVER, expected.trust_domain, peer->expect, 0, NULL};
	X509_STORE_CTX_set0_trusted_stack(store, roots);
	bool ok = peer_verify(store, &want, &peer->id, &peer->err);
	X509_STORE_CTX_set0_trusted_stack(store, NULL);
	sk_X509_free(roots);
	return ok;
}

static bool verify(const struct tlsctx *t, SSL *ssl, X509_STORE_CTX *store, struct tls_peer *peer)
{
	if (t->peer_role == PEER_SERVER && t->alpn_len) {
		const unsigned char *chosen;
		unsigned len;
		SSL_get0_alpn_selected(ssl, &chosen, &len);
		if (len == 0)
			return err_set(&peer->err, ERR_PROTOCOL,
				       "the server chose no protocol (ALPN): it is no peer of this mesh");
	}
	if (!t->bundle)
		return verify_bootstrap(t, store, peer);
	struct peer_want want = {t->peer_role, bundle_trust_domain(t->bundle), peer->expect, t->grace_s, t->verified};
	return peer_verify(store, &want, &peer->id, &peer->err);
}

/* Called by OpenSSL instead of its own verification, once, when the peer's certificate message has come. */
static int on_certificate(X509_STORE_CTX *store, void *arg)
{
	const struct tlsctx *t = arg;
	MUST_BE(t, TLSCTX_MAGIC);
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_peer *theirs = SSL_get_ex_data(ssl, t->arg_index);
	struct tls_peer *peer = NEW(struct tls_peer); /* freed with the SSL */
	mem_free(SSL_get_ex_data(ssl, peer_index));
	MUST(SSL_set_ex_data(ssl, peer_index, peer) == 1);
	peer->expect = theirs ? theirs->expect : NULL;
	if (t->peer_role == PEER_SERVER && (!theirs || (!t->bundle && !theirs->expect)))
		peer->verified =
		    err_set(&peer->err, ERR_IDENTITY, "no expected identity was given for this connection");
	else
		peer->verified = verify(t, ssl, store, peer);
	if (peer->verified && t->grace_s && peer_lapsed(X509_STORE_CTX_get0_cert(store))) {
		peer->lapsed = true;
		peer->verified = err_set(&peer->err, ERR_IDENTITY, "certificate of %s has expired", peer->id.id);
	}
	if (theirs) {
		theirs->verified = peer->verified;
		theirs->lapsed = peer->lapsed;
		theirs->err = peer->err;
		if (peer->verified || peer->lapsed)
			spiffe_copy(&theirs->id, &peer->id);
	}
	peer->expect = NULL; /* theirs: it may be gone after the handshake */
	bool ok = peer->verified || peer->lapsed, verified = peer->verified;
	if (!ok && t->on_refused)
		t->on_refused(t->refused_arg, &peer->err);
	if (theirs && verified) { /* one copy is enough for the life of a connection */
		MUST(SSL_set_ex_data(ssl, peer_index, NULL) == 1);
		mem_free(peer);
	}
	if (!ok && X509_STORE_CTX_get_error(store) == X509_V_OK)
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
	return ok;
}

/* --- ALPN --- */

static bool alpn_wire(struct tlsctx *t, const char *const *names)
{
	for (size_t i = 0; names && names[i]; i++) {
		size_t len = strlen(names[i]);
		if (len == 0 || len > 255 || t->alpn_len + 1 + len > sizeof(t->alpn))
			return false;
		t->alpn[t->alpn_len++] = (unsigned char)len;
		memcpy(t->alpn + t->alpn_len, names[i], len);
		t->alpn_len += len;
	}
	return true;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		   unsigned in_len, void *arg)
{
	const struct tlsctx *t = arg;
	unsigned char *chosen;
	if (SSL_select_next_proto(&chosen, out_len, t->alpn, (unsigned)t->alpn_len, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* OpenSSL asks on_alpn only when the client offers something; one that offers nothing is no peer either. */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
	const unsigned char *ext;
	size_t len;
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &ext, &len) == 1)
		return SSL_CLIENT_HELLO_SUCCESS;
	*alert = SSL_AD_NO_APPLICATION_PROTOCOL;
	return SSL_CLIENT_HELLO_ERROR;
}

/* --- contexts --- */

static bool harden(SSL_CTX *ctx)
{
	uint64_t options = SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION;
#ifdef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
	options |= SSL_OP_NO_TX_CERTIFICATE_COMPRESSION | SSL_OP_NO_RX_CERTIFICATE_COMPRESSION;
#endif
	SSL_CTX_set_options(ctx, options);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_security_level(ctx, SECURITY_LEVEL);
	SSL_CTX_set_max_cert_list(ctx, CERT_LIST_MAX);
	return SSL_CTX_set_num_tickets(ctx, 0) && SSL_CTX_set_max_early_data(ctx, 0) &&
	       SSL_CTX_set_recv_max_early_data(ctx, 0) && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
	       SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) && SSL_CTX_set_ciphersuites(ctx, CIPHERSUITES) &&
	       SSL_CTX_set1_groups_list(ctx, GROUPS) && SSL_CTX_set1_sigalgs_list(ctx, SIGNATURES);
}

static bool show(SSL *ssl, const struct credential *c)
{
	STACK_OF(X509) *rest = sk_X509_new_null();
	MUST(rest != NULL);
	for (size_t i = 1; i < credential_chain_len(c); i++)
		MUST(sk_X509_push(rest, credential_chain(c, i)) > 0);
	bool ok = SSL_use_cert_and_key(ssl, credential_chain(c, 0), credential_key(c), rest, 1) == 1;
	sk_X509_free(rest);
	return ok;
}

/* Called by OpenSSL in each handshake before a certificate is chosen; conn_tls.c takes it away again afterwards. */
static int on_show(SSL *ssl, void *arg)
{
	const struct tlsctx *t = arg;
	MUST_BE(t, TLSCTX_MAGIC);
	struct credential *c = shown_get(t->shown);
	bool ok = show(ssl, c);
	credential_unref(&c);
	return ok;
}

/* SSL_CTX_set_alpn_protos is the one function of OpenSSL here that answers 0 for success. */
static bool set_alpn(SSL_CTX *ctx, struct tlsctx *t)
{
	if (t->alpn_len == 0)
		return true;
	if (t->peer_role == PEER_SERVER)
		return SSL_CTX_set_alpn_protos(ctx, t->alpn, (unsigned)t->alpn_len) == 0;
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, t);
	SSL_CTX_set_client_hello_cb(ctx, on_client_hello, t);
	return true;
}

/* What is given for each kind; `c` NULL with root_hash: bootstrap. */
struct kind {
	enum peer_role peer_role;
	int verify_mode;
	const uint8_t *root_hash;
};

static SSL_CTX *make(const struct kind *kind, struct credential *c, const char *const *alpn, int arg_index,
		     struct err *err)
{
	pthread_once(&indexes_once, make_indexes);
	SSL_CTX *ctx = SSL_CTX_new(kind->peer_role == PEER_SERVER ? TLS_client_method() : TLS_server_method());
	MUST(ctx != NULL);
	struct tlsctx *t = NEW(struct tlsctx);
	t->magic = TLSCTX_MAGIC;
	t->peer_role = kind->peer_role;
	t->shown = c ? shown_new(c) : NULL;
	t->bundle = c ? bundle_ref(credential_bundle(c)) : NULL;
	t->verified = c ? verified_new() : NULL;
	t->arg_index = arg_index;
	if (kind->root_hash)
		memcpy(t->root_hash, kind->root_hash, sizeof(t->root_hash));
	MUST(SSL_CTX_set_ex_data(ctx, ctx_index, t) == 1);
	SSL_CTX_set_verify(ctx, kind->verify_mode, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, on_certificate, t);
	if (c) {
		SSL_CTX_set_cert_cb(ctx, on_show, t);
		SSL_CTX_set1_cert_store(ctx, bundle_store(t->bundle));
	}
	if (!alpn_wire(t, alpn))
		err_set(err, ERR_INVALID, "TLS context: the ALPN names are empty or too long");
	else if (!harden(ctx) || !set_alpn(ctx, t))
		ossl_err(err, ERR_TLS, "TLS context");
	else
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

SSL_CTX *tlsctx_client(struct credential *c, const char *const *alpn, int arg_index, struct err *err)
{
	struct kind kind = {PEER_SERVER, SSL_VERIFY_PEER, NULL};
	return make(&kind, c, alpn, arg_index, err);
}

SSL_CTX *tlsctx_server(struct credential *c, const char *const *alpn, int arg_index, struct err *err)
{
	struct kind kind = {PEER_CLIENT, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL};
	return make(&kind, c, alpn, arg_index, err);
}

SSL_CTX *tlsctx_server_optional(struct credential *c, const char *const *alpn, int arg_index, struct err *err)
{
	struct kind kind = {PEER_CLIENT, SSL_VERIFY_PEER, NULL};
	return make(&kind, c, alpn, arg_index, err);
}

SSL_CTX *tlsctx_bootstrap(const uint8_t root_hash[static 32], const char *const *alpn, int arg_index, struct err *err)
{
	struct kind kind = {PEER_SERVER, SSL_VERIFY_PEER, root_hash};
	return make(&kind, NULL, alpn, arg_index, err);
}

void tlsctx_succeed(SSL_CTX *ctx, SSL_CTX *former)
{
	struct tlsctx *t = SSL_CTX_get_ex_data(ctx, ctx_index), *f = SSL_CTX_get_ex_data(former, ctx_index);
	MUST_BE(t, TLSCTX_MAGIC);
	MUST_BE(f, TLSCTX_MAGIC);
	struct credential *c = shown_get(t->shown), *was;
	shown_unref(&t->shown);
	pthread_mutex_lock(&f->shown->lock);
	was = f->shown->credential;
	f->shown->credential = c;
	f->shown->refs++;
	pthread_mutex_unlock(&f->shown->lock);
	t->shown = f->shown;
	credential_unref(&was);
}
