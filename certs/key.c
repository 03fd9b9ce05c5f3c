/* SPDX-License-Identifier: Apache-2.0 */
/* key.c: private keys over OpenSSL's EVP. */
#include "certs/key.h"
#include "certs/ossl.h"

#include "lib/mem.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/params.h>
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

/* PKCS#8 of a P-256 key (RFC 5958, 5915, 5480) is of one shape: these bytes, the private number, these, the public point. Written and read
 * by hand, since OpenSSL's encoders and decoders leave copies of the private number in memory that they free without wiping it. */
static const uint8_t der_head[] = {0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86,
				   0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
				   0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20};
static const uint8_t der_middle[] = {0xa1, 0x44, 0x03, 0x42, 0x00};
#define NUMBER_LEN 32
#define POINT_LEN  65 /* uncompressed */
#define DER_LEN    (sizeof(der_head) + NUMBER_LEN + sizeof(der_middle) + POINT_LEN)

bool key_to_der(const EVP_PKEY *key, uint8_t **ret, size_t *ret_len, struct err *err)
{
	BIGNUM *number = NULL;
	size_t len = 0;
	uint8_t *der = mem_alloc(DER_LEN), *at = der + sizeof(der_head);
	memcpy(der, der_head, sizeof(der_head));
	bool ok = key_is_p256(key) && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &number) == 1 &&
		  BN_bn2binpad(number, at, NUMBER_LEN) == NUMBER_LEN;
	BN_clear_free(number);
	memcpy(at + NUMBER_LEN, der_middle, sizeof(der_middle));
	ok = ok &&
	     EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, at + NUMBER_LEN + sizeof(der_middle),
					     POINT_LEN, &len) == 1 &&
	     len == POINT_LEN;
	if (!ok) {
		mem_wipe_free(der, DER_LEN);
		return ossl_err(err, ERR_SYSTEM, "encoding a private key");
	}
	*ret = der;
	*ret_len = DER_LEN;
	return true;
}

/* Private number and public point as PKCS#8 gives them. That they belong together is for who has the certificate to check. */
static EVP_PKEY *key_make(const uint8_t *number, const uint8_t *point)
{
	uint8_t native[NUMBER_LEN]; /* OSSL_PARAM holds numbers in the machine's order */
	_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "native is number backwards");
	for (size_t i = 0; i < NUMBER_LEN; i++)
		native[i] = number[NUMBER_LEN - 1 - i];
	char group[] = "prime256v1";
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
	    OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, native, sizeof(native)),
	    OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point, POINT_LEN),
	    OSSL_PARAM_construct_end(),
	};
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	EVP_PKEY *key = NULL;
	if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(ctx);
	mem_wipe(native, sizeof(native));
	return key;
}

/* The shape that key_to_der() writes, and OpenSSL too. NULL: it is another, or no key. */
static EVP_PKEY *key_of_shape(const uint8_t *der, size_t len)
{
	const uint8_t *number = der + sizeof(der_head), *middle = number + NUMBER_LEN;
	if (len != DER_LEN || memcmp(der, der_head, sizeof(der_head)) != 0 ||
	    memcmp(middle, der_middle, sizeof(der_middle)) != 0)
		return NULL;
	EVP_PKEY *key = key_make(number, middle + sizeof(der_middle));
	ossl_err(NULL, ERR_NONE, "");
	return key;
}

EVP_PKEY *key_from_der(const uint8_t *der, size_t len, struct err *err)
{
	if (len == 0 || len > KEY_DER_MAX) {
		err_set(err, ERR_INVALID, "private key: %zu bytes cannot be a P-256 key", len);
		return NULL;
	}
	EVP_PKEY *made = key_of_shape(der, len);
	if (made)
		return made;
	/* Another shape of PKCS#8 (without the public point, with attributes), or an error that OpenSSL names. */
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
