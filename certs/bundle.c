/* SPDX-License-Identifier: Apache-2.0 */
/* bundle.c: trusted roots. The X509_STORE inside is made once, then only read: bundles cross threads. */
#include "certs/bundle.h"
#include "certs/key.h"
#include "certs/ossl.h"
#include "certs/spiffe.h"

#include "lib/mem.h"

#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>

#define BUNDLE_MAGIC 0x626e646cu
#define ROOTS_MAX    16

struct bundle {
	uint32_t magic;
	atomic_uint refs;
	char trust_domain[TRUST_DOMAIN_MAX + 1];
	X509_STORE *store;
	size_t n;
	struct root {
		uint8_t *der;
		size_t len;
		uint8_t hash[SHA256_DIGEST_LENGTH];
	} roots[ROOTS_MAX];
};

/* A root authenticates by being listed; it must still be what it claims, or a leaf slipped in would sign for others. */
static bool root_check(X509 *cert, struct err *err)
{
	uint32_t flags = X509_get_extension_flags(cert);
	if ((flags & EXFLAG_INVALID) || X509_check_ca(cert) != 1)
		return err_set(err, ERR_INVALID, "is not a CA certificate (basicConstraints CA:TRUE is missing)");
	if (!(X509_get_key_usage(cert) & KU_KEY_CERT_SIGN))
		return err_set(err, ERR_INVALID, "may not sign certificates (keyUsage keyCertSign is missing)");
	if (!key_is_p256(X509_get0_pubkey(cert)))
		return err_set(err, ERR_INVALID, "has a key that is not of the curve P-256");
	if (!(flags & EXFLAG_SS) || X509_verify(cert, X509_get0_pubkey(cert)) != 1) {
		ossl_err(NULL, ERR_NONE, "");
		return err_set(err, ERR_INVALID, "is not self-signed");
	}
	return true;
}

static bool root_add(struct bundle *b, struct str der, struct err *err)
{
	X509 *cert = ossl_cert(der, err);
	if (!cert)
		return err_prefix(err, "root certificate %zu", b->n + 1);
	bool ok = root_check(cert, err);
	if (!ok)
		err_prefix(err, "root certificate %zu", b->n + 1);
	else if (!(ok = X509_STORE_add_cert(b->store, cert) == 1))
		ossl_err(err, ERR_SYSTEM, "adding a root certificate");
	X509_free(cert);
	if (!ok)
		return false;
	struct root *r = &b->roots[b->n++];
	r->der = mem_dup(der.p, der.len);
	r->len = der.len;
	SHA256(r->der, r->len, r->hash);
	return true;
}

struct bundle *bundle_new(struct str trust_domain, const struct str *roots, size_t n, struct err *err)
{
	if (!trust_domain_valid(trust_domain)) {
		err_set(err, ERR_INVALID, "trust domain \"" STR_FMT "\": expected 1 to 255 of a-z, 0-9, '.', '-', '_'",
			STR_ARG(trust_domain));
		return NULL;
	}
	if (n == 0 || n > ROOTS_MAX) {
		err_set(err, ERR_INVALID, "%zu root certificates: expected 1 to %d", n, ROOTS_MAX);
		return NULL;
	}
	struct bundle *b = NEW(struct bundle);
	b->magic = BUNDLE_MAGIC;
	atomic_init(&b->refs, 1);
	memcpy(b->trust_domain, trust_domain.p, trust_domain.len);
	b->store = X509_STORE_new();
	MUST(b->store != NULL);
	for (size_t i = 0; i < n; i++) {
		if (!root_add(b, roots[i], err)) {
			bundle_unref(&b);
			return NULL;
		}
	}
	return b;
}

struct bundle *bundle_ref(struct bundle *b)
{
	MUST_BE(b, BUNDLE_MAGIC);
	atomic_fetch_add(&b->refs, 1);
	return b;
}

void bundle_unref(struct bundle **pb)
{
	struct bundle *b = *pb;
	*pb = NULL;
	if (!b)
		return;
	MUST_BE(b, BUNDLE_MAGIC);
	if (atomic_fetch_sub(&b->refs, 1) > 1)
		return;
	for (size_t i = 0; i < b->n; i++)
		mem_free(b->roots[i].der);
	X509_STORE_free(b->store);
	b->magic = 0;
	mem_free(b);
}

X509_STORE *bundle_store(const struct bundle *b)
{
	return b->store;
}

struct str bundle_trust_domain(const struct bundle *b)
{
	return str_of(b->trust_domain);
}

size_t bundle_count(const struct bundle *b)
{
	return b->n;
}

struct str bundle_root(const struct bundle *b, size_t i)
{
	MUST(i < b->n);
	return str_make(b->roots[i].der, b->roots[i].len);
}

bool bundle_has_hash(const struct bundle *b, const uint8_t hash[static 32])
{
	for (size_t i = 0; i < b->n; i++)
		if (memcmp(b->roots[i].hash, hash, SHA256_DIGEST_LENGTH) == 0)
			return true;
	return false;
}
