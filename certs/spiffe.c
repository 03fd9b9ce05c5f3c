/* SPDX-License-Identifier: Apache-2.0 */
/* spiffe.c: reading and making SPIFFE IDs. One shape only is taken, so nothing is ever normalised: two IDs are the same
 * exactly when their bytes are. */
#include "certs/spiffe.h"

#include <stdio.h>

#define SCHEME "spiffe://"

static bool lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool trust_domain_valid(struct str td)
{
	if (td.len == 0 || td.len > TRUST_DOMAIN_MAX)
		return false;
	for (size_t i = 0; i < td.len; i++)
		if (!lower_alnum(td.p[i]) && td.p[i] != '.' && td.p[i] != '-' && td.p[i] != '_')
			return false;
	return true;
}

/* A namespace is a DNS label; a service account a DNS subdomain (labels with dots between), at most 253. */
static bool subdomain(struct str s)
{
	if (s.len == 0 || s.len > 253)
		return false;
	struct str rest = s;
	for (;;) {
		struct str label;
		bool more = str_cut(rest, '.', &label, &rest);
		if (!str_is_dns_label(label))
			return false;
		if (!more)
			return true;
	}
}

bool spiffe_make(struct str trust_domain, struct str ns, struct str sa, struct spiffe *ret, struct err *err)
{
	if (!trust_domain_valid(trust_domain))
		return err_set(err, ERR_INVALID,
			       "trust domain \"" STR_FMT "\": expected 1 to 255 of a-z, 0-9, '.', '-', '_'",
			       STR_ARG(trust_domain));
	if (!str_is_dns_label(ns))
		return err_set(err, ERR_INVALID,
			       "namespace \"" STR_FMT "\" is not a DNS label (a-z, 0-9, '-', at most 63)", STR_ARG(ns));
	if (!subdomain(sa))
		return err_set(err, ERR_INVALID,
			       "service account \"" STR_FMT "\" is not a DNS name (a-z, 0-9, '-', '.', at most 253)",
			       STR_ARG(sa));
	char id[SPIFFE_ID_MAX];
	int n = snprintf(id, sizeof(id), SCHEME STR_FMT "/ns/" STR_FMT "/sa/" STR_FMT, STR_ARG(trust_domain),
			 STR_ARG(ns), STR_ARG(sa));
	if (n < 0 || (size_t)n >= sizeof(id))
		return err_set(err, ERR_LIMIT, "a SPIFFE ID of %d bytes is longer than %d", n, SPIFFE_ID_MAX - 1);
	size_t ns_at = sizeof(SCHEME) - 1 + trust_domain.len + sizeof("/ns/") - 1;
	size_t sa_at = ns_at + ns.len + sizeof("/sa/") - 1;
	size_t sa_len = sa.len, ns_len = ns.len, td_len = trust_domain.len; /* the inputs may point into *ret */
	memcpy(ret->id, id, (size_t)n + 1);
	ret->trust_domain = str_make(ret->id + sizeof(SCHEME) - 1, td_len);
	ret->ns = str_make(ret->id + ns_at, ns_len);
	ret->sa = str_make(ret->id + sa_at, sa_len);
	return true;
}

bool spiffe_parse(struct str text, struct spiffe *ret, struct err *err)
{
	if (text.len >= SPIFFE_ID_MAX)
		return err_set(err, ERR_LIMIT, "a SPIFFE ID of %zu bytes is longer than %d", text.len,
			       SPIFFE_ID_MAX - 1);
	if (memchr(text.p ? text.p : "", '\0', text.len))
		return err_set(err, ERR_INVALID, "the SPIFFE ID has a NUL byte inside");
	if (!str_starts(text, STR(SCHEME)))
		return err_set(err, ERR_INVALID, "\"" STR_FMT "\" does not begin with " SCHEME, STR_ARG(text));
	struct str rest = str_make(text.p + sizeof(SCHEME) - 1, text.len - (sizeof(SCHEME) - 1));
	struct str td, ns_word, ns, sa_word, sa;
	if (!str_cut(rest, '/', &td, &rest) || !str_cut(rest, '/', &ns_word, &rest) ||
	    !str_cut(rest, '/', &ns, &rest) || !str_cut(rest, '/', &sa_word, &sa) || !str_is(ns_word, "ns") ||
	    !str_is(sa_word, "sa"))
		return err_set(err, ERR_INVALID,
			       "\"" STR_FMT
			       "\" is not of the form spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>",
			       STR_ARG(text));
	if (!spiffe_make(td, ns, sa, ret, err))
		return err_prefix(err, "\"" STR_FMT "\"", STR_ARG(text));
	return true;
}

void spiffe_copy(struct spiffe *dst, const struct spiffe *src)
{
	MUST(dst != src);
	memcpy(dst->id, src->id, sizeof(dst->id));
	dst->trust_domain = str_make(dst->id + (src->trust_domain.p - src->id), src->trust_domain.len);
	dst->ns = str_make(dst->id + (src->ns.p - src->id), src->ns.len);
	dst->sa = str_make(dst->id + (src->sa.p - src->id), src->sa.len);
}
