/* SPDX-License-Identifier: Apache-2.0 */
/* csr.h: PKCS#10 requests (RFC 2986). Only the public key and the proof of possession count; names in it are ignored. */
#ifndef WEFT_CERTS_CSR_H
#define WEFT_CERTS_CSR_H

#include "certs/key.h"

#define CSR_DER_MAX 4096

/* DER into *ret (mem_free). */
bool csr_make(EVP_PKEY *key, uint8_t **ret, size_t *ret_len, struct err *err);
/* Checks size, signature and that the key is P-256; gives the public key (EVP_PKEY_free). */
EVP_PKEY *csr_check(const uint8_t *der, size_t len, struct err *err);

#endif
