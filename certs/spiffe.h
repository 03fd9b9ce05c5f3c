/* SPDX-License-Identifier: Apache-2.0 */
/* spiffe.h: SPIFFE IDs of workloads: spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>. Strict: the SPIFFE ID
 * specification's character sets, no port, userinfo, query, fragment, percent-encoding, empty or dot segments. */
#ifndef WEFT_CERTS_SPIFFE_H
#define WEFT_CERTS_SPIFFE_H

#include "lib/err.h"
#include "lib/str.h"

#define SPIFFE_ID_MAX    512 /* bytes of a whole ID that Weft issues or accepts, NUL included */
#define TRUST_DOMAIN_MAX 255

struct spiffe {
	char id[SPIFFE_ID_MAX];          /* whole, NUL-terminated */
	struct str trust_domain, ns, sa; /* into id: do not copy the struct by assignment, use spiffe_copy */
};

bool spiffe_parse(struct str text, struct spiffe *ret, struct err *err);
bool spiffe_make(struct str trust_domain, struct str ns, struct str sa, struct spiffe *ret, struct err *err);
void spiffe_copy(struct spiffe *dst, const struct spiffe *src);
bool trust_domain_valid(struct str td); /* a-z0-9.-_, at most 255, not empty */

#endif
