/* SPDX-License-Identifier: Apache-2.0 */
/* credential.h: what a program shows others: a private key with its chain, and the roots that it trusts. Immutable and
 * counted; a renewal makes a new one, connections keep the one they began with. Can be put into one blob for the
 * supervisor's memfd and read back. */
#ifndef WEFT_CERTS_CREDENTIAL_H
#define WEFT_CERTS_CREDENTIAL_H

#include "certs/bundle.h"
#include "certs/key.h"
#include "certs/spiffe.h"

struct credential;

/* chain: DER, leaf first. Takes a reference on key and bundle. Checks that key and leaf belong together and that the leaf is a
 * SPIFFE leaf of the bundle's trust domain. */
struct credential *credential_new(EVP_PKEY *key, const struct str *chain, size_t n, struct bundle *bundle,
				  struct err *err);
struct credential *credential_ref(struct credential *c);
void credential_unref(struct credential **c);
const struct spiffe *credential_id(const struct credential *c);
struct bundle *credential_bundle(const struct credential *c);
int64_t credential_not_before(const struct credential *c); /* seconds since 1970 */
int64_t credential_not_after(const struct credential *c);
EVP_PKEY *credential_key(const struct credential *c);
size_t credential_chain_len(const struct credential *c);
X509 *credential_chain(const struct credential *c, size_t i); /* borrowed */
/* One blob with key, chain and roots (length-prefixed, versioned). mem_wipe_free by the caller. */
bool credential_pack(const struct credential *c, uint8_t **ret, size_t *ret_len, struct err *err);
struct credential *credential_unpack(const uint8_t *blob, size_t len, struct err *err);
/* From PEM text (certificate chain leaf first, PKCS#8 key, roots) : for -f and the CLI. */
struct credential *credential_from_pem(struct str cert_pem, struct str key_pem, struct str roots_pem, struct err *err);

#endif
