/* SPDX-License-Identifier: Apache-2.0 */
/* verified.c: a set-associative table of digests. Nothing points to it from outside, and entries hold no certificates. */
#include "certs/verified.h"
#include "certs/ossl.h"

#include "lib/mem.h"

#include <openssl/evp.h>
#include <pthread.h>

#define WAYS        4
#define SETS        (VERIFIED_MAX / WAYS)
#define DIGEST_LEN  32
#define PRESENT_MAX 6 /* certificates shown; longer lists are verified each time (and refused by depth) */

struct entry {
	uint8_t digest[DIGEST_LEN]; /* of the presented certificates in their order */
	int64_t from_s, to_s; /* the latest begin and the earliest end of the chain's certificates; to_s 0: empty */
};
_Static_assert(sizeof(struct entry) == 48, "verified.h says so");

struct verified {
	pthread_mutex_t lock;    /* held for a lookup; a handshake costs a thousand times that */
	struct entry (*v)[WAYS]; /* NULL until something is put in */
	uint8_t turn[SETS];      /* whose place is taken next */
};

struct verified *verified_new(void)
{
	struct verified *v = NEW(struct verified);
	MUST(pthread_mutex_init(&v->lock, NULL) == 0);
	return v;
}

void verified_free(struct verified **vp)
{
	if (*vp == NULL)
		return;
	pthread_mutex_destroy(&(*vp)->lock);
	mem_free((*vp)->v);
	FREE(vp);
}

/* SHA-256 of the SHA-256 of each presented certificate: where one ends and the next begins is part of it. */
static bool digest_of(X509_STORE_CTX *ctx, uint8_t out[static DIGEST_LEN])
{
	const STACK_OF(X509) *shown = X509_STORE_CTX_get0_untrusted(ctx);
	uint8_t each[PRESENT_MAX * DIGEST_LEN];
	int n = sk_X509_num(shown);
	unsigned len;
	/* The leaf that is verified is the first that was shown. */
	if (n < 1 || n > PRESENT_MAX || sk_X509_value(shown, 0) != X509_STORE_CTX_get0_cert(ctx))
		return false;
	for (int i = 0; i < n; i++)
		if (X509_digest(sk_X509_value(shown, i), EVP_sha256(), each + (size_t)i * DIGEST_LEN, &len) != 1 ||
		    len != DIGEST_LEN)
			return false;
	return EVP_Digest(each, (size_t)n * DIGEST_LEN, out, &len, EVP_sha256(), NULL) == 1 && len == DIGEST_LEN;
}

static struct entry *find(struct verified *v, const uint8_t digest[static DIGEST_LEN])
{
	struct entry *set = v->v[digest[0] % SETS];
	for (size_t i = 0; i < WAYS; i++)
		if (set[i].to_s != 0 && memcmp(set[i].digest, digest, DIGEST_LEN) == 0)
			return &set[i];
	return NULL;
}

bool verified_has(struct verified *v, X509_STORE_CTX *ctx, int64_t now_s, int64_t skew_s)
{
	uint8_t digest[DIGEST_LEN];
	bool has = false;
	if (!digest_of(ctx, digest))
		return false;
	pthread_mutex_lock(&v->lock);
	if (v->v != NULL) {
		const struct entry *e = find(v, digest);
		has = e != NULL && e->from_s <= now_s + skew_s && e->to_s > now_s;
	}
	pthread_mutex_unlock(&v->lock);
	return has;
}

void verified_add(struct verified *v, X509_STORE_CTX *ctx)
{
	const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	struct entry e = {.from_s = INT64_MIN, .to_s = INT64_MAX};
	if (chain == NULL || !digest_of(ctx, e.digest))
		return;
	for (int i = 0; i < sk_X509_num(chain); i++) {
		const X509 *cert = sk_X509_value(chain, i);
		e.from_s = MAX(e.from_s, ossl_time(X509_get0_notBefore(cert)));
		e.to_s = MIN(e.to_s, ossl_time(X509_get0_notAfter(cert)));
	}
	pthread_mutex_lock(&v->lock);
	if (v->v == NULL)
		v->v = mem_zalloc(sizeof(struct entry) * VERIFIED_MAX);
	struct entry *place = find(v, e.digest);
	size_t set = e.digest[0] % SETS;
	if (place == NULL)
		place = &v->v[set][v->turn[set]++ % WAYS];
	*place = e;
	pthread_mutex_unlock(&v->lock);
}
