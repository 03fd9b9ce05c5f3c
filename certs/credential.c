/* SPDX-License-Identifier: Apache-2.0 */
/* credential.c: key, chain and roots as one immutable counted thing, and as one blob.
 *
 * The blob: "WEFTCRD1", then fields of u32 length (big-endian) and bytes: trust domain, key (PKCS#8), u32 count and that many
 * certificates of the chain, u32 count and that many roots. It holds the key in clear: it lives in a sealed memfd only. */
#include "certs/credential.h"
#include "certs/ossl.h"
#include "certs/peer.h"

#include "lib/mem.h"

#include <openssl/pem.h>
#include <stdatomic.h>

#define CREDENTIAL_MAGIC 0x63726564u
#define CHAIN_MAX        8
#define ROOTS_MAX        16
#define BLOB_MAX         (256u << 10)
#define PEM_MAX          (64u << 10)
#define BLOB_HEAD        "WEFTCRD1"

struct credential {
	uint32_t magic;
	atomic_uint refs;
	EVP_PKEY *key;
	struct bundle *bundle;
	X509 *chain[CHAIN_MAX];
	size_t n;
	struct spiffe id;
	int64_t not_before, not_after;
};

static bool fill(struct credential *c, const struct str *chain, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		c->chain[i] = ossl_cert(chain[i], err);
		if (!c->chain[i])
			return err_prefix(err, "certificate %zu of the chain", i + 1);
		c->n++;
	}
	if (!peer_identity(c->chain[0], bundle_trust_domain(c->bundle), &c->id, err))
		return false;
	if (X509_check_private_key(c->chain[0], c->key) != 1) {
		ossl_err(NULL, ERR_NONE, "");
		return err_set(err, ERR_INVALID, "certificate of %s: the private key belongs to another certificate",
			       c->id.id);
	}
	c->not_before = ossl_time(X509_get0_notBefore(c->chain[0]));
	c->not_after = ossl_time(X509_get0_notAfter(c->chain[0]));
	return true;
}

struct credential *credential_new(EVP_PKEY *key, const struct str *chain, size_t n, struct bundle *bundle,
				  struct err *err)
{
	if (n == 0 || n > CHAIN_MAX) {
		err_set(err, ERR_INVALID, "a chain of %zu certificates: expected 1 to %d", n, CHAIN_MAX);
		return NULL;
	}
	struct credential *c = NEW(struct credential);
	c->magic = CREDENTIAL_MAGIC;
	atomic_init(&c->refs, 1);
	EVP_PKEY_up_ref(key);
	c->key = key;
	c->bundle = bundle_ref(bundle);
	if (!fill(c, chain, n, err))
		credential_unref(&c);
	return c;
}

struct credential *credential_ref(struct credential *c)
{
	MUST_BE(c, CREDENTIAL_MAGIC);
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void credential_unref(struct credential **pc)
{
	struct credential *c = *pc;
	*pc = NULL;
	if (!c)
		return;
	MUST_BE(c, CREDENTIAL_MAGIC);
	if (atomic_fetch_sub(&c->refs, 1) > 1)
		return;
	for (size_t i = 0; i < c->n; i++)
		X509_free(c->chain[i]);
	EVP_PKEY_free(c->key);
	bundle_unref(&c->bundle);
	c->magic = 0;
	mem_free(c);
}

const struct spiffe *credential_id(const struct credential *c)
{
	return &c->id;
}

struct bundle *credential_bundle(const struct credential *c)
{
	return c->bundle;
}

int64_t credential_not_before(const struct credential *c)
{
	return c->not_before;
}

int64_t credential_not_after(const struct credential *c)
{
	return c->not_after;
}

EVP_PKEY *credential_key(const struct credential *c)
{
	return c->key;
}

size_t credential_chain_len(const struct credential *c)
{
	return c->n;
}

X509 *credential_chain(const struct credential *c, size_t i)
{
	MUST(i < c->n);
	return c->chain[i];
}

/* --- the blob --- */

struct writer {
	uint8_t *p; /* NULL: only counts */
	size_t len;
};

static void put(struct writer *w, const void *bytes, size_t n)
{
	if (w->p && n)
		memcpy(w->p + w->len, bytes, n);
	w->len += n;
}

static void put_u32(struct writer *w, size_t v)
{
	uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
	put(w, b, sizeof(b));
}

static void put_field(struct writer *w, struct str s)
{
	put_u32(w, s.len);
	put(w, s.p, s.len);
}

static void put_all(struct writer *w, const struct credential *c, struct str key, const struct str *chain)
{
	put(w, BLOB_HEAD, sizeof(BLOB_HEAD) - 1);
	put_field(w, bundle_trust_domain(c->bundle));
	put_field(w, key);
	put_u32(w, c->n);
	for (size_t i = 0; i < c->n; i++)
		put_field(w, chain[i]);
	put_u32(w, bundle_count(c->bundle));
	for (size_t i = 0; i < bundle_count(c->bundle); i++)
		put_field(w, bundle_root(c->bundle, i));
}

bool credential_pack(const struct credential *c, uint8_t **ret, size_t *ret_len, struct err *err)
{
	uint8_t *der[CHAIN_MAX] = {0}, *key = NULL;
	struct str chain[CHAIN_MAX];
	size_t key_len = 0;
	bool ok = key_to_der(c->key, &key, &key_len, err);
	for (size_t i = 0; ok && i < c->n; i++) {
		size_t len = 0;
		ok = ossl_cert_der(c->chain[i], &der[i], &len, err);
		chain[i] = str_make(der[i], len);
	}
	if (ok) {
		struct writer count = {0}, w = {0};
		put_all(&count, c, str_make(key, key_len), chain);
		w.p = mem_alloc(count.len);
		put_all(&w, c, str_make(key, key_len), chain);
		*ret = w.p;
		*ret_len = w.len;
	}
	for (size_t i = 0; i < c->n; i++)
		mem_free(der[i]);
	mem_wipe_free(key, key_len);
	return ok;
}

/* Takes n bytes off the front of *in. */
static bool take(struct str *in, size_t n, struct str *ret)
{
	if (in->len < n)
		return false;
	*ret = str_make(in->p, n);
	*in = str_make(in->p + n, in->len - n);
	return true;
}

static bool take_u32(struct str *in, size_t *ret)
{
	struct str b;
	if (!take(in, 4, &b))
		return false;
	const uint8_t *u = (const uint8_t *)b.p;
	*ret = (size_t)u[0] << 24 | (size_t)u[1] << 16 | (size_t)u[2] << 8 | u[3];
	return true;
}

static bool take_field(struct str *in, struct str *ret)
{
	size_t n;
	return take_u32(in, &n) && take(in, n, ret);
}

static bool take_list(struct str *in, size_t max, struct str *ret, size_t *ret_n)
{
	size_t n;
	if (!take_u32(in, &n) || n == 0 || n > max)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!take_field(in, &ret[i]))
			return false;
	*ret_n = n;
	return true;
}

/* Everything together: bundle and key are made, used and let go. */
static struct credential *assemble(struct str trust_domain, EVP_PKEY *key, const struct str *chain, size_t n,
				   const struct str *roots, size_t roots_n, struct err *err)
{
	struct bundle *b = bundle_new(trust_domain, roots, roots_n, err);
	struct credential *c = b ? credential_new(key, chain, n, b, err) : NULL;
	bundle_unref(&b);
	return c;
}

struct credential *credential_unpack(const uint8_t *blob, size_t len, struct err *err)
{
	struct str in = str_make(blob, len), head, td, key_der, chain[CHAIN_MAX], roots[ROOTS_MAX];
	size_t n, roots_n;
	if (len > BLOB_MAX || !take(&in, sizeof(BLOB_HEAD) - 1, &head) || !str_is(head, BLOB_HEAD) ||
	    !take_field(&in, &td) || !take_field(&in, &key_der) || !take_list(&in, CHAIN_MAX, chain, &n) ||
	    !take_list(&in, ROOTS_MAX, roots, &roots_n) || in.len != 0) {
		err_set(err, ERR_INVALID, "stored credential: %zu bytes that are no credential of this version", len);
		return NULL;
	}
	EVP_PKEY *key = key_from_der((const uint8_t *)key_der.p, key_der.len, err);
	struct credential *c = key ? assemble(td, key, chain, n, roots, roots_n, err) : NULL;
	EVP_PKEY_free(key);
	if (!c)
		err_prefix(err, "stored credential");
	return c;
}

/* --- PEM --- */

struct der_list {
	struct str v[ROOTS_MAX];
	size_t n;
};

static void der_list_done(struct der_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		mem_free((void *)(uintptr_t)l->v[i].p);
	l->n = 0;
}

static BIO *pem_bio(struct str pem)
{
	BIO *in = BIO_new_mem_buf(pem.p ? pem.p : "", (int)pem.len);
	MUST(in != NULL);
	return in;
}

static bool pem_certs(struct str pem, const char *what, size_t max, struct der_list *ret, struct err *err)
{
	if (pem.len > PEM_MAX)
		return err_set(err, ERR_LIMIT, "%s: %zu bytes are more than %u", what, pem.len, PEM_MAX);
	BIO *in = pem_bio(pem);
	bool ok = true;
	for (X509 *cert; ok && (cert = PEM_read_bio_X509(in, NULL, NULL, NULL)); X509_free(cert)) {
		uint8_t *der;
		size_t len;
		if (ret->n == max)
			ok = err_set(err, ERR_LIMIT, "%s: more than %zu certificates", what, max);
		else if ((ok = ossl_cert_der(cert, &der, &len, err)))
			ret->v[ret->n++] = str_make(der, len);
	}
	ossl_err(NULL, ERR_NONE, ""); /* "no start line" is how the reader says that it is at the end */
	BIO_free(in);
	if (ok && ret->n == 0)
		ok = err_set(err, ERR_INVALID, "%s: no PEM certificate (-----BEGIN CERTIFICATE-----) in it", what);
	return ok;
}

static int no_password(char *buf, int size, int rwflag, void *arg)
{
	return -1;
}

/* A plain PKCS#8 key, by key.h, which leaves no copy behind. NULL: it is another kind of key, or none. */
static EVP_PKEY *pkcs8_key(struct str pem)
{
	BIO *in = pem_bio(pem);
	char *name = NULL;
	unsigned char *der = NULL;
	long len = 0;
	EVP_PKEY *key = NULL;
	if (PEM_bytes_read_bio_secmem(&der, &len, &name, PEM_STRING_PKCS8INF, in, no_password, NULL) == 1)
		key = key_from_der(der, (size_t)len, NULL);
	OPENSSL_secure_clear_free(der, (size_t)len);
	OPENSSL_free(name);
	BIO_free(in);
	ossl_err(NULL, ERR_NONE, "");
	return key;
}

static EVP_PKEY *pem_key(struct str pem, struct err *err)
{
	if (pem.len > PEM_MAX) {
		err_set(err, ERR_LIMIT, "private key: %zu bytes are more than %u", pem.len, PEM_MAX);
		return NULL;
	}
	EVP_PKEY *key = pkcs8_key(pem);
	if (!key) {
		BIO *in = pem_bio(pem);
		key = PEM_read_bio_PrivateKey(in, NULL, no_password, NULL);
		BIO_free(in);
	}
	if (!key) {
		ossl_err(err, ERR_INVALID, "private key: not a PEM private key without a password");
		return NULL;
	}
	if (!key_is_p256(key)) {
		err_set(err, ERR_INVALID, "private key: not of the curve P-256, the only one that Weft uses");
		EVP_PKEY_free(key);
		key = NULL;
	}
	return key;
}

/* The leaf says its own trust domain; whether the roots are of the same one shows when peers are verified. */
static bool leaf_trust_domain(struct str leaf_der, struct spiffe *ret, struct err *err)
{
	X509 *leaf = ossl_cert(leaf_der, err);
	if (!leaf)
		return false;
	bool ok = peer_spiffe_id(leaf, ret, err);
	X509_free(leaf);
	return ok;
}

struct credential *credential_from_pem(struct str cert_pem, struct str key_pem, struct str roots_pem, struct err *err)
{
	struct der_list chain = {0}, roots = {0};
	struct credential *c = NULL;
	struct spiffe id;
	EVP_PKEY *key = NULL;
	if (pem_certs(cert_pem, "certificate chain", CHAIN_MAX, &chain, err) &&
	    pem_certs(roots_pem, "roots", ROOTS_MAX, &roots, err) && (key = pem_key(key_pem, err)) != NULL &&
	    leaf_trust_domain(chain.v[0], &id, err))
		c = assemble(id.trust_domain, key, chain.v, chain.n, roots.v, roots.n, err);
	EVP_PKEY_free(key);
	der_list_done(&chain);
	der_list_done(&roots);
	return c;
}
