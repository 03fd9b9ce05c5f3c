/* SPDX-License-Identifier: Apache-2.0 */
/* peer.c: verification of a peer's chain. OpenSSL builds the chain and checks signatures, times and RFC 5280 (strict); the rest is
 * here: what the SPIFFE X.509-SVID standard asks for and OpenSSL does not know. Every refusal says whose certificate
 * and which rule. */
#include "certs/peer.h"
#include "certs/key.h"
#include "certs/ossl.h"

#include "lib/mem.h"

#include <inttypes.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define WHO_MAX 320

/* The one URI SAN of a leaf as bytes; false and what is wrong. *ret_others: SANs of other kinds. `names` keeps the bytes. */
static bool uri_san(const GENERAL_NAMES *names, struct str *ret, int *ret_others, struct err *err)
{
	int uris = 0, others = 0;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		if (n->type != GEN_URI) {
			others++;
			continue;
		}
		uris++;
		const ASN1_IA5STRING *s = n->d.uniformResourceIdentifier;
		*ret = str_make(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
	}
	if (uris == 0)
		return err_set(err, ERR_IDENTITY, "has no URI SAN, so no SPIFFE ID");
	if (uris > 1)
		return err_set(err, ERR_IDENTITY, "has %d URI SANs, expected exactly one", uris);
	*ret_others = others;
	return true;
}

/* For error texts only: the (unverified) URI of a certificate, else its subject. */
static const char *who(X509 *cert, char out[static WHO_MAX])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	struct str uri;
	int others;
	if (names && uri_san(names, &uri, &others, NULL)) {
		snprintf(out, WHO_MAX, "%.*s", (int)MIN(uri.len, (size_t)WHO_MAX - 1), uri.p);
	} else {
		char subject[200];
		X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof(subject));
		snprintf(out, WHO_MAX, "\"%s\"", subject);
	}
	GENERAL_NAMES_free(names);
	return out;
}

static bool leaf_usage(X509 *leaf, struct err *err)
{
	uint32_t flags = X509_get_extension_flags(leaf);
	uint32_t usage = X509_get_key_usage(leaf);
	if (flags & EXFLAG_INVALID)
		return err_set(err, ERR_IDENTITY, "has extensions that cannot be read");
	if (X509_get_version(leaf) != X509_VERSION_3)
		return err_set(err, ERR_IDENTITY, "is not of X.509 version 3");
	if (!(flags & EXFLAG_BCONS))
		return err_set(err, ERR_IDENTITY, "lacks basicConstraints CA:FALSE");
	if (flags & EXFLAG_CA)
		return err_set(err, ERR_IDENTITY, "is a CA certificate (CA:TRUE); one that signs never authenticates");
	if (!(flags & EXFLAG_KUSAGE) || !(usage & KU_DIGITAL_SIGNATURE))
		return err_set(err, ERR_IDENTITY, "lacks keyUsage digitalSignature");
	if (usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN))
		return err_set(err, ERR_IDENTITY,
			       "has keyUsage keyCertSign or cRLSign; one that signs never authenticates");
	if (!(flags & EXFLAG_XKUSAGE))
		return err_set(err, ERR_IDENTITY, "lacks extendedKeyUsage (serverAuth, clientAuth)");
	if (!key_is_p256(X509_get0_pubkey(leaf)))
		return err_set(err, ERR_IDENTITY, "has a key that is not of the curve P-256");
	return true;
}

/* The SPIFFE ID of a leaf as it stands there, of whatever trust domain. *ret_others: SANs of other kinds beside it. */
static bool spiffe_id(X509 *leaf, struct spiffe *ret, int *ret_others, struct err *err)
{
	int critical; /* -1: no SAN extension, -2: more than one */
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, &critical, NULL);
	struct str uri;
	bool ok;
	if (!names)
		return err_set(err, ERR_IDENTITY, "%s",
			       critical == -2 ? "has more than one subjectAltName extension"
					      : "has no URI SAN, so no SPIFFE ID");
	ok = uri_san(names, &uri, ret_others, err);
	if (ok && !(ok = spiffe_parse(uri, ret, err))) {
		if (err)
			err->code = ERR_IDENTITY;
		err_prefix(err, "its URI SAN");
	}
	GENERAL_NAMES_free(names);
	return ok;
}

static bool leaf_name(X509 *leaf, struct str trust_domain, struct spiffe *ret, struct err *err)
{
	int others = 0;
	if (!spiffe_id(leaf, ret, &others, err))
		return false;
	if (!str_eq(ret->trust_domain, trust_domain))
		return err_set(err, ERR_IDENTITY, "is of trust domain " STR_FMT ", expected " STR_FMT,
			       STR_ARG(ret->trust_domain), STR_ARG(trust_domain));
	if (others && !(str_is(ret->ns, WEFTD_NAMESPACE) && str_is(ret->sa, WEFTD_SERVICE_ACCT)))
		return err_set(err, ERR_IDENTITY, "has SANs that are no URI; only weftd's own certificate may");
	return true;
}

bool peer_spiffe_id(X509 *leaf, struct spiffe *ret, struct err *err)
{
	char name[WHO_MAX];
	int others;
	return spiffe_id(leaf, ret, &others, err) || err_prefix(err, "certificate of %s", who(leaf, name));
}

bool peer_identity(X509 *leaf, struct str trust_domain, struct spiffe *ret, struct err *err)
{
	/* OpenSSL reads the extensions once, when first asked; without this the flags below would be empty. */
	X509_check_purpose(leaf, -1, 0);
	if (leaf_usage(leaf, err) && leaf_name(leaf, trust_domain, ret, err))
		return true;
	char name[WHO_MAX];
	return err_prefix(err, "certificate of %s", who(leaf, name));
}

bool peer_lapsed(X509 *leaf)
{
	return ossl_time(X509_get0_notAfter(leaf)) < (int64_t)time(NULL);
}

static int want_index; /* of the struct peer_want on an X509_STORE_CTX, for allow_time */
static pthread_once_t want_once = PTHREAD_ONCE_INIT;

static void make_want_index(void)
{
	want_index = X509_STORE_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	MUST(want_index >= 0);
}

/* A fresh certificate may reach a peer whose clock is a little behind; an old one is refused to the second, but for a leaf
 * where the caller gives a grace. */
static int allow_time(int ok, X509_STORE_CTX *ctx)
{
	const struct peer_want *want = X509_STORE_CTX_get_ex_data(ctx, want_index);
	X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
	int64_t now = (int64_t)time(NULL);
	int code = X509_STORE_CTX_get_error(ctx);
	if (ok)
		return ok;
	if (code == X509_V_ERR_CERT_NOT_YET_VALID)
		ok = ossl_time(X509_get0_notBefore(cert)) <= now + PEER_CLOCK_SKEW_S;
	else if (code == X509_V_ERR_CERT_HAS_EXPIRED && X509_STORE_CTX_get_error_depth(ctx) == 0)
		ok = ossl_time(X509_get0_notAfter(cert)) > now - want->grace_s;
	if (ok)
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
	return ok;
}

static void configure(X509_STORE_CTX *ctx, const struct peer_want *want)
{
	enum peer_role role = want->role;
	pthread_once(&want_once, make_want_index);
	MUST(X509_STORE_CTX_set_ex_data(ctx, want_index, (void *)(uintptr_t)want) == 1);
	X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_purpose(p, role == PEER_CLIENT ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER);
	X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_X509_STRICT);
	X509_VERIFY_PARAM_set_depth(p, PEER_DEPTH_MAX - 1); /* OpenSSL counts what is between leaf and root */
	X509_VERIFY_PARAM_set_auth_level(p, 2);             /* no SHA-1, no RSA under 2048, whatever comes first */
	X509_STORE_CTX_set_verify_cb(ctx, allow_time);
}

static const char *utc(int64_t t, char out[static 32])
{
	struct tm tm;
	time_t tt = (time_t)t;
	if (!gmtime_r(&tt, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "?");
	return out;
}

/* What X509_verify_cert() did not like, in words that say what to do. */
static bool chain_refused(X509_STORE_CTX *ctx, const struct peer_want *want, struct err *err)
{
	int code = X509_STORE_CTX_get_error(ctx);
	X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
	int64_t now = (int64_t)time(NULL);
	char at[32];
	ossl_err(NULL, ERR_NONE, "");
	switch (code) {
	case X509_V_ERR_CERT_HAS_EXPIRED: {
		int64_t end = ossl_time(X509_get0_notAfter(cert));
		return err_set(err, ERR_IDENTITY,
			       "has expired at %s (%" PRId64 " s ago): it was not renewed, or the clocks differ",
			       utc(end, at), now - end);
	}
	case X509_V_ERR_CERT_NOT_YET_VALID: {
		int64_t begin = ossl_time(X509_get0_notBefore(cert));
		return err_set(err, ERR_IDENTITY, "is not valid before %s (in %" PRId64 " s): the clocks differ",
			       utc(begin, at), begin - now);
	}
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		return err_set(err, ERR_IDENTITY, "is self-signed, not by the authority of trust domain " STR_FMT,
			       STR_ARG(want->trust_domain));
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		return err_set(err, ERR_IDENTITY, "is not signed by a trusted root of trust domain " STR_FMT,
			       STR_ARG(want->trust_domain));
	case X509_V_ERR_INVALID_PURPOSE:
		return err_set(err, ERR_IDENTITY,
			       "is not for a TLS %s: its extendedKeyUsage or keyUsage does not allow %s",
			       want->role == PEER_CLIENT ? "client" : "server",
			       want->role == PEER_CLIENT ? "clientAuth" : "serverAuth");
	case X509_V_ERR_CERT_CHAIN_TOO_LONG:
		return err_set(err, ERR_IDENTITY, "has a chain that is longer than depth %d", PEER_DEPTH_MAX);
	default:
		/* Our own words about the leaf are the plainer ones, if they have something to say. */
		if (X509_STORE_CTX_get_error_depth(ctx) == 0 && !leaf_usage(cert, err))
			return false;
		return err_set(err, ERR_IDENTITY, "%s", X509_verify_cert_error_string(code));
	}
}

/* Every key of the chain on P-256 and every signature by SHA-256: one strength, no weakest link. */
static bool chain_strong(X509_STORE_CTX *ctx, struct err *err)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	if (sk_X509_num(chain) > PEER_DEPTH_MAX + 1)
		return err_set(err, ERR_IDENTITY, "has a chain that is longer than depth %d", PEER_DEPTH_MAX);
	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *cert = sk_X509_value(chain, i);
		if (!key_is_p256(X509_get0_pubkey(cert)))
			return err_set(err, ERR_IDENTITY,
				       "has a key that is not of the curve P-256 at depth %d of its chain", i);
		if (X509_get_signature_nid(cert) != NID_ecdsa_with_SHA256)
			return err_set(err, ERR_IDENTITY,
				       "is not signed with ecdsa-with-SHA256 at depth %d of its chain", i);
	}
	return true;
}

/* Everything that depends on nothing but the certificates, the roots and the clock. */
static bool chain_verify(X509_STORE_CTX *ctx, X509 *leaf, const struct peer_want *want, struct err *err)
{
	char name[WHO_MAX];
	configure(ctx, want);
	if (X509_verify_cert(ctx) != 1) {
		int depth = X509_STORE_CTX_get_error_depth(ctx);
		chain_refused(ctx, want, err);
		if (depth == 0)
			return err_prefix(err, "certificate of %s", who(leaf, name));
		return err_prefix(err, "certificate of %s: the CA certificate at depth %d", who(leaf, name), depth);
	}
	return chain_strong(ctx, err) || err_prefix(err, "certificate of %s", who(leaf, name));
}

bool peer_verify(X509_STORE_CTX *ctx, const struct peer_want *want, struct spiffe *ret, struct err *err)
{
	X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
	if (!leaf) {
		X509_STORE_CTX_set_error(ctx, X509_V_ERR_UNSPECIFIED);
		return err_set(err, ERR_IDENTITY, "the peer showed no certificate");
	}
	struct verified *before =
	    want->grace_s == 0 ? want->verified : NULL; /* with a grace, "valid" means another thing */
	bool known = before && verified_has(before, ctx, (int64_t)time(NULL), PEER_CLOCK_SKEW_S);
	if (!known && !chain_verify(ctx, leaf, want, err)) {
		if (X509_STORE_CTX_get_error(ctx) == X509_V_OK)
			X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED);
		return false;
	}
	bool ok = peer_identity(leaf, want->trust_domain, ret, err);
	if (ok && before && !known)
		verified_add(before, ctx);
	if (ok && want->expect && !str_is(str_of(ret->id), want->expect))
		ok = err_set(err, ERR_IDENTITY, "expected %s, the peer is %s", want->expect, ret->id);
	if (!ok)
		X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED); /* alert: bad_certificate */
	return ok;
}
