/* SPDX-License-Identifier: Apache-2.0 */
/* bundle.h: the trusted roots of one trust domain. Immutable and counted. */
#ifndef WEFT_CERTS_BUNDLE_H
#define WEFT_CERTS_BUNDLE_H

#include "lib/err.h"
#include "lib/str.h"

#include <openssl/x509.h>

struct bundle;

/* roots: DER each, at least one, at most 16. NULL and err when one is not a self-signed CA certificate. */
struct bundle *bundle_new(struct str trust_domain, const struct str *roots, size_t n, struct err *err);
struct bundle *bundle_ref(struct bundle *b);
void bundle_unref(struct bundle **b);
X509_STORE *bundle_store(const struct bundle *b); /* borrowed */
struct str bundle_trust_domain(const struct bundle *b);
size_t bundle_count(const struct bundle *b);
struct str bundle_root(const struct bundle *b, size_t i); /* DER */
/* SHA-256 of a root's DER: what a join token carries. True when one of the roots has it. */
bool bundle_has_hash(const struct bundle *b, const uint8_t hash[static 32]);

#endif
