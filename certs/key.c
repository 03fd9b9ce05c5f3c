/* SPDX-License-Identifier: Apache-2.0 */
/* key.c: private keys over OpenSSL's EVP. */
#include "certs/key.h"
#include "certs/ossl.h"

#include "lib/mem.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/x509.h>

#define KEY_DER_MAX 1024 /* a P-256 key in PKCS#8 is 138 bytes */

EVP_PKEY *key_new(struct err *err)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	if (!key)
		ossl_err(err, ERR_SYSTEM, "making a P-256 key");
	return key;
}

bool key_is_p256(const EVP_PKEY *key)
{
	char group[32];
	size_t len = 0;
	int explicit_params = 0;
	if (!key || !EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, group, sizeof(group), &len) != 1 ||
	    strcmp(group, "prime256v1") != 0)
		return false;
	/* Spelled-out curve parameters that happen to be those of P-256 are another spelling of a key: refused (RFC 5480 2.1.1). */
	return EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &explicit_params) != 1 ||
	       !explicit_params;
}

bool key_to_der(const EVP_PKEY *key, uint8_t **ret, size_t *ret_len, struct err *err)
{
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
	unsigned char *der = NULL;
	int len = info ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : -1;
	PKCS8_PRIV_KEY_INFO_free(info);
	if (len <= 0)
		return ossl_err(err, ERR_SYSTEM, "encoding a private key");
	*ret = mem_dup(der, (size_t)len);
	*ret_len = (size_t)len;
	OPENSSL_clear_free(der, (size_t)len);
	return true;
}

EVP_PKEY *key_from_der(const uint8_t *der, size_t len, struct err *err)
{
	if (len == 0 || len > KEY_DER_MAX) {
		err_set(err, ERR_INVALID, "private key: %zu bytes cannot be a P-256 key", len);
		return NULL;
	}
	const unsigned char *p = der;
	PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)len);
	EVP_PKEY *key = info && p == der + len ? EVP_PKCS82PKEY(info) : NULL;
	PKCS8_PRIV_KEY_INFO_free(info);
	if (!key) {
		ossl_err(err, ERR_INVALID, "private key: not PKCS#8");
		return NULL;
	}
	if (!key_is_p256(key)) {
		err_set(err, ERR_INVALID, "private key: not of the curve P-256, the only one that Weft uses");
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}
