/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz cert: any bytes as what peers and files hand to certs/. The first byte picks: a leaf, a CSR, a credential's blob, PEM, or a
 * root with a chain (u16 length before each certificate) through the whole verification. */
#include "certs/credential.h"
#include "certs/csr.h"
#include "certs/ossl.h"
#include "certs/peer.h"

#include "lib/mem.h"

#define CERTS_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void leaf(struct str in)
{
	struct spiffe id;
	struct err err;
	X509 *cert = ossl_cert(in, &err);
	if (!cert)
		return;
	peer_identity(cert, STR("weft.test"), &id, &err);
	if (peer_spiffe_id(cert, &id, &err))
		MUST(spiffe_parse(str_of(id.id), &(struct spiffe){.id = ""}, NULL));
	X509_free(cert);
}

static void blob(struct str in)
{
	struct err err;
	uint8_t *out;
	size_t len;
	struct credential *c = credential_unpack((const uint8_t *)in.p, in.len, &err);
	if (!c)
		return;
	MUST(credential_pack(c, &out, &len, &err));
	struct credential *again = credential_unpack(out, len, &err);
	MUST(again != NULL);
	credential_unref(&again);
	credential_unref(&c);
	mem_wipe_free(out, len);
}

static size_t split(struct str in, struct str *ret)
{
	size_t n = 0;
	while (n < CERTS_MAX && in.len > 2) {
		size_t len = (size_t)(uint8_t)in.p[0] << 8 | (uint8_t)in.p[1];
		len = MIN(len, in.len - 2);
		ret[n++] = str_make(in.p + 2, len);
		in = str_make(in.p + 2 + len, in.len - 2 - len);
	}
	return n;
}

static void chain(struct str in)
{
	struct str der[CERTS_MAX];
	struct err err;
	size_t n = split(in, der);
	struct bundle *b = n >= 2 ? bundle_new(STR("weft.test"), der, 1, &err) : NULL;
	STACK_OF(X509) *certs = sk_X509_new_null();
	for (size_t i = 1; b && i < n; i++) {
		X509 *cert = ossl_cert(der[i], &err);
		if (cert)
			sk_X509_push(certs, cert);
	}
	if (sk_X509_num(certs) > 0) {
		struct peer_want want = {PEER_CLIENT, STR("weft.test"), NULL, 0, NULL};
		struct spiffe id;
		X509_STORE_CTX *ctx = X509_STORE_CTX_new();
		MUST(X509_STORE_CTX_init(ctx, bundle_store(b), sk_X509_value(certs, 0), certs));
		err.code = ERR_NONE;
		if (peer_verify(ctx, &want, &id, &err))
			MUST(str_eq(id.trust_domain, STR("weft.test")));
		else
			MUST(err.code == ERR_IDENTITY);
		X509_STORE_CTX_free(ctx);
	}
	sk_X509_pop_free(certs, X509_free);
	bundle_unref(&b);
}

static void pem(struct str in)
{
	struct err err;
	struct credential *c = credential_from_pem(in, in, in, &err);
	credential_unref(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct str in = str_make(data + 1, size - 1);
	switch (data[0] % 5) {
	case 0:
		leaf(in);
		break;
	case 1:
		EVP_PKEY_free(csr_check((const uint8_t *)in.p, in.len, NULL));
		break;
	case 2:
		blob(in);
		break;
	case 3:
		pem(in);
		break;
	default:
		chain(in);
	}
	/* Texts that OpenSSL keeps for who asks why would count as allocated and not freed: a search for leaks through the whole heap after
	 * every input. */
	OPENSSL_thread_stop();
	return 0;
}
