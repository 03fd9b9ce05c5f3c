/* SPDX-License-Identifier: Apache-2.0 */
/* peer.h: from a certificate chain to an identity, or a named refusal. SPIFFE X.509-SVID rules: exactly one URI SAN, compared by
 * length (no NUL), CA:FALSE, no keyCertSign/cRLSign, right EKU, chain to the bundle of that trust domain, depth <= 3. */
#ifndef WEFT_CERTS_PEER_H
#define WEFT_CERTS_PEER_H

#include "certs/bundle.h"
#include "certs/spiffe.h"

/* Who a verified leaf is (the chain has been verified by OpenSSL). False and err (ERR_IDENTITY) names what is wrong. */
bool peer_identity(X509 *leaf, struct str trust_domain, struct spiffe *ret, struct err *err);

#endif
