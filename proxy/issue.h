/* SPDX-License-Identifier: Apache-2.0 */
/* issue.h: the words of /weft.v1.Identity/Issue: from a fresh key to a request, from the answer to a credential. What comes
 * back is checked as if weftd were wrong: the key, the trust domain and the root must be those that were asked for. */
#ifndef WEFT_PROXY_ISSUE_H
#define WEFT_PROXY_ISSUE_H

#include "certs/credential.h"
#include "lib/sock.h"

#define ISSUE_PATH       "/weft.v1.Identity/Issue"
#define ISSUE_REJOIN_MAX 512 /* bytes of a rejoin secret */
#define ISSUE_CIDRS_MAX  64

struct issue_ask {
	EVP_PKEY *key;
	const char *token, *rejoin; /* at most one is not NULL; none: renewal over mTLS */
	const char *instance;
};
/* The packed request; mem_wipe_free by the caller. */
bool issue_pack(const struct issue_ask *ask, uint8_t **ret, size_t *ret_len, struct err *err);

struct issue_expect {
	EVP_PKEY *key;
	const char *trust_domain;
	const char *ns, *sa; /* NULL: any */
	const uint8_t
	    *root_hash; /* of a root that must be among those that came; NULL: the connection vouches for them */
};
struct issued {
	struct credential *credential; /* credential_unref by the caller */
	char rejoin[ISSUE_REJOIN_MAX]; /* "" when none came */
	struct cidr cidrs[ISSUE_CIDRS_MAX];
	size_t n_cidrs;
};
bool issue_unpack(struct str message, const struct issue_expect *expect, struct issued *ret, struct err *err);

#endif
