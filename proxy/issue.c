/* SPDX-License-Identifier: Apache-2.0 */
/* issue.c: requests for a certificate, and their answers. */
#include "proxy/issue.h"

#include "certs/csr.h"
#include "lib/mem.h"
#include "lib/proto/weft.pb-c.h"
#include "lib/proto_arena.h"
#include "proxy/resource.h"

#define CHAIN_MAX    4
#define ROOTS_MAX    16
#define UNPACKED_MAX (1u << 20) /* bytes of an answer */

bool issue_pack(const struct issue_ask *ask, uint8_t **ret, size_t *ret_len, struct err *err)
{
	Weft__V1__IssueRequest m = WEFT__V1__ISSUE_REQUEST__INIT;
	char version[] = WEFT_VERSION, none[] = "";
	uint8_t *csr;
	size_t csr_len;
	if (!csr_make(ask->key, &csr, &csr_len, err))
		return false;
	m.csr.data = csr;
	m.csr.len = csr_len;
	m.token = ask->token ? (char *)(uintptr_t)ask->token : none;
	m.rejoin = ask->rejoin ? (char *)(uintptr_t)ask->rejoin : none;
	m.instance = (char *)(uintptr_t)ask->instance;
	m.version = version;
	*ret_len = weft__v1__issue_request__get_packed_size(&m);
	*ret = mem_alloc(*ret_len);
	weft__v1__issue_request__pack(&m, *ret);
	mem_free(csr);
	return true;
}

static bool list(const char *field, const ProtobufCBinaryData *v, size_t n, size_t max, struct str *ret,
		 struct err *err)
{
	if (n == 0 || n > max)
		return err_set(err, ERR_PROTOCOL, "%s: %zu certificates, must be 1 to %zu", field, n, max);
	for (size_t i = 0; i < n; i++)
		ret[i] = str_make(v[i].data, v[i].len);
	return true;
}

static bool same(const char *what, struct str got, const char *expected, struct err *err)
{
	return !expected || str_is(got, expected) ||
	       err_set(err, ERR_IDENTITY, "the certificate that was issued is of %s " STR_FMT ", expected %s", what,
		       STR_ARG(got), expected);
}

static struct credential *make(const Weft__V1__IssueResponse *m, const struct issue_expect *x, struct err *err)
{
	struct str chain[CHAIN_MAX], roots[ROOTS_MAX];
	if (!list("chain", m->chain, m->n_chain, CHAIN_MAX, chain, err) ||
	    !list("roots", m->roots, m->n_roots, ROOTS_MAX, roots, err) ||
	    !same("trust domain", str_of(m->trust_domain), x->trust_domain, err))
		return NULL;
	struct bundle *b = bundle_new(str_of(x->trust_domain), roots, m->n_roots, err);
	if (!b)
		return NULL;
	struct credential *c = NULL;
	if (x->root_hash && !bundle_has_hash(b, x->root_hash))
		err_set(err, ERR_IDENTITY, "the roots that came do not hold the one that the join token names");
	else
		c = credential_new(x->key, chain, m->n_chain, b, err);
	bundle_unref(&b);
	const struct spiffe *id = c ? credential_id(c) : NULL;
	if (c && (!same("namespace", id->ns, x->ns, err) || !same("service account", id->sa, x->sa, err)))
		credential_unref(&c);
	return c;
}

static bool read_cidrs(const Weft__V1__IssueResponse *m, struct issued *ret, struct err *err)
{
	if (m->n_cidrs > ISSUE_CIDRS_MAX)
		return err_set(err, ERR_PROTOCOL, "cidrs: %zu, at most %d", m->n_cidrs, ISSUE_CIDRS_MAX);
	for (size_t i = 0; i < m->n_cidrs; i++) {
		const Weft__V1__MeshCidr *c = m->cidrs[i];
		if (!resource_ip(c->address.data, c->address.len, &ret->cidrs[i].ip) || c->bits > c->address.len * 8)
			return err_set(err, ERR_PROTOCOL, "cidrs[%zu]: is not a CIDR", i);
		ret->cidrs[i].bits = (uint8_t)c->bits;
	}
	ret->n_cidrs = m->n_cidrs;
	return true;
}

bool issue_unpack(struct str message, const struct issue_expect *expect, struct issued *ret, struct err *err)
{
	struct issued got = {0};
	struct proto_arena memory;
	proto_arena_init(&memory, UNPACKED_MAX);
	Weft__V1__IssueResponse *m = proto_unpack(&memory, &weft__v1__issue_response__descriptor, message, err);
	if (!m) {
		proto_arena_done(&memory);
		return err_prefix(err, "the answer is not an IssueResponse");
	}
	bool ok = strlen(m->rejoin) < sizeof(got.rejoin) ||
		  err_set(err, ERR_PROTOCOL, "rejoin: longer than %zu bytes", sizeof(got.rejoin) - 1);
	ok = ok && read_cidrs(m, &got, err) && (got.credential = make(m, expect, err)) != NULL;
	if (ok) {
		strcpy(got.rejoin, m->rejoin);
		*ret = got;
	}
	mem_wipe(m->rejoin, strlen(m->rejoin));
	mem_wipe(got.rejoin, sizeof(got.rejoin));
	proto_arena_done(&memory);
	return ok;
}
