/* SPDX-License-Identifier: Apache-2.0 */
/* verified.h: certificate chains that were verified before, by digest, so that the next connection of the same peer costs no signature checks.
 * The proof that the peer has the key (CertificateVerify) and the identity rules are not in here: they are asked for in every handshake.
 *
 * One belongs to one TLS context, thus to one set of roots and one purpose; both go together, so a removed root takes what it vouched for
 * with it. Times are looked at again on each use. Why this is safe: docs/decisions/2026-11-28-verified-chains.md. Safe for use by several threads. */
#ifndef WEFT_CERTS_VERIFIED_H
#define WEFT_CERTS_VERIFIED_H

#include "lib/base.h"

#include <openssl/x509_vfy.h>

#define VERIFIED_MAX 128 /* chains, 48 bytes each; a new one takes the place of another */

struct verified;

struct verified *verified_new(void); /* small until something is put in */
void verified_free(struct verified **v);
/* The presented chain of `ctx` was verified before and all of its certificates are valid at now_s (seconds since 1970), where one may be
 * skew_s too young. */
bool verified_has(struct verified *v, X509_STORE_CTX *ctx, int64_t now_s, int64_t skew_s);
/* X509_verify_cert() has just said yes to `ctx`, and so did everything else that depends on nothing but the certificates. */
void verified_add(struct verified *v, X509_STORE_CTX *ctx);

#endif
