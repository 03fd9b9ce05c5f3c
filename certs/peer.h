/* SPDX-License-Identifier: Apache-2.0 */
/* peer.h: from a certificate chain to an identity, or a named refusal. SPIFFE X.509-SVID rules: exactly one URI SAN, compared by
 * length (no NUL), CA:FALSE, no keyCertSign/cRLSign, right EKU, chain to the bundle of that trust domain, depth <= 3.
 * Beyond them: only P-256 with SHA-256, all along the chain; other kinds of SAN on weftd's own certificate only. */
#ifndef WEFT_CERTS_PEER_H
#define WEFT_CERTS_PEER_H

#include "certs/bundle.h"
#include "certs/spiffe.h"
#include "certs/verified.h"

#include <openssl/x509_vfy.h>

#define PEER_DEPTH_MAX     3  /* of the root, the leaf being 0: at most two CA certificates between */
#define PEER_CLOCK_SKEW_S  20 /* a certificate may be this young in the future; none may be past its end */
#define WEFTD_NAMESPACE    "weft-system"
#define WEFTD_SERVICE_ACCT "weftd"

enum peer_role { PEER_CLIENT, PEER_SERVER }; /* what the one who shows the certificate is */

struct peer_want {
	enum peer_role role;
	struct str trust_domain;   /* the bundle's */
	const char *expect;        /* the identity that it must be; NULL: any of the trust domain */
	int64_t grace_s;           /* a leaf that expired so long ago passes too; 0 everywhere but in weftd's renewal */
	struct verified *verified; /* what was verified before, with these roots and this role; NULL: nothing is kept */
};

/* Who a verified leaf is (the chain has been verified by OpenSSL). False and err (ERR_IDENTITY) names what is wrong. */
bool peer_identity(X509 *leaf, struct str trust_domain, struct spiffe *ret, struct err *err);
/* The SPIFFE ID that a leaf claims, nothing else checked: for one's own certificate, to learn its trust domain. */
bool peer_spiffe_id(X509 *leaf, struct spiffe *ret, struct err *err);
/* The whole of it, for use within a handshake: `ctx` has the presented chain and the trusted roots. Sets its parameters,
 * verifies, then peer_identity and the expected name. On false, ctx carries an error that maps to a fitting alert. */
bool peer_verify(X509_STORE_CTX *ctx, const struct peer_want *want, struct spiffe *ret, struct err *err);
bool peer_lapsed(X509 *leaf); /* past its end */

#endif
