/* SPDX-License-Identifier: Apache-2.0 */
/* ossl.h: what the files of certs/ share about OpenSSL: its error queue, certificates and times in our words. Not for
 * other folders. */
#ifndef WEFT_CERTS_OSSL_H
#define WEFT_CERTS_OSSL_H

#include "lib/err.h"
#include "lib/str.h"

#include <openssl/x509.h>

#define CERT_DER_MAX 8192 /* one certificate; those of Weft have about 500 bytes */

/* "what: the reason of OpenSSL's newest error", and empties the queue (a stale entry would be blamed on the next SSL call).
 * Returns false. */
bool ossl_err(struct err *err, enum err_code code, const char *what);
/* One DER certificate, nothing behind it. NULL and err; X509_free. */
X509 *ossl_cert(struct str der, struct err *err);
/* DER into *ret, mem_free. */
bool ossl_cert_der(const X509 *cert, uint8_t **ret, size_t *ret_len, struct err *err);
int64_t ossl_time(const ASN1_TIME *t); /* seconds since 1970; INT64_MIN when it cannot be read */

#endif
