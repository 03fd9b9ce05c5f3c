/* SPDX-License-Identifier: Apache-2.0 */
/* own_cert.c: a fresh key, a leaf for it, and both with the CA's chain as a credential. */
#include "control/own_cert.h"

#include "lib/mem.h"

static struct credential *assemble(struct ca *ca, const char *trust_domain, EVP_PKEY *key, X509 *leaf, struct err *err)
{
	unsigned char *der = NULL;
	int len = i2d_X509(leaf, &der);
	MUST(len > 0);
	struct str root = ca_root_der(ca);
	struct str chain[] = {str_make(der, (size_t)len), ca_issuer_der(ca), root};
	struct bundle *bundle = bundle_new(str_of(trust_domain), &root, 1, err);
	struct credential *c = bundle ? credential_new(key, chain, ARRAY_LEN(chain), bundle, err) : NULL;
	bundle_unref(&bundle);
	OPENSSL_free(der);
	return c;
}

struct credential *own_cert_new(struct ca *ca, const char *trust_domain, const char *const *names, struct err *err)
{
	struct spiffe id;
	struct ca_leaf wanted = {.id = &id, .lifetime_s = OWN_LIFETIME_S, .server_name = true, .names = names};
	struct credential *c = NULL;
	if (!spiffe_make(str_of(trust_domain), STR(OWN_NS), STR(OWN_SA), &id, err))
		return NULL;
	EVP_PKEY *key = key_new(err);
	X509 *leaf = key ? ca_sign(ca, key, &wanted, err) : NULL;
	if (leaf)
		c = assemble(ca, trust_domain, key, leaf, err);
	X509_free(leaf);
	EVP_PKEY_free(key);
	if (!c)
		err_prefix(err, "weftd's own certificate");
	return c;
}

bool own_cert_due(const struct credential *c, int64_t now_s)
{
	int64_t from = credential_not_before(c), to = credential_not_after(c);
	return now_s >= from + (to - from) / 2;
}
