/* SPDX-License-Identifier: Apache-2.0 */
/* csr.c: making and checking PKCS#10 requests. */
#include "certs/csr.h"
#include "certs/ossl.h"

#include "lib/mem.h"

#include <openssl/x509.h>

bool csr_make(EVP_PKEY *key, uint8_t **ret, size_t *ret_len, struct err *err)
{
	X509_REQ *req = X509_REQ_new();
	unsigned char *der = NULL;
	int len = -1;
	if (req && X509_REQ_set_version(req, X509_REQ_VERSION_1) && X509_REQ_set_pubkey(req, key) &&
	    X509_REQ_sign(req, key, EVP_sha256()) > 0)
		len = i2d_X509_REQ(req, &der);
	X509_REQ_free(req);
	if (len <= 0)
		return ossl_err(err, ERR_SYSTEM, "making a certificate request");
	*ret = mem_dup(der, (size_t)len);
	*ret_len = (size_t)len;
	OPENSSL_free(der);
	return true;
}

/* Only SHA-256 over ECDSA: the cheapest check there is, made before any arithmetic. */
static bool signature_known(const X509_REQ *req)
{
	return X509_REQ_get_signature_nid(req) == NID_ecdsa_with_SHA256;
}

EVP_PKEY *csr_check(const uint8_t *der, size_t len, struct err *err)
{
	if (len == 0 || len > CSR_DER_MAX) {
		err_set(err, ERR_INVALID, "certificate request: %zu bytes, expected 1 to %d", len, CSR_DER_MAX);
		return NULL;
	}
	const unsigned char *p = der;
	X509_REQ *req = d2i_X509_REQ(NULL, &p, (long)len);
	EVP_PKEY *key = NULL;
	if (!req) {
		ossl_err(err, ERR_INVALID, "certificate request: not PKCS#10 in DER");
	} else if (p != der + len) {
		err_set(err, ERR_INVALID, "certificate request: bytes behind its end");
	} else if (!key_is_p256(X509_REQ_get0_pubkey(req))) {
		err_set(err, ERR_INVALID,
			"certificate request: the key is not of the curve P-256, the only one issued for");
	} else if (!signature_known(req)) {
		err_set(err, ERR_INVALID, "certificate request: not signed with ecdsa-with-SHA256");
	} else if (X509_REQ_verify(req, X509_REQ_get0_pubkey(req)) != 1) {
		ossl_err(err, ERR_INVALID,
			 "certificate request: its signature is wrong (no proof that the sender has the key)");
	} else {
		key = X509_REQ_get_pubkey(req);
	}
	X509_REQ_free(req);
	ossl_err(NULL, ERR_NONE, "");
	return key;
}
