/* SPDX-License-Identifier: Apache-2.0 */
/* ca.c: making the authority and signing leaves. What is signed is written here field by field; nothing is copied from a request
 * but the public key. */
#include "certs/ca.h"
#include "certs/ossl.h"

#include "lib/mem.h"
#include "lib/sock.h"

#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

#define CA_MAGIC       0x63617574u
#define DAY_S          86400
#define ROOT_DAYS      3650
#define ISSUER_DAYS    365
#define LEAF_MAX_S     DAY_S
#define OPERATOR_MAX_S (365 * DAY_S)
#define BACK_DATE_S    60
#define LEAF_NAMES_MAX 16

struct ca {
	uint32_t magic;
	X509 *root, *issuer;
	EVP_PKEY *issuer_key;
	char trust_domain[TRUST_DOMAIN_MAX + 1];
	uint8_t *root_der, *issuer_der;
	size_t root_der_len, issuer_der_len;
};

void ca_material_done(struct ca_material *m)
{
	mem_free(m->root_cert);
	mem_wipe_free(m->root_key, m->root_key_len);
	mem_free(m->issuer_cert);
	mem_wipe_free(m->issuer_key, m->issuer_key_len);
	*m = (struct ca_material){0};
}

/* --- building certificates --- */

static bool set_serial(X509 *cert)
{
	uint8_t b[16];
	if (RAND_bytes(b, sizeof(b)) != 1)
		return false;
	b[0] &= 0x7f; /* positive, so 16 bytes in DER */
	b[0] |= 0x40; /* and always as long */
	BIGNUM *n = BN_bin2bn(b, sizeof(b), NULL);
	bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
	BN_free(n);
	return ok;
}

static bool set_times(X509 *cert, int64_t from, int64_t to)
{
	return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from) &&
	       ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)to);
}

static bool add_ext(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX v3;
	X509V3_set_ctx(&v3, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &v3, nid, value);
	bool ok = ext && X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok;
}

static bool push_name(GENERAL_NAMES *names, int type, ASN1_STRING *value)
{
	GENERAL_NAME *n = GENERAL_NAME_new();
	if (!n || !value) {
		GENERAL_NAME_free(n);
		ASN1_STRING_free(value);
		return false;
	}
	GENERAL_NAME_set0_value(n, type, value);
	return sk_GENERAL_NAME_push(names, n) > 0;
}

static bool push_bytes(GENERAL_NAMES *names, int gen, int asn1, const void *p, size_t len)
{
	ASN1_STRING *s = ASN1_STRING_type_new(asn1);
	if (s && !ASN1_STRING_set(s, p, (int)len)) {
		ASN1_STRING_free(s);
		s = NULL;
	}
	return push_name(names, gen, s);
}

/* Not through OpenSSL's text syntax ("URI:...,DNS:..."): no value can then become two. */
static bool add_san(X509 *cert, struct str uri, const char *const *names, bool critical)
{
	GENERAL_NAMES *san = GENERAL_NAMES_new();
	bool ok = san && push_bytes(san, GEN_URI, V_ASN1_IA5STRING, uri.p, uri.len);
	for (size_t i = 0; ok && names && names[i]; i++) {
		struct ip ip;
		if (ip_parse(str_of(names[i]), &ip))
			ok = push_bytes(san, GEN_IPADD, V_ASN1_OCTET_STRING, ip.b, ip.len);
		else
			ok = push_bytes(san, GEN_DNS, V_ASN1_IA5STRING, names[i], strlen(names[i]));
	}
	ok = ok && X509_add1_ext_i2d(cert, NID_subject_alt_name, san, critical, X509V3_ADD_DEFAULT) == 1;
	GENERAL_NAMES_free(san);
	return ok;
}

/* The subject of a CA certificate: the trust domain is in the SAN, the name only has to be unique (serial in hex). */
static bool set_ca_name(X509 *cert, const char *kind)
{
	char cn[64], *hex;
	BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
	hex = n ? BN_bn2hex(n) : NULL;
	BN_free(n);
	if (!hex)
		return false;
	snprintf(cn, sizeof(cn), "Weft %s %.16s", kind, hex);
	OPENSSL_free(hex);
	return X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (unsigned char *)cn, -1, -1,
					  0);
}

/* issuer NULL: self-signed. */
static X509 *make_ca_cert(const char *kind, struct str trust_domain, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key,
			  int days)
{
	X509 *cert = X509_new();
	int64_t now = (int64_t)time(NULL);
	char uri[TRUST_DOMAIN_MAX + 16];
	int n = snprintf(uri, sizeof(uri), "spiffe://" STR_FMT, STR_ARG(trust_domain));
	X509 *signer = issuer ? issuer : cert;
	if (cert && X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
	    set_times(cert, now - BACK_DATE_S, now + (int64_t)days * DAY_S) && set_ca_name(cert, kind) &&
	    X509_set_issuer_name(cert, X509_get_subject_name(signer)) && X509_set_pubkey(cert, key) &&
	    add_ext(cert, signer, NID_basic_constraints, issuer ? "critical,CA:TRUE,pathlen:0" : "critical,CA:TRUE") &&
	    add_ext(cert, signer, NID_key_usage, "critical,keyCertSign,cRLSign") &&
	    add_ext(cert, signer, NID_subject_key_identifier, "hash") &&
	    add_ext(cert, signer, NID_authority_key_identifier, "keyid:always") &&
	    add_san(cert, str_make(uri, (size_t)n), NULL, false) &&
	    X509_sign(cert, issuer ? issuer_key : key, EVP_sha256()) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

bool ca_make(struct str trust_domain, struct ca_material *ret, struct err *err)
{
	struct ca_material m = {0};
	bool ok = false;
	if (!trust_domain_valid(trust_domain))
		return err_set(err, ERR_INVALID,
			       "trust domain \"" STR_FMT "\": expected 1 to 255 of a-z, 0-9, '.', '-', '_'",
			       STR_ARG(trust_domain));
	EVP_PKEY *root_key = key_new(err), *issuer_key = root_key ? key_new(err) : NULL;
	if (issuer_key) {
		X509 *root = make_ca_cert("root", trust_domain, root_key, NULL, NULL, ROOT_DAYS);
		X509 *issuer =
		    root ? make_ca_cert("issuer", trust_domain, issuer_key, root, root_key, ISSUER_DAYS) : NULL;
		if (!issuer)
			ossl_err(err, ERR_SYSTEM, "making the certificate authority");
		else
			ok = ossl_cert_der(root, &m.root_cert, &m.root_cert_len, err) &&
			     ossl_cert_der(issuer, &m.issuer_cert, &m.issuer_cert_len, err) &&
			     key_to_der(root_key, &m.root_key, &m.root_key_len, err) &&
			     key_to_der(issuer_key, &m.issuer_key, &m.issuer_key_len, err);
		X509_free(issuer);
		X509_free(root);
	}
	EVP_PKEY_free(issuer_key);
	EVP_PKEY_free(root_key);
	if (!ok)
		ca_material_done(&m);
	else
		*ret = m;
	return ok;
}

/* --- the authority in use --- */

/* The trust domain that a CA certificate signs for: its only URI SAN, spiffe://TD without a path. */
static bool ca_trust_domain(X509 *cert, char out[static TRUST_DOMAIN_MAX + 1])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool found = false;
	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		if (n->type != GEN_URI)
			continue;
		struct str uri = str_make(ASN1_STRING_get0_data(n->d.uniformResourceIdentifier),
					  (size_t)ASN1_STRING_length(n->d.uniformResourceIdentifier));
		struct str td = str_starts(uri, STR("spiffe://")) ? str_make(uri.p + 9, uri.len - 9) : (struct str){0};
		found = trust_domain_valid(td);
		if (found) {
			memcpy(out, td.p, td.len);
			out[td.len] = 0;
		}
	}
	GENERAL_NAMES_free(names);
	return found;
}

static bool ca_check(struct ca *ca, struct err *err)
{
	if (X509_check_ca(ca->issuer) != 1 || X509_check_ca(ca->root) != 1)
		return err_set(err, ERR_INVALID, "the authority's root or issuer is not a CA certificate");
	if (!key_is_p256(X509_get0_pubkey(ca->issuer)) || !key_is_p256(X509_get0_pubkey(ca->root)))
		return err_set(err, ERR_INVALID, "the authority's keys are not of the curve P-256");
	if (X509_check_private_key(ca->issuer, ca->issuer_key) != 1)
		return err_set(err, ERR_INVALID, "the issuer's key does not belong to its certificate");
	if (X509_verify(ca->root, X509_get0_pubkey(ca->root)) != 1)
		return err_set(err, ERR_INVALID, "the root is not self-signed");
	if (X509_verify(ca->issuer, X509_get0_pubkey(ca->root)) != 1)
		return err_set(err, ERR_INVALID, "the issuer is not signed by the root");
	if (!ca_trust_domain(ca->issuer, ca->trust_domain))
		return err_set(err, ERR_INVALID,
			       "the issuer's certificate names no trust domain (URI SAN spiffe://<trust-domain>)");
	return true;
}

struct ca *ca_new(const struct ca_material *m, struct err *err)
{
	struct ca *ca = NEW(struct ca);
	ca->magic = CA_MAGIC;
	ca->root = ossl_cert(str_make(m->root_cert, m->root_cert_len), err);
	ca->issuer = ca->root ? ossl_cert(str_make(m->issuer_cert, m->issuer_cert_len), err) : NULL;
	ca->issuer_key = ca->issuer ? key_from_der(m->issuer_key, m->issuer_key_len, err) : NULL;
	bool ok = ca->issuer_key && ca_check(ca, err) &&
		  ossl_cert_der(ca->root, &ca->root_der, &ca->root_der_len, err) &&
		  ossl_cert_der(ca->issuer, &ca->issuer_der, &ca->issuer_der_len, err);
	if (!ok) {
		ossl_err(NULL, ERR_NONE, "");
		err_prefix(err, "certificate authority");
		ca_free(&ca);
	}
	return ca;
}

void ca_free(struct ca **pca)
{
	struct ca *ca = *pca;
	*pca = NULL;
	if (!ca)
		return;
	MUST_BE(ca, CA_MAGIC);
	X509_free(ca->root);
	X509_free(ca->issuer);
	EVP_PKEY_free(ca->issuer_key);
	mem_free(ca->root_der);
	mem_free(ca->issuer_der);
	ca->magic = 0;
	mem_free(ca);
}

/* A host name that may stand in a DNS SAN; addresses are told apart by ip_parse. */
static bool names_valid(const char *const *names, struct err *err)
{
	for (size_t i = 0; names[i]; i++) {
		size_t len = strlen(names[i]);
		struct ip ip;
		bool ok = i < LEAF_NAMES_MAX && len > 0 && len <= 253;
		ok = ok &&
		     (ip_parse(str_of(names[i]), &ip) ||
		      strspn(names[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == len);
		if (!ok)
			return err_set(err, ERR_INVALID,
				       "server name \"%.80s\": expected at most %d host names or IP addresses",
				       names[i], LEAF_NAMES_MAX);
	}
	return true;
}

static bool leaf_fill(struct ca *ca, X509 *cert, EVP_PKEY *public_key, const struct ca_leaf *leaf, int64_t end)
{
	const char *const *names = leaf->server_name ? leaf->names : NULL;
	int64_t now = (int64_t)time(NULL);
	return X509_set_version(cert, X509_VERSION_3) && set_serial(cert) && set_times(cert, now - BACK_DATE_S, end) &&
	       X509_set_issuer_name(cert, X509_get_subject_name(ca->issuer)) && X509_set_pubkey(cert, public_key) &&
	       add_ext(cert, ca->issuer, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_ext(cert, ca->issuer, NID_key_usage, "critical,digitalSignature") &&
	       add_ext(cert, ca->issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
	       add_ext(cert, ca->issuer, NID_subject_key_identifier, "hash") &&
	       add_ext(cert, ca->issuer, NID_authority_key_identifier, "keyid:always") &&
	       add_san(cert, str_of(leaf->id->id), names, true);
}

X509 *ca_sign(struct ca *ca, EVP_PKEY *public_key, const struct ca_leaf *leaf, struct err *err)
{
	MUST_BE(ca, CA_MAGIC);
	MUST(leaf->lifetime_s > 0);
	int64_t now = (int64_t)time(NULL);
	int64_t end = MIN(now + (int64_t)MIN(leaf->lifetime_s, (uint64_t)(leaf->operator? OPERATOR_MAX_S : LEAF_MAX_S)),
			  MIN(ossl_time(X509_get0_notAfter(ca->issuer)), ossl_time(X509_get0_notAfter(ca->root))));
	if (!str_is(leaf->id->trust_domain, ca->trust_domain)) {
		err_set(err, ERR_DENIED, "%s: this authority signs for trust domain %s only", leaf->id->id,
			ca->trust_domain);
		return NULL;
	}
	if (!key_is_p256(public_key)) {
		err_set(err, ERR_INVALID, "%s: the key is not of the curve P-256", leaf->id->id);
		return NULL;
	}
	if (end <= now) {
		err_set(err, ERR_INVALID,
			"the authority's own certificate has expired (or the clock is wrong): replace the issuer");
		return NULL;
	}
	if (leaf->server_name && leaf->names && !names_valid(leaf->names, err))
		return NULL;
	X509 *cert = X509_new();
	MUST(cert != NULL);
	if (leaf_fill(ca, cert, public_key, leaf, end) && X509_sign(cert, ca->issuer_key, EVP_sha256()) > 0)
		return cert;
	ossl_err(err, ERR_SYSTEM, "signing a certificate");
	X509_free(cert);
	return NULL;
}

struct str ca_root_der(const struct ca *ca)
{
	return str_make(ca->root_der, ca->root_der_len);
}

struct str ca_issuer_der(const struct ca *ca)
{
	return str_make(ca->issuer_der, ca->issuer_der_len);
}
