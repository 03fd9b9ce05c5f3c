/* SPDX-License-Identifier: Apache-2.0 */
/* key.h: private keys, EC P-256 (RFC 5480). Made in the process, wiped when freed, never written to a disk by the proxy. */
#ifndef WEFT_CERTS_KEY_H
#define WEFT_CERTS_KEY_H

#include "lib/err.h"
#include "lib/str.h"

#include <openssl/evp.h>

EVP_PKEY *key_new(struct err *err); /* fresh P-256; EVP_PKEY_free */
/* PKCS#8 DER into *ret (mem_wipe_free by the caller). P-256 only. No other copy of the private number is left in memory, here and in
 * key_from_der() of what this wrote. */
bool key_to_der(const EVP_PKEY *key, uint8_t **ret, size_t *ret_len, struct err *err);
EVP_PKEY *key_from_der(const uint8_t *der, size_t len, struct err *err); /* P-256 only */
bool key_is_p256(const EVP_PKEY *key);                                   /* of the named curve; public or private */

#endif
