/* SPDX-License-Identifier: Apache-2.0 */
/* ca.h: the embedded certificate authority: a self-signed root (10 years) and an issuing intermediate (1 year) that signs
 * leaves of at most 24 h. All P-256. The keys are given and taken as DER; where they are kept is the store's business. */
#ifndef WEFT_CERTS_CA_H
#define WEFT_CERTS_CA_H

#include "certs/key.h"
#include "certs/spiffe.h"

#include <openssl/x509.h>

struct ca;

struct ca_material { /* what the store keeps; every member mem_wipe_free / mem_free by ca_material_done */
	uint8_t *root_cert, *root_key, *issuer_cert, *issuer_key;
	size_t root_cert_len, root_key_len, issuer_cert_len, issuer_key_len;
};
void ca_material_done(struct ca_material *m);

bool ca_make(struct str trust_domain, struct ca_material *ret, struct err *err);
struct ca *ca_new(const struct ca_material *m, struct err *err);
void ca_free(struct ca **ca);

struct ca_leaf {
	const struct spiffe *id;
	uint64_t lifetime_s; /* capped at 24 h (an operator's: 1 year) and by the issuer's own end */
	bool operator;       /* an administrator's client certificate, written to a file by `weftd init` */
	bool server_name;    /* weftd's own certificate: also DNS/IP SANs of `names` */
	const char *const *names;
};
/* Signs `public_key` as id: exactly one URI SAN (critical without subject), CA:FALSE, digitalSignature, serverAuth and clientAuth,
 * notBefore 60 s back, 128-bit random serial. Returns the leaf; X509_free. */
X509 *ca_sign(struct ca *ca, EVP_PKEY *public_key, const struct ca_leaf *leaf, struct err *err);
struct str ca_root_der(const struct ca *ca);
struct str ca_issuer_der(const struct ca *ca);

#endif
