/* SPDX-License-Identifier: Apache-2.0 */
/* ossl.c: OpenSSL's errors, certificates and times in the words of lib/. */
#include "certs/ossl.h"

#include "lib/mem.h"

#include <openssl/err.h>

bool ossl_err(struct err *err, enum err_code code, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;
	ERR_clear_error();
	return reason ? err_set(err, code, "%s: %s", what, reason) : err_set(err, code, "%s", what);
}

X509 *ossl_cert(struct str der, struct err *err)
{
	if (der.len == 0 || der.len > CERT_DER_MAX) {
		err_set(err, ERR_INVALID, "a certificate of %zu bytes: expected 1 to %d", der.len, CERT_DER_MAX);
		return NULL;
	}
	const unsigned char *p = (const unsigned char *)der.p;
	X509 *cert = d2i_X509(NULL, &p, (long)der.len);
	if (!cert) {
		ossl_err(err, ERR_INVALID, "not a certificate in DER");
		return NULL;
	}
	if (p != (const unsigned char *)der.p + der.len) {
		err_set(err, ERR_INVALID, "bytes behind the end of a certificate");
		X509_free(cert);
		return NULL;
	}
	return cert;
}

bool ossl_cert_der(const X509 *cert, uint8_t **ret, size_t *ret_len, struct err *err)
{
	unsigned char *der = NULL;
	int len = i2d_X509(cert, &der);
	if (len <= 0)
		return ossl_err(err, ERR_SYSTEM, "encoding a certificate");
	*ret = mem_dup(der, (size_t)len);
	*ret_len = (size_t)len;
	OPENSSL_free(der);
	return true;
}

int64_t ossl_time(const ASN1_TIME *t)
{
	struct tm tm;
	if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
		return INT64_MIN;
	return (int64_t)timegm(&tm);
}
